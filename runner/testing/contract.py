"""Tests that every event store should pass: run them on a store of your own.

The tests are for another client, a wrapper, or a store for tests. Write a class and give two fixtures::

    from runner.testing.contract import EventStoreContract

    class TestOurStore(EventStoreContract):
        @pytest.fixture
        def contract_store(self):
            with OurStore() as store:
                yield store                     # holds no events, one partition

        @pytest.fixture
        def fresh_stream(self):
            return f"account-{next(numbers)}"   # a new stream; the tests also use longer names around it

The store has ``append``, ``read_stream``, ``read_all``, ``version`` and ``last_position`` of
`runner.EventStore`, and raises its errors. `AsyncEventStoreContract` is the same for an asynchronous store.

The tests check what a caller sees in one process within a second. They do not check races, restarts, failovers,
durability, appends to several streams, categories or partitions. `EventStoreContract.contents` may be overridden
to see more of a store than its readers show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ..errors import AppendTooLarge, EventIdReused, InvalidInput, InvalidName, PayloadError, WrongExpectedVersion
from ..format.events import NewEvent
from ..format.names import MAX_NAME_BYTES
from ..log.append_plan import ANY, NO_STREAM, STREAM_EXISTS
from ..settings import MAX_APPEND_EVENTS, MAX_EVENT_BYTES
from .clock import START
from .waiting import Waiting

#: One of each kind of value that an event may hold, and the ends of its range.
PAYLOADS: tuple[Any, ...] = (
    {"nested": {"maps": [{"and": ["lists", [], {}]}], "empty": {}}},
    {1: "a number as key", "": "an empty key"},
    ("a", ("tuple", 1)),
    [1, [2, [3, []]]],
    [],
    {},
    "naïve 東京 🎈",
    "text with 'quotes' \n and \x00",
    "",
    b"\x00\xff\xc1 bytes",
    b"",
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
    -1e300,
    float("inf"),
    datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(1950, 1, 1, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    date(2024, 2, 29),
    UUID("12345678-1234-5678-1234-567812345678"),
    UUID(int=0),
    Decimal("10.50"),
    Decimal("-12345678901234567890.123456789000"),
    Decimal("NaN"),
)


def _endless() -> list[Any]:
    """A list that holds itself."""
    endless: list[Any] = []
    endless.append(endless)
    return endless


#: A value of each kind that an event must not hold, and a word that the error must name.
UNFIT_PAYLOADS: tuple[tuple[Any, str], ...] = (
    ({"tags": {1}}, "set"),
    ({"when": datetime(2026, 1, 1)}, "zone"),
    ({"items": [0, object()]}, "object"),
    ({"large": 2**64}, "large"),
    ({"small": [-(2**63) - 1]}, "small"),
    ({"text": "\ud800"}, "Unicode"),
    (1j, "complex"),
    (_endless(), "stored"),
)

#: Text that, put before or after a stream's name, makes another valid name; and text that makes an invalid name.
GOOD_BEGINNINGS = ("-", "{", "}{", " ", "*?[a]\\", "🎉-", "日本-", "%s %d", "'\";--")
GOOD_ENDINGS = ("{x}", ":a:b", " with spaces", "🎈", "é", "*", "/", "'\"", "-", "-b-c")
BAD_ENDINGS = ("\n", "a\x00b", "\x7f", "\x85", "\ud800", "x" * 513)

#: Arguments of reads from a stream of five events, and the event numbers that the read gives.
READS: tuple[tuple[dict[str, Any], list[int]], ...] = (
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
    ({"after": 3, "limit": 9}, [4, 5]),
    ({"after": 1, "to": 4, "limit": 2}, [2, 3]),
    ({"backwards": True}, [5, 4, 3, 2, 1]),
    ({"backwards": True, "limit": 2}, [5, 4]),
    ({"backwards": True, "after": 2}, [5, 4, 3]),
    ({"backwards": True, "to": 3}, [3, 2, 1]),
    ({"backwards": True, "after": 1, "to": 3}, [3, 2]),
    ({"backwards": True, "after": 1, "to": 4, "limit": 2}, [4, 3]),
    ({"backwards": True, "after": 5}, []),
)


def payments(*amounts: int) -> list[NewEvent]:
    """Events that can be told apart."""
    return [NewEvent("Paid", {"amount": amount}) for amount in amounts]


class EventStoreContract:
    """Tests for a synchronous store. See this module's docstring for the two fixtures to give."""

    @pytest.fixture
    def contract_subject(self, contract_store: Any) -> Any:
        """The store that the tests call, with synchronous methods."""
        return contract_store

    def contents(self, store: Any, stream: str) -> Any:
        """The contents that a refused or repeated append must leave unchanged.

        By default: what readers see of ``stream``, and how many events the log holds. Override this to compare more of
        the store's own storage.
        """
        return list(store.read_stream(stream)), store.version(stream), store.last_position()

    @contextmanager
    def unchanged(self, store: Any, stream: str) -> Iterator[None]:
        """The block must leave the store as it was."""
        before = self.contents(store, stream)
        yield
        assert self.contents(store, stream) == before

    @contextmanager
    def refused(self, store: Any, stream: str, kind: type[Exception] | tuple[type[Exception], ...]) -> Iterator[Any]:
        """The block must raise ``kind``, and leave the store as it was. The yielded object's ``value`` is the error."""
        with self.unchanged(store, stream), pytest.raises(kind) as caught:
            yield caught

    # -- appending ------------------------------------------------------------------------------

    def test_what_is_appended_is_read_back_equal(self, contract_subject: Any, fresh_stream: str) -> None:
        """B1. Numbers are 1, 2, 3 …; ids, types, data and metadata come back; the version is the count."""
        store, moment = contract_subject, datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=2)))
        new = [NewEvent("A", {"n": 1}, {"by": "me"}), NewEvent("B"), NewEvent("C", [1], recorded_at=moment)]
        result = store.append(fresh_stream, new, NO_STREAM)
        events = list(store.read_stream(fresh_stream))
        assert [(e.type, e.data, e.metadata, e.id) for e in events] == [(e.type, e.data, e.metadata, e.id) for e in new]
        assert [(e.stream, e.number) for e in events] == [(fresh_stream, number) for number in (1, 2, 3)]
        assert {event.category for event in events} == {fresh_stream.partition("-")[0]}
        assert events[2].recorded_at == moment
        assert (result.stream, result.version, result.duplicate) == (fresh_stream, 3, False)
        assert (result.first_position, result.position) == (events[0].position, events[2].position) == (1, 3)
        assert store.version(fresh_stream) == 3

    def test_a_single_event_needs_no_list(self, contract_subject: Any, fresh_stream: str) -> None:
        """B1. ``append`` takes one event as well as several."""
        assert contract_subject.append(fresh_stream, NewEvent("A")).version == 1
        assert contract_subject.append(fresh_stream, NewEvent("B"), 1).version == 2
        assert [event.type for event in contract_subject.read_stream(fresh_stream)] == ["A", "B"]

    def test_two_reads_of_the_same_events_are_equal(self, contract_subject: Any, fresh_stream: str) -> None:
        """B1. Events that are read from their stream equal those that are read from the log."""
        contract_subject.append(fresh_stream, payments(1, 2, 3))
        assert list(contract_subject.read_stream(fresh_stream)) == list(contract_subject.read_all())

    def test_appending_nothing_changes_nothing(self, contract_subject: Any, fresh_stream: str) -> None:
        """B2. No stream is made, and an existing one keeps its version. The expected version is checked anyway."""
        store = contract_subject
        with self.unchanged(store, fresh_stream):
            for expected in (ANY, NO_STREAM):
                result = store.append(fresh_stream, [], expected)
                assert (result.version, result.first_position, result.position) == (0, 0, 0)
            assert store.version(fresh_stream) == 0
        with self.refused(store, fresh_stream, WrongExpectedVersion):
            store.append(fresh_stream, [], 1)
        store.append(fresh_stream, payments(1, 2))
        with self.unchanged(store, fresh_stream):
            for expected in (ANY, 2, STREAM_EXISTS):
                assert store.append(fresh_stream, [], expected).version == store.version(fresh_stream) == 2
        with self.refused(store, fresh_stream, WrongExpectedVersion):
            store.append(fresh_stream, [], 1)

    def test_appending_more_goes_on_after_what_is_there(self, contract_subject: Any, fresh_stream: str) -> None:
        """B3. Old and new events in order, the version that of the last."""
        store = contract_subject
        store.append(fresh_stream, payments(1, 2), NO_STREAM)
        result = store.append(fresh_stream, payments(3, 4, 5), 2)
        assert result.version == store.version(fresh_stream) == 5
        assert (result.first_position, result.position) == (3, 5)
        assert _amounts(store.read_stream(fresh_stream)) == [1, 2, 3, 4, 5]
        assert [event.number for event in store.read_stream(fresh_stream)] == [1, 2, 3, 4, 5]

    # -- expected versions ----------------------------------------------------------------------

    def test_a_wrong_version_of_a_new_stream_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B4. The error carries stream, expected and actual version, in its text too; nothing is written."""
        with self.refused(contract_subject, fresh_stream, WrongExpectedVersion) as caught:
            contract_subject.append(fresh_stream, payments(1, 2), 7)
        error = caught.value
        assert (error.stream, error.expected, error.actual) == (fresh_stream, 7, 0)
        assert all(part in str(error) for part in (repr(fresh_stream), "7", "0"))
        assert list(contract_subject.read_stream(fresh_stream)) == []

    def test_a_stale_version_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B5. The same for an existing stream: numbers below its version and above it are refused."""
        contract_subject.append(fresh_stream, payments(1, 2, 3))
        for expected in (1, 2, 4, 1000):
            with self.refused(contract_subject, fresh_stream, WrongExpectedVersion) as caught:
                contract_subject.append(fresh_stream, payments(8, 9), expected)
            assert (caught.value.stream, caught.value.expected, caught.value.actual) == (fresh_stream, expected, 3)

    def test_expectations_that_are_no_numbers(self, contract_subject: Any, fresh_stream: str) -> None:
        """B6. ANY checks nothing; STREAM_EXISTS wants a stream; NO_STREAM wants none. The errors carry them."""
        store = contract_subject
        with self.refused(store, fresh_stream, WrongExpectedVersion) as caught:
            store.append(fresh_stream, payments(1), STREAM_EXISTS)
        assert (caught.value.expected, caught.value.actual) == (STREAM_EXISTS, 0)
        assert store.append(fresh_stream, payments(1), ANY).version == 1
        assert store.append(fresh_stream, payments(2), ANY).version == 2
        assert store.append(fresh_stream, payments(3), STREAM_EXISTS).version == 3
        with self.refused(store, fresh_stream, WrongExpectedVersion) as caught:
            store.append(fresh_stream, payments(4), NO_STREAM)
        assert (caught.value.expected, caught.value.actual) == (NO_STREAM, 3)

    def test_an_expected_version_that_cannot_be_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B6. Only numbers from 0 and the three names are expected versions."""
        for expected in (-1, True, 1.0, "1", None):
            with self.refused(contract_subject, fresh_stream, InvalidInput):
                contract_subject.append(fresh_stream, payments(1), expected)

    # -- reading --------------------------------------------------------------------------------

    def test_a_stream_that_is_not_there_is_empty(self, contract_subject: Any, fresh_stream: str) -> None:
        """B7. Reading it gives no events and no error, however it is read; its version is 0."""
        for asked, _ in READS:
            assert list(contract_subject.read_stream(fresh_stream, **asked)) == []
        assert contract_subject.version(fresh_stream) == 0

    def test_a_read_gives_exactly_what_was_asked_for(self, contract_subject: Any, fresh_stream: str) -> None:
        """B8. After a number, up to a number, backwards, limited, past the end; the log has other events in between."""
        store = contract_subject
        for number in range(1, 6):
            store.append(fresh_stream, payments(number), number - 1)
            store.append(f"{fresh_stream}x", payments(-number, -number))
        for asked, expected in READS:
            events = list(store.read_stream(fresh_stream, **asked))
            assert [event.number for event in events] == _amounts(events) == expected, asked

    def test_a_place_that_cannot_be_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B8. Numbers below 0, and values that are no numbers, are refused in a stream and in the log."""
        for wrong in ({"after": -1}, {"to": -1}, {"limit": -1}, {"after": "2"}, {"after": True}):
            with pytest.raises(InvalidInput):
                list(contract_subject.read_stream(fresh_stream, **wrong))
        with pytest.raises(InvalidInput):
            list(contract_subject.read_all(after=-1))

    def test_what_a_caller_changes_does_not_change_the_store(self, contract_subject: Any, fresh_stream: str) -> None:
        """B9. The store keeps no reference to appended or returned objects: data, metadata, the list of events."""
        store, data, metadata = contract_subject, {"items": [1]}, {"tags": ["a"]}
        store.append(fresh_stream, [NewEvent("A", data, metadata)])
        data["items"].append(2)
        metadata["tags"].append("b")
        found = store.read_stream(fresh_stream)
        events = list(found)
        events[0].data["items"].append(3)
        events[0].metadata["tags"].append("c")
        events[0].metadata["more"] = 1
        if isinstance(found, list):
            found.clear()
        for again in (store.read_stream(fresh_stream), store.read_all()):
            assert [(event.data, event.metadata) for event in again] == [({"items": [1]}, {"tags": ["a"]})]

    def test_streams_do_not_meet(self, contract_subject: Any, fresh_stream: str) -> None:
        """B10. Interleaved appends, also to streams whose names begin with another's."""
        store = contract_subject
        streams = [fresh_stream, f"{fresh_stream}0", f"{fresh_stream}01", f"{fresh_stream}-1", f"a{fresh_stream}"]
        for turn in range(1, 6):
            for place, stream in enumerate(streams):
                store.append(stream, payments(100 * place + turn), turn - 1)
        for place, stream in enumerate(streams):
            assert _amounts(store.read_stream(stream)) == [100 * place + turn for turn in range(1, 6)]
            assert {event.stream for event in store.read_stream(stream)} == {stream}
            assert store.version(stream) == 5

    # -- all or nothing -------------------------------------------------------------------------

    def test_a_batch_is_written_whole(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. 50 events are stored in order and without others between them, or none is stored."""
        _check_batch(contract_subject, fresh_stream, 50)
        with self.refused(contract_subject, fresh_stream, WrongExpectedVersion):
            contract_subject.append(fresh_stream, payments(*range(50)), 49)

    def test_the_largest_batch_is_written_whole(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. As many events as an append may hold; a repetition finds all of them."""
        _check_batch(contract_subject, fresh_stream, MAX_APPEND_EVENTS)

    def test_a_batch_over_the_limit_is_not_written(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. With one event or some bytes too many, none is written. The error names count and limit."""
        with self.refused(contract_subject, fresh_stream, AppendTooLarge) as caught:
            contract_subject.append(fresh_stream, payments(*range(MAX_APPEND_EVENTS + 1)))
        assert all(str(number) in str(caught.value) for number in (MAX_APPEND_EVENTS, MAX_APPEND_EVENTS + 1))
        large = "x" * (MAX_EVENT_BYTES - 1000)
        with self.refused(contract_subject, fresh_stream, AppendTooLarge):
            contract_subject.append(fresh_stream, [NewEvent("Uploaded", large) for _ in range(9)])

    def test_a_batch_with_an_unfit_event_is_not_written(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. The good events before and after the bad one are not written either."""
        contract_subject.append(fresh_stream, payments(1))
        with self.refused(contract_subject, fresh_stream, PayloadError):
            contract_subject.append(fresh_stream, [*payments(2), NewEvent("Bad", {1, 2}), *payments(3)])
        for unfit in ({"type": "Paid"}, "no event"):
            with self.refused(contract_subject, fresh_stream, InvalidInput) as caught:
                contract_subject.append(fresh_stream, [*payments(2), unfit])
            assert type(unfit).__name__ in str(caught.value)

    # -- repeating ------------------------------------------------------------------------------

    def test_a_versioned_append_may_be_repeated(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. The first result again, marked duplicate, also when many others have been appended since."""
        store, new = contract_subject, payments(3, 4, 5)
        store.append(fresh_stream, payments(1, 2), NO_STREAM)
        first = store.append(fresh_stream, new, 2)
        store.append(f"{fresh_stream}x", payments(*range(5)))
        store.append(fresh_stream, payments(*range(6, 206)), 5)
        with self.unchanged(store, fresh_stream):
            again = store.append(fresh_stream, new, 2)
        assert (first.duplicate, again.duplicate) == (False, True)
        assert (first.version, first.first_position, first.position) == (5, 3, 5)
        assert (again.stream, again.version, again.first_position, again.position) == (fresh_stream, 5, 3, 5)
        assert _amounts(store.read_stream(fresh_stream)) == list(range(1, 206))

    def test_an_unversioned_append_may_be_repeated(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. The append is recognised by its ids and writes nothing, also when many others were appended since."""
        store = contract_subject
        store.append(fresh_stream, payments(0), NO_STREAM)
        for expected in (ANY, STREAM_EXISTS):
            new = payments(1, 2)
            first = store.append(fresh_stream, new, expected)
            store.append(fresh_stream, payments(*range(200)), ANY)
            store.append(f"{fresh_stream}x", payments(3), ANY)
            with self.unchanged(store, fresh_stream):
                again = store.append(fresh_stream, new, expected)
            assert (first.duplicate, again.duplicate) == (False, True)
            assert (again.version, again.first_position, again.position) == (
                (first.version, first.first_position, first.position)
            )
        assert store.version(fresh_stream) == 1 + 2 * 202

    def test_an_unversioned_append_is_found_by_a_versioned_one(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. How an event was appended first does not matter to the versioned repetition."""
        new = payments(1, 2)
        contract_subject.append(fresh_stream, new, ANY)
        with self.unchanged(contract_subject, fresh_stream):
            assert contract_subject.append(fresh_stream, new, NO_STREAM).duplicate

    def test_a_versioned_append_is_found_by_an_unversioned_one(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. Recent ids are known however their events were appended."""
        store, new = contract_subject, payments(1, 2)
        first = store.append(fresh_stream, new, NO_STREAM)
        store.append(fresh_stream, payments(3), 2)
        with self.unchanged(store, fresh_stream):
            again = store.append(fresh_stream, new, ANY)
        assert (again.duplicate, again.version) == (True, 2)
        assert (again.first_position, again.position) == (first.first_position, first.position)

    def test_a_repetition_is_a_run_of_neighbours_in_their_order(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. Any such run is recognised; known ids in another order, or with others between them, are refused."""
        store, known = contract_subject, payments(*range(5))
        store.append(fresh_stream, known[:3], ANY)
        store.append(f"{fresh_stream}x", payments(9), ANY)
        store.append(fresh_stream, known[3:], ANY)
        for start, end in ((0, 3), (3, 5), (1, 4), (0, 5), (2, 3)):
            with self.unchanged(store, fresh_stream):
                again = store.append(fresh_stream, known[start:end], ANY)
            assert (again.duplicate, again.version) == (True, end)
            positions = [event.position for event in store.read_stream(fresh_stream, start, end)]
            assert (again.first_position, again.position) == (positions[0], positions[-1])
        for expected in (ANY, STREAM_EXISTS):
            for order in ((2, 0), (1, 0), (0, 2), (4, 0), (0, 1, 2, 4, 3)):
                with self.refused(store, fresh_stream, EventIdReused):
                    store.append(fresh_stream, [known[place] for place in order], expected)

    def test_ids_are_those_of_a_stream(self, contract_subject: Any, fresh_stream: str) -> None:
        """B14. In another stream the same id is another event."""
        store, new = contract_subject, payments(1)
        for expected, streams in ((NO_STREAM, ("", "x", "-1")), (ANY, ("y", "y-1", "z"))):
            for stream in streams:
                result = store.append(fresh_stream + stream, new, expected)
                assert (result.version, result.duplicate) == (1, False)
                assert _amounts(store.read_stream(fresh_stream + stream)) == [1]
        assert store.last_position() == 6

    def test_known_ids_and_new_ones_are_not_mixed(self, contract_subject: Any, fresh_stream: str) -> None:
        """B14. An append is new or known as a whole. A known id is found by event number, or among recent ids."""
        for number, (first, expected, old) in enumerate(_MIXED):
            stream, known = f"{fresh_stream}{number}", payments(1, 2, 3)
            contract_subject.append(stream, known, first)
            with self.refused(contract_subject, stream, (EventIdReused, WrongExpectedVersion)) as caught:
                contract_subject.append(stream, [known[old], *payments(4)], expected)
            if expected in (ANY, STREAM_EXISTS, 3, old):
                assert isinstance(caught.value, EventIdReused), (first, expected, old)
                assert stream in str(caught.value)

    def test_no_id_is_twice_in_an_append(self, contract_subject: Any, fresh_stream: str) -> None:
        """B14. The error names the stream and the id; nothing is written."""
        [twice, other] = payments(1, 2)
        for expected in (ANY, NO_STREAM):
            with self.refused(contract_subject, fresh_stream, EventIdReused) as caught:
                contract_subject.append(fresh_stream, [twice, other, twice], expected)
            assert fresh_stream in str(caught.value)
            assert str(twice.id) in str(caught.value)

    # -- the log --------------------------------------------------------------------------------

    def test_positions_count_the_events_of_all_streams(self, contract_subject: Any, fresh_stream: str) -> None:
        """B15. 1, 2, 3 … in the order of the appends; a read after a position is exact, also backwards."""
        store, other = contract_subject, f"{fresh_stream}x"
        for stream, amounts in ((fresh_stream, (1, 2)), (other, (3,)), (fresh_stream, (4,)), (other, (5, 6))):
            store.append(stream, payments(*amounts))
        events = list(store.read_all())
        assert [event.position for event in events] == [1, 2, 3, 4, 5, 6]
        assert _amounts(events) == [1, 2, 3, 4, 5, 6]
        assert [event.number for event in events] == [1, 2, 1, 3, 2, 3]
        assert [event.stream for event in events] == [fresh_stream] * 2 + [other, fresh_stream] + [other] * 2
        assert store.last_position() == 6
        for after in range(8):
            assert [event.position for event in store.read_all(after=after)] == list(range(after + 1, 7))
            backwards = store.read_all(after=after, backwards=True)
            assert [event.position for event in backwards] == list(range(6, after, -1))

    def test_an_empty_log_reads_as_empty(self, contract_subject: Any, fresh_stream: str) -> None:
        """B15. Before the first event the last position is 0."""
        assert contract_subject.last_position() == 0
        for found in (contract_subject.read_all(), contract_subject.read_all(backwards=True)):
            assert list(found) == list(contract_subject.read_stream(fresh_stream)) == []

    def test_a_read_since_a_time_passes_over_older_events(self, contract_subject: Any, fresh_stream: str) -> None:
        """B15. The log is not sorted by time: each event recorded at that time or later, in order of position."""
        for hour in (0, 2, 1, 3):
            moment = START + timedelta(hours=hour)
            contract_subject.append(fresh_stream, NewEvent("Paid", {"amount": hour}, recorded_at=moment))
        for hour, expected in ((0, [0, 2, 1, 3]), (1, [2, 1, 3]), (2, [2, 3]), (4, [])):
            since = START + timedelta(hours=hour)
            assert _amounts(contract_subject.read_all(since=since)) == expected
            assert _amounts(contract_subject.read_all(since=since, backwards=True)) == expected[::-1]
        assert _amounts(contract_subject.read_all(after=2, since=START + timedelta(hours=2), backwards=True)) == [3]
        with pytest.raises(InvalidInput):
            list(contract_subject.read_all(since=datetime(2024, 1, 1)))

    def test_events_appended_during_a_read_do_not_disturb_it(self, contract_subject: Any, fresh_stream: str) -> None:
        """B15. A read that is under way gives each event once, in order."""
        contract_subject.append(fresh_stream, payments(1, 2, 3))
        seen = []
        for event in contract_subject.read_all():
            seen.append(event.position)
            if event.position <= 3:
                contract_subject.append(fresh_stream, payments(4))
        assert seen == list(range(1, len(seen) + 1))
        assert seen[:3] == [1, 2, 3]

    # -- payloads and names ---------------------------------------------------------------------

    def test_payloads_come_back_equal_and_of_the_same_type(self, contract_subject: Any, fresh_stream: str) -> None:
        """B19. As data and as metadata, alone and within a map."""
        new = [NewEvent("A", payload, {"here": payload}) for payload in PAYLOADS]
        contract_subject.append(fresh_stream, new + [NewEvent("B", {"here": p}, p) for p in PAYLOADS])
        events = list(contract_subject.read_stream(fresh_stream))
        assert len(events) == 2 * len(PAYLOADS)
        for place, payload in enumerate(PAYLOADS):
            alone, within = events[place], events[place + len(PAYLOADS)]
            for found in (alone.data, alone.metadata["here"], within.metadata, within.data["here"]):
                assert repr(found) == repr(payload)  # repr also compares NaN, which is not equal to itself
                assert type(found) is type(payload)

    def test_what_cannot_be_stored_is_refused_by_name(self, contract_subject: Any, fresh_stream: str) -> None:
        """B19. The error names the value; nothing is written."""
        for payload, word in UNFIT_PAYLOADS:
            for data, metadata in ((payload, None), (None, payload)):
                with self.refused(contract_subject, fresh_stream, PayloadError) as caught:
                    contract_subject.append(fresh_stream, [*payments(1), NewEvent("A", data, metadata)])
                assert word in str(caught.value)

    def test_an_event_that_is_too_large_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B19. The error says how large an event may be; nothing is written."""
        with self.refused(contract_subject, fresh_stream, PayloadError) as caught:
            contract_subject.append(fresh_stream, NewEvent("Uploaded", b"x" * MAX_EVENT_BYTES))
        assert str(MAX_EVENT_BYTES) in str(caught.value)

    def test_streams_may_have_any_printable_name(self, contract_subject: Any, fresh_stream: str) -> None:
        """B20. Braces, colons, spaces, wildcards and emoji, up to the limit; each name is a stream of its own."""
        longest = fresh_stream + "x" * (MAX_NAME_BYTES - len(fresh_stream.encode()))
        names = [*(fresh_stream + ending for ending in GOOD_ENDINGS), longest]
        names += [beginning + fresh_stream for beginning in GOOD_BEGINNINGS]
        for number, name in enumerate(names):
            assert contract_subject.append(name, payments(number, number), NO_STREAM).version == 2
        for number, name in enumerate(names):
            assert _amounts(contract_subject.read_stream(name)) == [number, number]
            assert contract_subject.version(name) == 2
        assert [event.stream for event in contract_subject.read_all()][::2] == names

    def test_names_that_cannot_be_are_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B20. Control characters, names over the limit, empty names and names that are no text."""
        for name in (*(fresh_stream + ending for ending in BAD_ENDINGS), "", None, 7, b"a"):
            with self.refused(contract_subject, fresh_stream, InvalidName):
                contract_subject.append(name, payments(1))
            with pytest.raises(InvalidName):
                list(contract_subject.read_stream(name))
            with pytest.raises(InvalidName):
                contract_subject.version(name)


class AsyncEventStoreContract(EventStoreContract):
    """The same tests for an asynchronous store.

    The fixture ``contract_store`` gives an object that ``async with`` makes an empty store of, on the loop of the test.
    An `runner.AsyncEventStore` that is not yet opened is such an object.
    """

    @pytest.fixture
    def contract_subject(self, contract_store: Any) -> Iterator[Any]:
        with Waiting(contract_store) as store:
            yield store


#: The expected version of an append of three events; the expected version of a second append, which repeats one of
#: the three beside a new event; the index of the repeated event.
_MIXED: tuple[tuple[Any, Any, int], ...] = (
    *((first, expected, old) for first in (ANY, NO_STREAM) for expected in (ANY, STREAM_EXISTS) for old in (0, 1, 2)),
    *((first, expected, old) for first in (ANY, NO_STREAM) for expected in (0, 1, 2) for old in (0, 1, 2)),
    *((first, 3, old) for first in (ANY, NO_STREAM) for old in (1, 2)),
)


def _check_batch(store: Any, stream: str, size: int) -> None:
    new = payments(*range(size))
    result, again = (store.append(stream, new, NO_STREAM) for _ in range(2))
    assert (result.version, result.position - result.first_position, result.duplicate) == (size, size - 1, False)
    assert (again.version, again.position, again.duplicate) == (size, result.position, True)
    assert _amounts(store.read_stream(stream)) == list(range(size))


def _amounts(events: Any) -> list[int]:
    return [event.data["amount"] for event in events]
