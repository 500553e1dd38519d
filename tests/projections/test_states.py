"""States: a handler gets the same state whether the row is new, was changed in the same batch, or comes from Redis."""

from __future__ import annotations

import enum
import itertools
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from accounts import PAGE_SIZES, rows_of

from runner import EventStore, HandlerFailed, InvalidInput, NewEvent, Projection, Skip, catch_up, state_at
from runner.aggregates import Aggregate, Repository, handles
from runner.errors import PayloadError, ProjectionError
from runner.format.codec import unpack
from runner.format.states import check_state
from runner.testing import TEST_SETTINGS, AggregateScenario, Scenario, memory_store


class Status(enum.StrEnum):
    OPEN = "open"


class Level(enum.IntEnum):
    HIGH = 3


class Moment(datetime):
    """A datetime of another library."""


class Number(float):
    """A number of another library."""


class Id(UUID):
    """An id of another library."""


class Price(Decimal):
    """A price of another library."""


class Day(date):
    """A day of another library."""


Point = namedtuple("Point", "x y")

BERLIN = datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))

#: Values that would come back as something else, and what the error says.
OTHERS: dict[str, tuple[Any, str]] = {
    "defaultdict": (defaultdict(int), "a defaultdict, which would come back as a plain dict"),
    "Counter": (Counter(a=1), "a Counter, which would come back as a plain dict"),
    "OrderedDict": (OrderedDict(a=1), "a OrderedDict, which would come back as a plain dict"),
    "enumeration of text": (Status.OPEN, "a Status, which would come back as a plain str"),
    "enumeration of numbers": (Level.HIGH, "a Level, which would come back as a plain int"),
    "named tuple": (Point(1, 2), "a Point, which would come back as a plain tuple"),
    "bytearray": (bytearray(b"x"), "a bytearray, which would come back as a plain bytes"),
    "memoryview": (memoryview(b"x"), "a memoryview, which would come back as a plain bytes"),
    "float": (Number(1), "a Number, which would come back as a plain float"),
    "datetime": (Moment(2026, 1, 1, tzinfo=UTC), "a Moment, which would come back as a plain datetime"),
    "date": (Day(2026, 1, 1), "a Day, which would come back as a plain date"),
    "UUID": (Id(int=1), "a Id, which would come back as a plain UUID"),
    "Decimal": (Price(1), "a Price, which would come back as a plain Decimal"),
    "zone": (BERLIN, r"a datetime with a ZoneInfo, which would come back with the fixed offset \+01:00"),
    "set": ({1}, "a set; store a sorted list"),
}

#: Where in a state such a value may be, and its path.
PLACES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "in a map": (lambda value: {"c": value}, r"\.c"),
    "deep": (lambda value: {"a": [1, (2, {"c": value})]}, r"\.a\[1\]\[1\]\.c"),
}

others = pytest.mark.parametrize(("value", "said"), OTHERS.values(), ids=list(OTHERS))
places = pytest.mark.parametrize(("place", "path"), PLACES.values(), ids=list(PLACES))


def happened(count: int) -> list[NewEvent]:
    return [NewEvent("Happened", {"n": n}) for n in range(1, count + 1)]


def putting(value: Any, at: int = 2, **more: Any) -> Projection:
    """Counts events; at one event the handler puts a value into the row."""
    projection = Projection[Any]("putting", initial=lambda: {"n": 0}, **more)

    @projection.when("Happened")
    def put(state: Any, event: Any) -> None:
        state["n"] += 1
        if event.number == at:
            state["put"] = value

    return projection


@places
@others
def test_an_initial_state_that_would_come_back_as_another_is_refused_before_any_event(
    value: Any, said: str, place: Callable[[Any], Any], path: str
) -> None:
    """C7. The error names projection, path, type and the way out; no policy takes it for a failing event."""
    # given
    projection = Projection[Any]("unfit", initial=lambda: place(value), on_error=Skip())
    projection.when("Happened", lambda state, event: None)
    with memory_store() as store:
        store.append("a-1", happened(2))

        # then
        with pytest.raises(InvalidInput, match=f"projection 'unfit': initial state{path} cannot be stored: {said}"):
            catch_up(store, projection)
        assert store.driver.execute([("KEYS", "*unfit*")]) == [[]]


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@others
def test_a_row_that_would_come_back_as_another_is_refused_wherever_the_batch_ends(
    value: Any, said: str, page_size: int
) -> None:
    """C7. The event whose handler put the value into the row fails; the events before it are committed."""
    # given
    with EventStore.open("memory:", settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        store.append("a-1", happened(4))

        # when
        with pytest.raises(HandlerFailed, match=rf"position 2 .*PayloadError: row 'a-1'\.put cannot be stored: {said}"):
            catch_up(store, putting(value))

        # then
        assert rows_of(store, "putting") == {"a-1": {"n": 1}}


@others
def test_the_past_and_scenarios_refuse_what_a_runner_refuses(value: Any, said: str) -> None:
    """C7, D3. state_at and the test kit fold by the same rule."""
    with memory_store() as store:
        store.append("a-1", happened(2))
        with pytest.raises(HandlerFailed, match=said):
            state_at(store, putting(value))
    Scenario(putting(value)).given(*happened(1)).when(NewEvent("Happened")).then_raises(PayloadError)


def test_a_state_of_plain_values_comes_back_equal_and_of_the_same_types() -> None:
    """B19. What a row can hold is packed as it is, at any depth."""
    state = {
        "scalars": [None, True, 1, -(2**63), 2**64 - 1, 1.5, "text", b"bytes\xc4"],
        "times": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        "others": [date(2026, 1, 1), uuid4(), Decimal("1.50"), ((), [], {})],
        ("a", 1): {2: {date(2026, 1, 1): b"\xc4"}},
    }
    found = unpack(check_state(state, "state"))
    assert repr(found) == repr(state)
    assert found == state


@pytest.mark.parametrize("copied", [dict, lambda constant: constant])
@pytest.mark.parametrize("empty", [{"count": 0}, {"count": 0, "seen": []}])
def test_rows_of_a_batch_share_nothing_that_initial_shares(empty: dict[str, Any], copied: Any) -> None:
    """C7. A constant, or a shallow copy of it, gives each row a state of its own, and stays as it was."""
    # given
    before = repr(empty)
    projection = Projection[Any]("apart", initial=lambda: copied(empty))

    @projection.when("Happened")
    def count(state: Any, event: Any) -> None:
        state["count"] += 1
        if "seen" in state:
            state["seen"].append(event.position)

    with memory_store() as store:
        for stream in ("a-1", "a-2", "a-1"):
            store.append(stream, happened(1))

        # when
        catch_up(store, projection)

        # then
        rows = rows_of(store, "apart")
        assert [rows["a-1"]["count"], rows["a-2"]["count"]] == [2, 1]
        assert [rows["a-1"].get("seen"), rows["a-2"].get("seen")] == ([[1, 3], [2]] if "seen" in empty else [None] * 2)
        assert repr(empty) == before


def test_an_initial_that_makes_another_state_each_time_is_refused() -> None:
    """C7. A row made again must be equal, so `initial` must not count, draw or read a clock."""
    numbers = itertools.count()
    projection = Projection[Any]("counting", initial=lambda: {"n": next(numbers)}, on_error=Skip())
    projection.when("Happened", lambda state, event: None)
    with memory_store() as store, pytest.raises(ProjectionError, match="initial makes another state each time"):
        catch_up(store, projection)


@others
def test_a_snapshot_that_would_come_back_as_another_state_is_refused(value: Any, said: str) -> None:
    """B19. Else an aggregate would depend on whether it was loaded from a snapshot. Nothing is saved."""

    # given
    class Thing(Aggregate):
        @handles("Happened")
        def happened(self, event: Any) -> None:
            self.kept = [value]

    with memory_store() as store:
        things = Repository(store, Thing, category="thing", snapshot_every=1)
        thing = things.load("1")
        thing.record("Happened")

        # then
        with pytest.raises(PayloadError, match=rf"\.kept\[0\] cannot be stored: {said}"):
            things.save(thing)
        assert store.version("thing-1") == 0


def test_a_scenario_tells_whether_a_snapshot_restores_the_aggregate() -> None:
    """D3. The state goes through a snapshot, as with a repository that takes one at each save."""

    # given
    class Thing(Aggregate):
        status = "new"

        def open(self, status: Any) -> None:
            self.record("Opened", {"status": status})

        @handles("Opened")
        def opened(self, event: Any) -> None:
            self.status = event.data["status"]

    class Typed(Thing):
        @handles("Opened")
        def opened(self, event: Any) -> None:
            self.status = Status(event.data["status"])

    class Translating(Typed):
        def state(self) -> Any:
            return {"status": str(self.status)}

        def restore(self, state: Any) -> None:
            self.status = Status(state["status"])

    class Forgetful(Thing):
        def restore(self, state: Any) -> None:
            pass

    # then
    for kind in (Thing, Translating):
        AggregateScenario(kind).when(lambda thing: thing.open("open")).then_restored()
    for kind, said in ((Typed, "a Status, which would come back"), (Forgetful, "restored: state.*expected 'open'")):
        with pytest.raises(AssertionError, match=said):
            AggregateScenario(kind).when(lambda thing: thing.open("open")).then_restored()


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_an_integer_of_more_than_64_bits_is_refused_by_that_name(value: int) -> None:
    """In a state as in an event."""
    with pytest.raises(PayloadError, match=r"row\.v cannot be stored: an integer of more than 64 bits"):
        check_state({"v": value}, "row")
