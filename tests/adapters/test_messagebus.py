"""The bus of the library messagebus over our store: a small reading club, on fakeredis and on the real server.

The library publishes no tests to be run against a transport or a message store, so what its documentation says of them
is tested here: in both of its halves, and with both kinds of stores.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from inspect import isawaitable
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from accounts import PATIENCE, in_thread
from messagebus import (
    AsyncAbstractRepository,
    AsyncAbstractUnitOfWork,
    AsyncEventstreamPublisher,
    AsyncMessageBus,
    AsyncSinkholeMessageStoreRepository,
    Command,
    Event,
    Field,
    Message,
    Metadata,
    Model,
    SyncAbstractRepository,
    SyncAbstractUnitOfWork,
    SyncEventstreamPublisher,
    SyncMessageBus,
    SyncSinkholeMessageStoreRepository,
)
from messagebus.service.eventstream import MessageSerializer
from proxy import Proxy

from runner import AsyncEventStore, EventStore, InvalidInput, NewEvent, Projection, RecordedEvent, View, catch_up
from runner.adapters.messagebus import (
    AsyncEventstreamTransport,
    AsyncMessageStoreRepository,
    SyncEventstreamTransport,
    SyncMessageStoreRepository,
    event_of,
)
from runner.adapters.messagebus.holding import Batch
from runner.errors import AppendTooLarge, EventIdReused, InvalidName, PayloadError, StoreUnavailable
from runner.settings import Settings
from runner.testing import all_events, memory_store, streams

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "messagebus.md").read_text()

#: What a scenario may take, in seconds.
LONGEST = 20

#: An outage is told at once.
HASTY = Settings(block=0.05, retry_for=0.05, socket_timeout=2.0)


# -- a reading club -----------------------------------------------------------------------------


class Propose(Command):
    book: str
    metadata: Metadata = Metadata(name="propose", schema_version=1)


class Vote(Command):
    book: str
    reader: str
    metadata: Metadata = Metadata(name="vote", schema_version=1)


class Proposed(Event):
    book: str
    metadata: Metadata = Metadata(name="proposed", schema_version=2, published=True)


class Voted(Event):
    book: str
    reader: str
    metadata: Metadata = Metadata(name="voted", schema_version=1, published=True)


class ShelfMetadata(Metadata):
    stream: str


class Shelved(Event):
    book: str
    metadata: Metadata = ShelfMetadata(name="shelved", schema_version=1, published=True, stream="shelf-3")


class Book(Model):
    id: str
    readers: list[str] = Field(default_factory=list)


class AsyncBooks(AsyncAbstractRepository[Book]):
    pass


class SyncBooks(SyncAbstractRepository[Book]):
    pass


def propose(command: Propose, uow: Any) -> None:
    book = Book(id=command.book)
    book.messages.append(Proposed(book=command.book))
    uow.shelf[book.id] = book
    uow.books.seen.append(book)


def vote(command: Vote, uow: Any) -> int:
    book: Book = uow.shelf[command.book]
    book.readers.append(command.reader)
    book.messages.append(Voted(book=command.book, reader=command.reader))
    uow.books.seen.append(book)
    return len(book.readers)


class AsyncClub(AsyncAbstractUnitOfWork[Any, Any, Any]):
    """A unit of work over a shelf in memory; the message store is told of its commits and rollbacks, or is not."""

    def __init__(self, messages: Any, told: bool = True) -> None:
        self.shelf: dict[str, Book] = {}
        self.books = AsyncBooks()
        self.messagestore = messages
        self.told = told

    async def commit(self) -> None:
        if self.told:
            await self.messagestore.commit()

    async def rollback(self) -> None:
        if self.told:
            await self.messagestore.rollback()


class SyncClub(SyncAbstractUnitOfWork[Any, Any, Any]):
    def __init__(self, messages: Any, told: bool = True) -> None:
        self.shelf: dict[str, Book] = {}
        self.books = SyncBooks()
        self.messagestore = messages
        self.told = told

    def commit(self) -> None:
        if self.told:
            self.messagestore.commit()

    def rollback(self) -> None:
        if self.told:
            self.messagestore.rollback()


async def settled(outcome: Any) -> Any:
    """What a call gave, in either half of the library."""
    return await outcome if isawaitable(outcome) else outcome


@asynccontextmanager
async def transaction(club: Any) -> AsyncIterator[Any]:
    if isinstance(club, AsyncClub):
        async with club as begun:
            yield begun
    else:
        with club as begun:
            yield begun


class Desk:
    """A bus with the club's handlers, and what is made for it of our adapter; ``target`` is the adapter's store."""

    def __init__(self, store: EventStore, target: EventStore | AsyncEventStore, sync: bool) -> None:
        self.store = store
        self.target = target
        self.sync = sync
        bus: Any = SyncMessageBus() if sync else AsyncMessageBus()
        handlers: list[tuple[type, Callable[[Any, Any], Any]]] = [(Propose, propose), (Vote, vote)]
        for kind, handler in handlers:
            bus.add_listener(kind, handler if sync else _awaited(handler))
        self.bus = bus

    def messages(self, publisher: Any = None, **options: Any) -> Any:
        if self.sync:
            return SyncMessageStoreRepository(self.target, publisher, **options)  # type: ignore[arg-type]
        return AsyncMessageStoreRepository(self.target, publisher, **options)

    def club(self, *, told: bool = True, publisher: Any = None, **options: Any) -> Any:
        return (SyncClub if self.sync else AsyncClub)(self.messages(publisher, **options), told)

    def transport(self, **options: Any) -> Any:
        return (SyncEventstreamTransport if self.sync else AsyncEventstreamTransport)(self.target, **options)  # type: ignore[arg-type]

    def publisher(self, transport: Any = None) -> Any:
        return (SyncEventstreamPublisher if self.sync else AsyncEventstreamPublisher)(transport or self.transport())

    def publishing_club(self) -> Any:
        """As the library's documentation makes it: published messages go to the transport, nothing else is kept."""
        sinkhole = SyncSinkholeMessageStoreRepository if self.sync else AsyncSinkholeMessageStoreRepository
        return (SyncClub if self.sync else AsyncClub)(sinkhole(self.publisher()), told=False)

    async def handle(self, club: Any, *commands: Command) -> Any:
        """All in one transaction, which is committed; the last answer."""
        answer = None
        async with transaction(club) as begun:
            for command in commands:
                answer = await settled(self.bus.handle(command, begun))
            await settled(begun.commit())
        return answer

    def types(self) -> list[str]:
        return [event.type for event in all_events(self.store)]


def _awaited(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(message: Any, uow: Any) -> Any:
        return handler(message, uow)

    return call


Scenario = Callable[[Desk], Awaitable[None]]
Play = Callable[[Scenario], None]


def player(kind: str, store: EventStore, url: str, name: str, settings: Settings) -> Play:
    """Runs a scenario, with an end: in the library's synchronous half, or in the other one on either kind of store."""

    async def whole(scenario: Scenario) -> None:
        async with asyncio.timeout(LONGEST):
            if kind == "asyncio":
                async with AsyncEventStore.open(url, name=name, settings=settings) as target:
                    await scenario(Desk(store, target, False))
            else:
                with EventStore.open(url, name=name, settings=settings) as other:
                    await scenario(Desk(store, other, kind == "sync"))

    return lambda scenario: asyncio.run(whole(scenario))


@pytest.fixture(params=["asyncio", "threads", "sync"])
def play(request: pytest.FixtureRequest, store: EventStore, url: str, fresh_name: str) -> Play:
    return player(request.param, store, url, fresh_name, HASTY)


@pytest.fixture(params=["asyncio", "threads", "sync"])
def play_far(request: pytest.FixtureRequest, real_store: EventStore, proxy: Proxy, fresh_name: str) -> Play:
    """The same with a proxy between the adapter and the real server."""
    return player(request.param, real_store, proxy.url, fresh_name, HASTY)


# -- the transport ------------------------------------------------------------------------------


def test_a_published_message_is_an_event(play: Play) -> None:
    """Its id, type, time and payload are the event's; what is not published is not appended."""

    async def scenario(desk: Desk) -> None:
        # given
        club, command = desk.publishing_club(), Propose(book="ulysses")
        message = Voted(book="ulysses", reader="Ada")

        # when
        await desk.handle(club, command)
        await settled(desk.publisher().send_message(message))

        # then
        proposed, voted = all_events(desk.store)
        assert (proposed.type, proposed.data, proposed.metadata) == ("proposed_v2", {"book": "ulysses"}, None)
        assert (voted.stream, voted.type, voted.number) == ("messages", "voted_v1", 2)
        assert (voted.id, voted.recorded_at) == (message.message_id, message.created_at)
        assert voted.data == {"book": "ulysses", "reader": "Ada"}

    play(scenario)


def test_nothing_of_a_transaction_that_is_rolled_back_is_published(play: Play) -> None:
    """Neither by a rollback nor by an error in the block."""

    async def scenario(desk: Desk) -> None:
        async with transaction(desk.publishing_club()) as begun:
            await settled(desk.bus.handle(Propose(book="ulysses"), begun))
            await settled(begun.rollback())
        with pytest.raises(RuntimeError, match="closed for today"):
            async with transaction(desk.publishing_club()) as begun:
                await settled(desk.bus.handle(Propose(book="ulysses"), begun))
                raise RuntimeError("closed for today")
        assert desk.types() == []

    play(scenario)


def test_a_message_that_is_sent_again_is_no_second_event(play: Play) -> None:
    """However often, and whichever transport sends it; another message of the same content is another event."""

    async def scenario(desk: Desk) -> None:
        message = Voted(book="ulysses", reader="Ada")
        for _ in range(3):
            await settled(desk.publisher().send_message(message))
        await settled(desk.publisher().send_message(Voted(book="ulysses", reader="Ada")))
        assert desk.types() == ["voted_v1", "voted_v1"]
        assert all_events(desk.store)[0].id == message.message_id

    play(scenario)


@pytest.mark.real
def test_a_message_is_recognized_after_nearly_ten_thousand_others(real_store: EventStore) -> None:
    """That is how long the store remembers the ids of such appends at least."""
    transport = SyncEventstreamTransport(real_store)
    publisher, message = SyncEventstreamPublisher(transport), Voted(book="ulysses", reader="Ada")
    publisher.send_message(message)
    real_store.append("others", [NewEvent("Other") for _ in range(9_999)])
    publisher.send_message(message)
    assert real_store.last_position() == 10_000


def test_many_messages_at_once_are_each_one_event(play: Play) -> None:
    """Tasks share a transport; each message is sent by two of them."""

    async def scenario(desk: Desk) -> None:
        publisher = desk.publisher()
        sent = [Voted(book="ulysses", reader=str(number)) for number in range(20)]
        async with asyncio.TaskGroup() as group:
            for message in sent * 2:
                group.create_task(settled(publisher.send_message(message)))
        assert {event.id for event in all_events(desk.store)} == {message.message_id for message in sent}
        assert desk.store.last_position() == 20

    play(scenario)


# -- where messages go --------------------------------------------------------------------------


def by_book(event: NewEvent) -> str:
    return f"book-{event.data['book']}"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("club", {"club": 3}),
        (by_book, {"book-ulysses": 2, "book-emma": 1}),
        (lambda event: None if event.type == "proposed_v2" else "votes", {"votes": 2}),
    ],
)
def test_the_application_says_which_stream_a_message_goes_to(play: Play, stream: Any, expected: dict[str, int]) -> None:
    """By a name, or by a function of the event; what that returns no stream for is left out."""

    async def scenario(desk: Desk) -> None:
        publisher = desk.publisher(desk.transport(stream=stream))
        for message in (
            Voted(book="ulysses", reader="Ada"),
            Proposed(book="ulysses"),
            Voted(book="emma", reader="Ada"),
        ):
            await settled(publisher.send_message(message))
        assert streams(desk.store) == expected

    play(scenario)


def test_metadata_that_name_a_stream_are_followed(play: Play) -> None:
    """The message store knows them; through a transport they come where the serializer puts them in."""

    class WithMetadata(MessageSerializer):
        def serialize_message(self, message: Message[Any]) -> Any:
            beside = {"metadata": message.metadata.model_dump(), "origin": "club"}
            return {**super().serialize_message(message), **beside}

    async def scenario(desk: Desk) -> None:
        # given
        club, publisher = desk.club(), desk.publisher()

        # when
        async with transaction(club) as begun:
            await settled(begun.messagestore.add(Shelved(book="emma")))
            await settled(begun.commit())
        await settled(publisher.send_message(Shelved(book="emma")))
        publisher.serializer = WithMetadata()
        await settled(publisher.send_message(Shelved(book="emma")))

        # then
        assert [event.stream for event in all_events(desk.store)] == ["shelf-3", "messages", "shelf-3"]
        known = {"name": "shelved", "schema_version": 1, "published": True, "stream": "shelf-3"}
        assert [event.metadata for event in all_events(desk.store)] == [known, None, {**known, "origin": "club"}]

    play(scenario)


# -- what cannot be an event --------------------------------------------------------------------


def test_a_serializer_may_leave_values_as_they_are() -> None:
    """Whatever events can hold is a payload; without a time it is now, without metadata there are none."""
    identity, time = uuid4(), datetime(2026, 1, 1, tzinfo=UTC)
    event = event_of({"id": identity, "type": "a", "payload": {"at": time}})
    assert (event.id, event.data, event.metadata, event.recorded_at) == (identity, {"at": time}, None, None)
    assert event_of({"id": identity, "type": "a", "payload": None, "created_at": time}).recorded_at == time


GOOD = {"id": str(UUID(int=7)), "type": "voted_v1", "payload": "{}", "created_at": "2026-01-31T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "seven"}, "message 'seven' of type 'voted_v1': its id is not a UUID: 'seven'"),
        ({"id": 7}, "its id is not a UUID: '7'"),
        ({"payload": "{"}, "its payload is not JSON: '{'"),
        ({"payload": '{"a": NaN}'}, "its payload is not JSON: '{\"a\": NaN}'"),
        ({"payload": '{"a": 1, "a": 2}'}, "its payload is not JSON"),
        ({"created_at": "2026-01-31T12:00:00.1234567+00:00"}, "its created_at is not a time"),
        ({"created_at": "yesterday"}, "its created_at is not a time: 'yesterday'"),
        ({"created_at": "2026-01-31T12:00:00"}, "has no zone"),
        ({"type": ""}, "event type name must not be empty"),
        ({"type": 3}, "event type name must be text"),
    ],
)
def test_a_serialized_message_that_is_not_right_is_refused(store: EventStore, wrong: Any, said: str) -> None:
    """One sentence names the message, the part and the value, and nothing is appended."""
    with pytest.raises(InvalidInput, match=re.escape(said)):
        SyncEventstreamTransport(store).send_message_serialized(GOOD | wrong)
    assert store.last_position() == 0


@pytest.mark.parametrize("lacking", ["id", "type", "payload"])
def test_a_serialized_message_that_lacks_something_is_refused(store: EventStore, lacking: str) -> None:
    """It is said what, and who makes it."""
    message = {name: value for name, value in GOOD.items() if name != lacking}
    with pytest.raises(InvalidInput, match=re.escape(f"and this one has {sorted(message)}")) as refused:
        SyncEventstreamTransport(store).send_message_serialized(message)
    assert "serializer" in refused.value.hint


def test_what_is_not_a_store_or_a_stream_is_refused_when_the_adapter_is_made(store: EventStore) -> None:
    """The synchronous half cannot use an asynchronous store."""
    other = AsyncEventStore.open("memory:")
    for make in (SyncEventstreamTransport, SyncMessageStoreRepository):
        with pytest.raises(InvalidInput, match="this needs an EventStore, not <AsyncEventStore"):
            make(other)  # type: ignore[arg-type]
    for make_async in (AsyncEventstreamTransport, AsyncMessageStoreRepository):
        with pytest.raises(InvalidInput, match="this needs an EventStore or an AsyncEventStore, not 'redis://x'"):
            make_async("redis://x")  # type: ignore[arg-type]
        with pytest.raises(InvalidName, match="must not be empty"):
            make_async(store, stream="")
    asyncio.run(other.close())


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the extra is in it."""
    monkeypatch.setitem(sys.modules, "messagebus", None)
    monkeypatch.delitem(sys.modules, "runner.adapters.messagebus")
    with pytest.raises(ImportError, match=re.escape("pip install 'redis-streams-runner[messagebus]'")):
        importlib.import_module("runner.adapters.messagebus")


# -- the message store --------------------------------------------------------------------------


def test_all_messages_of_a_transaction_are_kept_in_the_order_they_were_handled(play: Play) -> None:
    """Commands, too, with their metadata; and the bus answers as ever."""

    async def scenario(desk: Desk) -> None:
        # given
        club, command = desk.club(), Propose(book="emma")

        # when
        assert await desk.handle(club, command, Vote(book="emma", reader="Ada")) == 1
        assert await desk.handle(club, Vote(book="emma", reader="Grace")) == 2

        # then
        assert desk.types() == ["propose_v1", "proposed_v2", "vote_v1", "voted_v1", "vote_v1", "voted_v1"]
        events = all_events(desk.store)
        assert [event.data.get("reader") for event in events] == [None, None, "Ada", "Ada", "Grace", "Grace"]
        assert events[0].metadata == {"name": "propose", "schema_version": 1, "published": False}
        assert (events[0].id, events[0].recorded_at) == (command.message_id, command.created_at)
        assert [result.position for result in club.messagestore.appended] == [6]

    play(scenario)


def test_nothing_is_in_the_store_before_the_commit(play: Play) -> None:
    """Until then the messages are held; what another transaction commits meanwhile does not wait for them."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="emma"), begun))
            assert [event.type for event in club.messagestore.held] == ["propose_v1", "proposed_v2"]
            await desk.handle(desk.club(), Propose(book="ulysses"))
            assert desk.store.last_position() == 2
            await settled(begun.commit())
            assert (desk.store.last_position(), club.messagestore.held) == (4, ())
        assert desk.store.last_position() == 4

    play(scenario)


def test_a_rollback_drops_what_was_held_and_what_would_be_published(play: Play) -> None:
    """A unit of work that is used again begins with nothing: the next commit is of its own messages only."""

    async def scenario(desk: Desk) -> None:
        # given
        club = desk.club(publisher=desk.publisher(desk.transport(stream="published")), stream="kept")
        await desk.handle(club, Propose(book="a"))

        # when
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="emma"), begun))
            await settled(begun.rollback())
        with pytest.raises(RuntimeError, match="closed for today"):
            async with transaction(club) as begun:
                await settled(desk.bus.handle(Propose(book="emma"), begun))
                raise RuntimeError("closed for today")
        await desk.handle(club, Propose(book="ulysses"))

        # then
        assert [event.data["book"] for event in all_events(desk.store)] == ["a"] * 3 + ["ulysses"] * 3
        assert streams(desk.store) == {"kept": 4, "published": 2}

    play(scenario)


def test_a_unit_of_work_that_says_nothing_has_its_messages_appended_at_the_end(play: Play) -> None:
    """When the library ends the transaction, after the application's own commit."""

    async def scenario(desk: Desk) -> None:
        async with transaction(desk.club(told=False)) as begun:
            await settled(desk.bus.handle(Propose(book="emma"), begun))
            await settled(begun.commit())
            assert desk.types() == []
        assert desk.types() == ["propose_v1", "proposed_v2"]

    play(scenario)


def test_order_is_kept_within_a_stream_and_streams_are_in_the_order_of_their_first_messages(play: Play) -> None:
    """A commit is one append, which writes its streams one after the other."""

    async def scenario(desk: Desk) -> None:
        club = desk.club(stream=by_book)
        await desk.handle(club, Propose(book="a"), Propose(book="b"), Vote(book="a", reader="Ada"))
        events = all_events(desk.store)
        assert [stream for stream, _ in groupby(event.stream for event in events)] == ["book-a", "book-b"]
        assert [event.type for event in events if event.stream == "book-a"] == [
            "propose_v1", "proposed_v2", "vote_v1", "voted_v1",
        ]  # fmt: skip
        assert [(result.stream, result.version) for result in club.messagestore.appended] == [
            ("book-a", 4), ("book-b", 2),
        ]  # fmt: skip

    play(scenario)


def test_a_message_that_is_handled_twice_in_a_transaction_is_kept_once(play: Play) -> None:
    """The same id is the same message."""

    async def scenario(desk: Desk) -> None:
        club, message = desk.club(), Voted(book="emma", reader="Ada")
        async with transaction(club) as begun:
            for _ in range(2):
                await settled(begun.messagestore.add(message))
            await settled(begun.commit())
        assert desk.types() == ["voted_v1"]

    play(scenario)


def test_messages_that_are_committed_again_are_no_second_events(play: Play) -> None:
    """Committed by another unit of work, they are there already: each append says that it is a duplicate."""

    async def scenario(desk: Desk) -> None:
        messages = [Voted(book=book, reader="Ada") for book in "aab"]
        for duplicate in (False, True):
            club = desk.club(stream=by_book)
            async with transaction(club) as begun:
                for message in messages:
                    await settled(begun.messagestore.add(message))
                await settled(begun.commit())
            assert [result.duplicate for result in club.messagestore.appended] == [duplicate] * 2
        assert streams(desk.store) == {"book-a": 2, "book-b": 1}

    play(scenario)


@pytest.mark.parametrize("stream", ["messages", lambda event: f"{event.type}-1"])
def test_a_command_that_was_committed_before_is_refused_with_its_new_events(play: Play, stream: Any) -> None:
    """It was handled twice, and so made two events: nothing of the second time is appended, in whichever streams."""

    async def scenario(desk: Desk) -> None:
        command = Propose(book="emma")
        await desk.handle(desk.club(stream=stream), command)
        club = desk.club(stream=stream)
        with pytest.raises(EventIdReused):
            await desk.handle(club, command)
        assert desk.types() == ["propose_v1", "proposed_v2"]
        assert club.messagestore.held == ()

    play(scenario)


def test_what_is_refused_at_the_end_of_a_transaction_does_not_stand_in_the_way_of_the_next(play: Play) -> None:
    """The error is told once: the application has committed, and no repetition would be taken. Nor is it published."""

    async def scenario(desk: Desk) -> None:
        command = Propose(book="emma")
        club = desk.club(told=False, publisher=desk.publisher(desk.transport(stream="published")))
        await desk.handle(club, command)
        with pytest.raises(EventIdReused):
            await desk.handle(club, command)
        assert club.messagestore.held == ()
        await desk.handle(club, Propose(book="ulysses"))
        kept, published = desk.store.read_stream("messages"), desk.store.read_stream("published")
        assert [event.data["book"] for event in kept] == ["emma"] * 2 + ["ulysses"] * 2
        assert [event.data["book"] for event in published] == ["emma", "ulysses"]

    play(scenario)


def test_message_store_and_transport_may_have_the_same_store(play: Play) -> None:
    """A message that is kept and published is one event where both go to the same stream, with its metadata."""

    async def scenario(desk: Desk) -> None:
        await desk.handle(desk.club(publisher=desk.publisher()), Propose(book="emma"))
        assert desk.types() == ["propose_v1", "proposed_v2"]
        assert all_events(desk.store)[1].metadata["published"] is True

    play(scenario)


def test_published_messages_alone_can_be_kept(play: Play) -> None:
    """A function that sees the metadata leaves the others out, which may hold what should not be kept for ever."""

    async def scenario(desk: Desk) -> None:
        club = desk.club(stream=lambda event: "club" if event.metadata["published"] else None)
        await desk.handle(club, Propose(book="emma"), Vote(book="emma", reader="Ada"))
        assert desk.types() == ["proposed_v2", "voted_v1"]

    play(scenario)


def test_a_transaction_without_messages_appends_nothing(play: Play) -> None:
    """And says so."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        await desk.handle(club)
        assert (club.messagestore.appended, desk.store.last_position()) == ([], 0)

    play(scenario)


# -- refused before the commit ------------------------------------------------------------------


class Noted(Event):
    text: Any
    metadata: Metadata = Metadata(name="noted", schema_version=1)


@pytest.mark.parametrize(
    ("text", "stream", "error"),
    [
        (2**64, "messages", PayloadError),
        ("x" * 2**20, "messages", PayloadError),
        ("a", lambda event: "", InvalidName),
        ("a", lambda event: 5, InvalidName),
    ],
)
def test_what_cannot_be_appended_is_refused_when_it_is_added(play: Play, text: Any, stream: Any, error: Any) -> None:
    """The application has not committed yet; what was held before is still held."""

    async def scenario(desk: Desk) -> None:
        messages = desk.messages(stream=lambda event: "a" if event.type == "voted_v1" else _of(stream, event))
        await settled(messages.add(Voted(book="emma", reader="Ada")))
        with pytest.raises(error):
            await settled(messages.add(Noted(text=text)))
        assert [event.type for event in messages.held] == ["voted_v1"]
        assert [message.metadata.name for message in messages.stream_buffer] == ["voted"]

    play(scenario)


def _of(stream: Any, event: NewEvent) -> Any:
    return stream(event) if callable(stream) else stream


def test_more_than_one_append_may_hold_is_refused_when_it_is_added(store: EventStore) -> None:
    """Up to the limit of bytes it is taken, and appended; what a commit has freed counts no longer."""
    # given
    messages = SyncMessageStoreRepository(store)
    for message in [Noted(text="x" * 1_000_000) for _ in range(8)]:
        messages.add(message)
        messages.add(message)  # which is the same one, and counts once

    # when
    with pytest.raises(AppendTooLarge, match="one commit appends 8388608 bytes at most"):
        messages.add(Noted(text="x" * 1_000_000))
    messages.commit()
    messages.add(Noted(text="x" * 1_000_000))
    messages.commit()

    # then
    assert store.last_position() == 9


@pytest.mark.real
def test_more_messages_than_one_append_may_hold_are_refused(real_store: EventStore) -> None:
    """Ten thousand are taken, and are one append."""
    messages = SyncMessageStoreRepository(real_store)
    for number in range(10_000):
        messages.add(Noted(text=number))
    with pytest.raises(AppendTooLarge, match="10000 messages at most"):
        messages.add(Noted(text="one more"))
    messages.commit()
    assert real_store.last_position() == messages.appended[0].version == 10_000


def test_a_commit_stays_in_one_partition(url: str, fresh_name: str) -> None:
    """A message whose stream lives in another one than those before it is refused when it is added."""
    with EventStore.open(url, name=fresh_name, partitions=2) as store:
        homes = {store.info.of_stream(f"book-{book}").partition: book for book in "abcdefgh"}
        messages = SyncMessageStoreRepository(store, stream=by_book)
        messages.add(Proposed(book=homes[0]))
        with pytest.raises(InvalidInput, match="one commit stays in one partition") as refused:
            messages.add(Proposed(book=homes[1]))
        assert "one partition" in refused.value.hint
        messages.commit()
        messages.add(Proposed(book=homes[1]))
        messages.commit()
        assert streams(store) == {f"book-{homes[0]}": 1, f"book-{homes[1]}": 1}


# -- when the server is away --------------------------------------------------------------------


@pytest.mark.real
def test_a_commit_without_a_server_raises_and_can_be_made_again(play_far: Play, proxy: Proxy) -> None:
    """Nothing was appended, all is still held and the transaction still runs; once the server is back it commits."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="emma"), begun))
            with proxy.away(), pytest.raises(StoreUnavailable):
                await settled(begun.commit())
            assert (len(club.messagestore.held), desk.store.last_position()) == (2, 0)
            await settled(begun.commit())
        assert desk.types() == ["propose_v1", "proposed_v2"]
        assert club.messagestore.held == ()

    play_far(scenario)


@pytest.mark.real
def test_a_commit_that_fails_the_transaction_drops_its_messages(play_far: Play, proxy: Proxy) -> None:
    """The error leaves the block, so the library rolls back, and the next transaction has its own messages only."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        await desk.handle(club, Propose(book="a"))
        with proxy.away(), pytest.raises(StoreUnavailable):
            await desk.handle(club, Propose(book="b"))
        await desk.handle(club, Propose(book="c"))
        assert [event.data["book"] for event in all_events(desk.store)] == ["a", "a", "c", "c"]

    play_far(scenario)


@pytest.mark.real
def test_what_could_not_be_appended_at_the_end_of_a_transaction_is_held_for_its_close(
    play_far: Play, proxy: Proxy
) -> None:
    """The application has committed; the error leaves the block, and closing the transaction once more appends."""

    async def scenario(desk: Desk) -> None:
        # given
        club = desk.club(told=False, publisher=desk.publisher(desk.transport(stream="published")))
        await desk.handle(club, Propose(book="a"))  # so there is a connection to lose

        # when
        with proxy.away(), pytest.raises(StoreUnavailable):
            async with transaction(club) as begun:
                await settled(desk.bus.handle(Propose(book="b"), begun))
                await settled(begun.commit())

        # then
        assert desk.store.last_position() == 3
        assert len(club.messagestore.held) == 2
        await settled(begun.close())
        assert streams(desk.store) == {"messages": 4, "published": 2}
        assert club.messagestore.held == ()

    play_far(scenario)


@pytest.mark.real
def test_what_was_not_appended_at_the_end_of_a_transaction_comes_before_what_the_next_one_appends(
    play_far: Play, proxy: Proxy
) -> None:
    """Its append ran, and nobody knew: it is repeated as it was, and is no second event. Rollbacks leave it alone."""

    async def scenario(desk: Desk) -> None:
        # given
        club = desk.club(publisher=desk.publisher(desk.transport(stream="published")))
        club.told = False
        with _lost_replies(proxy), pytest.raises(StoreUnavailable):
            await desk.handle(club, Propose(book="a"))
        assert desk.store.last_position() == 2

        # when
        club.told = True
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="b"), begun))
            await settled(begun.rollback())
        with proxy.away(), pytest.raises(StoreUnavailable):
            await desk.handle(club, Propose(book="b"))
        held = [event.data["book"] for event in club.messagestore.held]
        await desk.handle(club, Propose(book="c"))

        # then
        assert held == ["a", "a"]
        assert [result.duplicate for result in club.messagestore.appended] == [True, False]
        assert [event.data["book"] for event in desk.store.read_stream("messages")] == ["a", "a", "c", "c"]
        assert [event.data["book"] for event in desk.store.read_stream("published")] == ["a", "c"]

    play_far(scenario)


@pytest.mark.real
def test_a_transaction_may_go_on_after_a_commit_that_was_not_answered(play_far: Play, proxy: Proxy) -> None:
    """What is handled then is another append, so that the first one can be recognized."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="a"), begun))
            with _lost_replies(proxy), pytest.raises(StoreUnavailable):
                await settled(begun.commit())
            await settled(desk.bus.handle(Vote(book="a", reader="Ada"), begun))
            await settled(begun.commit())
        assert desk.types() == ["propose_v1", "proposed_v2", "vote_v1", "voted_v1"]
        assert [result.duplicate for result in club.messagestore.appended] == [True, False]

    play_far(scenario)


@contextmanager
def _lost_replies(proxy: Proxy) -> Iterator[None]:
    """Scripts run, and nobody hears of it."""
    for _ in range(100):
        proxy.lose_reply()
    try:
        yield
    finally:
        proxy.forget()


@pytest.mark.real
def test_a_commit_whose_answer_is_lost_is_made_once(play_far: Play, proxy: Proxy) -> None:
    """Nobody knows whether it ran; it is held until that is known, and its repetition is a duplicate."""

    async def scenario(desk: Desk) -> None:
        club = desk.club()
        await desk.handle(club, Propose(book="a"))
        async with transaction(club) as begun:
            await settled(desk.bus.handle(Propose(book="b"), begun))
            with _lost_replies(proxy), pytest.raises(StoreUnavailable):
                await settled(begun.commit())
            assert len(club.messagestore.held) == 2
            assert desk.store.last_position() == 4  # it ran
            await settled(begun.commit())
        assert [result.duplicate for result in club.messagestore.appended] == [True]
        assert [event.data["book"] for event in all_events(desk.store)] == ["a", "a", "b", "b"]

    play_far(scenario)


@pytest.mark.real
def test_a_published_message_whose_answer_is_lost_is_one_event(play_far: Play, proxy: Proxy) -> None:
    """The store repeats what was not answered, and knows it."""

    async def scenario(desk: Desk) -> None:
        publisher = desk.publisher()
        await settled(publisher.send_message(Voted(book="emma", reader="Ada")))
        proxy.lose_reply()
        await settled(publisher.send_message(Voted(book="emma", reader="Grace")))
        assert proxy.armed == 0
        assert [event.data["reader"] for event in all_events(desk.store)] == ["Ada", "Grace"]

    play_far(scenario)


@pytest.mark.real
def test_a_commit_is_one_run_of_one_script(play_far: Play, proxy: Proxy) -> None:
    """However many messages and streams it has, and however it ends."""

    async def scenario(desk: Desk) -> None:
        # given
        club, runs = desk.club(stream=by_book), []
        await desk.handle(club, Propose(book="a"))
        for _ in range(2):
            proxy.meanwhile(lambda: runs.append(desk.store.last_position()))

        # when
        await desk.handle(club, *(Propose(book=str(number)) for number in range(20)))

        # then
        assert runs == [2]
        assert desk.store.last_position() == 42
        proxy.forget()

    play_far(scenario)


# -- event loops and threads --------------------------------------------------------------------


def test_a_transport_over_an_event_store_may_be_used_from_several_event_loops(store: EventStore) -> None:
    """One after the other and at the same time, each in a thread of its own: every message is one event."""
    # given
    publisher = AsyncEventstreamPublisher(AsyncEventstreamTransport(store))
    messages = [[Voted(book=book, reader=str(number)) for number in range(10)] for book in "abcd"]
    faults: list[BaseException] = []

    async def send(batch: list[Voted]) -> None:
        async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as group:
            for message in batch:
                group.create_task(publisher.send_message(message))

    def loop(batch: list[Voted]) -> None:
        try:
            asyncio.run(send(batch))
            asyncio.run(send(batch))
        except BaseException as fault:
            faults.append(fault)

    # when
    threads = [threading.Thread(target=loop, args=(batch,)) for batch in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)

    # then
    assert faults == []
    assert {event.id for event in all_events(store)} == {each.message_id for batch in messages for each in batch}
    assert store.last_position() == 40


@pytest.mark.real
def test_an_append_over_an_event_store_does_not_hold_up_the_event_loop(
    real_store: EventStore, proxy: Proxy, fresh_name: str
) -> None:
    """While the server has not answered, other tasks go on."""

    async def scenario(far: EventStore) -> None:
        publisher = AsyncEventstreamPublisher(AsyncEventstreamTransport(far))
        await publisher.send_message(Voted(book="emma", reader="Ada"))
        held = proxy.hold()
        sending = asyncio.create_task(publisher.send_message(Voted(book="emma", reader="Grace")))
        async with asyncio.timeout(PATIENCE):
            while not held.taken(0):
                await asyncio.sleep(0)
            assert not sending.done()
            held.release()
            await sending

    with EventStore.open(proxy.url, name=fresh_name) as far:
        asyncio.run(scenario(far))
    assert real_store.last_position() == 2


# -- crashes ------------------------------------------------------------------------------------

CRASHING = '''
"""A club whose own commit is a file, and that ends without a word between its two commits."""
import os, sys
from messagebus import Event, Metadata, SyncAbstractUnitOfWork
from runner import EventStore
from runner.adapters.messagebus import SyncMessageStoreRepository

url, name, order, path = sys.argv[1:]

class Voted(Event):
    metadata: Metadata = Metadata(name="voted", schema_version=1)

class Club(SyncAbstractUnitOfWork):
    def commit(self):
        if order == "log first":
            self.messagestore.commit()
            os._exit(7)
        with open(path, "w") as own:
            own.write("committed")

    def rollback(self):
        raise AssertionError

with EventStore.open(url, name=name) as store:
    club = Club()
    club.messagestore = SyncMessageStoreRepository(store)
    with club as transaction:
        transaction.messagestore.add(Voted())
        transaction.commit()
        os._exit(7)
'''


@pytest.mark.real
@pytest.mark.parametrize(("order", "own", "events"), [("log first", False, 1), ("log last", True, 0)])
def test_a_crash_between_the_two_commits_leaves_the_first_one(
    real_store: EventStore, real_url: str, fresh_name: str, tmp_path: Path, order: str, own: bool, events: int
) -> None:
    """Messages of a change that was not made, or a change without its messages: the page says which, and this is it."""
    path = tmp_path / "own"
    command = [sys.executable, "-c", CRASHING, real_url, fresh_name, order, str(path)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 7, ended.stderr
    assert (path.exists(), real_store.last_position()) == (own, events)


def test_messages_that_were_appended_first_outlive_a_commit_that_fails(play: Play) -> None:
    """The log cannot be rolled back. What was published of them is not: the library had no committed transaction."""

    class Refusing(SyncClub):
        def commit(self) -> None:
            super().commit()
            raise RuntimeError("the database is full")

    class AsyncRefusing(AsyncClub):
        async def commit(self) -> None:
            await super().commit()
            raise RuntimeError("the database is full")

    async def scenario(desk: Desk) -> None:
        club = (Refusing if desk.sync else AsyncRefusing)(desk.messages())
        with pytest.raises(RuntimeError, match="the database is full"):
            await desk.handle(club, Propose(book="emma"))
        assert desk.types() == ["propose_v1", "proposed_v2"]

    play(scenario)


# -- projections --------------------------------------------------------------------------------


def test_a_view_of_messages_can_be_waited_for(play: Play) -> None:
    """What a commit appended says how far the view must be."""
    polls = Projection("polls", category="book")

    @polls.when("voted_v1")
    def voted(state: dict[str, int], event: RecordedEvent) -> None:
        state[event.data["reader"]] = state.get(event.data["reader"], 0) + 1

    async def scenario(desk: Desk) -> None:
        club = desk.club(stream=by_book)
        await desk.handle(club, Propose(book="emma"), Vote(book="emma", reader="Ada"))
        view = View(desk.store, "polls")
        with in_thread(lambda: catch_up(desk.store, polls)):
            await asyncio.to_thread(view.wait_for, club.messagestore.appended[-1], timeout=PATIENCE)
        assert view["book-emma"] == {"Ada": 1}

    play(scenario)


def test_the_payload_of_an_event_is_that_of_the_message(store: EventStore) -> None:
    """What the message store keeps reads like what the library would publish."""
    message = Noted(text={"at": datetime(2026, 1, 31, tzinfo=UTC), "id": UUID(int=7), "tags": {"a"}, "none": None})
    messages = SyncMessageStoreRepository(store)
    messages.add(message)
    messages.commit()
    assert all_events(store)[0].data == json.loads(MessageSerializer().serialize_message(message)["payload"])


# -- the page -----------------------------------------------------------------------------------


@pytest.mark.real
def test_the_blocks_of_the_documentation_are_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run one after the other, and each assertion holds."""
    monkeypatch.chdir(tmp_path)
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL))
    assert program.count("assert") >= 5
    exec(compile(program, "messagebus.md", "exec", dont_inherit=True), {"__name__": "document"})


def test_two_messages_of_one_id_in_a_commit_are_refused_unless_they_are_the_same() -> None:
    """A message that comes twice is held once; another one of its id would be lost without a word."""
    with memory_store() as store:
        batch, event = Batch(), NewEvent("voted_v1", {"reader": "Ada"})
        batch.add("club", event, store.info)
        batch.add("club", event, store.info)
        assert len(batch.events) == 1
        for stream, data in (("club", {"reader": "Grace"}), ("other", {"reader": "Ada"})):
            with pytest.raises(InvalidInput, match=f"two messages of one commit have the id {event.id}"):
                batch.add(stream, NewEvent("voted_v1", data, id=event.id), store.info)
