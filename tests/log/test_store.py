"""The event store beyond the contract of `runner.testing.contract`: several streams, categories, partitions, faults."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from accounts import deposited, deposits
from looks import amounts, do, keys_of, numbers, positions, redis_contents, trim_by_hand

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
    RecordedEvent,
    WrongExpectedVersion,
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
from runner.format.names import partition_of
from runner.log.append_plan import EACH_RUN, Append
from runner.settings import MAX_APPEND_EVENTS
from runner.testing import TEST_SETTINGS

# -- builders and looks -------------------------------------------------------------------------


@pytest.fixture
def refused(store: EventStore) -> Callable[..., Any]:
    """Append with `append_many`, expecting an error, and nothing written anywhere; gives back the error."""

    def attempt(kind: type[Exception], *appends: Any, **options: Any) -> Any:
        before = redis_contents(store)
        with pytest.raises(kind) as caught:
            store.append_many(appends, **options)
        assert redis_contents(store) == before
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


def test_an_event_says_when_it_was_recorded(store: EventStore) -> None:
    """B1. ``recorded_at`` is the time of the append, by the clock of this process."""
    before = datetime.now(UTC)

    store.append("account-1", deposited())

    [event] = store.read_stream("account-1")
    assert before - timedelta(milliseconds=1) <= event.recorded_at <= datetime.now(UTC)


# -- B9, B10: nothing is shared -----------------------------------------------------------------


def test_a_category_holds_the_streams_of_its_name_only(store: EventStore) -> None:
    """B10. A category is the text before the first ``-``, or a whole name without one."""
    for name in ("account-1", "accounting-1", "account", "account-1-2", "Account-1", "x-account-1"):
        store.append(name, deposited())

    found = list(store.read_category("account"))
    assert [event.stream for event in found] == ["account-1", "account", "account-1-2"]
    assert found == [event for event in store.read_all() if event.category == "account"]
    assert list(store.read_category("nothing")) == []


def test_two_stores_of_one_server_do_not_meet(store: EventStore, url: str, fresh_name: str) -> None:
    """B10. Stores of different names share nothing."""
    store.append("account-1", deposits(2))

    with EventStore.open(url, name=f"{fresh_name}x", settings=TEST_SETTINGS) as other:
        assert other.version("account-1") == 0
        assert other.append("account-1", deposited(), NO_STREAM).position == 1
    assert store.version("account-1") == 2


# -- B11: batches -------------------------------------------------------------------------------


def test_the_limit_holds_for_all_streams_of_an_append_together(refused: Callable[..., Any]) -> None:
    """B11. Two halves that are too large together are refused together."""
    half = MAX_APPEND_EVENTS // 2
    refused(AppendTooLarge, ("account-1", deposits(half), ANY), ("account-2", deposits(half + 1), ANY))


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
    before = redis_contents(store)
    again = store.append_many(appends)

    found = [(r.version, r.first_position, r.position, r.duplicate) for r in results]
    assert found == [(1, 2, 2, False), (3, 3, 4, False), (3, 5, 6, False), (4, 7, 7, False), (4, 8, 8, False)]
    assert [(r.version, r.first_position, r.position, not r.duplicate) for r in again] == found
    assert redis_contents(store) == before
    assert [event.position for event in store.read_stream("account-1")] == [2, 5, 6, 8]


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ((ANY, ANY), "after an append that expects ANY, so the version that it leaves is not known"),
        ((0, ANY), "and expects ANY where the append before it leaves version 1"),
        ((ANY, 1), "after an append that expects ANY, so the version that it leaves is not known"),
        ((STREAM_EXISTS, 1), "after an append that expects STREAM_EXISTS, so the version that it leaves is not known"),
        ((0, 0), "and expects version 0 where the append before it leaves version 1"),
        ((0, 3), "and expects version 3 where the append before it leaves version 1"),
    ],
)
def test_groups_of_a_stream_that_do_not_follow_one_another_are_refused(
    refused: Callable[..., Any], versions: tuple[Any, Any], why: str
) -> None:
    """B12. Two groups of a stream are one append of it in two places, and nothing else. The error says what differs."""
    error = refused(InvalidInput, *[("account-1", deposits(1), version) for version in versions])
    assert str(error) == f"stream 'account-1' comes twice in one append_many, {why}; nothing was sent"
    assert "let each append expect the version that the one before leaves" in error.hint
    for empty in (
        refused(InvalidInput, ("account-1", [], 0), ("account-1", deposits(1), 0)),
        refused(InvalidInput, ("account-1", deposits(1), 0), ("account-1", [], 1)),
    ):
        assert "and one of the two appends has no events" in str(empty)


def test_groups_of_a_stream_are_refused_together(store: EventStore, refused: Callable[..., Any]) -> None:
    """B12. Whichever of them is at fault: a stale version, a known event, or one that is there twice."""
    known = deposited()
    store.append("account-1", [deposited(), known], NO_STREAM)

    def attempt(kind: type[Exception], first: NewEvent, second: NewEvent, version: int) -> None:
        between = ("account-2", deposits(1), NO_STREAM)
        refused(kind, ("account-1", [first], version), between, ("account-1", [second], version + 1))

    attempt(WrongExpectedVersion, deposited(), deposited(), 0)
    attempt(WrongExpectedVersion, deposited(), deposited(), 3)
    attempt(EventIdReused, deposited(), known, 2)
    attempt(EventIdReused, known, deposited(), 1)
    attempt(EventIdReused, twice := deposited(), twice, 2)


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
    appends: list[Append] = [("account-1", deposits(2), NO_STREAM), ("account-2", deposits(1), ANY)]
    first = store.append_many(appends, bookmark=("manager", 5))
    before = redis_contents(store)

    again = store.append_many(appends, bookmark=("manager", 5))

    assert [result.duplicate for result in again] == [True, True]
    assert [(r.version, r.first_position, r.position) for r in again] == [
        (r.version, r.first_position, r.position) for r in first
    ]
    assert {k: v for k, v in redis_contents(store).items() if k.decode() != keys_of(store).bookmarks} == {
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


@pytest.mark.parametrize("position", [0, -1, None, "5", 1.5, True, 2**63, pytest.param(10**5000, id="5,000 digits")])
def test_a_bookmark_position_that_cannot_be_is_refused(refused: Callable[..., Any], position: Any) -> None:
    """B12. Positions of bookmarks begin at 1, and end where the store's numbers end."""
    error = refused(InvalidInput, ("account-1", deposits(1), ANY), bookmark=("manager", position))

    assert "'manager'" in str(error)


@pytest.mark.parametrize("position", [2**53, 1_764_418_831_123_456_789, 2**63 - 2])
def test_a_bookmark_is_exact_however_large(store: EventStore, refused: Callable[..., Any], position: int) -> None:
    """B12. A number that a float could not hold comes back as it was given, and is told from its neighbours."""
    store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", position))
    assert store.bookmark("manager") == position

    for earlier in (position, position - 1, 9):
        error = refused(BookmarkConflict, ("account-1", deposits(1), ANY), bookmark=("manager", earlier))
        assert (error.position, error.actual) == (earlier, position)

    store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", position + 1))
    assert (store.bookmark("manager"), store.version("account-1")) == (position + 1, 2)


class Label(int):
    """A number that shows itself as another text."""

    def __str__(self) -> str:
        return "five"


def test_a_number_of_a_class_of_its_own_counts_as_the_number(store: EventStore) -> None:
    """B12. The store gets the number, not the text that its class makes of the number."""
    store.append_many([("account-1", deposits(1), Label(0))], bookmark=("manager", Label(5)))

    assert (store.bookmark("manager"), store.version("account-1")) == (5, 1)
    assert [event.number for event in store.read_stream("account-1", Label(0), Label(1))] == [1]


@pytest.mark.parametrize("expected", [2**53 + 1, 2**63 - 1])
def test_an_expected_version_is_compared_and_told_exactly(store: EventStore, expected: int) -> None:
    """B4. However large it is, the conflict tells the version that was given."""
    store.append("account-1", deposits(1))

    with pytest.raises(WrongExpectedVersion) as caught:
        store.append("account-1", deposits(1), expected)
    assert (caught.value.expected, caught.value.actual) == (expected, 1)
    [outcome] = store.append_each([("account-1", deposits(1), expected)])
    assert isinstance(outcome, WrongExpectedVersion)
    assert (outcome.expected, outcome.actual) == (expected, 1)


@pytest.mark.parametrize("expected", [-1, True, 1.0, "1", 2**63, pytest.param(10**5000, id="5,000 digits")])
def test_an_expected_version_that_cannot_be_is_refused(refused: Callable[..., Any], expected: Any) -> None:
    """B4. No stream has such a version."""
    assert "expected version" in str(refused(InvalidInput, ("account-1", deposits(1), expected)))


@pytest.mark.parametrize("place", [-1, True, 2**63, pytest.param(10**5000, id="5,000 digits")])
def test_a_place_to_read_that_cannot_be_is_refused(store: EventStore, place: Any) -> None:
    """B2. Numbers and positions end where those of the store end; the last one is a place without events."""
    store.append("account-1", deposits(1))
    last: int = 2**63 - 1

    for read in (store.read_all, lambda after: store.read_stream("account-1", after)):
        assert list(read(last)) == []
        with pytest.raises(InvalidInput, match="after"):
            list(read(place))


@pytest.mark.parametrize("partitions", [True, 0, 257, 2**63])
def test_a_number_of_partitions_that_cannot_be_is_refused(url: str, fresh_name: str, partitions: Any) -> None:
    """Nothing is written, and the name is still free."""
    with pytest.raises(InvalidInput, match="partitions"):
        EventStore.open(url, name=fresh_name, partitions=partitions, settings=TEST_SETTINGS)
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        assert store.info.partitions == 1


def test_appending_to_no_stream_at_all_gives_no_results(store: EventStore) -> None:
    """B12. Nothing asked, nothing done."""
    before = redis_contents(store)

    assert store.append_many([]) == []
    assert redis_contents(store) == before


# -- B13, B14: event ids ------------------------------------------------------------------------


@pytest.mark.real
def test_the_window_of_recent_ids_is_bounded_but_never_short(real_store: EventStore) -> None:
    """B13. An id is found after nearly 10,000 further events; no more than two windows of ids are kept."""
    store, late = real_store, deposited()
    store.append("filler", deposits(10_000), ANY)
    store.append("account-1", late, ANY)
    store.append("filler", deposits(9_990), ANY)

    assert store.append("account-1", late, ANY).duplicate
    across = deposits(20)
    first = store.append("filler", across, 19_990)  # the window ends in the middle
    assert first.first_position < 20_000 < first.position
    assert store.append("filler", across, ANY).position == first.position
    store.append("filler", deposits(5_000), ANY)
    assert sum(do(store, "HLEN", key) for key in keys_of(store).recent) <= 20_000


def test_independent_appends_know_the_ids_of_those_before_them(store: EventStore) -> None:
    """B14. Also in one request: a repetition is told from a mix and from another order."""
    one, two, new = deposits(3)
    given: list[Append] = [
        ("account-1", [one], NO_STREAM), ("account-1", [two], ANY), ("account-1", [one, two], ANY),
        ("account-1", [two, one], ANY), ("account-1", [two, new], ANY),
    ]  # fmt: skip

    for flags in ([False, False, True], [True, True, True]):
        *known, swapped, mixed = store.append_each(given)
        assert [result.duplicate for result in known if isinstance(result, AppendResult)] == flags
        assert isinstance(swapped, EventIdReused)
        assert "not next to each other in this order" in str(swapped)
        assert isinstance(mixed, EventIdReused)
        assert "1 of its 2 ids" in str(mixed)
    assert store.version("account-1") == 2


def test_ids_that_an_earlier_version_kept_are_known(store: EventStore, refused: Callable[..., Any]) -> None:
    """B13. It kept the position without the number, which the log tells."""
    known = deposits(3)
    store.append("other-1", deposits(1), ANY)
    store.append("account-1", known, ANY)
    for event, position in zip(known, (2, 3, 4), strict=True):
        member = keys_of(store).stream("account-1").encode() + event.id.bytes
        assert do(store, "HSET", keys_of(store).recent[0], member, position) == 0

    again = store.append("account-1", known[1:], ANY)

    assert (again.duplicate, again.version, again.first_position, again.position) == (True, 3, 3, 4)
    refused(EventIdReused, ("account-1", [known[0], known[2]], ANY))


def test_known_and_new_streams_in_one_append_are_refused(store: EventStore, refused: Callable[..., Any]) -> None:
    """B14. One group that was appended before beside one that was not: nothing is written."""
    known = ("account-1", deposits(1), NO_STREAM)
    store.append_many([known])

    error = refused(EventIdReused, ("account-2", deposits(1), NO_STREAM), known)

    assert error.stream == "account-1"


# -- B15: the log -------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 3, 500])
def test_a_category_is_read_in_any_pages(url: str, fresh_name: str, page_size: int) -> None:
    """B15. Whatever the page size: a category after a position begins after it."""
    with EventStore.open(url, name=fresh_name, settings=type(TEST_SETTINGS)(page_size=page_size)) as store:
        for turn in range(6):
            store.append(f"account-{turn % 2}" if turn else "other-1", deposited(turn))

        for after in range(8):
            assert positions(store.read_category("account", after)) == list(range(max(after + 1, 2), 7))


def test_a_category_since_a_time_passes_over_older_events(store: EventStore) -> None:
    """B15. The log is not sorted by time: each event recorded at ``since`` or later comes, in order of position."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for hour in (0, 2, 1, 3):
        store.append("account-1", deposited(hour, recorded_at=noon + timedelta(hours=hour)))
        store.append("other-1", deposited(hour, recorded_at=noon + timedelta(hours=hour)))

    assert amounts(store.read_category("account", since=noon + timedelta(hours=1))) == [2, 1, 3]


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
        assert redis_contents(again) == before
        assert again.append("account-1", deposited(), 3).position == 6


@pytest.mark.real
def test_a_store_is_the_same_after_its_server_was_stopped_and_started(directory: str) -> None:
    """B18. The last one out stops the server; the next one in finds the same contents and versions."""
    store = populated(directory)
    before, events = redis_contents(store), list(store.read_all())
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
    before, events = redis_contents(store), list(store.read_all())
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


# -- B20: names ---------------------------------------------------------------------------------


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

    refused = {place: error for place, error in enumerate(outcomes) if isinstance(error, WrongExpectedVersion)}
    assert refused.keys() == {1, 2}
    assert (refused[1].stream, refused[1].expected, refused[1].actual) == ("account-1", 1, 3)
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


def places(outcomes: Sequence[object]) -> list[tuple[str, int, int]]:
    """Stream, version and position of appends that are done, or known."""
    return [(one.stream, one.version, one.position) for one in outcomes if isinstance(one, AppendResult)]


def test_independent_appends_repeated_are_duplicates(store: EventStore) -> None:
    """Sending them all again gives the same places, and writes nothing."""
    appends = [(f"account-{n % 7}", deposits(2), ANY if n % 2 else STREAM_EXISTS if n > 6 else ANY) for n in range(250)]
    first = store.append_each(appends)
    before = redis_contents(store)

    again = store.append_each(appends)

    assert all(isinstance(outcome, AppendResult) and outcome.duplicate for outcome in again)
    assert places(again) == places(first)
    assert redis_contents(store) == before


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
    assert isinstance(before, AppendResult)
    assert isinstance(after, AppendResult)
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
        spread.append(f"account-{turn % 20}", deposited(turn))

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
    before = redis_contents(spread)

    with pytest.raises(InvalidInput, match="partition"):
        spread.append_many([(names[0], deposits(1), ANY), (names[1], deposits(1), ANY)])
    with pytest.raises(InvalidInput, match="partition"):
        spread.append_many([(names[0], deposits(1), ANY)], partition=1)

    assert redis_contents(spread) == before


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
        with pytest.raises(InvalidInput, match="from 0 to 3"):
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
    seen: list[int] = []

    with pytest.raises(LogCorrupt, match="position 3"):
        seen.extend(event.position for event in store.read_all())
    with pytest.raises(LogCorrupt):
        list(store.read_stream("account-1"))

    assert seen == [1, 2]
    assert numbers(store.read_stream("account-1", to=2)) == [1, 2]


def test_a_flushed_store_takes_no_appends(own_store: EventStore) -> None:
    """FLUSHALL under an open store: the next append says that the store was replaced, and writes nothing."""
    own_store.append("account-1", deposits(2))
    do(own_store, "FLUSHALL")

    with pytest.raises(StoreReplaced, match="nothing was written"):
        own_store.append("account-1", deposited())
    with pytest.raises(StoreReplaced):
        own_store.append_each([("account-1", deposits(1), ANY)])

    assert redis_contents(own_store) == {}


def test_a_store_made_anew_under_an_open_one_is_another_store(own_store: EventStore, url: str) -> None:
    """After a flush someone opens the store again: whoever had it open before still cannot write to it."""
    do(own_store, "FLUSHALL")
    with EventStore(own_store.driver.address, settings=TEST_SETTINGS) as fresh:
        fresh.append("account-1", deposited())

        with pytest.raises(StoreReplaced):
            own_store.append("account-1", deposited(), 1)
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
    trim_by_hand(store, 2)

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
    trim_by_hand(store, 3)

    with pytest.raises(LogTrimmed):
        list(store.read_all())
    with pytest.raises(LogTrimmed):
        list(store.read_stream("account-1"))
    assert list(store.read_all(3)) == []


def test_a_trimmed_log_goes_on_counting(store: EventStore) -> None:
    """Positions and versions go on where they were, whether some or all events were trimmed."""
    for floor in (2, 5):
        store.append("account-1", deposits(3))
        trim_by_hand(store, floor)

    assert store.last_position() == 6
    assert store.append("account-1", deposited(), 6).position == 7
    trim_by_hand(store, 7)
    assert store.last_position() == 7
    assert store.append("account-1", deposited(), 7).position == 8


@pytest.mark.parametrize("left", [0, 2])
def test_a_version_survives_the_trimming_of_its_index(store: EventStore, left: int) -> None:
    """A stream's version is its last id, never its length: it stays, and appending goes on from it."""
    store.append("account-1", deposits(5))
    do(store, "XTRIM", keys_of(store).stream("account-1"), "MAXLEN", left)

    assert store.version("account-1") == 5
    with pytest.raises(WrongExpectedVersion) as caught:
        store.append("account-1", deposited(), left)
    assert caught.value.actual == 5
    assert store.append("account-1", deposited(), 5).version == 6
    assert store.append("account-1", deposited(), STREAM_EXISTS).version == 7
    assert numbers(store.read_stream("account-1", 5)) == [6, 7]


@pytest.mark.parametrize("left", [0, 2])
def test_reading_what_was_trimmed_from_an_index_is_refused(store: EventStore, left: int) -> None:
    """Events that are not in the index any more are not left out silently."""
    store.append("account-1", deposits(5))
    do(store, "XTRIM", keys_of(store).stream("account-1"), "MAXLEN", left)
    trim_by_hand(store, 5 - left)

    with pytest.raises(DataError):
        list(store.read_stream("account-1"))


# -- what the store says of itself --------------------------------------------------------------


def test_a_store_is_shared_by_many_threads(store: EventStore) -> None:
    """One store object serves several threads at once; every append arrives once."""

    def write(writer: int) -> None:
        for turn in range(50):
            store.append(f"account-{writer}", deposited(turn), turn)

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
    store.append("account-1", deposited())

    store.close()
    store.close()


def test_a_store_names_itself_and_its_place(store: EventStore, url: str, fresh_name: str) -> None:
    """Its repr holds the name and the address."""
    assert fresh_name in repr(store)
    assert url in repr(store)
