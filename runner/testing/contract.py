"""What every event store has to do, as tests: run them through a store of your own.

Whoever has a store (another client, a wrapper, a store for tests) writes a class and gives two fixtures::

    from runner.testing.contract import EventStoreContract

    class TestOurStore(EventStoreContract):
        @pytest.fixture
        def contract_store(self):
            with OurStore() as store:
                yield store                     # holds no events, one partition

        @pytest.fixture
        def fresh_stream(self):
            return f"account-{next(numbers)}"   # a stream that is not there; the tests append other letters to it

The store has ``append``, ``read_stream``, ``read_all``, ``version`` and ``last_position`` of
`runner.EventStore`, and raises its errors. `AsyncEventStoreContract` is the same for an asynchronous store.

The scope is what can be seen from outside, in one process, in a second. Races, restarts, failovers and durability are
beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ..errors import AppendTooLarge, EventIdReused, InvalidName, PayloadError, WrongExpectedVersion
from ..format.events import NewEvent
from ..log.append_plan import ANY, NO_STREAM, STREAM_EXISTS
from ..settings import MAX_APPEND_EVENTS
from .waiting import Waiting

#: One of each kind of value that an event may hold.
PAYLOADS: tuple[Any, ...] = (
    {"nested": {"maps": [{"and": ["lists", []]}], "empty": {}}},
    ("a", ("tuple", 1)),
    "naïve 東京 🎈",
    "",
    b"\x00\xff bytes",
    None,
    True,
    False,
    0,
    -(2**63),
    2**64 - 1,
    0.1,
    -1e300,
    datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    date(2024, 2, 29),
    UUID("12345678-1234-5678-1234-567812345678"),
    Decimal("10.50"),
)

#: One of each kind that it must not hold, and a word that the refusal has to name.
UNFIT_PAYLOADS: tuple[tuple[Any, str], ...] = (
    ({"tags": {1}}, "set"),
    ({"when": datetime(2026, 1, 1)}, "zone"),
    ({"thing": object()}, "object"),
    ({"large": 2**64}, "large"),
)

#: What follows a stream's name and makes another good name of it, and what makes a name that is refused.
GOOD_ENDINGS = ("{x}", ":a:b", " with spaces", "🎈", "é", "*", "/", "'\"")
BAD_ENDINGS = ("\n", "\x00", "\x7f", "x" * 513)


def payments(*amounts: int) -> list[NewEvent]:
    """Events that can be told apart."""
    return [NewEvent("Paid", {"amount": amount}) for amount in amounts]


class EventStoreContract:
    """Tests for a synchronous store. See this module's docstring for the two fixtures to give."""

    @pytest.fixture
    def contract_subject(self, contract_store: Any) -> Any:
        """What the tests call: the store, as a synchronous one."""
        return contract_store

    # -- appending ------------------------------------------------------------------------------

    def test_what_is_appended_is_read_back_equal(self, contract_subject: Any, fresh_stream: str) -> None:
        """B1. Numbers are 1, 2, 3 …; ids, types, data and metadata come back; the version is the count."""
        store, moment = contract_subject, datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
        new = [NewEvent("A", {"n": 1}, {"by": "me"}), NewEvent("B"), NewEvent("C", [1], recorded_at=moment)]
        result = store.append(fresh_stream, new, NO_STREAM)
        events = list(store.read_stream(fresh_stream))
        assert [(e.type, e.data, e.metadata, e.id) for e in events] == [(e.type, e.data, e.metadata, e.id) for e in new]
        assert [(e.stream, e.number) for e in events] == [(fresh_stream, number) for number in (1, 2, 3)]
        assert events[2].recorded_at == moment
        assert (result.stream, result.version, result.duplicate) == (fresh_stream, 3, False)
        assert (result.first_position, result.position) == (events[0].position, events[2].position)
        assert store.version(fresh_stream) == 3

    def test_appending_nothing_changes_nothing(self, contract_subject: Any, fresh_stream: str) -> None:
        """B2. No stream is made, and one that is there stays at its version."""
        store, end = contract_subject, contract_subject.last_position()
        assert store.append(fresh_stream, []).version == store.version(fresh_stream) == 0
        assert store.last_position() == end
        store.append(fresh_stream, payments(1, 2))
        assert store.append(fresh_stream, []).version == store.version(fresh_stream) == 2

    def test_appending_more_goes_on_after_what_is_there(self, contract_subject: Any, fresh_stream: str) -> None:
        """B3. Old and new events in order, the version that of the last."""
        store = contract_subject
        store.append(fresh_stream, payments(1, 2), NO_STREAM)
        assert store.append(fresh_stream, payments(3, 4, 5), 2).version == store.version(fresh_stream) == 5
        assert _amounts(store.read_stream(fresh_stream)) == [1, 2, 3, 4, 5]
        assert [event.number for event in store.read_stream(fresh_stream)] == [1, 2, 3, 4, 5]

    # -- expected versions ----------------------------------------------------------------------

    def test_a_wrong_version_of_a_new_stream_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B4. The error carries stream, expected and actual version; nothing is written."""
        with _nothing_written(contract_subject, fresh_stream, WrongExpectedVersion) as caught:
            contract_subject.append(fresh_stream, payments(1), 3)
        error = caught.value
        assert (error.stream, error.expected, error.actual) == (fresh_stream, 3, 0)

    def test_a_stale_version_is_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B5. The same for a stream that is there, behind its version and before it."""
        contract_subject.append(fresh_stream, payments(1, 2))
        for expected in (1, 3):
            with _nothing_written(contract_subject, fresh_stream, WrongExpectedVersion) as caught:
                contract_subject.append(fresh_stream, payments(9), expected)
            assert (caught.value.expected, caught.value.actual) == (expected, 2)

    def test_expectations_that_are_no_numbers(self, contract_subject: Any, fresh_stream: str) -> None:
        """B6. ANY checks nothing; STREAM_EXISTS wants a stream; NO_STREAM wants none."""
        store = contract_subject
        with _nothing_written(store, fresh_stream, WrongExpectedVersion):
            store.append(fresh_stream, payments(1), STREAM_EXISTS)
        assert store.append(fresh_stream, payments(1), ANY).version == 1
        assert store.append(fresh_stream, payments(2), ANY).version == 2
        assert store.append(fresh_stream, payments(3), STREAM_EXISTS).version == 3
        with _nothing_written(store, fresh_stream, WrongExpectedVersion):
            store.append(fresh_stream, payments(4), NO_STREAM)

    # -- reading --------------------------------------------------------------------------------

    def test_a_stream_that_is_not_there_is_empty(self, contract_subject: Any, fresh_stream: str) -> None:
        """B7. Reading it gives no events and no error; its version is 0."""
        assert list(contract_subject.read_stream(fresh_stream)) == []
        assert list(contract_subject.read_stream(fresh_stream, backwards=True)) == []
        assert contract_subject.version(fresh_stream) == 0

    def test_a_read_gives_exactly_what_was_asked_for(self, contract_subject: Any, fresh_stream: str) -> None:
        """B8. After a number, up to one, backwards, limited, past the end."""
        store = contract_subject
        store.append(fresh_stream, payments(1, 2, 3, 4, 5))
        for asked, expected in (
            ({"after": 0}, [1, 2, 3, 4, 5]),
            ({"after": 2}, [3, 4, 5]),
            ({"to": 2}, [1, 2]),
            ({"after": 1, "to": 4}, [2, 3, 4]),
            ({"after": 5}, []),
            ({"after": 99}, []),
            ({"to": 99}, [1, 2, 3, 4, 5]),
            ({"limit": 2}, [1, 2]),
            ({"after": 3, "limit": 9}, [4, 5]),
            ({"backwards": True}, [5, 4, 3, 2, 1]),
            ({"backwards": True, "limit": 2}, [5, 4]),
            ({"backwards": True, "after": 1, "to": 3}, [3, 2]),
        ):
            assert _amounts(store.read_stream(fresh_stream, **asked)) == expected, asked

    def test_what_a_caller_changes_does_not_change_the_store(self, contract_subject: Any, fresh_stream: str) -> None:
        """B9. Neither what was appended nor what was read is the store's own."""
        store, data = contract_subject, {"items": [1]}
        store.append(fresh_stream, [NewEvent("A", data)])
        data["items"].append(2)
        found = store.read_stream(fresh_stream)
        events = list(found)
        events[0].data["items"].append(3)
        if isinstance(found, list):
            found.clear()
        assert [event.data for event in store.read_stream(fresh_stream)] == [{"items": [1]}]
        assert [event.data for event in store.read_all() if event.stream == fresh_stream] == [{"items": [1]}]

    def test_streams_do_not_meet(self, contract_subject: Any, fresh_stream: str) -> None:
        """B10. Interleaved appends, also to a stream whose name begins with the other's."""
        store, other = contract_subject, f"{fresh_stream}0"
        for amount in (1, 2, 3):
            store.append(fresh_stream, payments(amount), amount - 1)
            store.append(other, payments(-amount), amount - 1)
        assert _amounts(store.read_stream(fresh_stream)) == [1, 2, 3]
        assert _amounts(store.read_stream(other)) == [-1, -2, -3]
        assert {event.stream for event in store.read_stream(other)} == {other}
        assert (store.version(fresh_stream), store.version(other)) == (3, 3)

    # -- all or nothing -------------------------------------------------------------------------

    def test_a_batch_is_written_whole(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. 50 events, in order and without others between them."""
        _check_batch(contract_subject, fresh_stream, 50)

    def test_the_largest_batch_is_written_whole(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. As many events as an append may hold."""
        _check_batch(contract_subject, fresh_stream, MAX_APPEND_EVENTS)

    def test_a_batch_over_the_limit_is_not_written(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. One event too many, and none is there."""
        with _nothing_written(contract_subject, fresh_stream, AppendTooLarge):
            contract_subject.append(fresh_stream, payments(*range(MAX_APPEND_EVENTS + 1)))

    def test_a_batch_with_an_unfit_event_is_not_written(self, contract_subject: Any, fresh_stream: str) -> None:
        """B11. The good events before the bad one and after it are not there either."""
        contract_subject.append(fresh_stream, payments(1))
        with _nothing_written(contract_subject, fresh_stream, PayloadError):
            contract_subject.append(fresh_stream, [*payments(2), NewEvent("Bad", {1, 2}), *payments(3)])

    # -- repeating ------------------------------------------------------------------------------

    def test_a_versioned_append_may_be_repeated(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. The first result again, marked duplicate, also when others have appended since."""
        store, new = contract_subject, payments(1, 2)
        first = store.append(fresh_stream, new, NO_STREAM)
        store.append(fresh_stream, payments(3), 2)
        end = store.last_position()
        again = store.append(fresh_stream, new, NO_STREAM)
        assert (again.duplicate, again.version, again.position) == (True, first.version, first.position)
        assert again.first_position == first.first_position
        assert _amounts(store.read_stream(fresh_stream)) == [1, 2, 3]
        assert store.last_position() == end

    def test_an_unversioned_append_may_be_repeated(self, contract_subject: Any, fresh_stream: str) -> None:
        """B13. It is known by its ids, and skipped."""
        store, new = contract_subject, payments(1, 2)
        first = store.append(fresh_stream, new, ANY)
        store.append(f"{fresh_stream}x", payments(3), ANY)
        again = store.append(fresh_stream, new, ANY)
        assert (first.duplicate, again.duplicate, again.position) == (False, True, first.position)
        assert _amounts(store.read_stream(fresh_stream)) == [1, 2]

    def test_ids_are_those_of_a_stream(self, contract_subject: Any, fresh_stream: str) -> None:
        """B14. In another stream the same id is another event."""
        store, new = contract_subject, payments(1)
        store.append(fresh_stream, new, NO_STREAM)
        assert not store.append(f"{fresh_stream}x", new, NO_STREAM).duplicate
        assert _amounts(store.read_stream(f"{fresh_stream}x")) == [1]

    def test_known_ids_and_new_ones_are_not_mixed(self, contract_subject: Any, fresh_stream: str) -> None:
        """B14. An append is new or known as a whole; no id is in it twice."""
        store, [known, new] = contract_subject, payments(1, 2)
        for stream, expected in ((fresh_stream, NO_STREAM), (f"{fresh_stream}x", ANY)):
            store.append(stream, known, expected)
            with _nothing_written(store, stream, EventIdReused):
                store.append(stream, [known, new], expected)
            with _nothing_written(store, stream, EventIdReused):
                store.append(stream, [new, new], expected)

    # -- the log --------------------------------------------------------------------------------

    def test_positions_count_the_events_of_all_streams(self, contract_subject: Any, fresh_stream: str) -> None:
        """B15. 1, 2, 3 … in the order of the appends; a read after a position is exact."""
        store, other = contract_subject, f"{fresh_stream}x"
        for stream, amounts in ((fresh_stream, (1, 2)), (other, (3,)), (fresh_stream, (4,)), (other, (5, 6))):
            store.append(stream, payments(*amounts))
        events = list(store.read_all())
        assert [event.position for event in events] == [1, 2, 3, 4, 5, 6]
        assert _amounts(events) == [1, 2, 3, 4, 5, 6]
        assert [event.number for event in events] == [1, 2, 1, 3, 2, 3]
        assert store.last_position() == 6
        for after in range(8):
            assert [event.position for event in store.read_all(after=after)] == list(range(after + 1, 7))

    # -- payloads and names ---------------------------------------------------------------------

    def test_payloads_come_back_equal_and_of_the_same_type(self, contract_subject: Any, fresh_stream: str) -> None:
        """B19. As data and as metadata."""
        contract_subject.append(fresh_stream, [NewEvent("A", payload, payload) for payload in PAYLOADS])
        for event, payload in zip(contract_subject.read_stream(fresh_stream), PAYLOADS, strict=True):
            for found in (event.data, event.metadata):
                assert found == payload
                assert type(found) is type(payload)

    def test_what_cannot_be_stored_is_refused_by_name(self, contract_subject: Any, fresh_stream: str) -> None:
        """B19. The error says what it was; nothing is written."""
        for payload, word in UNFIT_PAYLOADS:
            for data, metadata in ((payload, None), (None, payload)):
                with _nothing_written(contract_subject, fresh_stream, PayloadError) as caught:
                    contract_subject.append(fresh_stream, NewEvent("A", data, metadata))
                assert word in str(caught.value)

    def test_streams_may_have_any_printable_name(self, contract_subject: Any, fresh_stream: str) -> None:
        """B20. Braces, colons, spaces, wildcards and emoji included; each name is a stream of its own."""
        for number, ending in enumerate(GOOD_ENDINGS):
            contract_subject.append(fresh_stream + ending, payments(number), NO_STREAM)
        for number, ending in enumerate(GOOD_ENDINGS):
            assert _amounts(contract_subject.read_stream(fresh_stream + ending)) == [number]
        names = [fresh_stream + ending for ending in GOOD_ENDINGS]
        assert [event.stream for event in contract_subject.read_all()] == names

    def test_names_that_cannot_be_are_refused(self, contract_subject: Any, fresh_stream: str) -> None:
        """B20. Control characters, names over the limit, and no name at all."""
        for name in (*(fresh_stream + ending for ending in BAD_ENDINGS), ""):
            with _nothing_written(contract_subject, fresh_stream, InvalidName):
                contract_subject.append(name, payments(1))


class AsyncEventStoreContract(EventStoreContract):
    """The same tests for an asynchronous store.

    ``contract_store`` is not yet opened: what ``async with`` makes a clean store of, on the loop of the test
    (`runner.AsyncEventStore` is such a thing itself).
    """

    @pytest.fixture
    def contract_subject(self, contract_store: Any) -> Iterator[Any]:
        with Waiting(contract_store) as store:
            yield store


def _check_batch(store: Any, stream: str, size: int) -> None:
    result = store.append(stream, payments(*range(size)))
    assert (result.version, result.position - result.first_position) == (size, size - 1)
    assert _amounts(store.read_stream(stream)) == list(range(size))


def _amounts(events: Any) -> list[int]:
    return [event.data["amount"] for event in events]


class _nothing_written:  # noqa: N801 - it reads as a statement
    """``with``: the block must raise ``kind``, and leave stream and log as they were. ``value`` is the error."""

    def __init__(self, store: Any, stream: str, kind: type[Exception]) -> None:
        self._store = store
        self._stream = stream
        self._kind = kind
        self._before: Any = None
        self.value: Any = None

    def __enter__(self) -> _nothing_written:
        self._before = self._contents()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        __tracebackhide__ = True
        if error is None:
            pytest.fail(f"{self._kind.__name__} should have been raised")
        if not isinstance(error, self._kind):
            return False
        self.value = error
        assert self._contents() == self._before
        return True

    def _contents(self) -> Any:
        """What can be seen of the store; of other streams only that they hold no more than before."""
        store = self._store
        return list(store.read_stream(self._stream)), store.version(self._stream), store.last_position()
