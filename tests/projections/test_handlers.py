"""Handlers: what they may take, change and return, how they are declared, and what is refused."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from accounts import (
    append_history,
    balances,
    counting_all,
    deposited,
    noted,
    rows_of,
)

from runner import (
    DELETE,
    Delete,
    EventStore,
    HandlerFailed,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    catch_up,
)
from runner.errors import ProjectionError
from runner.testing import memory_store


def test_a_handler_can_take_several_types_and_one_the_rest() -> None:
    """@when("A", "B") takes both; @when() and bare @when take every type that no other handler takes."""
    # given
    projection = Projection("types", key=lambda event: event.type)
    projection.when("A", "B")(lambda state, event: {"by": "several"})
    projection.when("C", lambda state, event: {"by": "one"})

    @projection.when
    def rest(state: Any, event: RecordedEvent) -> dict[str, str]:
        return {"by": "rest"}

    with memory_store() as store:
        store.append("s", [NewEvent(kind) for kind in "ABCDE"])

        # when
        catch_up(store, projection)

        # then
        assert {kind: row["by"] for kind, row in rows_of(store, "types").items()} == {
            "A": "several",
            "B": "several",
            "C": "one",
            "D": "rest",
            "E": "rest",
        }
    assert projection.types == ("A", "B", "C", "*")
    assert getattr(rest, "__name__", "") == "rest"


def test_a_function_can_be_registered_for_several_types_at_once() -> None:
    """when("A", "B", function) is the call form of the decorator, and gives the function back."""

    # given
    def handler(state: Any, event: RecordedEvent) -> None:
        state["seen"] = True

    projection = Projection("registered")

    # when
    returned = projection.when("A", "B", handler)

    # then
    assert returned is handler
    assert projection.handler("A") is projection.handler("B") is handler
    assert projection.handler("C") is None


def test_a_second_handler_of_one_type_is_refused_and_changes_nothing() -> None:
    """Two handlers for one type, or two for the rest, are a mistake that is named; the first stay as they were."""
    # given
    projection = Projection("twice")
    first = projection.when("A", lambda state, event: None)
    projection.when(lambda state, event: None)

    # then
    with pytest.raises(ProjectionError, match="two handlers for event type 'A'"):
        projection.when("B", "A")(lambda state, event: None)
    with pytest.raises(ProjectionError, match="every other event type"):
        projection.when()(lambda state, event: None)
    assert projection.types == ("A", "*")
    assert projection.handler("A") is first


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: None,
        lambda state: None,
        lambda state, event, more: None,
        lambda state, event, *, needed: None,
    ],
)
def test_a_handler_that_cannot_take_state_and_event_is_refused(wrong: Callable[..., None]) -> None:
    """A wrong signature is refused when it is declared, and the text names the projection."""
    projection = Projection("signatures")
    with pytest.raises(ProjectionError, match=r"'signatures'.*must take \(state, event\)"):
        projection.when("A", wrong)
    with pytest.raises(ProjectionError, match=r"must take \(state, event\)"):
        projection.when("A")(wrong)
    assert projection.types == ()


@pytest.mark.parametrize(
    "good",
    [
        lambda state, event, more=1: None,
        lambda *both: None,
        functools.partial(lambda factor, state, event: None, 2),
    ],
)
def test_a_handler_that_can_take_state_and_event_is_accepted(good: Callable[..., None]) -> None:
    """Whatever can be called with two arguments is a handler: defaults, *args and partials included."""
    projection = Projection("signatures")
    projection.when("A", good)
    assert projection.handler("A") is good


@pytest.mark.parametrize("wrong", [("",), (7,), ("A", None), ("a\x00b",)])
def test_an_event_type_that_no_event_can_have_is_refused(wrong: tuple[Any, ...]) -> None:
    """A type must be a text that an event may have."""
    projection = Projection("types")
    with pytest.raises(InvalidInput):
        projection.when(*wrong)(lambda state, event: None)
    assert projection.types == ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "no spaces"}, "no spaces"),
        ({"name": ""}, "empty"),
        ({"category": "account-1"}, "holds a '-'"),
        ({"initial": {}}, "initial must be a function"),
        ({"key": "stream"}, "key must be a function"),
        ({"build": "1.2"}, "build '1.2' holds a '.'"),
    ],
)
def test_a_projection_that_is_not_well_made_is_refused(options: dict[str, Any], text: str) -> None:
    """Names, category, initial, key and build are checked when the projection is made, each named in the error."""
    with pytest.raises(InvalidInput, match=text):
        Projection(**{"name": "good", **options})


def test_projections_that_cannot_run_together_are_refused() -> None:
    """Two of one name, none at all, something else than a projection, and a key of one's own over partitions."""
    with memory_store() as store, memory_store(partitions=2) as parts:
        for where, what, text in (
            (store, [balances(), balances()], "two projections are named 'balances'"),
            (store, [], "no projection"),
            (store, [lambda state, event: None], "only Projection and Reactor objects"),
            (parts, [counting_all()], "key of its own"),
        ):
            with pytest.raises(InvalidInput, match=text):
                catch_up(where, *what)


def test_handlers_may_be_asynchronous(small_store: EventStore) -> None:
    """An async handler is awaited before the next event; it may change in place, return a state, or DELETE."""
    # given
    projection = Projection[Any]("awaited", category="account", initial=lambda: {"numbers": []})

    @projection.when("Deposited")
    async def changed(state: Any, event: RecordedEvent) -> None:
        before = list(state["numbers"])
        await asyncio.sleep(0)
        state["numbers"] = [*before, event.number]

    @projection.when("Withdrew")
    async def returned(state: Any, event: RecordedEvent) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"numbers": [*state["numbers"], -event.number]}

    @projection.when("Closed")
    async def removed(state: Any, event: RecordedEvent) -> Delete:
        return DELETE

    append_history(small_store)

    # when
    applied = catch_up(small_store, projection)

    # then
    assert applied == 7
    assert rows_of(small_store, "awaited") == {
        "account-1": {"numbers": [1, -2, 3]},
        "account-2": {"numbers": [3]},
        "account-3": {"numbers": [2]},
    }


def test_an_asynchronous_handler_that_fails_leaves_no_trace(small_store: EventStore) -> None:
    """C7. What holds for a plain handler holds for one that fails after an await."""
    # given
    projection = balances()

    @projection.when("Noted")
    async def fail(state: Any, event: RecordedEvent) -> None:
        state["balance"] = "spoiled"
        await asyncio.sleep(0)
        raise ZeroDivisionError

    small_store.append("account-1", [deposited(1), deposited(2), deposited(4), noted(), deposited(8)])

    # when
    with pytest.raises(HandlerFailed) as raised:
        catch_up(small_store, projection)

    # then
    assert raised.value.position == 4
    assert rows_of(small_store) == {"account-1": {"balance": 7, "numbers": [1, 2, 3]}}


@pytest.mark.parametrize("what", ["data", "metadata"])
@pytest.mark.parametrize("peek", [False, True])
def test_projections_do_not_see_what_others_did_to_an_event(store: EventStore, what: str, peek: bool) -> None:
    """An event's payload and metadata that one handler changed are as they were stored for the handler of another."""

    # given
    def spoiling(name: str) -> Projection:
        projection = Projection[Any](name, initial=lambda: {"found": []})

        @projection.when("Happened")
        def spoil(state: Any, event: RecordedEvent) -> None:
            if peek:
                assert event.data is not None
            content = getattr(event, what)
            state["found"].append(dict(content))
            content["by"] = name
            del content["kept"]

        return projection

    store.append(
        "thing-1", [NewEvent("Happened", {"kept": 1}, {"kept": 1}), NewEvent("Happened", {"kept": 2}, {"kept": 2})]
    )

    # when
    catch_up(store, spoiling("one"), spoiling("two"), spoiling("three"))

    # then
    for name in ("one", "two", "three"):
        assert rows_of(store, name) == {"thing-1": {"found": [{"kept": 1}, {"kept": 2}]}}


def test_a_failing_fold_is_repeated_with_events_as_they_were_stored(store: EventStore) -> None:
    """C7. Undoing a failure folds the row again: what its handlers did to payloads before must not show in it."""
    # given
    projection = Projection[Any]("takes", initial=lambda: {"amounts": []})

    @projection.when("Deposited")
    def take(state: Any, event: RecordedEvent) -> None:
        state["amounts"].append(event.data.pop("amount"))
        state["source"] = event.metadata.pop("source")

    @projection.when("Noted")
    def fail(state: Any, event: RecordedEvent) -> None:
        state["amounts"].clear()
        raise ZeroDivisionError

    store.append("account-1", [NewEvent("Deposited", {"amount": n}, {"source": "bank"}) for n in (1, 2)])
    store.append("account-1", noted())

    # when
    with pytest.raises(HandlerFailed):
        catch_up(store, projection)

    # then
    assert rows_of(store, "takes") == {"account-1": {"amounts": [1, 2], "source": "bank"}}
