"""The event store, scenarios B1 to B18: one body over fakeredis and over the real embedded server."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import (
    ALL,
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    Category,
    DataError,
    EventStore,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    WrongExpectedVersion,
    state_at,
)
from runner.errors import (
    AppendTooLarge,
    BookmarkConflict,
    EventIdReused,
    InvalidName,
    LogCorrupt,
    LogTrimmed,
    PayloadError,
    StoreReplaced,
    StoreTrouble,
)
from runner.format.keys import PartitionKeys
from runner.format.names import MAX_NAME_BYTES, partition_of
from runner.log.append_plan import EACH_RUN
from runner.settings import MAX_APPEND_EVENTS, MAX_EVENT_BYTES
from runner.testing import TEST_SETTINGS, memory_store

# -- builders and looks -------------------------------------------------------------------------


def deposit(amount: int = 1, **override: Any) -> NewEvent:
    return NewEvent(**{"type": "Deposited", "data": {"amount": amount}, **override})


def deposits(count: int, first: int = 1) -> list[NewEvent]:
    """Events whose amounts are ``first``, ``first`` + 1 and so on."""
    return [deposit(amount) for amount in range(first, first + count)]


def amounts(events: Iterator[RecordedEvent]) -> list[int]:
    return [event.data["amount"] for event in events]


def numbers(events: Iterator[RecordedEvent]) -> list[int]:
    return [event.number for event in events]


def positions(events: Iterator[RecordedEvent]) -> list[int]:
    return [event.position for event in events]


def keys_of(store: EventStore) -> PartitionKeys:
    return store.info.keys[0]


def do(store: EventStore, *command: Any) -> Any:
    [reply] = store.driver.execute([command])
    return reply


_LOOK = {
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
    b"hash": lambda key: ("HGETALL", key),
    b"set": lambda key: ("SMEMBERS", key),
    b"string": lambda key: ("GET", key),
}


def contents(store: EventStore) -> dict[bytes, Any]:
    """Everything the store has in Redis, key by key."""
    found = {}
    for keys in store.info.keys:
        for key in do(store, "KEYS", f"{keys.tag}:*"):
            value = do(store, *_LOOK[do(store, "TYPE", key)](key))
            found[key] = dict(zip(value[::2], value[1::2], strict=True)) if value and value[0] == b"format" else value
    return found


def trim(store: EventStore, floor: int) -> None:
    """Trim the log up to and with position ``floor``, and say so."""
    keys = keys_of(store)
    store.driver.execute([("XTRIM", keys.log, "MINID", floor + 1), ("HSET", keys.meta, "floor", floor)])


@pytest.fixture
def refused(store: EventStore) -> Callable[..., Any]:
    """Append with `append_many`, expecting an error, and nothing written anywhere; gives back the error."""

    def attempt(kind: type[Exception], *appends: Any, **options: Any) -> Any:
        before = contents(store)
        with pytest.raises(kind) as caught:
            store.append_many(appends, **options)
        assert contents(store) == before
        return caught.value

    return attempt


@pytest.fixture
def spread(url: str, fresh_name: str) -> Iterator[EventStore]:
    """A store of four partitions, on fake and real."""
    with EventStore.open(url, name=fresh_name, partitions=4, settings=TEST_SETTINGS) as opened:
        yield opened


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.real)])
def own_store(request: pytest.FixtureRequest) -> Iterator[EventStore]:
    """An empty store on a server that nobody else uses."""
    with tempfile.TemporaryDirectory(prefix="runner-own-") as directory:
        url = "memory:" if request.param == "memory" else f"embedded:{directory}"
        with EventStore.open(url, settings=TEST_SETTINGS) as opened:
            yield opened


def streams_in_partitions(store: EventStore) -> list[str]:
    """A stream's name for each partition, in their order."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(partition_of(f"account-{number}", store.info.partitions), f"account-{number}")
        if len(found) == store.info.partitions:
            return [found[partition] for partition in range(store.info.partitions)]
    raise AssertionError


# -- B1 to B3: append and read ------------------------------------------------------------------


def test_what_is_appended_is_read_back_equal_and_numbered_from_1(store: EventStore) -> None:
    """B1. Numbers are 1, 2, 3, the version is the count, and a read gives back equal events."""
    given = [deposit(10, metadata={"by": "me"}), deposit(20), NewEvent("Closed")]

    result = store.append("account-1", given, NO_STREAM)

    read = list(store.read_stream("account-1"))
    assert result == AppendResult("account-1", 3, 1, 3, 0, duplicate=False)
    assert [(e.number, e.type, e.data, e.metadata, e.id, e.stream, e.category) for e in read] == [
        (number, e.type, e.data, e.metadata, e.id, "account-1", "account") for number, e in enumerate(given, 1)
    ]
    assert store.version("account-1") == 3


def test_two_reads_of_the_same_events_are_equal(store: EventStore) -> None:
    """B1. Events read from their stream equal those read from the log."""
    store.append("account-1", deposits(3))

    assert list(store.read_stream("account-1")) == list(store.read_all()) == list(store.read_category("account"))


def test_an_event_says_when_it_was_recorded(store: EventStore) -> None:
    """B1. ``recorded_at`` is the time of the append unless the event brings its own."""
    long_ago = datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=2)))
    before = datetime.now(UTC)

    store.append("account-1", [deposit(), deposit(recorded_at=long_ago)])

    now, then = [event.recorded_at for event in store.read_stream("account-1")]
    assert before - timedelta(milliseconds=1) <= now <= datetime.now(UTC)
    assert then == long_ago


def test_a_single_event_needs_no_list(store: EventStore) -> None:
    """B1. ``append`` takes one event as well as several."""
    assert store.append("account-1", deposit()).version == 1


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_appending_nothing_makes_no_stream(store: EventStore, expected: Any) -> None:
    """B2. An append without events to a stream that is not there changes nothing at all."""
    before = contents(store)

    result = store.append("account-1", [], expected)

    assert (result.version, result.first_position, result.position) == (0, 0, 0)
    assert contents(store) == before


def test_appending_nothing_leaves_the_version_as_it_was(store: EventStore) -> None:
    """B2. An append without events to a stream answers its version and changes nothing."""
    store.append("account-1", deposits(2))
    before = contents(store)

    assert store.append("account-1", [], 2).version == 2
    assert store.append("account-1", [], STREAM_EXISTS).version == 2
    assert contents(store) == before


def test_appending_nothing_still_checks_the_version(store: EventStore) -> None:
    """B2. The expected version holds for an append without events too."""
    with pytest.raises(WrongExpectedVersion):
        store.append("account-1", [], 1)


def test_appending_more_moves_the_version_by_their_count(store: EventStore) -> None:
    """B3. From version 2, three more events make version 5; old and new are in order."""
    store.append("account-1", deposits(2), NO_STREAM)

    result = store.append("account-1", deposits(3, first=3), 2)

    assert (result.version, result.first_position, result.position) == (5, 3, 5)
    assert amounts(store.read_stream("account-1")) == [1, 2, 3, 4, 5]


# -- B4 to B6: expected versions ----------------------------------------------------------------


def test_a_new_stream_with_a_wrong_expected_version_is_refused(store: EventStore, refused: Callable[..., Any]) -> None:
    """B4. The error carries stream, expected and actual (0), in its text too, and nothing is written anywhere."""
    error = refused(WrongExpectedVersion, ("account-1", deposits(2), 7))

    assert (error.stream, error.expected, error.actual) == ("account-1", 7, 0)
    assert "'account-1'" in str(error)
    assert "7" in str(error)
    assert "0" in str(error)
    assert list(store.read_stream("account-1")) == []


@pytest.mark.parametrize("expected", [1, 2, 4, 1000])
def test_a_stale_expected_version_is_refused(store: EventStore, refused: Callable[..., Any], expected: int) -> None:
    """B5. On a stream at version 3 every other number is refused, above as well as below; nothing changes."""
    store.append("account-1", deposits(3))

    error = refused(WrongExpectedVersion, ("account-1", deposits(2), expected))

    assert (error.stream, error.expected, error.actual) == ("account-1", expected, 3)


def test_any_appends_whatever_the_version_is(store: EventStore) -> None:
    """B6. ``ANY`` checks nothing: it makes the stream, and it lengthens it."""
    assert store.append("account-1", deposit(), ANY).version == 1
    assert store.append("account-1", deposit(), ANY).version == 2


def test_no_stream_refuses_a_stream_that_exists(store: EventStore, refused: Callable[..., Any]) -> None:
    """B6. ``NO_STREAM`` is version 0, and the error carries it as that."""
    store.append("account-1", deposit(), NO_STREAM)

    error = refused(WrongExpectedVersion, ("account-1", deposits(1), NO_STREAM))

    assert error.expected == NO_STREAM
    assert error.actual == 1


def test_stream_exists_refuses_a_stream_that_does_not(store: EventStore, refused: Callable[..., Any]) -> None:
    """B6. ``STREAM_EXISTS`` is refused on a new stream and takes any version of one that is there."""
    error = refused(WrongExpectedVersion, ("account-1", deposits(1), STREAM_EXISTS))
    store.append("account-1", deposits(2))

    assert (error.expected, error.actual) == (STREAM_EXISTS, 0)
    assert store.append("account-1", deposit(), STREAM_EXISTS).version == 3


@pytest.mark.parametrize("expected", [-1, True, 1.0, "1", None])
def test_an_expected_version_that_cannot_be_is_refused(refused: Callable[..., Any], expected: Any) -> None:
    """B6. Only numbers from 0 and the three names are expected versions."""
    refused(InvalidInput, ("account-1", deposits(1), expected))


# -- B7, B8: reading a stream -------------------------------------------------------------------


def test_a_stream_that_is_not_there_reads_as_empty(store: EventStore) -> None:
    """B7. It has version 0 and no events, in whatever way it is read."""
    assert list(store.read_stream("account-1")) == []
    assert list(store.read_stream("account-1", after=5, backwards=True)) == []
    assert list(store.read_category("account")) == []
    assert store.version("account-1") == 0


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"after": 0}, [1, 2, 3, 4, 5]),
        ({"after": 2}, [3, 4, 5]),
        ({"after": 5}, []),
        ({"after": 99}, []),
        ({"to": 3}, [1, 2, 3]),
        ({"to": 0}, []),
        ({"to": 99}, [1, 2, 3, 4, 5]),
        ({"after": 1, "to": 4}, [2, 3, 4]),
        ({"after": 4, "to": 1}, []),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"limit": 99}, [1, 2, 3, 4, 5]),
        ({"after": 1, "limit": 2}, [2, 3]),
        ({"backwards": True}, [5, 4, 3, 2, 1]),
        ({"backwards": True, "limit": 2}, [5, 4]),
        ({"backwards": True, "after": 2}, [5, 4, 3]),
        ({"backwards": True, "to": 3}, [3, 2, 1]),
        ({"backwards": True, "after": 1, "to": 4, "limit": 2}, [4, 3]),
        ({"backwards": True, "after": 5}, []),
    ],
)
@pytest.mark.parametrize("page_size", [2, 500])
def test_a_read_gives_exactly_the_numbers_asked_for(
    url: str, fresh_name: str, options: dict[str, Any], found: list[int], page_size: int
) -> None:
    """B8. From a number, to a number, backwards, limited, past the end and below the first; whatever the page size."""
    settings = type(TEST_SETTINGS)(page_size=page_size)
    with EventStore.open(url, name=fresh_name, settings=settings) as store:
        for number in range(1, 6):  # so that the stream's events are no neighbours in the log
            store.append_many([("account-1", deposits(1, number), number - 1), ("account-2", deposits(2), ANY)])

        assert numbers(store.read_stream("account-1", **options)) == found


@pytest.mark.parametrize("options", [{"after": -1}, {"to": -1}, {"limit": -1}, {"after": "2"}, {"after": True}])
def test_a_place_that_cannot_be_is_refused(store: EventStore, options: dict[str, Any]) -> None:
    """B8. Numbers below 0, and what is no number, raise InvalidInput."""
    with pytest.raises(InvalidInput):
        list(store.read_stream("account-1", **options))


# -- B9, B10: nothing is shared -----------------------------------------------------------------


def test_changing_what_a_read_returned_does_not_change_the_store(store: EventStore) -> None:
    """B9. Data, metadata and the list of events belong to the caller."""
    store.append("account-1", [deposit(1, metadata={"tags": ["a"]})])
    read = list(store.read_stream("account-1"))

    read[0].data["amount"] = 1000
    read[0].metadata["tags"].append("b")
    read.clear()

    [again] = store.read_stream("account-1")
    assert (again.data, again.metadata) == ({"amount": 1}, {"tags": ["a"]})


def test_changing_an_event_after_the_append_does_not_change_the_store(store: EventStore) -> None:
    """B9. What was given to ``append`` is the caller's again as soon as it returns."""
    event = deposit(1)
    store.append("account-1", event)

    event.data["amount"] = 1000

    assert amounts(store.read_stream("account-1")) == [1]


def test_interleaved_appends_never_show_in_the_other_stream(store: EventStore) -> None:
    """B10. Each stream holds its own events only, also where its name begins like another's."""
    names = ["a", "a-1", "a-11", "b"]
    for turn in range(1, 6):
        for place, name in enumerate(names):
            store.append(name, deposit(100 * place + turn), turn - 1)

    for place, name in enumerate(names):
        assert amounts(store.read_stream(name)) == [100 * place + turn for turn in range(1, 6)]
        assert {event.stream for event in store.read_stream(name)} == {name}


def test_a_category_holds_the_streams_of_its_name_only(store: EventStore) -> None:
    """B10. A category is the text before the first ``-``, or a whole name without one."""
    for name in ("account-1", "accounting-1", "account", "account-1-2", "Account-1", "x-account-1"):
        store.append(name, deposit())

    assert [event.stream for event in store.read_category("account")] == ["account-1", "account", "account-1-2"]


def test_two_stores_of_one_server_do_not_meet(store: EventStore, url: str, fresh_name: str) -> None:
    """B10. Stores of different names share nothing."""
    store.append("account-1", deposits(2))

    with EventStore.open(url, name=f"{fresh_name}x", settings=TEST_SETTINGS) as other:
        assert other.version("account-1") == 0
        assert other.append("account-1", deposit(), NO_STREAM).position == 1
    assert store.version("account-1") == 2


# -- B11: batches -------------------------------------------------------------------------------


def test_a_batch_of_50_is_atomic(store: EventStore, refused: Callable[..., Any]) -> None:
    """B11. All 50 are there, or none."""
    assert store.append("account-1", deposits(50), NO_STREAM).version == 50

    refused(WrongExpectedVersion, ("account-1", deposits(50), 49))

    assert amounts(store.read_stream("account-1")) == list(range(1, 51))


def test_a_batch_of_the_largest_size_is_atomic(store: EventStore) -> None:
    """B11. 10,000 events go in at once, and once: a repetition finds all of them."""
    batch = deposits(MAX_APPEND_EVENTS)

    first = store.append("account-1", batch, NO_STREAM)
    again = store.append("account-1", batch, NO_STREAM)

    assert (first.version, first.position, first.duplicate) == (10_000, 10_000, False)
    assert (again.version, again.position, again.duplicate) == (10_000, 10_000, True)
    assert amounts(store.read_stream("account-1")) == list(range(1, 10_001))


def test_a_batch_over_the_limit_is_refused_before_anything_is_sent(refused: Callable[..., Any]) -> None:
    """B11. The error names the count and the limit."""
    error = refused(AppendTooLarge, ("account-1", deposits(MAX_APPEND_EVENTS + 1), ANY))

    assert "10001" in str(error)
    assert "10000" in str(error)


def test_the_limit_holds_for_all_streams_of_an_append_together(refused: Callable[..., Any]) -> None:
    """B11. Two halves that are too large together are refused together."""
    half = MAX_APPEND_EVENTS // 2
    refused(AppendTooLarge, ("account-1", deposits(half), ANY), ("account-2", deposits(half + 1), ANY))


def test_a_batch_of_too_many_bytes_is_refused_before_anything_is_sent(refused: Callable[..., Any]) -> None:
    """B11. Events that are each within their limit may be too much together."""
    large = "x" * (MAX_EVENT_BYTES - 1000)
    refused(AppendTooLarge, ("account-1", [NewEvent("Uploaded", large) for _ in range(9)], ANY))


def test_events_that_are_no_new_events_are_refused_by_name(refused: Callable[..., Any]) -> None:
    """B11. What is no NewEvent is refused before anything is sent, the sound events before it included."""
    error = refused(InvalidInput, ("account-1", [deposit(), {"type": "Deposited"}], ANY))

    assert "dict" in str(error)


# -- B12: several streams and a bookmark --------------------------------------------------------


def test_one_append_to_several_streams_gives_each_its_version(store: EventStore) -> None:
    """B12. Each stream has its own expected version and result; the positions follow the order given."""
    store.append("account-1", deposits(3))

    results = store.append_many(
        [("account-2", deposits(2), NO_STREAM), ("account-1", deposits(1), 3), ("account-3", deposits(1), ANY)]
    )

    assert [(r.stream, r.version, r.first_position, r.position, r.duplicate) for r in results] == [
        ("account-2", 2, 4, 5, False),
        ("account-1", 4, 6, 6, False),
        ("account-3", 1, 7, 7, False),
    ]


def test_one_stale_version_refuses_all_streams_of_an_append(store: EventStore, refused: Callable[..., Any]) -> None:
    """B12. The streams before and after the refused one stay as they were, and so does the bookmark."""
    store.append("account-2", deposits(2))

    error = refused(
        WrongExpectedVersion,
        ("account-1", deposits(1), NO_STREAM),
        ("account-2", deposits(1), 1),
        ("account-3", deposits(1), ANY),
        bookmark=("manager", 1),
    )

    assert (error.stream, error.expected, error.actual) == ("account-2", 1, 2)
    assert store.bookmark("manager") == 0


def test_the_events_of_a_stream_may_stand_apart_in_an_append(store: EventStore) -> None:
    """B12. Each group expects what the one before it leaves; positions follow the order given. It may be repeated."""
    store.append("account-2", deposits(1))
    appends = [
        ("account-1", deposits(1), NO_STREAM),
        ("account-2", deposits(2), 1),
        ("account-1", deposits(2), 1),
        ("account-2", deposits(1), 3),
        ("account-1", deposits(1), 3),
    ]

    results = store.append_many(appends)
    before = contents(store)
    again = store.append_many(appends)

    found = [(r.version, r.first_position, r.position, r.duplicate) for r in results]
    assert found == [(1, 2, 2, False), (3, 3, 4, False), (3, 5, 6, False), (4, 7, 7, False), (4, 8, 8, False)]
    assert [(r.version, r.first_position, r.position, not r.duplicate) for r in again] == found
    assert contents(store) == before
    assert [event.position for event in store.read_stream("account-1")] == [2, 5, 6, 8]


@pytest.mark.parametrize("versions", [(ANY, ANY), (0, ANY), (ANY, 1), (STREAM_EXISTS, 1), (0, 0), (0, 2), (0, 3)])
def test_groups_of_a_stream_that_do_not_follow_one_another_are_refused(
    refused: Callable[..., Any], versions: tuple[Any, Any]
) -> None:
    """B12. Two groups of a stream are one append of it in two places, and nothing else."""
    error = refused(InvalidInput, *[("account-1", deposits(1), version) for version in versions])
    assert "names stream 'account-1' twice" in str(error)
    refused(InvalidInput, ("account-1", [], 0), ("account-1", deposits(1), 0))
    refused(InvalidInput, ("account-1", deposits(1), 0), ("account-1", [], 1))


def test_groups_of_a_stream_are_refused_together(store: EventStore, refused: Callable[..., Any]) -> None:
    """B12. Whichever of them is at fault: a stale version, a known event, or one that is there twice."""
    known = deposit()
    store.append("account-1", [deposit(), known], NO_STREAM)

    def attempt(kind: type[Exception], first: NewEvent, second: NewEvent, version: int) -> None:
        between = ("account-2", deposits(1), NO_STREAM)
        refused(kind, ("account-1", [first], version), between, ("account-1", [second], version + 1))

    attempt(WrongExpectedVersion, deposit(), deposit(), 0)
    attempt(WrongExpectedVersion, deposit(), deposit(), 3)
    attempt(EventIdReused, deposit(), known, 2)
    attempt(EventIdReused, known, deposit(), 1)
    attempt(EventIdReused, twice := deposit(), twice, 2)


def test_an_append_moves_a_bookmark_with_its_events(store: EventStore) -> None:
    """B12. Bookmark and events are written together; another name stands where it stood."""
    store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", 5))
    store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", 9))

    assert store.bookmark("manager") == 9
    assert store.bookmark("other") == 0
    assert store.version("account-1") == 2


@pytest.mark.parametrize("position", [5, 4, 1])
def test_a_bookmark_that_would_not_move_forward_refuses_the_whole(
    store: EventStore, refused: Callable[..., Any], position: int
) -> None:
    """B12. Standing still and going back are refused, and the events with them."""
    store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", 5))

    error = refused(BookmarkConflict, ("account-1", deposits(1), ANY), bookmark=("manager", position))

    assert (error.name, error.position, error.actual) == ("manager", position, 5)
    assert store.bookmark("manager") == 5


def test_a_bookmark_moves_without_events_too(store: EventStore) -> None:
    """B12. Handling an event from which nothing follows is remembered all the same, and only forward."""
    assert store.append_many([], bookmark=("manager", 3)) == []
    assert store.bookmark("manager") == 3
    with pytest.raises(BookmarkConflict):
        store.append_many([], bookmark=("manager", 3))


def test_an_append_with_a_bookmark_repeated_is_a_duplicate(store: EventStore) -> None:
    """B12. The same events and the same position again: the original result, nothing written."""
    appends = [("account-1", deposits(2), NO_STREAM), ("account-2", deposits(1), ANY)]
    first = store.append_many(appends, bookmark=("manager", 5))
    before = contents(store)

    again = store.append_many(appends, bookmark=("manager", 5))

    assert [result.duplicate for result in again] == [True, True]
    assert [(r.version, r.first_position, r.position) for r in again] == [
        (r.version, r.first_position, r.position) for r in first
    ]
    assert {k: v for k, v in contents(store).items() if k.decode() != keys_of(store).bookmarks} == {
        k: v for k, v in before.items() if k.decode() != keys_of(store).bookmarks
    }
    assert store.bookmark("manager") == 5


def test_the_same_events_with_an_earlier_bookmark_never_move_it_back(store: EventStore) -> None:
    """B12. The bookmark only moves forward, whatever is repeated."""
    appends = [("account-1", deposits(1), NO_STREAM)]
    store.append_many(appends, bookmark=("manager", 5))
    store.append_many([], bookmark=("manager", 8))

    with pytest.raises(BookmarkConflict):
        store.append_many(appends, bookmark=("manager", 5))
    assert store.bookmark("manager") == 8
    assert store.version("account-1") == 1


@pytest.mark.parametrize("position", [0, -1, None, "5", 1.5])
def test_a_bookmark_position_that_cannot_be_is_refused(refused: Callable[..., Any], position: Any) -> None:
    """B12. Positions of bookmarks begin at 1."""
    refused(InvalidInput, ("account-1", deposits(1), ANY), bookmark=("manager", position))


def test_appending_to_no_stream_at_all_gives_no_results(store: EventStore) -> None:
    """B12. Nothing asked, nothing done."""
    before = contents(store)

    assert store.append_many([]) == []
    assert contents(store) == before


# -- B13, B14: event ids ------------------------------------------------------------------------


def test_a_versioned_append_repeated_gives_the_original_result_at_any_later_time(store: EventStore) -> None:
    """B13. Also when the stream has gone on since: same version and positions, marked duplicate, nothing written."""
    batch = deposits(3, first=3)
    store.append("account-1", deposits(2), NO_STREAM)
    first = store.append("account-1", batch, 2)
    store.append("account-2", deposits(5))
    store.append("account-1", deposits(200), 5)
    before = contents(store)

    again = store.append("account-1", batch, 2)

    assert again == AppendResult("account-1", 5, 3, 5, 0, duplicate=True)
    assert not first.duplicate
    assert contents(store) == before


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS])
def test_an_unversioned_append_repeated_is_skipped(store: EventStore, expected: Any) -> None:
    """B13. Within the window of recent ids it gives the original result, and the count stays."""
    store.append("account-1", deposit(), NO_STREAM)
    batch = deposits(3)
    first = store.append("account-1", batch, expected)
    store.append("account-1", deposits(200))
    store.append("account-2", deposits(2))

    again = store.append("account-1", batch, expected)

    assert again == AppendResult("account-1", first.version, first.first_position, first.position, 0, duplicate=True)
    assert store.version("account-1") == 204
    assert store.last_position() == 206


def test_an_unversioned_append_is_found_by_a_versioned_repetition(store: EventStore) -> None:
    """B13. How an event was appended first does not matter to the versioned repetition."""
    batch = deposits(2)
    store.append("account-1", batch, ANY)

    assert store.append("account-1", batch, NO_STREAM).duplicate
    assert store.version("account-1") == 2


@pytest.mark.real
def test_the_window_of_recent_ids_is_bounded_but_never_short(real_store: EventStore) -> None:
    """B13. An id is found after nearly 10,000 further events; no more than two windows of ids are kept."""
    store, late = real_store, deposit()
    store.append("filler", deposits(10_000), ANY)
    store.append("account-1", late, ANY)
    store.append("filler", deposits(9_990), ANY)

    assert store.append("account-1", late, ANY).duplicate
    store.append("filler", deposits(5_000), ANY)
    assert sum(do(store, "HLEN", key) for key in keys_of(store).recent) <= 20_000


def test_the_same_id_in_another_stream_is_another_event(store: EventStore) -> None:
    """B14. Ids identify an event within its stream."""
    event = deposit()

    results = [store.append(name, event, ANY) for name in ("account-1", "account-2", "account-1-1")]

    assert [(result.version, result.position, result.duplicate) for result in results] == [
        (1, 1, False),
        (1, 2, False),
        (1, 3, False),
    ]


@pytest.mark.parametrize(
    ("first_expected", "expected", "old"),
    [
        *[(ANY, ANY, old) for old in (0, 1, 2)],  # within the window of recent ids
        *[(first, expected, old) for first in (ANY, NO_STREAM) for expected in (0, 1, 2) for old in (0, 1, 2)],
        *[(first, 3, old) for first in (ANY, NO_STREAM) for old in (1, 2)],  # among as many last events as are appended
    ],
    ids=str,
)
def test_old_and_new_ids_in_one_append_are_refused(
    store: EventStore, refused: Callable[..., Any], first_expected: Any, expected: Any, old: int
) -> None:
    """B14. An append of a known event and a new one is refused with nothing written, and never stores one twice."""
    known = deposits(3)
    store.append("account-1", known, first_expected)

    error = refused((EventIdReused, WrongExpectedVersion), ("account-1", [known[old], deposit()], expected))

    if expected in (ANY, 3, old):
        assert isinstance(error, EventIdReused)
        assert "'account-1'" in str(error)


def test_one_id_twice_in_an_append_is_refused(refused: Callable[..., Any]) -> None:
    """B14. The error names the stream and the id."""
    event = deposit()

    error = refused(EventIdReused, ("account-1", [event, deposit(), event], ANY))

    assert "'account-1'" in str(error)
    assert str(event.id) in str(error)


def test_known_and_new_streams_in_one_append_are_refused(store: EventStore, refused: Callable[..., Any]) -> None:
    """B14. One group that was appended before beside one that was not: nothing is written."""
    known = ("account-1", deposits(1), NO_STREAM)
    store.append_many([known])

    error = refused(EventIdReused, ("account-2", deposits(1), NO_STREAM), known)

    assert error.stream == "account-1"


# -- B15: the log -------------------------------------------------------------------------------


def test_positions_count_all_events_of_all_streams(store: EventStore) -> None:
    """B15. Positions are 1, 2, 3 across streams, and the last one is the number of events ever appended."""
    for turn in range(1, 8):
        store.append(f"account-{turn % 3}", deposits(turn))

    read = list(store.read_all())
    assert [event.position for event in read] == list(range(1, 29))
    assert store.last_position() == 28
    assert Counter(event.stream for event in read) == {"account-0": 9, "account-1": 12, "account-2": 7}


@pytest.mark.parametrize("page_size", [1, 3, 500])
def test_read_all_after_a_position_is_exact(url: str, fresh_name: str, page_size: int) -> None:
    """B15. Whatever the page size, ``after=N`` begins at N + 1, and backwards is the reverse."""
    with EventStore.open(url, name=fresh_name, settings=type(TEST_SETTINGS)(page_size=page_size)) as store:
        for turn in range(6):
            store.append(f"account-{turn % 2}", deposit(turn))

        for after in range(8):
            assert positions(store.read_all(after)) == list(range(after + 1, 7))
        assert positions(store.read_category("account", 4)) == [5, 6]
        for after in range(8):
            assert positions(store.read_all(after, backwards=True)) == list(range(6, after, -1))


def test_the_log_is_read_backwards_from_a_time_on(store: EventStore) -> None:
    """B15. What was recorded earlier is passed over, wherever it stands in the log."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for hour in (0, 2, 1, 3):
        store.append("account-1", deposit(hour, recorded_at=noon + timedelta(hours=hour)))

    assert amounts(store.read_all(since=noon + timedelta(hours=2), backwards=True)) == [3, 2]
    assert amounts(store.read_all(2, since=noon + timedelta(hours=2), backwards=True)) == [3]


def test_an_empty_log_reads_as_empty(store: EventStore) -> None:
    """B15. Before the first event the last position is 0."""
    assert store.last_position() == 0
    assert list(store.read_all()) == list(store.read_all(backwards=True)) == []


def test_read_all_since_a_time_passes_over_older_events(store: EventStore) -> None:
    """B15. The log is not sorted by time: every event recorded at ``since`` or later comes, in order of position."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    hours = [0, 2, 1, 3]
    store.append("account-1", [deposit(hour, recorded_at=noon + timedelta(hours=hour)) for hour in hours])

    assert amounts(store.read_all(since=noon + timedelta(hours=2))) == [2, 3]
    assert amounts(store.read_category("account", since=noon + timedelta(hours=1))) == [2, 1, 3]
    with pytest.raises(InvalidInput):
        list(store.read_all(since=datetime(2024, 1, 1)))


def test_events_appended_during_a_read_do_not_disturb_it(store: EventStore) -> None:
    """B15. A read that is under way gives every event once, in order."""
    store.append("account-1", deposits(3))
    seen = []

    for event in store.read_all():
        seen.append(event.position)
        if event.position <= 3:
            store.append("account-1", deposit())

    assert seen == list(range(1, len(seen) + 1))
    assert seen[:3] == [1, 2, 3]


# -- B16: as of then ----------------------------------------------------------------------------


def balances() -> Projection:
    projection = Projection("balances", category="account", initial=lambda: {"balance": 0})

    @projection.when("Deposited")
    def deposited(state: dict[str, int], event: RecordedEvent) -> None:
        state["balance"] += event.data["amount"]

    return projection


def test_the_state_after_any_position_is_the_fold_of_the_events_before(store: EventStore) -> None:
    """B16. For every N, the rows as of position N equal a plain sum over the first N events."""
    given = [("account-1", 10), ("account-2", 5), ("other-1", 99), ("account-1", -3), ("account-2", 7)]
    for stream, amount in given:
        store.append(stream, deposit(amount))

    for position in range(7):
        expected: Counter[str] = Counter()
        for stream, amount in given[:position]:
            if stream.startswith("account"):
                expected[stream] += amount
        rows = {stream: {"balance": balance} for stream, balance in expected.items()}
        assert state_at(store, balances(), position=position) == rows
        assert state_at(store, balances(), position=position, key="account-1") == rows.get("account-1")


def test_the_state_at_a_time_is_the_fold_of_the_events_recorded_by_then(store: EventStore) -> None:
    """B16. The time decides, not the place in the log; the moment itself counts."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for hour, amount in ((0, 1), (2, 10), (1, 100)):
        store.append("account-1", deposit(amount, recorded_at=noon + timedelta(hours=hour)))

    states = [state_at(store, balances(), time=noon + timedelta(hours=hour), key="account-1") for hour in (-1, 0, 1, 2)]

    assert states == [None, {"balance": 1}, {"balance": 101}, {"balance": 111}]


def test_looking_at_the_past_writes_nothing(store: EventStore) -> None:
    """B16. The fold happens in memory."""
    store.append("account-1", deposits(3))
    before = contents(store)

    state_at(store, balances(), position=2)

    assert contents(store) == before


# -- B17: two writers ---------------------------------------------------------------------------


def test_of_two_writers_with_the_same_expected_version_exactly_one_wins(
    store: EventStore, url: str, fresh_name: str
) -> None:
    """B17. Thousands of times: one wins, the other learns the actual version; no gap, no repeat, no lost event."""
    rounds = 300 if store.driver.address.fake else 2000
    together = threading.Barrier(2, timeout=30)
    outcomes: dict[str, list[int]] = {"left": [], "right": []}  # the winner's version, or minus the actual one

    def write(writer: str, through: EventStore) -> None:
        for version in range(rounds):
            together.wait()
            try:
                outcomes[writer].append(through.append("account-1", NewEvent(writer), version).version)
            except WrongExpectedVersion as error:
                outcomes[writer].append(-error.actual)

    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as other:
        threads = [
            threading.Thread(target=write, args=("left", store)),
            threading.Thread(target=write, args=("right", other)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    expected = [(-number, number) for number in range(1, rounds + 1)]
    assert [tuple(sorted(pair)) for pair in zip(outcomes["left"], outcomes["right"], strict=True)] == expected
    winners = ["left" if left > 0 else "right" for left in outcomes["left"]]
    read = list(store.read_stream("account-1"))
    assert [(event.number, event.position, event.type) for event in read] == [
        (number, number, winner) for number, winner in enumerate(winners, 1)
    ]
    assert store.last_position() == rounds


# -- B18: restart -------------------------------------------------------------------------------


@pytest.fixture
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="runner-own-") as path:
        yield path


def populated(directory: str) -> EventStore:
    store = EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS)
    store.append("account-1", deposits(3), NO_STREAM)
    store.append_many([("account-2", deposits(2), ANY)], bookmark=("manager", 4))
    return store


def check_is_populated(directory: str, before: dict[bytes, Any], events: list[RecordedEvent]) -> None:
    with EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as again:
        assert list(again.read_all()) == events
        assert (again.version("account-1"), again.version("account-2")) == (3, 2)
        assert again.bookmark("manager") == 4
        assert contents(again) == before
        assert again.append("account-1", deposit(), 3).position == 6


@pytest.mark.real
def test_a_store_is_the_same_after_its_server_was_stopped_and_started(directory: str) -> None:
    """B18. The last one out stops the server; the next one in finds the same contents and versions."""
    store = populated(directory)
    before, events = contents(store), list(store.read_all())
    server = store.driver.address.server
    assert server is not None

    store.close()

    with socket.socket(socket.AF_UNIX) as connection, pytest.raises(OSError):
        connection.connect(str(server.socket))
    check_is_populated(directory, before, events)


@pytest.mark.real
def test_a_store_is_the_same_after_its_server_was_killed(directory: str) -> None:
    """B18. What was acknowledged is on the disk: kill -9 loses nothing."""
    store = populated(directory)
    before, events = contents(store), list(store.read_all())
    server = store.driver.address.server
    assert server is not None
    assert server.pid is not None

    os.kill(server.pid, signal.SIGKILL)
    store.close()

    check_is_populated(directory, before, events)


@pytest.mark.real
def test_what_was_acknowledged_before_a_kill_amid_writes_is_there(directory: str) -> None:
    """B18. Killed while large appends are under way, the store opens again with all it had acknowledged."""
    store = EventStore.open(f"embedded:{directory}", settings=type(TEST_SETTINGS)(retry_for=0))
    server = store.driver.address.server
    assert server is not None
    assert server.pid is not None
    acknowledged, enough = [0], threading.Event()

    def write() -> None:
        try:
            while True:
                batch = [NewEvent("Uploaded", "x" * 500_000) for _ in range(4)]
                acknowledged[0] = store.append("upload", batch, acknowledged[0]).version
                if acknowledged[0] >= 20:
                    enough.set()
        except StoreTrouble:
            enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(30)
    os.kill(server.pid, signal.SIGKILL)
    writer.join(30)
    store.close()

    with EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as again:
        version = again.version("upload")
        assert version in (acknowledged[0], acknowledged[0] + 4)
        assert numbers(again.read_stream("upload")) == list(range(1, version + 1))


# -- B19: payloads ------------------------------------------------------------------------------

PAYLOADS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    0.1,
    -0.0,
    1e308,
    float("inf"),
    "",
    "text with 'quotes' \n and \x00",
    "Grüße 🎉 日本語",
    b"",
    b"\x00\xff\xc1",
    [],
    [1, [2, [3, []]]],
    {},
    {"a": {"b": {"c": [{"d": None}]}}},
    {1: "a number as key", "": "an empty key"},
    (1, (2, "three")),
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1950, 1, 1, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    date(2024, 2, 29),
    UUID(int=0),
    Decimal("-12345678901234567890.123456789000"),
    Decimal("NaN"),
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_payloads_come_back_equal_and_of_the_same_type(store: EventStore, payload: Any) -> None:
    """B19. As data and as metadata, alone and within a map."""
    store.append("account-1", NewEvent("Noted", payload, {"here": payload}))

    [event] = store.read_stream("account-1")

    assert repr(event.data) == repr(payload)
    assert repr(event.metadata) == repr({"here": payload})
    assert type(event.data) is type(payload)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(UTC))
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=15
)


@settings(max_examples=60)
@given(_VALUES, _VALUES)
def test_any_payload_comes_back_equal(data: Any, metadata: Any) -> None:
    """B19. Property: whatever may be stored is read back equal."""
    with memory_store() as store:
        store.append("account-1", NewEvent("Noted", data, metadata))

        [event] = store.read_stream("account-1")

    assert (event.data, event.metadata) == (data, metadata)


class _Thing:
    pass


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"tags": {1, 2}}, "data.tags cannot be stored: a set"),
        ({"items": [0, _Thing()]}, "data.items[1] cannot be stored: a _Thing"),
        ({"at": datetime(2024, 1, 1)}, "data.at cannot be stored: a datetime without a zone"),
        (2**64, "data cannot be stored: an integer of more than 64 bits"),
        ({"n": [-(2**63) - 1]}, "data.n[0] cannot be stored: an integer of more than 64 bits"),
        ({"text": "\ud800"}, "data.text cannot be stored: text that is not valid Unicode"),
        (1j, "data cannot be stored: a complex"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused_by_name(refused: Callable[..., Any], payload: Any, named: str) -> None:
    """B19. The error names event, stream, path and type; nothing is sent, the sound events before it included."""
    error = refused(PayloadError, ("account-1", [deposit(), NewEvent("Noted", payload)], ANY))

    assert named in str(error)
    assert "'Noted' of 'account-1'" in str(error)


def test_metadata_that_cannot_be_stored_is_named_too(refused: Callable[..., Any]) -> None:
    """B19. The path begins with ``metadata``."""
    error = refused(PayloadError, ("account-1", [NewEvent("Noted", {}, {"by": object()})], ANY))

    assert "metadata.by" in str(error)


def test_an_event_that_is_too_large_is_refused(refused: Callable[..., Any]) -> None:
    """B19. The limit is one MiB for an event; the error gives both sizes."""
    error = refused(PayloadError, ("account-1", [NewEvent("Uploaded", b"x" * MAX_EVENT_BYTES)], ANY))

    assert str(MAX_EVENT_BYTES) in str(error)


def test_an_endless_payload_is_refused(refused: Callable[..., Any]) -> None:
    """B19. A list that holds itself cannot be stored, and does not hang."""
    endless: list[Any] = []
    endless.append(endless)

    refused(PayloadError, ("account-1", [NewEvent("Noted", endless)], ANY))


# -- B20: names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a", "-", "-1", "account-", "a-b-c", "{a}", "}{", "{es.0}:log", "a:b", "with space", " ", "*?[a]\\", "🎉-1",
        "日本-語", "%s %d", "'\";--", "x" * MAX_NAME_BYTES, "🎉" * (MAX_NAME_BYTES // 4),
    ],
)  # fmt: skip
def test_streams_may_have_any_printable_name(store: EventStore, name: str) -> None:
    """B20. Braces, colons, spaces, wildcards and emoji are names like any other, up to the limit."""
    store.append("other", deposits(2))

    assert store.append(name, deposits(2, first=7), NO_STREAM).version == 2

    assert store.version(name) == 2
    assert amounts(store.read_stream(name)) == [7, 8]
    assert [event.stream for event in store.read_stream(name)] == [name, name]
    assert (
        [event.position for event in store.read_category(name.partition("-")[0])] == [3, 4] if name[0] != "-" else True
    )


@pytest.mark.parametrize(
    "name", ["", "\n", "a\x00b", "\x7f", "a\x85", "\ud800", "x" * (MAX_NAME_BYTES + 1), None, 7, b"a"], ids=repr
)
def test_names_with_control_characters_or_over_the_limit_are_refused(
    store: EventStore, refused: Callable[..., Any], name: Any
) -> None:
    """B20. Before anything is sent, for streams and event types alike, when writing and when reading."""
    refused(InvalidName, (name, deposits(1), ANY))
    with pytest.raises(InvalidName):
        NewEvent(name)
    with pytest.raises(InvalidName):
        list(store.read_stream(name))
    with pytest.raises(InvalidName):
        store.version(name)


@settings(max_examples=50)
@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=40))
def test_any_text_without_control_characters_is_a_name(name: str) -> None:
    """B20. Property: it is appended to and read like any other."""
    with memory_store() as store:
        store.append(name, deposit(), NO_STREAM)

        assert [event.stream for event in store.read_stream(name)] == [name]


def test_a_category_with_a_dash_is_refused(store: EventStore) -> None:
    """B20. A category is what precedes the first ``-``, so it holds none."""
    with pytest.raises(InvalidInput, match="account-1"):
        list(store.read_category("account-1"))


@pytest.mark.parametrize("name", ["", "a:b", "{a}", "a b", "-a", "ä"])
def test_a_store_has_a_plain_name(url: str, name: str) -> None:
    """B20. Its name goes into every key, so it is letters, digits, ``_``, ``-`` and ``.``."""
    with pytest.raises(InvalidName):
        EventStore.open(url, name=name)


# -- independent appends ------------------------------------------------------------------------


def test_independent_appends_each_have_their_own_outcome(store: EventStore) -> None:
    """A refused append gives its error in its place; those before and after it are done."""
    known = deposits(1)
    store.append("account-1", known, NO_STREAM)

    outcomes = store.append_each(
        [
            ("account-1", deposits(2), 1),
            ("account-1", deposits(1), 1),
            ("account-2", deposits(1), STREAM_EXISTS),
            ("account-1", known, NO_STREAM),
            ("account-2", [], ANY),
            ("account-2", deposits(1), NO_STREAM),
            ("account-1", deposits(1), ANY),
        ]
    )

    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, WrongExpectedVersion)] == [1, 2]
    assert (outcomes[1].stream, outcomes[1].expected, outcomes[1].actual) == ("account-1", 1, 3)
    assert outcomes[3] == AppendResult("account-1", 1, 1, 1, 0, duplicate=True)
    assert outcomes[5] == AppendResult("account-2", 1, 4, 4, 0, duplicate=False)
    assert outcomes[6] == AppendResult("account-1", 4, 5, 5, 0, duplicate=False)
    assert store.last_position() == 5


def test_no_independent_appends_give_no_outcomes(store: EventStore) -> None:
    """Nothing asked, nothing done."""
    assert store.append_each([]) == []


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
def test_independent_appends_are_done_in_their_order(own_store: EventStore, runs: int) -> None:
    """Each builds on the one before, over several script runs, on a server that has not seen the script before."""
    total = EACH_RUN * runs

    outcomes = own_store.append_each([("account-1", deposits(1, number + 1), number) for number in range(total)])

    assert [outcome.version for outcome in outcomes if isinstance(outcome, AppendResult)] == list(range(1, total + 1))
    assert amounts(own_store.read_stream("account-1")) == list(range(1, total + 1))


def test_independent_appends_repeated_are_duplicates(store: EventStore) -> None:
    """Sending them all again gives the same places, and writes nothing."""
    appends = [(f"account-{n % 7}", deposits(2), ANY if n % 2 else STREAM_EXISTS if n > 6 else ANY) for n in range(250)]
    first = store.append_each(appends)
    before = contents(store)

    again = store.append_each(appends)

    assert all(isinstance(outcome, AppendResult) and outcome.duplicate for outcome in again)
    assert [(o.stream, o.version, o.position) for o in again] == [(o.stream, o.version, o.position) for o in first]
    assert contents(store) == before


def test_independent_appends_reach_every_partition(spread: EventStore) -> None:
    """They may go to streams of several partitions; the outcomes stand in the order they were given in."""
    names = streams_in_partitions(spread)
    appends = [(names[turn % 4], deposits(1, turn), turn // 4) for turn in range(1000)]

    outcomes = spread.append_each(appends)

    assert [(o.stream, o.version, o.partition) for o in outcomes if isinstance(o, AppendResult)] == [
        (names[turn % 4], turn // 4 + 1, turn % 4) for turn in range(1000)
    ]
    for partition, name in enumerate(names):
        assert amounts(spread.read_stream(name)) == list(range(partition, 1000, 4))


def test_a_bad_payload_among_independent_appends_is_refused_in_its_place(store: EventStore) -> None:
    """What cannot be sent at all is that append's fault, and the others are not kept from the log."""
    before, refused, after = store.append_each([
        ("account-1", deposits(1), ANY),
        ("account-2", [NewEvent("Noted", object())], ANY),
        ("account-1", deposits(1), ANY),
    ])  # fmt: skip

    assert isinstance(refused, PayloadError)
    assert (before.position, after.position) == (1, 2)
    assert (store.version("account-1"), store.version("account-2")) == (2, 0)


# -- partitions ---------------------------------------------------------------------------------


def test_streams_are_spread_over_the_partitions(spread: EventStore) -> None:
    """Each stream lives in one partition, told by its name alone; with many streams none stays empty."""
    names = [f"account-{n}" for n in range(40)]

    results = {name: spread.append(name, deposits(2)) for name in names}

    assert {result.partition for result in results.values()} == {0, 1, 2, 3}
    assert all(results[name].partition == partition_of(name, 4) for name in names)
    assert all(numbers(spread.read_stream(name)) == [1, 2] for name in names)


def test_each_partition_counts_positions_of_its_own(spread: EventStore) -> None:
    """Positions are 1, 2, 3 in every partition, without gaps."""
    for turn in range(60):
        spread.append(f"account-{turn % 20}", deposit(turn))

    for partition in range(4):
        read = list(spread.read_all(partition=partition))
        assert [event.position for event in read] == list(range(1, spread.last_position(partition=partition) + 1))
        assert {event.partition for event in read} == {partition}
        assert list(spread.read_all(partition=partition, backwards=True)) == read[::-1]
    with pytest.raises(InvalidInput, match="4 partitions"):
        next(spread.read_all(backwards=True))
    assert sum(spread.last_position(partition=partition) for partition in range(4)) == 60
    assert sorted(amounts(spread.read_all())) == list(range(60))


def test_a_position_needs_its_partition(spread: EventStore) -> None:
    """Where there are several partitions, ``after`` says nothing without one."""
    name = streams_in_partitions(spread)[2]
    spread.append(name, deposits(3))

    assert amounts(spread.read_all(1, partition=2)) == [2, 3]
    assert amounts(spread.read_category("account", 2, partition=2)) == [3]
    with pytest.raises(InvalidInput, match="partition"):
        list(spread.read_all(1))


def test_an_append_across_partitions_is_refused(spread: EventStore) -> None:
    """One append is one script run, and that stays in one partition; nothing is written."""
    names = streams_in_partitions(spread)
    before = contents(spread)

    with pytest.raises(InvalidInput, match="partition"):
        spread.append_many([(names[0], deposits(1), ANY), (names[1], deposits(1), ANY)])
    with pytest.raises(InvalidInput, match="partition"):
        spread.append_many([(names[0], deposits(1), ANY)], partition=1)

    assert contents(spread) == before


def test_a_bookmark_lives_in_the_partition_of_its_append(spread: EventStore) -> None:
    """It stands beside the streams it is moved with; without streams ``partition`` says where."""
    name = streams_in_partitions(spread)[3]

    spread.append_many([(name, deposits(1), ANY)], bookmark=("manager", 7))
    spread.append_many([], bookmark=("manager", 2), partition=1)

    assert [spread.bookmark("manager", partition=partition) for partition in range(4)] == [0, 2, 0, 7]


@pytest.mark.parametrize("partition", [-1, 4, "0"])
def test_a_partition_that_is_not_there_is_refused(spread: EventStore, partition: Any) -> None:
    """The error says which ones there are."""
    for ask in (spread.last_position, lambda partition: list(spread.read_all(partition=partition))):
        with pytest.raises(InvalidInput, match="partitions 0 to 3"):
            ask(partition=partition)


def test_a_subscription_to_all_needs_a_partition(spread: EventStore) -> None:
    """A subscription follows one partition; a stream says by itself which one."""
    name = streams_in_partitions(spread)[2]
    spread.append(name, deposits(2))

    for everything in (ALL, Category("account")):
        with pytest.raises(InvalidInput, match="partition"):
            spread.subscribe(everything)
    for to, partition in ((ALL, 2), (Category("account"), 2), (name, None)):
        with spread.subscribe(to, partition=partition) as subscription:
            found = [subscription.poll(5), subscription.poll(5)]
        assert [event.position for event in found if event is not None] == [1, 2]


def test_the_number_of_partitions_is_fixed(spread: EventStore, url: str, fresh_name: str) -> None:
    """Opening without a number finds it; another number is refused."""
    with EventStore.open(url, name=fresh_name) as again:
        assert again.info.partitions == 4
    with pytest.raises(InvalidInput, match="4 partitions"):
        EventStore.open(url, name=fresh_name, partitions=2)


# -- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["2-2", "3-3"])
def test_a_log_that_lost_an_entry_takes_no_appends(store: EventStore, refused: Callable[..., Any], gone: str) -> None:
    """An entry deleted from the middle or the end is noticed by the next append, which writes nothing."""
    store.append("account-1", deposits(3))
    do(store, "XDEL", keys_of(store).log, gone)

    error = refused(LogCorrupt, ("account-1", deposits(1), ANY))
    with pytest.raises(LogCorrupt):
        store.append_each([("account-2", deposits(1), ANY)])

    assert "nothing was written" in str(error)
    assert error.hint


def test_a_missing_entry_is_noticed_by_every_read_across_it(store: EventStore) -> None:
    """The events before it come; then LogCorrupt, whether the log or the stream is read."""
    store.append("account-1", deposits(4))
    do(store, "XDEL", keys_of(store).log, "3-3")
    seen = []

    with pytest.raises(LogCorrupt, match="position 3"):
        seen += [seen.append(event.position) for event in store.read_all()]
    with pytest.raises(LogCorrupt):
        list(store.read_stream("account-1"))

    assert seen == [1, 2]
    assert numbers(store.read_stream("account-1", to=2)) == [1, 2]


def test_a_flushed_store_takes_no_appends(own_store: EventStore) -> None:
    """FLUSHALL under an open store: the next append says that the store was replaced, and writes nothing."""
    own_store.append("account-1", deposits(2))
    do(own_store, "FLUSHALL")

    with pytest.raises(StoreReplaced, match="nothing was written"):
        own_store.append("account-1", deposit())
    with pytest.raises(StoreReplaced):
        own_store.append_each([("account-1", deposits(1), ANY)])

    assert contents(own_store) == {}


def test_a_store_made_anew_under_an_open_one_is_another_store(own_store: EventStore, url: str) -> None:
    """After a flush someone opens the store again: whoever had it open before still cannot write to it."""
    do(own_store, "FLUSHALL")
    with EventStore(own_store.driver.address, settings=TEST_SETTINGS) as fresh:
        fresh.append("account-1", deposit())

        with pytest.raises(StoreReplaced):
            own_store.append("account-1", deposit(), 1)
        assert fresh.version("account-1") == 1


def test_a_log_without_its_info_is_not_taken_for_a_new_store(store: EventStore, url: str, fresh_name: str) -> None:
    """Opening a store whose meta key is gone raises LogCorrupt instead of beginning again."""
    store.append("account-1", deposits(2))
    do(store, "DEL", keys_of(store).meta)

    with pytest.raises(LogCorrupt, match="meta"):
        EventStore.open(url, name=fresh_name)


# -- trimming -----------------------------------------------------------------------------------


def test_reading_across_the_floor_of_a_trimmed_log_is_refused(store: EventStore) -> None:
    """Asked for events that were trimmed, a read raises LogTrimmed with the floor, instead of leaving them out."""
    store.append("account-1", deposits(5))
    trim(store, 2)

    for after in (0, 1):
        with pytest.raises(LogTrimmed) as caught:
            list(store.read_all(after))
        assert caught.value.floor == 2
        with pytest.raises(LogTrimmed):
            list(store.read_stream("account-1", after))
        with pytest.raises(LogTrimmed), store.subscribe(ALL, after) as subscription:
            subscription.poll(5)
    assert positions(store.read_all(2)) == [3, 4, 5]
    assert numbers(store.read_stream("account-1", 2)) == [3, 4, 5]
    assert numbers(store.read_stream("account-1", backwards=True, limit=3)) == [5, 4, 3]


def test_reading_a_wholly_trimmed_log_is_refused_too(store: EventStore) -> None:
    """That nothing is left does not make what was asked for any less missing."""
    store.append("account-1", deposits(3))
    trim(store, 3)

    with pytest.raises(LogTrimmed):
        list(store.read_all())
    with pytest.raises(LogTrimmed):
        list(store.read_stream("account-1"))
    assert list(store.read_all(3)) == []


def test_a_trimmed_log_goes_on_counting(store: EventStore) -> None:
    """Positions and versions go on where they were, whether some or all events were trimmed."""
    for floor in (2, 5):
        store.append("account-1", deposits(3))
        trim(store, floor)

    assert store.last_position() == 6
    assert store.append("account-1", deposit(), 6).position == 7
    trim(store, 7)
    assert store.last_position() == 7
    assert store.append("account-1", deposit(), 7).position == 8


@pytest.mark.parametrize("left", [0, 2])
def test_a_version_survives_the_trimming_of_its_index(store: EventStore, left: int) -> None:
    """A stream's version is its last id, never its length: it stays, and appending goes on from it."""
    store.append("account-1", deposits(5))
    do(store, "XTRIM", keys_of(store).stream("account-1"), "MAXLEN", left)

    assert store.version("account-1") == 5
    with pytest.raises(WrongExpectedVersion) as caught:
        store.append("account-1", deposit(), left)
    assert caught.value.actual == 5
    assert store.append("account-1", deposit(), 5).version == 6
    assert store.append("account-1", deposit(), STREAM_EXISTS).version == 7
    assert numbers(store.read_stream("account-1", 5)) == [6, 7]


@pytest.mark.parametrize("left", [0, 2])
def test_reading_what_was_trimmed_from_an_index_is_refused(store: EventStore, left: int) -> None:
    """Events that are not in the index any more are not left out silently."""
    store.append("account-1", deposits(5))
    do(store, "XTRIM", keys_of(store).stream("account-1"), "MAXLEN", left)
    trim(store, 5 - left)

    with pytest.raises(DataError):
        list(store.read_stream("account-1"))


# -- what the store says of itself --------------------------------------------------------------


def test_a_store_is_shared_by_many_threads(store: EventStore) -> None:
    """One store object serves several threads at once; every append arrives once."""

    def write(writer: int) -> None:
        for turn in range(50):
            store.append(f"account-{writer}", deposit(turn), turn)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert store.last_position() == 200
    assert all(amounts(store.read_stream(f"account-{writer}")) == list(range(50)) for writer in range(4))


def test_closing_a_store_twice_does_no_harm(url: str, fresh_name: str) -> None:
    """The second close finds nothing to do."""
    store = EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)
    store.append("account-1", deposit(id=uuid4()))

    store.close()
    store.close()


def test_a_store_names_itself_and_its_place(store: EventStore, url: str, fresh_name: str) -> None:
    """Its repr holds the name and the address."""
    assert fresh_name in repr(store)
    assert url in repr(store)
