"""castlecraft-engineer: its own tests on our stores, and what they do not ask: faults, races, order, bad input."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from access_lists import ONE_PARTITION
from castlecraft_engineer.abstractions.event import Event
from castlecraft_engineer.abstractions.event_store import EventStoreConflictError
from castlecraft_engineer.abstractions.projection import ProjectionState
from castlecraft_engineer.abstractions.projector import Projector
from castlecraft_engineer.abstractions.snapshot import Snapshot
from proxy import Proxy
from servers import server

from runner import AsyncEventStore, EventStore, InvalidInput, NewEvent, Projection, View, catch_up
from runner.adapters.castlecraft import RedisEventStore, RedisProjectionStore, RedisSnapshotStore
from runner.embedded.server import find_binary
from runner.errors import (
    AppendTooLarge,
    Conflict,
    DataError,
    EventIdReused,
    InvalidName,
    LogTrimmed,
    PayloadError,
    RecordDamaged,
    StoreRefused,
    UndecodableEvent,
)
from runner.format.checksum import unseal
from runner.format.scripts import load as script
from runner.log.records import record_of
from runner.operations.rights import APPENDER, rules_of
from runner.operations.trim import Trim
from runner.settings import Settings
from runner.testing import TEST_SETTINGS, clear

from .suites import run_suites

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "castlecraft.md").read_text()

#: The published tests, each in memory and on a real server.
PUBLISHED = 2 * 24

PAGE = 10


# -- the domain ---------------------------------------------------------------------------------


class Currency(Enum):
    EURO = "EUR"


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: Currency = Currency.EURO


@dataclass(frozen=True, kw_only=True)
class Deposited(Event):
    amount: int


@dataclass(frozen=True, kw_only=True)
class Everything(Event):
    """A field of each kind."""

    money: Money
    parts: dict[int, Money]
    tags: frozenset[str]
    pair: tuple[int, str]
    day: date
    moment: datetime
    key: UUID
    raw: bytes
    ratio: float
    took: timedelta
    maybe: Money | None = None
    anything: Any = None
    unseen: list[int] = field(default_factory=list, compare=False)
    double: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", str(self.pair[0] * 2))


class Closed(Event):
    """No fields of its own, so it needs no decorator."""


@dataclass(frozen=True, kw_only=True)
class Loose(Event):
    value: Any


class Angle:
    """A class that nobody but its owner knows how to store."""

    def __init__(self, degrees: int) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Angle) and self.degrees == other.degrees

    def __hash__(self) -> int:
        return hash(self.degrees)


@dataclass(frozen=True, kw_only=True)
class Turned(Event):
    by: Angle


@dataclass
class State:
    balance: Money
    tags: set[str]


CLASSES = [Deposited, Everything, Closed, Loose]


def everything(**more: Any) -> Everything:
    fields: dict[str, Any] = (
        {
            "money": Money(Decimal("10.50")), "parts": {1: Money(Decimal(1))}, "tags": frozenset("ab"),
            "pair": (7, "x"), "day": date(2024, 2, 29), "key": uuid4(), "raw": b"\x00\xff", "ratio": 0.1,
            "took": timedelta(seconds=1.5),
            "moment": datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            "maybe": Money(Decimal(0)), "anything": [1, {"two": (3,)}], "unseen": [1, 2],
        }
        | more
    )  # fmt: skip
    return Everything(**fields)


def deposits(*amounts: int) -> list[Event]:
    return [Deposited(amount=amount) for amount in amounts]


def accounts(store: AsyncEventStore, **options: Any) -> RedisEventStore[Any]:
    return RedisEventStore(store, **{"category": "account", "events": CLASSES, **options})


def snapshots(store: AsyncEventStore, **options: Any) -> RedisSnapshotStore[Any]:
    return RedisSnapshotStore(store, category="account", **options)


def snapshot(version: int, state: Any = None, aggregate_id: Any = 1) -> Snapshot[Any]:
    return Snapshot(aggregate_id, {"version": version} if state is None else state, version)


def state(event_id: Any, updated: int = 0, name: str = "balances") -> ProjectionState:
    """A state that was updated so many seconds after noon."""
    return ProjectionState(name, event_id, None, datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=updated))


async def version_of(kept: RedisSnapshotStore[Any]) -> int | None:
    found = await kept.get_latest_snapshot(1)
    return None if found is None else found.version


# -- stores -------------------------------------------------------------------------------------


def waited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test in an event loop, its store open around it."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async def whole() -> None:
            async with fixtures["store"]:
                await test(**fixtures)

        asyncio.run(whole())

    return run


@pytest.fixture
def store(url: str, fresh_name: str) -> AsyncEventStore:
    """An empty store that reads small pages, on fakeredis and on the real server in turn."""
    return AsyncEventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=PAGE))


@pytest.fixture
def plain(url: str, fresh_name: str) -> Iterator[EventStore]:
    """The same, synchronous."""
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as opened:
        yield opened


def through(proxy: Proxy, name: str) -> AsyncEventStore:
    return AsyncEventStore.open(proxy.url, name=name, settings=Settings(socket_timeout=1.0, retry_for=5.0))


def running(name: str) -> bytes:
    """What a request that runs this script holds."""
    return script(name).sha.encode()


def lose_history(plain: EventStore, *keep: NewEvent, stream: str = "account-1") -> None:
    """Another log takes the place of the one there was, as after a failover that lost it; all else is left."""
    keys = plain.info.keys[0]
    plain.driver.execute([("DEL", keys.log, keys.stream(stream)), ("HDEL", keys.meta, "floor")])
    if keep:
        plain.append(stream, keep)


# -- the library's tests ------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_published_tests_pass() -> None:
    """Those of an event store, a snapshot store and a projection store, in memory and on a real server."""
    assert run_suites("castlecraft", "--asyncio-mode=auto") >= PUBLISHED


@pytest.mark.real
def test_the_page_is_a_program_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/castlecraft.md, in one go, in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="runner-doc-") as directory:  # short, because a socket's path must be
        monkeypatch.chdir(directory)
        program = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL))
        assert program.count("assert ") >= 5
        module = ModuleType("document")
        monkeypatch.setitem(sys.modules, "document", module)  # dataclasses are looked up there
        exec(compile(program, "castlecraft.md", "exec", dont_inherit=True), vars(module))


@pytest.mark.real
@pytest.mark.parametrize("binary", ["redis-server", "embedded binary"])
def test_the_rights_of_the_page_are_enough_and_all_needed(binary: str) -> None:
    """An appender with the page's selectors can use the three stores; without any of their words, it cannot."""
    [block] = re.findall(r"^```text\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    selectors = [selector.split() for selector in re.findall(r"\(([^)]*)\)", block)]
    words = [(place, word) for place, selector in enumerate(selectors) for word in selector]

    async def work(url: str) -> None:
        async with AsyncEventStore.open(url, settings=TEST_SETTINGS) as store:
            events, kept, seen = accounts(store), snapshots(store), RedisProjectionStore[Any](store)
            [event] = new = deposits(1)
            await events.append_events(1, -1, new)
            assert await events.load_events(1) == new
            await kept.save_snapshot(snapshot(0))
            assert await version_of(kept) == 0
            await seen.save_projection_state(state(event.event_id))
            assert await seen.get_projection_state("balances") == state(event.event_id)
            await kept.clear_snapshots(1)

    with server(binary=find_binary() if binary == "embedded binary" else binary) as at:
        url = at.url.replace("//", "//appender:PASSWORD@")
        for without in (None, *words):
            at.do("FLUSHALL")
            EventStore.open(at.url).close()
            more = [
                "(" + " ".join(word for word in selector if (place, word) != without) + ")"
                for place, selector in enumerate(selectors)
            ]
            own = ["on", ">PASSWORD", *rules_of(APPENDER, ONE_PARTITION)]
            at.do("ACL", "SETUSER", "appender", "reset", *own, *more)
            if without is None:
                asyncio.run(work(url))
            else:
                with pytest.raises(StoreRefused):
                    asyncio.run(work(url))


def test_without_the_library_the_extra_is_named() -> None:
    """Importing the adapter where castlecraft-engineer is not installed says what to install."""
    program = "import sys; sys.modules['castlecraft_engineer'] = None; import runner.adapters.castlecraft"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: castlecraft-engineer cannot be imported" in done.stderr
    assert "redis-streams-runner[castlecraft]" in done.stderr


# -- events: what is stored ---------------------------------------------------------------------


@waited
async def test_events_of_every_kind_come_back_equal(store: AsyncEventStore) -> None:
    """Nested dataclasses, enumerations, sets, tuples, decimals, times with zones: types and values are the same."""
    events, old = accounts(store), everything(occurred_on=datetime(1969, 7, 20, 20, 17, tzinfo=UTC))
    new = [old, Closed(), Deposited(amount=5), Loose(value=float("nan")), everything(maybe=None)]

    await events.append_events(1, -1, new)

    loaded = await events.load_events(1)
    assert [loaded[0], loaded[1], loaded[2], loaded[4]] == [new[0], new[1], new[2], new[4]]
    assert [type(event) for event in loaded] == [type(event) for event in new]
    first = loaded[0]
    assert isinstance(first, Everything)
    assert (first.unseen, first.double, first.money.currency) == ([1, 2], "14", Currency.EURO)
    assert (type(first.tags), type(first.pair), type(first.ratio)) == (frozenset, tuple, float)


@waited
async def test_what_this_projects_readers_see(store: AsyncEventStore) -> None:
    """The stream is of the category, the class is the type, the id the id; occurred_on stands in the metadata."""
    events, key, long_ago = accounts(store), uuid4(), datetime(2001, 1, 1, tzinfo=UTC)
    new = everything(occurred_on=long_ago)
    before = datetime.now(UTC)

    await events.append_events(key, -1, [new])

    [seen] = [event async for event in store.read_category("account")]
    assert (seen.stream, seen.type, seen.id) == (f"account-{key}", "Everything", new.event_id)
    assert seen.stream == events.stream(key)
    assert seen.metadata == {"occurred_on": long_ago}
    assert seen.recorded_at >= before
    assert seen.data["money"] == {"amount": Decimal("10.50"), "currency": "EUR"}
    assert {"event_id", "occurred_on"}.isdisjoint(seen.data)
    assert events.event_of(seen) == new


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (Loose(value={1, 2}), "data.value would come back as [1, 2], not {1, 2}"),
        (Loose(value=[Money(Decimal(1))]), "data.value would come back as [{'amount'"),
        (Loose(value=Currency.EURO), "data.value would come back as 'EUR'"),
        (Loose(value=object()), "data cannot be stored: Encoding objects of type object is unsupported"),
        (Loose(value=2**64), "data.value cannot be stored: an integer of more than 64 bits"),
        (Deposited(amount="5"), "data could not be read again: Expected `int`, got `str`"),  # type: ignore[arg-type]
        (everything(unseen=(1,)), "data.unseen would come back as [1], not (1,)"),
        (
            Deposited(amount=1, occurred_on=datetime(2026, 1, 1)),
            "data.occurred_on cannot be stored: a datetime without",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_event_that_would_not_come_back_equal_is_refused(event: Event, named: str) -> None:
    """The field is named, and of the whole append nothing is written."""

    async def appended() -> None:
        async with AsyncEventStore.open("memory:") as store:
            events = accounts(store)
            with pytest.raises(PayloadError, match=re.escape(named)):
                await events.append_events(1, -1, [*deposits(1), event])
            assert await store.last_position() == 0

    asyncio.run(appended())


@waited
async def test_a_class_that_msgspec_does_not_know_is_stored_by_hooks(store: AsyncEventStore) -> None:
    """``encode`` and ``decode`` are for such fields; without them the event is refused."""
    turned = [Turned(by=Angle(90))]
    with pytest.raises(PayloadError, match="type Angle is unsupported"):
        await accounts(store, events=[Turned]).append_events(1, -1, turned)

    events = accounts(store, events=[Turned], encode=vars, decode=lambda kind, data: kind(**data))
    await events.append_events(1, -1, turned)

    assert await events.load_events(1) == turned


# -- events: classes ----------------------------------------------------------------------------


@waited
async def test_a_class_that_was_not_given_is_neither_appended_nor_loaded(store: AsyncEventStore) -> None:
    """Both say which: an append is refused before anything is sent, a load names the event."""
    few = accounts(store, events=[Closed])
    with pytest.raises(
        InvalidInput, match=r"class 'Deposited' is not one of those that this store was given \(Closed\)"
    ):
        await few.append_events(1, -1, deposits(1))
    with pytest.raises(InvalidInput, match="only events of castlecraft-engineer can be appended, not 5"):
        await few.append_events(1, -1, [5])  # type: ignore[list-item]

    await accounts(store).append_events(1, -1, deposits(1, 2))

    with pytest.raises(
        UndecodableEvent, match=r"position 1 .*'account-1'.*no class was given for 'Deposited'"
    ) as caught:
        await few.load_events(1)
    assert (caught.value.stream, caught.value.number, caught.value.type) == ("account-1", 1, "Deposited")


@waited
async def test_a_renamed_class_reads_what_was_stored_by_its_old_name(store: AsyncEventStore) -> None:
    """Of several names of a class the first is written, and all are read."""
    await accounts(store).append_events(1, -1, deposits(1))
    renamed = accounts(store, events={"PaidIn": Deposited, "Deposited": Deposited})
    await renamed.append_events(1, 0, deposits(2))

    assert [event.amount for event in await renamed.load_events(1)] == [1, 2]  # type: ignore[attr-defined]
    assert [event.type async for event in store.read_all()] == ["Deposited", "PaidIn"]


@waited
async def test_a_class_may_change_as_long_as_old_events_fit(store: AsyncEventStore) -> None:
    """A new field with a default is filled, a field that is gone is passed over; one without a default is an error."""

    @dataclass(frozen=True, kw_only=True)
    class Grown(Event):
        currency: str = "EUR"

    @dataclass(frozen=True, kw_only=True)
    class Strict(Event):
        amount: int
        currency: str

    await accounts(store).append_events(1, -1, deposits(1))

    [grown] = await accounts(store, events={"Deposited": Grown}).load_events(1)
    assert isinstance(grown, Grown)
    assert grown.currency == "EUR"
    with pytest.raises(UndecodableEvent, match="missing required field `currency`"):
        await accounts(store, events={"Deposited": Strict}).load_events(1)


@waited
async def test_events_that_were_appended_by_other_means_are_loaded(store: AsyncEventStore) -> None:
    """With the data of such an event and no metadata, it occurred when it was recorded; other data is an error."""
    moment = datetime(2026, 2, 3, tzinfo=UTC)
    await store.append("account-1", [NewEvent("Deposited", {"amount": 5}, recorded_at=moment), NewEvent("Closed")])

    first, second = await accounts(store).load_events(1)

    assert isinstance(first, Deposited)
    assert (first.amount, first.occurred_on, type(second)) == (5, moment, Closed)
    await store.append("account-2", NewEvent("Deposited", [5]))
    with pytest.raises(UndecodableEvent):
        await accounts(store).load_events(2)


class Bare(Event):
    amount: int


class Weird(Event):
    def __init__(self, amount: int) -> None:
        super().__init__()


@dataclass(frozen=True, kw_only=True)
class Either(Event):
    value: Money | State


def _other_deposited() -> type[Event]:
    return dataclass(frozen=True, kw_only=True)(type("Deposited", (Event,), {}))


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ([Bare], "'Bare' has attributes but is not a dataclass"),
        ([Weird], "'Weird' has attributes but is not a dataclass"),
        ([Either], "class 'Either' cannot be stored: Type unions may not"),
        ([Money], "events takes subclasses of castlecraft-engineer's Event"),
        ([Deposited(amount=1)], "events takes classes, not Deposited"),
        ([Deposited, _other_deposited()], "two classes are stored as 'Deposited'"),
        ({"": Deposited}, "a class name must not be empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_classes_that_cannot_be_stored_are_refused_when_the_store_is_made(classes: Any, named: str) -> None:
    """Not first when an event of theirs is appended in production."""
    with pytest.raises(InvalidInput, match=re.escape(named)):
        accounts(AsyncEventStore.open("memory:"), events=classes)


# -- events: versions, conflicts, repetitions ---------------------------------------------------


@waited
async def test_one_of_many_writers_gets_each_version(store: AsyncEventStore) -> None:
    """Each loses by a conflict with the version there is, and tries again from it: nothing is lost or doubled."""
    events, conflicts = accounts(store), list[tuple[Any, Any]]()

    async def write(number: int) -> None:
        event, expected = deposits(number), cast("Any", -1)
        while True:
            try:
                await events.append_events(1, expected, event)
            except EventStoreConflictError as conflict:
                conflicts.append((conflict.expected_version, conflict.actual_version))
                expected = conflict.actual_version
            else:
                return

    await asyncio.gather(*map(write, range(8)))

    loaded = await events.load_events(1)
    assert sorted(event.amount for event in loaded) == list(range(8))  # type: ignore[attr-defined]
    assert await events.get_current_version(1) == 7
    assert conflicts
    assert all(-1 <= expected < actual <= 7 for expected, actual in conflicts)


@waited
async def test_repeating_an_append_is_safe_and_an_event_id_counts_once(store: AsyncEventStore) -> None:
    """The same events at the same version are there once; others are a conflict; known ids beside new ones too."""
    events, new = accounts(store), deposits(1, 2)
    await events.append_events(1, -1, new)
    await events.append_events(1, 1, deposits(3))

    await events.append_events(1, -1, new)

    assert await events.get_current_version(1) == 2
    with pytest.raises(EventStoreConflictError) as caught:
        await events.append_events(1, -1, deposits(1, 2))
    assert (caught.value.aggregate_id, caught.value.expected_version, caught.value.actual_version) == (1, -1, 2)
    with pytest.raises(EventIdReused):
        await events.append_events(1, 2, [new[1], *deposits(4)])
    assert await events.get_current_version(1) == 2


@pytest.mark.real
@pytest.mark.parametrize("fault", ["lose_reply", "swallow_reply", "cut_request"])
def test_an_append_whose_answer_is_lost_is_stored_once(proxy: Proxy, fresh_name: str, fault: str) -> None:
    """The connection ends, or falls silent, after the server has done it, or before: the caller notices nothing."""

    async def appended() -> None:
        async with through(proxy, fresh_name) as store:
            events = accounts(store)
            await events.append_events(1, -1, deposits(1))
            getattr(proxy, fault)(running("log/append"))
            await events.append_events(1, 0, deposits(2))
            assert proxy.armed == 0
            assert [event.amount for event in await events.load_events(1)] == [1, 2]  # type: ignore[attr-defined]

    asyncio.run(appended())


@waited
async def test_versions_that_cannot_be(store: AsyncEventStore) -> None:
    """One below -1 or far above is a conflict like any other; what is no number is refused; no events, no questions."""
    events = accounts(store)
    await events.append_events(1, -1, deposits(1))
    for impossible in (-2, -(2**62), 7, 2**62):
        with pytest.raises(EventStoreConflictError) as caught:
            await events.append_events(1, impossible, deposits(2))
        assert (caught.value.expected_version, caught.value.actual_version) == (impossible, 0)
        await events.append_events(1, impossible, [])
    with pytest.raises(EventStoreConflictError) as caught:
        await events.append_events(2, -2, deposits(2))
    assert caught.value.actual_version == -1
    for wrong in (None, "0", True, 0.0, 2**63 - 1, 10**20):
        with pytest.raises(InvalidInput, match="expected_version must be a number"):
            await events.append_events(1, wrong, deposits(2))  # type: ignore[arg-type]
        if wrong is not None:
            with pytest.raises(InvalidInput, match="from_version must be a number"):
                await events.load_events(1, wrong)  # type: ignore[arg-type]
    assert await events.get_current_version(1) == 0


@waited
async def test_a_long_stream_is_read_in_pages(store: AsyncEventStore) -> None:
    """All of it in order, across page boundaries, and from any version on; too long an append is refused whole."""
    events, many = accounts(store), deposits(*range(3 * PAGE))
    await events.append_events(1, -1, many)
    assert await events.load_events(1) == many
    for version in (0, PAGE - 2, PAGE - 1, PAGE, 3 * PAGE - 2, 3 * PAGE - 1, 4 * PAGE):
        assert await events.load_events(1, version) == many[version + 1 :]
    with pytest.raises(AppendTooLarge):
        await events.append_events(1, 3 * PAGE - 1, deposits(*range(10_001)))
    assert await events.get_current_version(1) == 3 * PAGE - 1


@waited
async def test_a_trimmed_stream_keeps_its_version_and_says_what_is_gone(
    store: AsyncEventStore, plain: EventStore
) -> None:
    """What is left is loaded; what is not raises LogTrimmed, and is not passed off as a shorter history."""
    events = accounts(store)
    await events.append_events(1, -1, deposits(*range(5)))
    plain.run(Trim(plain.info, 0, 4).run())

    assert await events.get_current_version(1) == 4
    assert [event.amount for event in await events.load_events(1, 2)] == [3, 4]  # type: ignore[attr-defined]
    with pytest.raises(LogTrimmed):
        await events.load_events(1)
    await events.append_events(1, 4, deposits(5))


# -- ids ----------------------------------------------------------------------------------------


class Branch(StrEnum):
    NORTH = "north"


@pytest.mark.parametrize(
    ("aggregate_id", "stream"),
    [
        (UUID("12345678-1234-5678-1234-567812345678"), "account-12345678-1234-5678-1234-567812345678"),
        ("ada", "account-ada"), ("a-b", "account-a-b"), (7, "account-7"), (-7, "account--7"),
        (Branch.NORTH, "account-north"),
    ],
)  # fmt: skip
def test_an_id_is_its_text_in_the_name_of_the_stream(aggregate_id: Any, stream: str) -> None:
    """UUIDs, text and integers; the category is the same for all."""
    assert accounts(AsyncEventStore.open("memory:")).stream(aggregate_id) == stream


@pytest.mark.parametrize("wrong", [None, True, 1.5, ("a", 1), "", "a\n", "x" * 513])
def test_an_id_that_cannot_be_part_of_a_name_is_refused(wrong: Any) -> None:
    """InvalidInput; for ids of another kind it says that id_text helps."""
    store = AsyncEventStore.open("memory:")
    for keeper in (accounts(store), snapshots(store)):
        with pytest.raises(InvalidInput) as caught:
            keeper._streams.name(wrong)
        assert isinstance(wrong, str) or "id_text=" in caught.value.hint


@waited
async def test_ids_of_other_kinds_are_made_text_by_a_function(store: AsyncEventStore) -> None:
    """For events and snapshots; the id that comes back is the one that was asked with."""

    def text(key: tuple[str, int]) -> str:
        return f"{key[0]}/{key[1]}"

    events, kept = accounts(store, id_text=text), snapshots(store, id_text=text)
    await events.append_events(("a", 1), -1, deposits(1))
    await kept.save_snapshot(snapshot(0, aggregate_id=("a", 1)))

    assert await store.version("account-a/1") == 1
    found = await kept.get_latest_snapshot(("a", 1))
    assert found is not None
    assert found.aggregate_id == ("a", 1)


def test_wrong_stores_and_categories_are_refused() -> None:
    """A synchronous store, and a category that no stream can have."""
    with EventStore.open("memory:") as plain:
        for make in (accounts, snapshots, RedisProjectionStore):
            with pytest.raises(InvalidInput, match="this takes an AsyncEventStore, not EventStore"):
                make(plain)  # type: ignore[arg-type]
    for wrong, error in (("a-b", InvalidInput), ("", InvalidName)):
        with pytest.raises(error):
            RedisEventStore(AsyncEventStore.open("memory:"), category=wrong, events=CLASSES)


@waited
async def test_events_and_snapshots_work_with_several_partitions(store: AsyncEventStore, url: str) -> None:
    """A stream is in one of them, its snapshot beside it; only the order of projections needs a single one."""
    async with AsyncEventStore.open(url, name="parts", partitions=3) as parted:
        events, kept = accounts(parted), snapshots(parted)
        for key in range(6):
            await events.append_events(key, -1, deposits(key))
            await kept.save_snapshot(snapshot(0, {"key": key}, key))
        for key in range(6):
            assert await events.load_events(key, -1) != []
            found = await kept.get_latest_snapshot(key)
            assert found is not None
            assert found.aggregate_state == {"key": key}
        with pytest.raises(InvalidInput, match="has 3 partitions, so its events have no single order"):
            await RedisProjectionStore(parted).save_projection_state(state(uuid4()))
        loose: RedisProjectionStore[Any] = RedisProjectionStore(parted, events_in_log=False)
        await loose.save_projection_state(state(1))
        assert await loose.get_projection_state("balances") == state(1)
    with EventStore.open(url, name="parts") as plain:
        clear(plain)
        assert [keys for keys in plain.driver.execute([("KEYS", "{parts.*castlecraft*")]) if keys] == []


# -- snapshots ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept",
    [{"balance": Decimal("1.5"), "when": datetime(2026, 1, 1, tzinfo=UTC)}, [1, (2,)], "text", 5, {},
     State(Money(Decimal(3)), {"a", "b"}), Angle(90)],
)  # fmt: skip
def test_a_state_comes_back_equal(kept: Any) -> None:
    """Whatever an event may hold, and objects of the classes that were given."""

    async def saved() -> None:
        async with AsyncEventStore.open("memory:") as store:
            keeper = snapshots(store, states=[State, Angle], encode=vars, decode=lambda kind, data: kind(**data))
            await keeper.save_snapshot(snapshot(0, kept))
            assert await keeper.get_latest_snapshot(1) == snapshot(0, kept)

    asyncio.run(saved())


@waited
async def test_a_state_that_cannot_be_stored_is_refused(store: AsyncEventStore) -> None:
    """It says what is wrong, and the snapshot before it stays."""
    kept = snapshots(store)
    await kept.save_snapshot(snapshot(0))
    with pytest.raises(PayloadError, match=r"snapshot of 'account-1': state\[0\] cannot be stored: a State") as caught:
        await kept.save_snapshot(snapshot(1, State(Money(Decimal(3)), set())))
    assert "states=[State]" in caught.value.hint
    for wrong in (-2, None, 1.0, True):
        with pytest.raises(InvalidInput, match="version must be"):
            await kept.save_snapshot(Snapshot(1, {}, wrong))  # type: ignore[arg-type]
    assert await kept.get_latest_snapshot(1) == snapshot(0)


@waited
async def test_the_newest_snapshot_wins_in_whatever_order_they_come(store: AsyncEventStore) -> None:
    """An older one that comes late is ignored, one of the same version replaces, whoever saves at the same time."""
    kept = snapshots(store)
    await accounts(store).append_events(1, -1, deposits(*range(20)))
    await kept.save_snapshot(snapshot(7))
    await kept.save_snapshot(snapshot(6))
    assert await version_of(kept) == 7
    await kept.save_snapshot(snapshot(7, {"better": True}))
    assert await kept.get_latest_snapshot(1) == snapshot(7, {"better": True})

    await asyncio.gather(*(kept.save_snapshot(snapshot(version)) for version in (9, 19, 3, 17, 11, 18, 5)))

    assert await kept.get_latest_snapshot(1) == snapshot(19)
    await kept.clear_snapshots(1)
    assert await version_of(kept) is None


@pytest.mark.real
@pytest.mark.parametrize(("ours", "theirs"), [(2, 5), (5, 2)])
def test_of_two_snapshots_that_are_saved_at_once_the_newer_stays(
    proxy: Proxy, real_url: str, fresh_name: str, ours: int, theirs: int
) -> None:
    """Theirs is written right before ours, which had looked and found none: it looks again, and decides anew."""

    async def save_theirs() -> None:
        async with AsyncEventStore.open(real_url, name=fresh_name) as store:
            await snapshots(store).save_snapshot(snapshot(theirs))

    async def save_ours() -> int | None:
        async with through(proxy, fresh_name) as store:
            kept = snapshots(store)
            proxy.meanwhile(lambda: asyncio.run(save_theirs()), running("log/replace_records"))
            await kept.save_snapshot(snapshot(ours))
            assert proxy.armed == 0
            return await version_of(kept)

    assert asyncio.run(save_ours()) == 5


@waited
async def test_a_snapshot_of_a_history_that_was_lost_is_not_returned(store: AsyncEventStore, plain: EventStore) -> None:
    """Neither when its event is gone, nor when another is in its place; and it does not keep newer ones out."""
    events, kept = accounts(store), snapshots(store)
    await events.append_events(1, -1, deposits(*range(5)))
    await kept.save_snapshot(snapshot(3))
    assert await version_of(kept) == 3

    lose_history(plain, *(NewEvent(e.type, e.data, id=e.id) for e in list(plain.read_stream("account-1", to=3))))
    assert await version_of(kept) is None
    lose_history(plain, NewEvent("Deposited", {"amount": 1}))
    assert await version_of(kept) is None
    await events.append_events(1, 0, deposits(2, 3, 4, 5))
    assert await version_of(kept) is None

    await kept.save_snapshot(snapshot(1))
    assert await version_of(kept) == 1


@waited
async def test_a_snapshot_before_its_events_is_returned_until_there_are_any(store: AsyncEventStore) -> None:
    """It may be of another history: nothing says that the events are those it was taken at."""
    kept = snapshots(store)
    await kept.save_snapshot(snapshot(-1))
    assert await version_of(kept) == -1
    await kept.save_snapshot(snapshot(3))
    assert await version_of(kept) == 3

    await accounts(store).append_events(1, -1, deposits(*range(5)))
    assert await version_of(kept) is None

    await kept.save_snapshot(snapshot(3))
    assert await version_of(kept) == 3


@waited
async def test_a_snapshot_outlives_the_events_that_are_trimmed(store: AsyncEventStore, plain: EventStore) -> None:
    """Its aggregate is loaded from it and from what is left behind it."""
    events, kept = accounts(store), snapshots(store)
    await events.append_events(1, -1, deposits(*range(5)))
    await kept.save_snapshot(snapshot(2))
    plain.run(Trim(plain.info, 0, 4).run())

    assert await version_of(kept) == 2
    assert len(await events.load_events(1, 2)) == 2
    await kept.save_snapshot(snapshot(1))
    assert await version_of(kept) == 2
    await kept.save_snapshot(snapshot(2, {"again": True}))
    assert await kept.get_latest_snapshot(1) == snapshot(2, {"again": True})
    lose_history(plain, NewEvent("Deposited", {"amount": 1}))
    assert await version_of(kept) is None


@waited
async def test_a_snapshot_that_cannot_be_read_is_passed_over(
    store: AsyncEventStore, plain: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged, of a class that was not given, or that does not fit any more: there is none, and a warning says why."""
    kept, key = snapshots(store, states=[State]), f"{plain.info.keys[0].tag}:castlecraft:snapshot:account-1"
    await kept.save_snapshot(snapshot(1, State(Money(Decimal(3)), set())))
    with caplog.at_level(logging.WARNING, "runner"):
        assert await snapshots(store).get_latest_snapshot(1) is None
        assert "stream 'account-1': its snapshot is passed over: no class was given for 'State'" in caplog.text
        assert await snapshots(store, states={"State": Money}).get_latest_snapshot(1) is None

        [record] = plain.driver.execute([("GET", key)])
        plain.driver.execute([("SET", key, record[:-1] + b"\x00")])
        assert await kept.get_latest_snapshot(1) is None
        assert "stream 'account-1': its snapshot is damaged and passed over: its checksum is another" in caplog.text

    await kept.save_snapshot(snapshot(0, {}))
    assert await version_of(kept) == 0


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("wrong", [[], "x", -5, True, {}, 1.5], ids=ascii)
@waited
async def test_a_snapshot_with_a_value_of_another_type_is_passed_over(
    store: AsyncEventStore, plain: EventStore, caplog: pytest.LogCaptureFixture, at: int, wrong: Any
) -> None:
    """Though its checksum is right; the next one takes its place."""
    kept, key = snapshots(store), f"{plain.info.keys[0].tag}:castlecraft:snapshot:account-1"
    await kept.save_snapshot(snapshot(-1))
    [data] = plain.driver.execute([("GET", key)])
    values = unseal(data)[1:]
    values[at] = wrong
    plain.driver.execute([("SET", key, record_of(values, "it"))])
    with caplog.at_level(logging.WARNING, "runner"):
        assert await kept.get_latest_snapshot(1) is None
    assert "passed over" in caplog.text
    await kept.save_snapshot(snapshot(-1))
    assert await kept.get_latest_snapshot(1) == snapshot(-1)


@waited
async def test_a_key_of_another_type_in_the_place_of_a_snapshot_is_passed_over(
    store: AsyncEventStore, plain: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A new one is not written over it: the error names the key, and clearing removes it."""
    kept, key = snapshots(store), f"{plain.info.keys[0].tag}:castlecraft:snapshot:account-1"
    plain.driver.execute([("HSET", key, "a", "b")])
    with caplog.at_level(logging.WARNING, "runner"):
        assert await kept.get_latest_snapshot(1) is None
    assert key in caplog.text
    with pytest.raises(RecordDamaged, match=re.escape(key)):
        await kept.save_snapshot(snapshot(-1))
    await kept.clear_snapshots(1)
    await kept.save_snapshot(snapshot(-1))


# -- projections --------------------------------------------------------------------------------


@waited
async def test_a_projection_goes_forward_in_the_log_and_not_back(store: AsyncEventStore) -> None:
    """Its event has to follow the one that is stored, wherever in the log; times do not count. Clearing begins anew."""
    events, seen = deposits(*range(3 * PAGE)), RedisProjectionStore[Any](store)
    await accounts(store).append_events(1, -1, events)
    first, later, last = events[0].event_id, events[PAGE].event_id, events[-1].event_id
    for event_id in (None, first, first, later, last, last):
        await seen.save_projection_state(state(event_id, updated=-5 if event_id == last else 0))
        assert await seen.get_projection_state("balances") == state(event_id, -5 if event_id == last else 0)

    for back in (later, first, uuid4(), None, 7):
        with pytest.raises(Conflict, match=rf"projection 'balances' stands on event {last} \(position 30\)"):
            await seen.save_projection_state(state(back, updated=9))
        assert await seen.get_projection_state("balances") == state(last, -5)

    for place in (1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE):  # at the edges of what is looked at in one go
        await seen.save_projection_state(state(events[place].event_id, name=f"at-{place}"))
        with pytest.raises(Conflict, match=f"position {place + 1}"):
            await seen.save_projection_state(state(first, updated=9, name=f"at-{place}"))
    await seen.clear_projection_state("balances")
    assert await seen.get_projection_state("balances") is None
    await seen.save_projection_state(state(first))


@waited
async def test_a_projection_stops_where_history_was_lost(store: AsyncEventStore, plain: EventStore) -> None:
    """Its event is not in the log any more, and what is there does not follow it: that is said, not passed over."""
    events, seen = deposits(1, 2, 3), RedisProjectionStore[Any](store)
    await accounts(store).append_events(1, -1, events)
    await seen.save_projection_state(state(events[2].event_id))
    for length in (1, 5):
        others = [NewEvent("Deposited", {"amount": amount}) for amount in range(length)]
        lose_history(plain, *others)
        with pytest.raises(Conflict, match="does not follow it") as caught:
            await seen.save_projection_state(state(others[-1].id))
        assert "history was rewritten" in caught.value.hint


@waited
async def test_a_projection_goes_on_when_the_event_it_stands_on_was_trimmed(
    store: AsyncEventStore, plain: EventStore
) -> None:
    """What is trimmed was in this history, and what is left follows it."""
    events, seen = deposits(1, 2, 3), RedisProjectionStore[Any](store)
    await accounts(store).append_events(1, -1, events)
    await seen.save_projection_state(state(events[0].event_id))
    plain.run(Trim(plain.info, 0, 3).run())

    await seen.save_projection_state(state(events[2].event_id))
    assert await seen.get_projection_state("balances") == state(events[2].event_id)


@waited
async def test_ids_without_a_place_in_the_log_go_by_number_or_by_time(store: AsyncEventStore) -> None:
    """Integers rise. Of other ids the state that was updated later wins, and the older one is refused."""
    seen = RedisProjectionStore[Any](store)
    await seen.save_projection_state(state(5))
    await seen.save_projection_state(state(6, updated=-1))
    with pytest.raises(Conflict, match="stands on event 6, and event 5 does not follow it"):
        await seen.save_projection_state(state(5, updated=9))

    one, two = uuid4(), uuid4()
    for first, second in ((one, two), ("a", "b"), (7, "x")):
        await seen.clear_projection_state("balances")
        await seen.save_projection_state(state(first))
        with pytest.raises(Conflict):
            await seen.save_projection_state(state(second, updated=-1))
        await seen.save_projection_state(state(second, updated=0))
        await seen.save_projection_state(state(first, updated=1))
        with pytest.raises(Conflict):
            await seen.save_projection_state(state(None, updated=2))


@waited
async def test_ids_are_not_looked_up_where_events_are_elsewhere(store: AsyncEventStore) -> None:
    """With ``events_in_log=False`` the time decides, also about ids that the log does hold."""
    events = deposits(1, 2)
    await accounts(store).append_events(1, -1, events)
    await RedisProjectionStore[Any](store).save_projection_state(state(events[1].event_id))
    seen = RedisProjectionStore[Any](store, events_in_log=False)
    await seen.save_projection_state(state(events[0].event_id, updated=1))
    with pytest.raises(Conflict):
        await seen.save_projection_state(state(events[1].event_id, updated=0))


@waited
async def test_of_projectors_that_save_at_once_the_furthest_stays(store: AsyncEventStore) -> None:
    """Every other one either came before it, or is told."""
    events, seen = deposits(*range(12)), RedisProjectionStore[Any](store)
    await accounts(store).append_events(1, -1, events)

    outcomes = await asyncio.gather(
        *(seen.save_projection_state(state(event.event_id)) for event in reversed(events)), return_exceptions=True
    )

    assert outcomes[0] is None
    assert all(outcome is None or isinstance(outcome, Conflict) for outcome in outcomes)
    assert await seen.get_projection_state("balances") == state(events[-1].event_id)


@pytest.mark.real
def test_a_projector_that_was_passed_while_it_saved_is_refused(proxy: Proxy, real_url: str, fresh_name: str) -> None:
    """The other one writes right between its look and its write; it looks again, and is told."""
    events = deposits(1, 2, 3)

    async def save(event: Event) -> None:
        async with AsyncEventStore.open(real_url, name=fresh_name) as store:
            await RedisProjectionStore(store).save_projection_state(state(event.event_id))

    async def slow() -> None:
        async with through(proxy, fresh_name) as store:
            await accounts(store).append_events(1, -1, events)
            seen = RedisProjectionStore[Any](store)
            await seen.save_projection_state(state(events[0].event_id))
            proxy.meanwhile(lambda: asyncio.run(save(events[2])), running("log/replace_records"))
            with pytest.raises(Conflict):
                await seen.save_projection_state(state(events[1].event_id))
            assert proxy.armed == 0
            assert await seen.get_projection_state("balances") == state(events[2].event_id)

    asyncio.run(slow())


@pytest.mark.real
def test_a_save_that_arrives_twice_or_late_changes_nothing(proxy: Proxy, fresh_name: str) -> None:
    """Its answer is lost and it is sent again; or the network has it still when the projection is further."""
    events = deposits(1, 2, 3)

    async def saved() -> None:
        async with through(proxy, fresh_name) as store:
            await accounts(store).append_events(1, -1, events)
            seen = RedisProjectionStore[Any](store)
            await seen.save_projection_state(state(events[0].event_id))
            proxy.lose_reply(running("log/replace_records"))
            await seen.save_projection_state(state(events[1].event_id))
            assert proxy.armed == 0
            await seen.clear_projection_state("balances")
            await seen.save_projection_state(state(events[0].event_id))

            late = proxy.copy(running("log/replace_records"))
            await seen.save_projection_state(state(events[1].event_id))
            await seen.save_projection_state(state(events[2].event_id))
            assert b"moved" in late.deliver()
            assert await seen.get_projection_state("balances") == state(events[2].event_id)

    asyncio.run(saved())


@waited
async def test_a_damaged_state_is_an_error_and_not_a_beginning(store: AsyncEventStore, plain: EventStore) -> None:
    """None would make a projection read everything again, into what it has made already."""
    seen = RedisProjectionStore[Any](store)
    await seen.save_projection_state(state(5))
    plain.driver.execute([("SET", f"{plain.info.keys[0].tag}:castlecraft:projection:balances", b"junk")])
    with pytest.raises(DataError, match="the state of projection 'balances' is damaged"):
        await seen.get_projection_state("balances")
    with pytest.raises(DataError):
        await seen.save_projection_state(state(6))
    await seen.clear_projection_state("balances")
    assert await seen.get_projection_state("balances") is None


@pytest.mark.parametrize("at", [0, 2, 3])
@pytest.mark.parametrize("wrong", [[], "x", -1, True, b"", 1.5], ids=ascii)
@waited
async def test_a_state_with_a_value_of_another_type_is_an_error_that_names_its_key(
    store: AsyncEventStore, plain: EventStore, at: int, wrong: Any
) -> None:
    """Though its checksum is right."""
    seen, key = RedisProjectionStore[Any](store), f"{plain.info.keys[0].tag}:castlecraft:projection:balances"
    await seen.save_projection_state(state(5))
    [data] = plain.driver.execute([("GET", key)])
    values = unseal(data)[1:]
    values[at] = wrong
    plain.driver.execute([("SET", key, record_of(values, "it"))])
    for work in (seen.get_projection_state("balances"), seen.save_projection_state(state(6))):
        with pytest.raises(RecordDamaged, match=re.escape(key)):
            await work


@waited
async def test_a_damaged_floor_is_named(store: AsyncEventStore, plain: EventStore) -> None:
    """Where a state is compared with the log."""
    seen, events = RedisProjectionStore[Any](store), [NewEvent("Deposited") for _ in range(3)]
    plain.append("account-1", events, 0)
    await seen.save_projection_state(state(events[1].id))
    plain.driver.execute([("HSET", plain.info.keys[0].meta, "floor", "x")])
    with pytest.raises(RecordDamaged, match="its field 'floor'"):
        await seen.save_projection_state(state(events[2].id))


@waited
async def test_states_that_cannot_be_stored_are_refused(store: AsyncEventStore) -> None:
    """An id that is no value, a time without a zone, a name that is none; nothing is written."""
    seen = RedisProjectionStore[Any](store)
    naive = ProjectionState("balances", 5, datetime(2026, 1, 1))
    for wrong, named in (
        (state(object()), "a object"),
        (naive, "zone"),
        (state(1, name=""), "must not be empty"),
        (ProjectionState("balances", 5, None, None), "last_updated_at must be a datetime"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput, match=named):
            await seen.save_projection_state(wrong)
    assert await seen.get_projection_state("balances") is None


# -- together -----------------------------------------------------------------------------------


class Totals(Projector):
    """A projector of the library."""

    total = 0

    @property
    def projection_id(self) -> str:
        return "totals"

    def _register_event_handlers(self) -> None:
        self._register_handler(Deposited, self._add)

    def _add(self, event: Event) -> None:
        assert isinstance(event, Deposited)
        self.total += event.amount


@waited
async def test_the_librarys_projector_follows_the_log(store: AsyncEventStore) -> None:
    """It takes the library's events, knows how far it is, and a second one that lags is told so."""
    events, new = accounts(store), deposits(1, 2, 3)
    await events.append_events(1, -1, [*new, Closed()])
    first, second = (Totals(RedisProjectionStore(store)) for _ in range(2))

    async for recorded in store.read_category("account"):
        await first.handle_event(events.event_of(recorded))

    assert first.total == 6
    assert await first.get_last_processed_event_details() == (new[2].event_id, new[2].occurred_on)
    with pytest.raises(Conflict):
        await second.handle_event(new[0])


@waited
async def test_a_projection_of_this_project_folds_the_same_events(store: AsyncEventStore, plain: EventStore) -> None:
    """Decimals and all; what other categories hold is not in it."""
    balances = Projection("balances", category="account", initial=lambda: {"balance": Decimal(0)})

    @balances.when("Everything")
    def added(row: Any, event: Any) -> None:
        row["balance"] += event.data["money"]["amount"]

    await accounts(store).append_events("ada", -1, [everything(), everything()])
    await accounts(store, category="book").append_events("ada", -1, [everything()])

    catch_up(plain, balances)

    assert dict(View(plain, "balances").items()) == {"account-ada": {"balance": Decimal("21.00")}}
