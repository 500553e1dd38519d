"""The contract for stores: ours keep it, synchronous and asynchronous, and each way to break it is found out."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from looks import redis_contents

from runner import ANY, AsyncEventStore, EventStore, NewEvent
from runner.errors import PayloadError
from runner.testing import TEST_SETTINGS, memory_store
from runner.testing.contract import AsyncEventStoreContract, EventStoreContract
from runner.testing.waiting import Waiting


@pytest.fixture
def fresh_stream() -> str:
    return f"account-{uuid4()}"


class TestOurStoreKeepsTheContract(EventStoreContract):
    """B1-B11, B13-B15, B19, B20 on fakeredis and on the real server. Nothing in Redis changes where nothing must."""

    @pytest.fixture
    def contract_store(self, store: EventStore) -> EventStore:
        return store

    def contents(self, store: Any, stream: str) -> Any:
        return super().contents(store, stream), redis_contents(store)


class TestOurStoreKeepsTheContractInSmallPages(EventStoreContract):
    """The same where each read takes many requests."""

    test_the_largest_batch_is_written_whole = None  # type: ignore[assignment]  # it takes thousands of requests

    @pytest.fixture
    def contract_store(self, small_store: EventStore) -> EventStore:
        return small_store


class TestOurAsynchronousStoreKeepsTheContract(AsyncEventStoreContract):
    """The same, with await; another store looks at what is in Redis."""

    @pytest.fixture
    def contract_store(self, url: str, store: EventStore) -> AsyncEventStore:
        self.beside = store
        return AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)

    def contents(self, store: Any, stream: str) -> Any:
        return super().contents(store, stream), redis_contents(self.beside)


# -- stores that break it -----------------------------------------------------------------------


class Broken:
    """A store that passes every call on to one of ours; each kind below gets one thing wrong."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def append(self, stream: str, events: Any, expected_version: Any = ANY) -> Any:
        return self.store.append(stream, events, expected_version)

    def read_stream(self, stream: str, *args: Any, **options: Any) -> Any:
        return self.store.read_stream(stream, *args, **options)

    def read_all(self, *args: Any, **options: Any) -> Any:
        return self.store.read_all(*args, **options)

    def version(self, stream: str) -> int:
        return self.store.version(stream)

    def last_position(self) -> int:
        return self.store.last_position()


class SkipsTheVersionCheck(Broken):
    def append(self, stream: str, events: Any, expected_version: Any = ANY) -> Any:
        return self.store.append(stream, events, ANY)


class LosesOrder(Broken):
    """It sorts a stream by the text of the numbers: 1, 10, 11 … 2."""

    def read_stream(self, stream: str, *args: Any, **options: Any) -> Any:
        return iter(sorted(self.store.read_stream(stream, *args, **options), key=lambda event: str(event.number)))


class LeaksBetweenStreams(Broken):
    """It finds a stream's events by the beginning of their name."""

    def read_stream(self, stream: str, *args: Any, **options: Any) -> Any:
        if args or options:
            return self.store.read_stream(stream, *args, **options)
        return (event for event in self.store.read_all() if event.stream.startswith(stream))


class ReturnsItsInnerList(Broken):
    """It keeps what it has read, and hands out the very same events."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.kept: dict[tuple[str, int, str], list[Any]] = {}

    def read_stream(self, stream: str, *args: Any, **options: Any) -> Any:
        asked = stream, self.store.version(stream), repr((args, options))
        if asked not in self.kept:
            self.kept[asked] = list(self.store.read_stream(stream, *args, **options))
        return self.kept[asked]


class DuplicatesOnRetry(Broken):
    """It gives every event a new id, so nothing is recognised."""

    def append(self, stream: str, events: Any, expected_version: Any = ANY) -> Any:
        given = [events] if isinstance(events, NewEvent) else events
        return self.store.append(stream, [replace(event, id=uuid4()) for event in given], expected_version)


class WritesPartOfABatch(Broken):
    """It writes event by event until one is refused."""

    def append(self, stream: str, events: Any, expected_version: Any = ANY) -> Any:
        try:
            return self.store.append(stream, events, expected_version)
        except PayloadError:
            given = [events] if isinstance(events, NewEvent) else list(events)
            for event in given:
                self.store.append(stream, event)
            raise


class LosesPositions(Broken):
    """It reads one event too few after a position."""

    def read_all(self, after: int = 0, **options: Any) -> Any:
        return self.store.read_all(after=after + 1 if after else 0, **options)


#: All but the one that takes seconds in memory and tells nothing more.
TESTS = sorted(
    {name for name in dir(EventStoreContract) if name.startswith("test_")} - {"test_the_largest_batch_is_written_whole"}
)


def failures(kind: type[Broken]) -> set[str]:
    """The tests of the contract that a store does not pass."""
    failed = set()
    for name in TESTS:
        with memory_store() as store:
            try:
                getattr(EventStoreContract(), name)(kind(store), "account-1")
            except (Exception, pytest.fail.Exception):
                failed.add(name)
    return failed


@pytest.fixture(scope="module")
def sound() -> None:
    """What the broken stores are made of breaks nothing by itself."""
    assert failures(Broken) == set()


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(
    ("kind", "found_by"),
    [
        (SkipsTheVersionCheck, "test_a_stale_version_is_refused"),
        (LosesOrder, "test_a_batch_is_written_whole"),
        (LeaksBetweenStreams, "test_streams_do_not_meet"),
        (ReturnsItsInnerList, "test_what_a_caller_changes_does_not_change_the_store"),
        (DuplicatesOnRetry, "test_a_versioned_append_may_be_repeated"),
        (WritesPartOfABatch, "test_a_batch_with_an_unfit_event_is_not_written"),
        (LosesPositions, "test_positions_count_the_events_of_all_streams"),
    ],
)
def test_a_store_that_breaks_the_contract_is_found_out(kind: type[Broken], found_by: str) -> None:
    """D2. Each breakage fails the test that is about it, and most of the others still pass."""
    failed = failures(kind)
    assert found_by in failed
    assert len(failed) < len(TESTS) / 2


def test_an_asynchronous_store_is_opened_and_closed_on_one_loop() -> None:
    """D2. The contract enters what it is given, calls the store it gets, and leaves it, also after a failure."""
    # given
    seen: list[Any] = []

    class Store:
        async def version(self, stream: str) -> int:
            seen.append(asyncio.get_running_loop())
            return 7

    @asynccontextmanager
    async def opened() -> Any:
        seen.append(asyncio.get_running_loop())
        yield Store()
        seen.append(asyncio.get_running_loop())

    # when
    subject = AsyncEventStoreContract.contract_subject.__wrapped__(AsyncEventStoreContract(), opened())  # type: ignore[attr-defined]
    store = next(subject)

    # then
    assert isinstance(store, Waiting)
    assert store.version("a-1") == 7
    subject.close()
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1
