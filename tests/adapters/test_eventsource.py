"""The adapter for eventsource-py: its published suites, and what they leave open."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import pytest
from access_lists import ONE_PARTITION
from accounts import PATIENCE, reached
from eventsource import (
    AggregateRepository,
    CheckpointTrackingProjection,
    DeclarativeAggregate,
    DomainEvent,
    DuplicateEventError,
    InMemoryEventStore,
    OptimisticLockError,
    SyncEventStoreAdapter,
    handles,
)
from eventsource.adapters.memory import InMemoryEventBus
from eventsource.application.projections.retry import NoRetryPolicy
from eventsource.application.subscriptions import SubscriptionManager
from eventsource.domain import StreamId
from eventsource.domain.event_registry import EventRegistry, EventTypeNotFoundError
from eventsource.domain.exceptions import PositionDecodeError, PositionForeignError, SerializationError
from eventsource.ports import (
    CategoryReadOptions,
    EventEnvelope,
    ExpectedVersion,
    FeedReadOptions,
    Position,
    ReadDirection,
    StreamReadOptions,
    collect,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy import Proxy
from pydantic import BaseModel, ConfigDict, Field
from servers import server

import runner.adapters.eventsource as adapter
from runner import EventStore, InvalidInput, NewEvent, Projection, View, catch_up
from runner.adapters.eventsource import (
    RedisCheckpointRepository,
    RedisDLQRepository,
    RedisEventStore,
    RedisUnavailableError,
)
from runner.adapters.eventsource.threads import THREADS, Threads
from runner.adapters.eventsource.translating import stream_id, stream_name
from runner.embedded.server import find_binary
from runner.errors import (
    DataError,
    LogTrimmed,
    PayloadError,
    RecordDamaged,
    StoreClosed,
    StoreRefused,
    StoreReplaced,
)
from runner.format.checksum import unseal
from runner.log.records import record_of
from runner.operations.rights import APPENDER, rules_of
from runner.operations.trim import Trim
from runner.settings import MAX_APPEND_EVENTS
from runner.testing import TEST_SETTINGS, clear, memory_store

from .suites import run_suites

DOCUMENT = (Path(__file__).parents[2] / "docs" / "eventsource.md").read_text()

T = TypeVar("T")

#: How many tests the library publishes for these ports, each on the store in memory and on the server, and its models.
PUBLISHED = 146

ANY, NO_STREAM = ExpectedVersion.any_(), ExpectedVersion.no_stream()
registry = EventRegistry()


@registry.register
class Paid(DomainEvent):
    aggregate_type: str = "Account"
    amount: int = 10


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    name: str
    price: Decimal


@registry.register
class Everything(DomainEvent):
    """A field of each kind that Pydantic can bring into JSON and back."""

    model_config = ConfigDict(extra="allow")
    aggregate_type: str = "Everything"
    text: str = "日本 / \x00 \\"
    numbers: tuple[int, ...] = (0, -1, 2**53 + 1, 2**63 - 1)
    real: float = 0.1
    price: Decimal = Decimal("12.340")
    moment: datetime = datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)
    day: date = date(2026, 1, 31)
    colour: Colour = Colour.RED
    parts: tuple[Part, ...] = (Part(name="wheel", price=Decimal("1.50")),)
    by_number: dict[int, str] = Field(default_factory=lambda: {1: "one"})
    nothing: str | None = None
    empty: list[str] = Field(default_factory=list)
    tags: frozenset[str] = frozenset({"a"})


def paid(stream: StreamId, amount: int = 10, **more: Any) -> Paid:
    return Paid(aggregate_id=stream.aggregate_id, amount=amount, **more)


def account(category: str = "Account") -> StreamId:
    return StreamId(uuid4(), category)


def run(work: Coroutine[Any, Any, T]) -> T:
    """On an event loop of its own, as the library's synchronous callers do."""
    return asyncio.run(work)


def append(store: RedisEventStore, stream: StreamId, *events: DomainEvent, expected: ExpectedVersion = ANY) -> Any:
    return run(store.append(stream, events, expected))


def drained(feed: AsyncIterator[EventEnvelope]) -> list[EventEnvelope]:
    return run(collect(feed))


def amounts(feed: AsyncIterator[EventEnvelope]) -> list[int]:
    return [envelope.event.amount for envelope in drained(feed)]  # type: ignore[attr-defined]


def trim(store: RedisEventStore, before: int) -> None:
    store.event_store.run(Trim(store.event_store.info, 0, before).run(10))


@pytest.fixture
def redis_store(url: str, fresh_name: str) -> Iterator[RedisEventStore]:
    """An empty store, on fakeredis and on the real server in turn; its pages are of five events."""
    settings = replace(TEST_SETTINGS, page_size=5)
    opened = RedisEventStore.open(url, event_registry=registry, name=fresh_name, settings=settings)
    yield opened
    opened.close_now()


@pytest.fixture
def distant(proxy: Proxy, fresh_name: str) -> Iterator[RedisEventStore]:
    """The store of `real_store`, seen through the proxy; its scripts are known to the server."""
    settings = replace(TEST_SETTINGS, socket_timeout=0.2, retry_for=PATIENCE)  # on a busy machine it is given up often
    opened = RedisEventStore.open(proxy.url, event_registry=registry, name=fresh_name, settings=settings)
    append(opened, account(), Paid(aggregate_id=uuid4()))
    run(RedisCheckpointRepository(opened).update_checkpoint("warm", uuid4(), "Paid"))
    yield opened
    opened.close_now()


# -- the library's own tests --------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_published_suites_pass() -> None:
    """Every conformance suite of the ports that the adapter has, and the stateful model of the store."""
    assert run_suites("eventsource", "--asyncio-mode=auto") >= PUBLISHED


@pytest.mark.real
def test_the_rights_of_the_page_are_enough_and_all_needed() -> None:
    """An appender with the page's rights can use all three; without any command of them, it cannot."""
    [block] = re.findall(r"^```text\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    selectors = [selector.split() for selector in re.findall(r"\(([^)]*)\)", block)]

    async def work(url: str) -> None:
        with EventStore.open(url, settings=TEST_SETTINGS) as other:
            other.append("Account-elsewhere", NewEvent("Opened"))
        store = RedisEventStore.open(url, event_registry=registry, settings=TEST_SETTINGS)
        try:
            stream, queue = account(), RedisDLQRepository(store)
            await store.append(stream, [event := paid(stream)], NO_STREAM)
            assert await store.event_exists(event.event_id)
            await RedisCheckpointRepository(store).update_checkpoint("totals", event.event_id, "Paid")
            assert await RedisCheckpointRepository(store).get_checkpoint("totals") == event.event_id
            await queue.add_failed_event(event.event_id, "totals", "Paid", {}, ValueError("no"))
            [failed] = await queue.get_failed_events()
            await queue.mark_resolved(failed.id, "Ada")
            assert await queue.delete_resolved_events(older_than_days=-1) == 1
        finally:
            await store.close()

    leave_out = [(place, word) for place, words in enumerate(selectors) for word in words if word.startswith("+")]
    with server(binary=find_binary()) as at:
        url = at.url.replace("//", "//appender:PASSWORD@")
        for without in (None, *leave_out):
            at.do("FLUSHALL")
            EventStore.open(at.url).close()
            at.do("HSET", "{es.0}:ids", "epoch", "of another log")
            more = [
                "(" + " ".join(word for word in words if (place, word) != without) + ")"
                for place, words in enumerate(selectors)
            ]
            own = ["on", ">PASSWORD", *rules_of(APPENDER, ONE_PARTITION)]
            at.do("ACL", "SETUSER", "appender", "reset", *own, *more)
            if without is None:
                run(work(url))
            else:
                with pytest.raises(StoreRefused):
                    run(work(url))


# -- against the library's own store ------------------------------------------------------------

STREAMS = [StreamId(UUID(int=1), "Account"), StreamId(UUID(int=2), "Account"), StreamId(UUID(int=1), "Credit-Card")]
TENANTS = [UUID(int=11), UUID(int=12)]
IDS = [UUID(int=number) for number in range(21, 33)]
LIMITS = st.none() | st.integers(0, 4)
VERSIONS = st.none() | st.integers(-1, 7)
TENANT = st.none() | st.sampled_from(TENANTS)
EXPECTED = st.one_of(
    st.just(ANY),
    st.just(NO_STREAM),
    st.just(ExpectedVersion.stream_exists()),
    st.integers(0, 4).map(ExpectedVersion.exact),
)
EVENTS = st.lists(st.tuples(st.sampled_from(IDS), TENANT), max_size=3)
QUESTIONS = st.one_of(
    st.builds(
        lambda stream, *options: lambda store, at: store.read_stream(stream, StreamReadOptions(*options)),
        st.sampled_from(STREAMS), st.sampled_from(ReadDirection), VERSIONS, VERSIONS, LIMITS,
    ),
    st.builds(
        lambda place, *options: lambda store, at: store.read_all((at + [None] * 7)[place], FeedReadOptions(*options)),
        st.integers(0, 6), TENANT, LIMITS,
    ),
    st.builds(
        lambda name, tenant, limit: lambda store, at: store.read_category(
            name, CategoryReadOptions(tenant_id=tenant, limit=limit)
        ),
        st.sampled_from(["Account", "Credit-Card", "Credit", "Unknown"]), TENANT, LIMITS,
    ),
)  # fmt: skip
Question = Callable[[Any, list[Position]], AsyncIterator[EventEnvelope]]


async def outcome(work: Coroutine[Any, Any, Any]) -> object:
    """What an append came to, in a form that does not depend on the store."""
    try:
        result = await work
    except OptimisticLockError as conflict:
        return ("conflict", conflict.aggregate_id, conflict.expected_version, conflict.actual_version)
    except (DuplicateEventError, ValueError) as refused:
        return DuplicateEventError if isinstance(refused, DuplicateEventError) else ValueError
    return (result.stream, result.new_version, result.position.key)


async def seen(feed: AsyncIterator[EventEnvelope]) -> list[tuple[Any, ...]]:
    return [
        (each.event, each.stream_id, each.stream_version, each.position and each.position.key) async for each in feed
    ]


@given(st.lists(st.tuples(st.sampled_from(STREAMS), EVENTS, EXPECTED), max_size=8), st.lists(QUESTIONS, max_size=6))
@settings(max_examples=60)
def test_it_answers_as_the_store_of_the_library(
    appends: list[tuple[StreamId, list[tuple[UUID, UUID | None]], ExpectedVersion]], questions: list[Question]
) -> None:
    """The same appends are refused for the same reasons, and every read gives the same envelopes."""

    async def compare() -> None:
        theirs = InMemoryEventStore(event_registry=registry)
        with memory_store(settings=replace(TEST_SETTINGS, page_size=3)) as below:
            async with RedisEventStore(below, registry) as ours:
                for stream, given_events, expected in appends:
                    # An id twice in one append: the library compares the version first, we the batch. Both refuse.
                    unique = dict(given_events)
                    events = [paid(stream, event_id=event_id, tenant_id=tenant) for event_id, tenant in unique.items()]
                    answers = [await outcome(store.append(stream, events, expected)) for store in (theirs, ours)]
                    assert answers[0] == answers[1]
                places: Any = [[each.position async for each in store.read_all()] for store in (theirs, ours)]
                for question in questions:
                    replies = [
                        await seen(question(store, at)) for store, at in zip((theirs, ours), places, strict=True)
                    ]
                    assert replies[0] == replies[1]
                for stream in STREAMS:
                    assert await theirs.get_stream_version(stream) == await ours.get_stream_version(stream)
                for event_id in IDS:
                    assert await theirs.event_exists(event_id) == await ours.event_exists(event_id)

    run(compare())


def test_every_range_of_a_stream_is_that_of_the_store_of_the_library(redis_store: RedisEventStore) -> None:
    """Both directions, from and to any version, inside the stream and outside, with any limit."""
    stream, theirs = account(), InMemoryEventStore(event_registry=registry)
    events = [paid(stream, amount) for amount in range(1, 8)]
    bounds = (None, -1, 0, 1, 4, 7, 9)

    async def compare() -> None:
        for store in (theirs, redis_store):
            await store.append(stream, events, NO_STREAM)
        for options in product(ReadDirection, bounds, bounds, (None, 0, 2, 5, 9)):
            wanted = StreamReadOptions(*options)
            assert [await seen(store.read_stream(stream, wanted)) for store in (theirs, redis_store)] == [
                await seen(theirs.read_stream(stream, wanted))
            ] * 2, options

    run(compare())


# -- appending ----------------------------------------------------------------------------------


def test_a_repetition_by_the_caller_is_refused(redis_store: RedisEventStore) -> None:
    """The port knows no repetition: with a version it is a conflict, without one a duplicate."""
    stream = account()
    event = paid(stream)
    append(redis_store, stream, event, expected=NO_STREAM)
    with pytest.raises(OptimisticLockError) as conflict:
        append(redis_store, stream, event, expected=NO_STREAM)
    assert (conflict.value.expected_version, conflict.value.actual_version) == (0, 1)
    with pytest.raises(DuplicateEventError, match=f"{event.event_id} is in the store already, at position 1"):
        append(redis_store, stream, event)
    with pytest.raises(DuplicateEventError, match="twice"):
        append(redis_store, account(), other := paid(stream), other)


@pytest.mark.real
@pytest.mark.parametrize("loss", ["lose_reply", "swallow_reply", "cut_reply"])
@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
def test_a_lost_reply_is_no_duplicate(
    proxy: Proxy, distant: RedisEventStore, loss: str, expected: ExpectedVersion
) -> None:
    """What the connection sends again is answered as the first time."""
    stream = account()
    getattr(proxy, loss)()
    result = append(distant, stream, paid(stream), paid(stream), expected=expected)
    assert (result.new_version, result.position.key) == (2, (2,))
    assert len(drained(distant.read_stream(stream))) == 2
    assert proxy.armed == 0


@pytest.mark.real
def test_a_server_that_is_away_is_a_connection_error(proxy: Proxy, fresh_name: str) -> None:
    """Of a kind that the library's subscriptions take for passing, and its callers for an error of the store."""
    settings = replace(TEST_SETTINGS, retry_for=0.5)
    distant = RedisEventStore.open(proxy.url, event_registry=registry, name=fresh_name, settings=settings)
    stream, other = account(), account()
    append(distant, other, paid(other))
    with proxy.away():
        for work in (
            lambda: append(distant, stream, paid(stream)),
            lambda: drained(distant.read_all()),
            lambda: run(RedisDLQRepository(distant).mark_retrying("x")),
        ):
            with pytest.raises(RedisUnavailableError) as trouble:
                work()
            assert isinstance(trouble.value, ConnectionError)
    assert append(distant, stream, paid(stream)).new_version == 1
    distant.close_now()


@pytest.mark.real
def test_an_append_that_was_given_up_may_still_happen(
    proxy: Proxy, distant: RedisEventStore, real_store: EventStore
) -> None:
    """A caller that is cancelled does not stop what was sent; it can ask for the event afterwards."""
    stream = account()
    event = paid(stream)
    held = proxy.hold()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(distant.append(stream, [event], NO_STREAM), 0.05)

    run(give_up())
    assert held.taken(PATIENCE)
    held.release()
    assert reached(lambda: real_store.version(stream_name(stream)) == 1)
    assert run(distant.event_exists(event.event_id))


def test_an_append_takes_one_round_trip(redis_store: RedisEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the version, and an id that is known; an id that is not known takes two."""
    stream, driver, trips = account(), redis_store.event_store.driver, []
    append(redis_store, stream, first := paid(stream))
    execute = driver.execute
    monkeypatch.setattr(
        driver, "execute", lambda commands, held=None: (trips.append(len(commands)), execute(commands, held))[1]
    )
    for work, due in (
        (redis_store.append(stream, [paid(stream)], ANY), 1),
        (redis_store.get_stream_version(stream), 1),
        (redis_store.event_exists(first.event_id), 1),
        (redis_store.event_exists(uuid4()), 2),
    ):
        trips.clear()
        run(work)
        assert len(trips) == due


def test_bad_input_is_a_value_error_and_nothing_is_written(redis_store: RedisEventStore) -> None:
    """An empty batch, something that is no event, a number too large, a type name that cannot be."""
    stream = account()
    for events in (
        [],
        ["text"],
        [paid(stream, amount=2**80)],
        [paid(stream, event_type="bad\ntype")],
        [paid(stream, metadata={"large": "x" * 2**20})],
        [paid(stream)] * 2 * MAX_APPEND_EVENTS,
    ):
        with pytest.raises((ValueError, DuplicateEventError)):
            append(redis_store, stream, *events)
    with pytest.raises(PayloadError, match="limit"):
        append(redis_store, stream, paid(stream), paid(stream, metadata={"large": "x" * 2**20}))
    assert redis_store.max_append_batch == MAX_APPEND_EVENTS
    assert redis_store.event_store.last_position() == 0


def test_events_come_back_equal(redis_store: RedisEventStore) -> None:
    """Every field, also those that the class does not declare, and the metadata of every event."""
    stream = account("Everything")
    events = [
        cast("Any", Everything)(
            aggregate_id=stream.aggregate_id, aggregate_version=7, event_version=3, tenant_id=uuid4(), actor_id="Ada",
            causation_id=uuid4(), metadata={"trace": ["x", {"deep": None}]}, more={"not": ["declared"]},
            occurred_at=datetime(1999, 1, 1, tzinfo=UTC),
        ),
        Everything(aggregate_id=uuid4(), aggregate_type="Another"),
    ]  # fmt: skip
    before = datetime.now(UTC)
    append(redis_store, stream, *events)
    found = drained(redis_store.read_stream(stream))
    assert [each.event for each in found] == events
    assert [type(each.event) for each in found] == [Everything, Everything]
    assert {each.stream_id for each in found} == {stream}
    assert all(before - timedelta(seconds=1) < each.stored_at <= datetime.now(UTC) for each in found)


# -- names --------------------------------------------------------------------------------------


@given(st.text("Ab0_.-", min_size=1), st.uuids())
def test_names_of_streams_can_be_read_back(category: str, aggregate_id: UUID) -> None:
    """Every stream of the library has a name of its own here, whose category is the whole of its category."""
    stream = StreamId(aggregate_id, category)
    name = stream_name(stream)
    assert stream_id(name) == stream
    assert name.partition("-")[0].replace("~", "-") == category


def test_categories_with_a_dash_are_kept_apart(redis_store: RedisEventStore) -> None:
    """`Credit` is not `Credit-Card`, neither for the library nor for a projection of this project."""
    card, credit = account("Credit-Card"), account("Credit")
    append(redis_store, card, paid(card, 1))
    append(redis_store, credit, paid(credit, 2))
    assert amounts(redis_store.read_category("Credit-Card")) == [1]
    assert amounts(redis_store.read_category("Credit")) == [2]
    assert [event.data["amount"] for event in redis_store.event_store.read_category("Credit")] == [2]


def test_events_of_other_streams_pass_by(redis_store: RedisEventStore) -> None:
    """What others keep in the store is not in the feed, and a limit counts what is delivered."""
    stream = account()
    for amount in range(3):
        redis_store.event_store.append("somebody-elses", [NewEvent("Noted") for _ in range(7)])
        append(redis_store, stream, paid(stream, amount))
    redis_store.event_store.append("somebody-elses", NewEvent("Noted"))
    assert amounts(redis_store.read_all()) == [0, 1, 2]
    assert amounts(redis_store.read_all(options=FeedReadOptions(limit=2))) == [0, 1]
    last = run(redis_store.current_position())
    assert last is not None
    assert last > drained(redis_store.read_all())[-1].position


# -- reading ------------------------------------------------------------------------------------


def test_an_event_that_cannot_be_read_ends_the_read_behind_those_before_it(redis_store: RedisEventStore) -> None:
    """An unknown type or fields that do not fit are named, and a limit that ends before them is met."""
    stream = account()
    append(redis_store, stream, paid(stream, 1), paid(stream, 2))
    redis_store.event_store.append(stream_name(stream), NewEvent("Unheard", {}, {}))

    async def read(limit: int | None = None) -> list[int]:
        found = []
        try:
            async for each in redis_store.read_all(options=FeedReadOptions(limit=limit)):
                found.append(cast("Any", each.event).amount)
        except EventTypeNotFoundError:
            found.append(-1)
        return found

    assert run(read()) == [1, 2, -1]
    assert run(read(limit=2)) == [1, 2]

    other = account()
    redis_store.event_store.append(stream_name(other), NewEvent("Paid", {"amount": "much"}, {}))
    with pytest.raises(SerializationError, match=r"event 1 of 'Account-.*, at position 4"):
        drained(redis_store.read_stream(other))
    another = account()
    redis_store.event_store.append(stream_name(another), NewEvent("Paid", ["no", "map"]))
    with pytest.raises(SerializationError):
        drained(redis_store.read_stream(another))


def test_positions_of_another_store_are_refused(redis_store: RedisEventStore) -> None:
    """A position says which log it is of; one beyond the end has nothing behind it."""
    stream = account()
    position = append(redis_store, stream, paid(stream)).position
    assert Position.from_str(position.to_str()) == position
    with pytest.raises(PositionForeignError):
        drained(redis_store.read_all(replace(position, store_id="another")))
    for key in ((), (1, 2), ("1",), (-1,), (2**63,)):
        with pytest.raises(PositionDecodeError):
            drained(redis_store.read_all(replace(position, key=key)))
    assert drained(redis_store.read_all(replace(position, key=(99,)))) == []


def test_a_trimmed_log_says_so(redis_store: RedisEventStore) -> None:
    """Nothing is passed over in silence; behind the floor everything is there, and ids stay known."""
    stream = account()
    events = [paid(stream, amount) for amount in range(1, 9)]
    append(redis_store, stream, *events)
    trim(redis_store, 4)
    for feed in (redis_store.read_all(), redis_store.read_stream(stream), redis_store.read_category("Account")):
        with pytest.raises(LogTrimmed):
            drained(feed)
    position = Position(redis_store.store_id, (3,))
    assert amounts(redis_store.read_all(position)) == [4, 5, 6, 7, 8]
    assert amounts(redis_store.read_stream(stream, StreamReadOptions(from_version=4, limit=2))) == [4, 5]
    assert run(redis_store.event_exists(events[0].event_id))
    assert run(redis_store.get_stream_version(stream)) == 8


def test_a_store_that_was_replaced_is_another_store(url: str, fresh_name: str) -> None:
    """After a flush nothing is written by who had it open, and old positions are foreign to who opens it again."""
    store = RedisEventStore.open(url, event_registry=registry, name=fresh_name, settings=TEST_SETTINGS)
    stream = account()
    position = append(store, stream, paid(stream)).position
    keys = store.event_store.info.keys[0]
    clear(store.event_store)
    store.event_store.driver.execute([("DEL", keys.meta)])
    again = RedisEventStore.open(url, event_registry=registry, name=fresh_name, settings=TEST_SETTINGS)
    with pytest.raises(StoreReplaced):
        append(store, stream, paid(stream))
    with pytest.raises(PositionForeignError):
        drained(again.read_all(position))
    assert run(again.current_position()) is None
    again.close_now()
    store.close_now()


def test_clearing_forgets_everything(redis_store: RedisEventStore) -> None:
    """`runner.testing.clear` removes events, ids, checkpoints and dead letters; the store stays usable."""
    stream, checkpoints = account(), RedisCheckpointRepository(redis_store)
    event = paid(stream)
    append(redis_store, stream, event)
    run(checkpoints.update_checkpoint("p", event.event_id, "Paid"))
    run(RedisDLQRepository(redis_store).add_failed_event(event.event_id, "p", "Paid", {}, ValueError()))
    clear(redis_store.event_store)
    assert not run(redis_store.event_exists(event.event_id))
    assert run(checkpoints.get_all_checkpoints()) == []
    assert run(RedisDLQRepository(redis_store).get_failed_events()) == []
    assert append(redis_store, stream, event, expected=NO_STREAM).position.key == (1,)


def test_several_partitions_are_refused(url: str, fresh_name: str) -> None:
    """The feed is one order; the message says what to do, and nothing is left open."""
    with pytest.raises(InvalidInput, match="2 partitions"):
        RedisEventStore.open(url, name=fresh_name, partitions=2, settings=TEST_SETTINGS)


@pytest.mark.real
def test_a_store_that_is_refused_is_closed_again() -> None:
    """The embedded server of a store that was opened in vain has ended."""
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:
        with pytest.raises(InvalidInput):
            RedisEventStore.open(f"embedded:{directory}", partitions=2, settings=TEST_SETTINGS)
        with socket.socket(socket.AF_UNIX) as connection, pytest.raises(OSError):
            connection.connect(str(Path(directory) / "socket"))


# -- loops, threads and processes ---------------------------------------------------------------


@pytest.mark.real
def test_one_store_serves_several_loops_at_a_time(real_url: str, fresh_name: str) -> None:
    """Threads with loops of their own append to one stream by version: each conflict is told, nothing is lost."""
    store = RedisEventStore.open(real_url, event_registry=registry, name=fresh_name, settings=TEST_SETTINGS)
    stream = account()

    async def work(who: int) -> None:
        for _ in range(10):
            while True:
                version = await store.get_stream_version(stream)
                try:
                    await store.append(stream, [paid(stream, who)], ExpectedVersion.exact(version))
                except OptimisticLockError:
                    continue
                break

    async def several(who: int) -> None:
        await asyncio.gather(work(who), work(who))

    with ThreadPoolExecutor(3) as threads:
        for each in [threads.submit(run, several(who)) for who in range(3)]:
            each.result(60)
    assert sorted(amounts(store.read_stream(stream))) == sorted([0, 1, 2] * 20)
    store.close_now()


@pytest.mark.real
def test_the_connections_outlive_the_loops(real_url: str, fresh_name: str) -> None:
    """The library's synchronous face makes a loop for each call; the store opens no connection for each."""
    store = RedisEventStore.open(real_url, event_registry=registry, name=fresh_name, settings=TEST_SETTINGS)
    face, stream = SyncEventStoreAdapter(store), account()

    def opened() -> int:
        [info] = store.event_store.driver.execute([("INFO", "stats")])
        return int(re.findall(rb"total_connections_received:(\d+)", info)[0])

    face.append(stream, [paid(stream)], NO_STREAM)
    before = opened()
    for version in range(1, 20):
        face.append(stream, [paid(stream)], ExpectedVersion.exact(version))
        assert len(face.read_stream(stream)) == version + 1
    assert opened() - before <= 2  # other tests of this machine do not use this server
    store.close_now()
    assert [thread.name for thread in threading.enumerate() if "runner-eventsource" in thread.name] == []


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_may_go_on_with_the_store(real_url: str, fresh_name: str) -> None:
    """Threads and connections stay with the parent; the child has its own."""
    store = RedisEventStore.open(real_url, event_registry=registry, name=fresh_name, settings=TEST_SETTINGS)
    stream, together = account(), threading.Barrier(THREADS)

    async def start_all_threads() -> None:
        await asyncio.gather(*(store.threads.run(together.wait, PATIENCE) for _ in range(THREADS)))

    run(start_all_threads())
    append(store, stream, paid(stream))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            append(store, stream, paid(stream), expected=ExpectedVersion.exact(1))
            status = 0
        finally:
            os._exit(status)
    ends: list[tuple[int, int]] = []

    def has_ended() -> bool:
        ends.append(os.waitpid(child, os.WNOHANG))
        return ends[-1][0] == child

    if not reached(has_ended):
        os.kill(child, signal.SIGKILL)
        ends.append(os.waitpid(child, 0))
    assert ends[-1] == (child, 0)
    append(store, stream, paid(stream), expected=ExpectedVersion.exact(2))
    store.close_now()


def test_a_store_that_is_closed_says_so(redis_store: RedisEventStore) -> None:
    """Closing may be repeated, and ends what stands on the store, too."""
    checkpoints = RedisCheckpointRepository(redis_store)
    run(redis_store.close())
    run(redis_store.close())
    for work in (redis_store.current_position(), checkpoints.get_checkpoint("p"), collect(redis_store.read_all())):
        with pytest.raises(StoreClosed):
            run(work)


def test_a_store_that_was_given_stays_open(store: EventStore) -> None:
    """What the adapter did not open it does not close."""
    stream = account()

    async def use() -> None:
        async with RedisEventStore(store, registry) as given:
            await given.append(stream, [paid(stream)], NO_STREAM)

    run(use())
    assert store.version(stream_name(stream)) == 1


def test_a_stop_iteration_of_the_users_code_comes_out_of_the_thread() -> None:
    """An event class may raise it while it is decoded; a future could not hold it, and nobody would be answered."""
    threads = Threads()

    async def use() -> None:
        async with asyncio.timeout(PATIENCE):
            await threads.run(next, iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(use())
    threads.close()


def test_closing_waits_for_what_is_under_way() -> None:
    """A request that was begun is answered; nothing new begins."""
    threads, begun, go_on = Threads(), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "done"

    async def use() -> str:
        under_way = asyncio.ensure_future(threads.run(work))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        closing = asyncio.ensure_future(asyncio.to_thread(threads.close))
        while True:
            try:
                await threads.run(str)
            except StoreClosed:
                break
        assert not closing.done()
        go_on.set()
        await closing
        return await under_way

    assert run(use()) == "done"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the import says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"redis-streams-runner\[eventsource\]"):
        importlib.reload(adapter)


# -- with the rest of the library ---------------------------------------------------------------


class Balance(BaseModel):
    amount: int = 0


class Wallet(DeclarativeAggregate[Balance]):
    aggregate_type = "Account"

    def _get_initial_state(self) -> Balance:
        return Balance()

    def pay(self, amount: int) -> None:
        self.create_event(Paid, amount=amount)

    @handles(Paid)
    def _paid(self, event: Paid) -> None:
        self._state = Balance(amount=(self._state.amount if self._state else 0) + event.amount)


def test_aggregates_are_saved_and_projected(redis_store: RedisEventStore) -> None:
    """An aggregate of the library, saved in pages, loaded again, and folded by a projection of this project."""
    wallets, aggregate_id = AggregateRepository(redis_store, Wallet), uuid4()

    async def use() -> int:
        wallet = Wallet(aggregate_id)
        for amount in range(1, 13):
            wallet.pay(amount)
        await wallets.save(wallet)
        loaded = await wallets.load(aggregate_id)
        loaded.pay(100)
        await wallets.save(loaded)
        state = (await wallets.load(aggregate_id)).state
        assert state is not None
        return state.amount

    assert run(use()) == 178
    balances = Projection("balances", category="Account", initial=lambda: {"amount": 0})
    balances.when("Paid", lambda state, event: {"amount": state["amount"] + event.data["amount"]})
    assert catch_up(redis_store.event_store, balances) == 13
    assert View(redis_store.event_store, "balances")[f"Account-{aggregate_id}"] == {"amount": 178}


class Amounts(CheckpointTrackingProjection):
    """A projection of the library that remembers amounts; it fails on 3."""

    def __init__(self, checkpoints: RedisCheckpointRepository, letters: RedisDLQRepository) -> None:
        super().__init__(checkpoints, letters, retry_policy=NoRetryPolicy())
        self.amounts: list[int] = []

    def subscribed_to(self) -> list[type[DomainEvent]]:
        return [Paid]

    async def _process_event(self, event: DomainEvent) -> None:
        assert isinstance(event, Paid)
        if event.amount == 3:
            raise ValueError(f"not {event.amount}")
        self.amounts.append(event.amount)

    async def _truncate_read_models(self) -> None:
        self.amounts.clear()


async def eventually(condition: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


def test_a_subscription_of_the_library_goes_on_where_it_was(redis_store: RedisEventStore) -> None:
    """Its position is kept in the checkpoints, what its projection cannot handle becomes a dead letter."""
    checkpoints, letters = RedisCheckpointRepository(redis_store), RedisDLQRepository(redis_store)
    stream = account()

    async def follow(last: Position | None) -> list[int]:
        amounts = Amounts(checkpoints, letters)
        manager = SubscriptionManager(redis_store, InMemoryEventBus(), checkpoints)
        await manager.subscribe(amounts, name="following")

        async def arrived() -> bool:
            return await checkpoints.get_position("following") == last

        async with manager:
            assert await eventually(arrived)
        return amounts.amounts

    append(redis_store, stream, *(paid(stream, amount) for amount in range(1, 8)))
    assert run(follow(run(redis_store.current_position()))) == [1, 2, 4, 5, 6, 7]
    append(redis_store, stream, paid(stream, 8), last := paid(stream, 9))
    assert run(follow(run(redis_store.current_position()))) == [8, 9]
    assert run(checkpoints.get_checkpoint("Amounts")) == last.event_id
    [entry] = run(letters.get_failed_events("Amounts"))
    assert (entry.event_type, entry.error_message, entry.status) == ("Paid", "not 3", "failed")
    assert json.loads(str(entry.event_data))["amount"] == 3


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.real
def test_a_checkpoint_whose_reply_was_lost_is_counted_once(proxy: Proxy, distant: RedisEventStore) -> None:
    """The request that is sent again finds its own record."""
    checkpoints = RedisCheckpointRepository(distant)
    for turn in range(3):
        if turn == 1:
            proxy.lose_reply()
        run(checkpoints.update_checkpoint("p", uuid4(), "Paid"))
    [_, found] = sorted(run(checkpoints.get_all_checkpoints()), key=lambda each: each.projection_name != "warm")
    assert (found.projection_name, found.events_processed) == ("p", 3)
    assert proxy.armed == 0


@pytest.mark.real
def test_checkpoints_set_at_the_same_time_are_all_counted(real_url: str, fresh_name: str) -> None:
    """Each is counted on from the one that is stored, however many come at once."""
    store = RedisEventStore.open(real_url, name=fresh_name, settings=TEST_SETTINGS)
    checkpoints = RedisCheckpointRepository(store)

    async def work() -> None:
        await asyncio.gather(*(checkpoints.update_checkpoint("p", uuid4(), "Paid") for _ in range(40)))

    run(work())
    [found] = run(checkpoints.get_all_checkpoints())
    assert found.events_processed == 40
    store.close_now()


def test_a_checkpoint_without_a_position_keeps_the_one_that_is_there(redis_store: RedisEventStore) -> None:
    """As in the library's SQL repository; a reset removes both."""
    checkpoints, position = RedisCheckpointRepository(redis_store), Position("ä/\"'", (7, "x"))
    run(checkpoints.save_position("p", position, uuid4(), "Paid"))
    run(checkpoints.update_checkpoint("p", latest := uuid4(), "Other"))
    [found] = run(checkpoints.get_all_checkpoints())
    assert (found.position, found.last_event_id, found.last_event_type) == (position, latest, "Other")
    assert found.last_processed_at is not None
    assert datetime.now(UTC) - found.last_processed_at < timedelta(minutes=1)
    run(checkpoints.reset_checkpoint("p"))
    assert run(checkpoints.get_position("p")) is None


def test_a_checkpoint_that_another_process_moved_or_removed_is_counted_on_from_there(url: str, fresh_name: str) -> None:
    """What a repository remembers of its own last write is a guess; what counts is what is stored."""
    first, second = (RedisEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) for _ in range(2))
    ours, theirs = RedisCheckpointRepository(first), RedisCheckpointRepository(second)

    counted = []
    for who in (ours, theirs, ours, ours, theirs):
        run(who.update_checkpoint("p", uuid4(), "Paid"))
        counted += [each.events_processed for each in run(theirs.get_all_checkpoints())]
    run(theirs.reset_checkpoint("p"))
    run(ours.update_checkpoint("p", uuid4(), "Paid"))

    assert counted == [1, 2, 3, 4, 5]
    assert [each.events_processed for each in run(theirs.get_all_checkpoints())] == [1]
    first.close_now()
    second.close_now()


def test_a_record_that_is_damaged_is_an_error_that_says_how_to_go_on(redis_store: RedisEventStore) -> None:
    """A checkpoint is never half believed: None would make a projection read everything again."""
    checkpoints = RedisCheckpointRepository(redis_store)
    store = redis_store.event_store
    key = f"{store.info.keys[0].tag}:eventsource:checkpoints"
    run(checkpoints.update_checkpoint("p", uuid4(), "Paid"))
    [data] = store.driver.execute([("HGET", key, "p")])
    store.driver.execute([("HSET", key, "p", data[:-1] + b"\x00")])

    anew = RedisCheckpointRepository(redis_store)
    for work in (anew.get_checkpoint("p"), anew.update_checkpoint("p", uuid4(), "Paid")):
        with pytest.raises(DataError, match="record 'p' of " + re.escape(key) + " is damaged: its") as damaged:
            run(work)
        assert f"HDEL {key} p" in damaged.value.hint

    run(checkpoints.reset_checkpoint("p"))
    assert run(checkpoints.get_checkpoint("p")) is None


CHECKPOINT = ["event_id", "event_type", "at", "count", "position"]
LETTER = [
    "event_id", "projection", "event_type", "event_data", "error", "trace", "retries", "first", "last", "status",
    "resolved", "by",
]  # fmt: skip


#: Those in which any text may stand.
TEXTS = {"event_type", "projection", "event_data", "error", "trace", "status", "by"}
WRONG = [None, 5.5, [1], -1, True, "", "x", "2026-01-01T00:00:00"]


@pytest.mark.parametrize(
    ("what", "field", "wrong"),
    [
        (what, field, wrong)
        for what, names in (("checkpoints", CHECKPOINT), ("dlq", LETTER))
        for field in names
        for wrong in WRONG
        if not (field in TEXTS and isinstance(wrong, str))
    ],
    ids=ascii,
)
def test_a_field_of_a_record_that_cannot_be_what_was_written_is_named(
    redis_store: RedisEventStore, caplog: pytest.LogCaptureFixture, what: str, field: str, wrong: Any
) -> None:
    """With a right checksum. The error names key and field; lists pass over that record, and have the others."""
    # given
    checkpoints, letters = RedisCheckpointRepository(redis_store), RedisDLQRepository(redis_store)
    store, event = redis_store.event_store, uuid4()
    key = f"{store.info.keys[0].tag}:eventsource:{what}"
    for name in ("p", "q"):
        run(checkpoints.save_position(name, Position("s", (1,)), event, "Paid"))
        run(letters.add_failed_event(event, name, "Paid", {}, ValueError("x")))
        run(letters.mark_resolved(f"{event}:{name}", "Ada"))
    name = "p" if what == "checkpoints" else f"{event}:p"
    [data] = store.driver.execute([("HGET", key, name)])
    [record] = unseal(data)[1:]
    record[field] = wrong
    store.driver.execute([("HSET", key, name, record_of([record], "it"))])

    # when
    read = checkpoints.get_checkpoint("p") if what == "checkpoints" else letters.get_failed_event_by_id(name)
    with pytest.raises(RecordDamaged) as damaged:
        run(read)

    # then
    assert str(damaged.value).startswith(f"record {name!r} of {key} is damaged: its field {field!r} holds")
    assert [each.projection_name for each in run(checkpoints.get_all_checkpoints())][-1] == "q"
    assert len(run(letters.get_failed_events(status="resolved"))) == (2 if what == "checkpoints" else 1)
    assert run(letters.delete_resolved_events(-1)) == (2 if what == "checkpoints" else 1)
    assert f"passed over: record {name!r}" in caplog.text


@pytest.mark.parametrize("field", CHECKPOINT[:-1])
def test_a_record_that_lacks_a_field_is_damaged(redis_store: RedisEventStore, field: str) -> None:
    """Nothing is made up in its place."""
    checkpoints, store = RedisCheckpointRepository(redis_store), redis_store.event_store
    key = f"{store.info.keys[0].tag}:eventsource:checkpoints"
    run(checkpoints.update_checkpoint("p", uuid4(), "Paid"))
    [data] = store.driver.execute([("HGET", key, "p")])
    [record] = unseal(data)[1:]
    del record[field]
    store.driver.execute([("HSET", key, "p", record_of([record], "it"))])
    with pytest.raises(RecordDamaged, match=f"its field '{field}'"):
        run(checkpoints.get_checkpoint("p"))


@pytest.mark.parametrize("what", ["checkpoints", "dlq"])
def test_a_key_of_another_type_is_an_error_that_names_it(redis_store: RedisEventStore, what: str) -> None:
    """For each call, also one that lists."""
    checkpoints, letters = RedisCheckpointRepository(redis_store), RedisDLQRepository(redis_store)
    store = redis_store.event_store
    key = f"{store.info.keys[0].tag}:eventsource:{what}"
    store.driver.execute([("SET", key, "mine")])
    calls: list[Any] = [
        checkpoints.get_checkpoint("p"), checkpoints.get_all_checkpoints(),
        checkpoints.update_checkpoint("p", uuid4(), "Paid"),
    ] if what == "checkpoints" else [
        letters.get_failed_events(), letters.get_failure_stats(),
        letters.add_failed_event(uuid4(), "p", "Paid", {}, ValueError("x")),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(RecordDamaged, match=re.escape(key)):
            run(call)


def test_lag_is_measured_to_the_last_event_of_the_types(redis_store: RedisEventStore) -> None:
    """It is none for who has the last one, and for who waits for types that have not come since its checkpoint."""
    checkpoints, stream = RedisCheckpointRepository(redis_store), account()
    first, last = paid(stream), Everything(aggregate_id=stream.aggregate_id)
    append(redis_store, stream, first)
    run(checkpoints.update_checkpoint("p", first.event_id, "Paid"))
    assert run(checkpoints.get_lag_metrics("p")).latest_event_id == str(first.event_id)  # type: ignore[union-attr]
    later = datetime.now(UTC) + timedelta(seconds=90)
    redis_store.event_store.append(
        stream_name(stream), NewEvent("Everything", {}, {}, id=last.event_id, recorded_at=later)
    )
    redis_store.event_store.append("somebody-elses", NewEvent("Noted", recorded_at=later + timedelta(days=1)))

    behind = run(checkpoints.get_lag_metrics("p"))
    assert behind is not None
    assert behind.latest_event_id == str(last.event_id)
    assert 80 < behind.lag_seconds <= 91
    assert (behind.events_processed, behind.last_event_id) == (1, str(first.event_id))
    for wanted in (["Paid"], ["Unheard"]):
        level = run(checkpoints.get_lag_metrics("p", wanted))
        assert level is not None
        assert (level.latest_event_id, level.lag_seconds) == (str(first.event_id), 0.0)
    trim(redis_store, 3)
    gone = run(checkpoints.get_lag_metrics("p", ["Unheard"]))
    assert gone is not None
    assert (gone.latest_event_id, gone.lag_seconds) == (None, 0.0)


# -- dead letters -------------------------------------------------------------------------------


def failed(letters: RedisDLQRepository, event_id: UUID, projection: str = "p", **more: Any) -> None:
    given = {"event_type": "Paid", "event_data": {}, "error": ValueError("no"), **more}
    run(letters.add_failed_event(event_id, projection, **given))


def test_a_dead_letter_keeps_what_it_was_given(redis_store: RedisEventStore) -> None:
    """Data as it was first, error and stack as they are now, also where these are no proper text."""
    letters, event_id = RedisDLQRepository(redis_store), uuid4()
    data: dict[str, Any] = {"empty": [], "none": None, "large": 2**63 - 1, "real": 0.1, "text": 'a/ü\\"', "map": {}}
    failed(letters, event_id, "a:b/c", event_data=data)
    [first] = run(letters.get_failed_events())
    try:
        raise RuntimeError("half a letter: \udcff")
    except RuntimeError as error:
        failed(letters, event_id, "a:b/c", event_data={}, error=error, retry_count=2)
    [entry] = run(letters.get_failed_events("a:b/c"))
    assert run(letters.get_failed_events("another")) == []
    assert json.loads(str(entry.event_data)) == data
    assert (entry.event_id, entry.projection_name, entry.retry_count) == (event_id, "a:b/c", 2)
    assert entry.error_message == "half a letter: \\udcff"
    assert "test_a_dead_letter_keeps_what_it_was_given" in (entry.error_stacktrace or "")
    assert entry.first_failed_at == first.first_failed_at
    assert entry.last_failed_at is not None
    assert entry.last_failed_at >= first.last_failed_at  # type: ignore[operator]
    assert entry == run(letters.get_failed_event_by_id(entry.id))


def test_a_long_queue_is_read_in_pages(redis_store: RedisEventStore) -> None:
    """The newest come first, whatever the order in which the server gives them."""
    letters, ids = RedisDLQRepository(redis_store), [uuid4() for _ in range(130)]

    async def fill() -> None:
        for turn, event_id in enumerate(ids):
            await letters.add_failed_event(event_id, f"p{turn % 3}", "Paid", {"x": "y" * 200}, ValueError())

    run(fill())
    assert [entry.event_id for entry in run(letters.get_failed_events(limit=30))] == ids[:-31:-1]
    assert len(run(letters.get_failed_events(limit=1000))) == 130
    stats = run(letters.get_failure_stats())
    assert (stats.total_failed, stats.total_retrying, stats.affected_projections) == (130, 0, 3)
    counts = run(letters.get_projection_failure_counts())
    assert [(each.projection_name, each.failure_count) for each in counts] == [("p0", 44), ("p1", 43), ("p2", 43)]
    [oldest] = [e for e in run(letters.get_failed_events(limit=1000)) if e.event_id == ids[0]]
    assert oldest.first_failed_at is not None
    assert stats.oldest_failure == counts[0].oldest_failure == oldest.first_failed_at.isoformat()


def test_marking_what_is_not_there_does_nothing(redis_store: RedisEventStore) -> None:
    """As in the library's own repositories."""
    letters = RedisDLQRepository(redis_store)
    run(letters.mark_retrying("nothing"))
    run(letters.mark_resolved(7, uuid4()))
    assert run(letters.get_failed_event_by_id("nothing")) is None
    assert run(letters.get_failure_stats()).affected_projections == 0


def test_only_old_resolved_letters_are_deleted(redis_store: RedisEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails again while the others are deleted stays."""
    letters, ids = RedisDLQRepository(redis_store), [uuid4() for _ in range(3)]
    for event_id in ids:
        failed(letters, event_id)
    for event_id in ids[:2]:
        run(letters.mark_resolved(f"{event_id}:p", "Ada"))
    assert run(letters.delete_resolved_events(older_than_days=1)) == 0

    drop = letters._records.drop

    def fails_again_first(old: list[Any]) -> int:
        failed_again = threading.Thread(target=failed, args=(letters, ids[0]))
        failed_again.start()
        failed_again.join()
        return drop(old)

    monkeypatch.setattr(letters._records, "drop", fails_again_first)
    assert run(letters.delete_resolved_events(older_than_days=0)) == 1
    assert {entry.event_id for entry in run(letters.get_failed_events())} == {ids[0], ids[2]}


# -- the documentation --------------------------------------------------------------------------


@pytest.mark.real
def test_the_blocks_of_the_documentation_are_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run one after the other, and each assertion holds."""
    monkeypatch.chdir(tmp_path)
    document = types.ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", document)  # where Pydantic looks up what annotations name
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL))
    assert program.count("assert") >= 8
    exec(compile(program, "eventsource.md", "exec"), document.__dict__)
