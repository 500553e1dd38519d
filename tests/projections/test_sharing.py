"""Lists and maps that stand in two places are refused: where a batch ends would decide what a handler finds there."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from accounts import PAGE_SIZES, rows_of
from faces import FACES, catch_up_on

from runner import DELETE, EventStore, HandlerFailed, NewEvent, ParkStream, Projection, catch_up, operations, state_at
from runner.aggregates import Aggregate, Repository, handles
from runner.errors import PayloadError
from runner.format.sharing import Sharing
from runner.format.states import pack_state
from runner.projections.reach import MOST_HELD, held_by
from runner.testing import TEST_SETTINGS, AggregateScenario, Scenario, memory_store

TAGS: list[Any] = []
EMPTY: dict[str, Any] = {}
DEFAULTS: dict[str, Any] = {"n": 0, "limits": {"day": [1]}}


def in_two_places(state: Any, event: Any) -> Any:
    state["a"] = state["b"] = []


def at_two_depths(state: Any, event: Any) -> Any:
    state["a"] = {"deep": (1, state.setdefault("b", [0]))}


def of_the_module(state: Any, event: Any) -> Any:
    state["tags"] = TAGS


def whole(state: Any, event: Any) -> Any:
    return EMPTY


def inside_one_of_the_module(state: Any, event: Any) -> Any:
    state.update(DEFAULTS)


def by_another_function(state: Any, event: Any) -> Any:
    of_the_module(state, event)


def as_default(state: Any, event: Any, *, known: list[Any] = []) -> Any:  # noqa: B006 - it is what is refused
    state["known"] = known


def given(known: list[Any], state: Any, event: Any) -> Any:
    state["known"] = known


def enclosed() -> Callable[[Any, Any], Any]:
    kept: dict[str, Any] = {}

    def handler(state: Any, event: Any) -> None:
        state["kept"] = kept

    return handler


#: Handlers, and what the error says of the row `a-1`.
SHARING: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "two places": (in_two_places, r"row 'a-1'\.b cannot be stored: it is the same list as row 'a-1'\.a"),
    "two depths": (at_two_depths, r"row 'a-1'\.a\.deep\[1\] cannot be stored: it is the same list as row 'a-1'\.b"),
    "module": (of_the_module, r"row 'a-1'\.tags cannot be stored: it is the list TAGS of the code; give it a copy"),
    "whole": (whole, r"row 'a-1' cannot be stored: it is the map EMPTY of the code"),
    "inside": (inside_one_of_the_module, r"row 'a-1'\.limits cannot be stored: it is the map DEFAULTS\.limits of"),
    "another function": (by_another_function, r"row 'a-1'\.tags cannot be stored: it is the list TAGS of the code"),
    "default": (as_default, r"row 'a-1'\.known cannot be stored: it is the list known of the code"),
    "partial": (
        partial(given, []),
        r"row 'a-1'\.known cannot be stored: it is the list given to a partial of the code",
    ),
    "closure": (enclosed(), r"row 'a-1'\.kept cannot be stored: it is the map kept of the code"),
}

sharing = pytest.mark.parametrize(("handler", "said"), SHARING.values(), ids=list(SHARING))


def with_handler(handler: Callable[[Any, Any], Any], **more: Any) -> Projection:
    """Counts events; the handler is called for those of the type `Shared`."""
    projection = Projection[Any]("tried", initial=lambda: {"n": 0}, **more)

    @projection.when("Counted")
    def count(state: Any, event: Any) -> None:
        state["n"] += 1

    projection.when("Shared", handler)
    return projection


def three_events(store: EventStore) -> None:
    store.append("a-1", [NewEvent("Counted"), NewEvent("Shared"), NewEvent("Counted")])


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("page_size", PAGE_SIZES)
@sharing
def test_a_shared_list_or_map_is_refused_wherever_the_batch_ends(
    fresh_name: str, handler: Callable[[Any, Any], Any], said: str, page_size: int, face: str
) -> None:
    """C7. The event whose handler shared it fails, by path; the events before it are committed."""
    # given
    url = f"memory:{fresh_name}"
    with EventStore.open(url, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        three_events(store)

        # when
        with pytest.raises(HandlerFailed, match=rf"at position 2 .*PayloadError: {said}"):
            catch_up_on(face, url, store.info.name, with_handler(handler))

        # then
        assert rows_of(store, "tried") == {"a-1": {"n": 1}}


@sharing
def test_the_policy_decides_about_an_event_that_shares(handler: Callable[[Any, Any], Any], said: str) -> None:
    """C8. Other rows go on, and a retry with the same code parks the event again."""
    # given
    projection = with_handler(handler, on_error=ParkStream())
    with memory_store() as store:
        three_events(store)
        store.append("a-2", NewEvent("Counted"))

        # when
        catch_up(store, projection)

        # then
        assert rows_of(store, "tried") == {"a-1": {"n": 1}, "a-2": {"n": 1}}
        assert [one.position for row in operations.parked(store) for one in row.events] == [2, 3]
        assert [each.left for each in operations.retry_parked(store, projection)] == [2]


@sharing
def test_the_past_and_scenarios_refuse_what_a_runner_refuses(handler: Callable[[Any, Any], Any], said: str) -> None:
    """C7, D3. `state_at` and the test kit have the same fold."""
    projection = with_handler(handler)
    with memory_store() as store:
        three_events(store)
        with pytest.raises(HandlerFailed, match=said):
            state_at(store, projection)
    scenario = Scenario(projection, stream="a-1").given(NewEvent("Counted")).when(NewEvent("Shared"))
    scenario.then_raises(PayloadError, "cannot be stored: it is the")


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_two_rows_of_a_batch_that_share_a_list_are_refused(page_size: int) -> None:
    """C7. A list that an object keeps is found when a second row gets it in the same batch."""

    # given
    class Cache:
        kept: list[int] = []  # noqa: RUF012 - it is what is refused

    projection = with_handler(lambda state, event: {"kept": Cache.kept})
    with EventStore.open("memory:", settings=replace(TEST_SETTINGS, page_size=max(2, page_size))) as store:
        store.append("a-1", NewEvent("Shared"))
        store.append("a-2", NewEvent("Shared"))

        # when
        with pytest.raises(HandlerFailed, match=r"position 2 .*row 'a-2'\.kept .* it is the same list as one of anoth"):
            catch_up(store, projection)

        # then
        assert rows_of(store, "tried") == {"a-1": {"kept": []}}


def test_a_state_may_hold_what_only_looks_shared() -> None:
    """C7. Texts, tuples, equal lists, the payload of the event, a copy, a row that is removed."""
    # given
    projection = Projection[Any]("tried", initial=lambda: {"same": ["x"], "also": ["x"]})

    @projection.when("Taken")
    def take(state: Any, event: Any) -> Any:
        state["payload"] = event.data
        state["first"] = state["last"] = ("a", "b")
        state["tags"] = list(TAGS)

    projection.when("Replaced", lambda state, event: event.data)
    projection.when("Emptied", lambda state, event: {**EMPTY})
    projection.when("Removed", lambda state, event: DELETE)
    with memory_store() as store:
        for stream in ("a-1", "a-2"):
            store.append(stream, [NewEvent("Removed"), NewEvent("Taken", {"l": [1]}), NewEvent("Taken", {"l": [1]})])
        store.append("a-3", NewEvent("Replaced", {"l": [1]}))
        store.append("a-4", NewEvent("Emptied"))

        # then
        assert catch_up(store, projection) == 8
        assert rows_of(store, "tried")["a-3"] == {"l": [1]}


def test_flat_states_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state without a list or map inside costs a search through its bytes, and one identity."""
    # given
    walked: list[object] = []
    monkeypatch.setattr("runner.format.sharing._ids", lambda state: walked.append(state) or [id(state)])
    known = Sharing({})
    flat: list[Any] = [{"balance": 70, "owner": "Ada"}, {"n": -5, "x": 1.5, "none": None}, [1, 2], 7, "text"]

    # when
    for state in flat:
        assert known.add(state, pack_state(state))
    nested: dict[str, Any] = {"a": {}}
    assert known.add(nested, pack_state(nested))

    # then
    assert walked == [nested]


class Order(Aggregate):
    """Its handlers share lists."""

    FLAGS: list[str] = []  # noqa: RUF012 - it is what is refused

    @handles("Twice")
    def twice(self, event: Any) -> None:
        lines: list[int] = []
        self.lines = self.kept = lines

    @handles("Constant")
    def constant(self, event: Any) -> None:
        self.flags = self.FLAGS

    @handles("Module")
    def module(self, event: Any) -> None:
        self.tags = TAGS


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Twice", r"\.kept cannot be stored: it is the same list as .*\.lines"),
        ("Constant", r"\.flags cannot be stored: it is the list Order\.FLAGS of the code"),
        ("Module", r"\.tags cannot be stored: it is the list TAGS of the code"),
    ],
)
def test_a_snapshot_of_shared_lists_is_refused(kind: str, said: str) -> None:
    """B19. Else an aggregate would depend on whether it was loaded from a snapshot. Nothing is saved."""
    with memory_store() as store:
        orders = Repository(store, Order, category="order", snapshot_every=1)
        order = orders.load("1")
        order.record(kind)
        with pytest.raises(PayloadError, match=said):
            orders.save(order)
        assert store.version("order-1") == 0
    with pytest.raises(AssertionError, match=said):
        AggregateScenario(Order).when(lambda it: it.record(kind)).then_restored()


def table() -> Any:
    """A table of many lists."""
    return {number: [number] for number in range(5 * MOST_HELD)}


def pairs() -> Any:
    """Pairs of the same pair: as many places as there are ways through them, and few values."""
    pair: Any = ("a", "b")
    for _ in range(17):
        pair = (pair, pair)
    return pair


@pytest.mark.parametrize(("make", "known"), [(table, MOST_HELD), (pairs, 0)])
def test_what_the_code_holds_is_sought_in_bounded_memory(make: Callable[[], Any], known: int) -> None:
    """A handler may look values up in a large table, or in one whose parts stand in many places."""
    values = make()

    def look_up(state: Any, event: Any) -> None:
        state["found"] = values[0]

    tracemalloc.start()
    held = held_by([look_up])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(held) == known
    assert peak < 6_000_000
