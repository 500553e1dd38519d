"""Handlers that fail: nothing of the event is kept, and all before it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from accounts import (
    PAGE_SIZES,
    append_history,
    balances,
    checkpoint_of,
    deposited,
    failing_at,
    plain_fold,
    rows_of,
)
from workbench import Workbench, skipped_of

from runner import (
    DataError,
    EventStore,
    HandlerFailed,
    NewEvent,
    Projection,
    RecordedEvent,
    Skip,
    Stop,
    catch_up,
)
from runner.errors import PayloadError
from runner.progress.checkpoint import Checkpoint
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS, all_events, memory_store


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("bad", [1, 2, 4, 9])
def test_a_handler_that_fails_leaves_no_trace_and_the_events_before_it_are_committed(
    url: str, fresh_name: str, page_size: int, bad: int
) -> None:
    """C7. What the handler changed in the row is undone, the events before it are committed; the projection stops."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        append_history(store)
        history = all_events(store)

        # when
        with pytest.raises(HandlerFailed) as raised:
            catch_up(store, failing_at(bad))

        # then
        assert raised.value.position == bad
        assert isinstance(raised.value.cause, ZeroDivisionError)
        assert rows_of(store) == plain_fold(history[: bad - 1])
        expected = Checkpoint(bad - 1, history[bad - 2].id.bytes) if bad > 1 else Checkpoint()
        assert checkpoint_of(store) == expected


def test_a_handler_that_failed_and_was_corrected_goes_on_with_the_same_event(small_store: EventStore) -> None:
    """C7. The next run begins with the event that failed; nothing is missing and nothing counted twice."""
    # given
    append_history(small_store)
    with pytest.raises(HandlerFailed):
        catch_up(small_store, failing_at(6))
    handled: list[int] = []

    # when
    catch_up(small_store, balances(on_event=lambda event: handled.append(event.position)))

    # then
    assert handled == [6, 8, 9]
    assert rows_of(small_store) == plain_fold(all_events(small_store))


def test_a_failure_says_where_and_why_and_what_to_do(store: EventStore) -> None:
    """C7. The error names projection, position, type, stream and cause, and carries the cause and a hint."""
    # given
    store.append("account-7", [deposited(), deposited()])

    # when
    with pytest.raises(HandlerFailed) as raised:
        catch_up(store, failing_at(2))

    # then
    text = str(raised.value)
    for part in ("'balances'", "position 2", "'Deposited'", "event 2 of 'account-7'", "ZeroDivisionError"):
        assert part in text
    assert raised.value.__cause__ is raised.value.cause
    assert raised.value.hint
    state = store.run(status(store.info.keys[0], "balances"))[0]
    assert (state.state, state.error) == ("stopped", raised.value.with_hint)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_a_projection_that_fails_leaves_the_others_running(url: str, fresh_name: str, page_size: int) -> None:
    """C7. One of five projections fails: it stops before the event, the other four apply everything."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        append_history(store)
        history = all_events(store)
        others = [balances("a"), balances("b"), balances("d"), balances("e")]

        # when
        with pytest.raises(HandlerFailed, match="'c'"):
            catch_up(store, *others[:2], failing_at(4, "c"), *others[2:])

        # then
        assert rows_of(store, "c") == plain_fold(history[:3])
        for other in others:
            assert rows_of(store, other.name) == plain_fold(history)
            assert checkpoint_of(store, other.name).position == 9


def test_several_projections_that_fail_at_different_events_stop_each_at_its_own(small_store: EventStore) -> None:
    """C7. Failures are independent of each other, within a batch and over batches."""
    # given
    append_history(small_store)
    history = all_events(small_store)
    engine = Engine(small_store, [failing_at(3, "p3"), failing_at(4, "p4"), failing_at(8, "p8")], live=False)

    # when
    with pytest.raises(HandlerFailed):
        engine.run_to_end()

    # then
    assert {
        assignment.name: assignment.failure.position
        for assignment in engine.assignments
        if isinstance(assignment.failure, HandlerFailed)
    } == {
        "p3": 3,
        "p4": 4,
        "p8": 8,
    }
    for name, bad in (("p3", 3), ("p4", 4), ("p8", 8)):
        assert rows_of(small_store, name) == plain_fold(history[: bad - 1])


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_a_row_that_cannot_be_stored_stops_at_the_event_that_made_it_so(
    url: str, fresh_name: str, page_size: int
) -> None:
    """C7. A state that cannot be packed is that event's failure; every event before it is committed, in all rows."""
    # given
    projection = balances()

    @projection.when("Spoiled")
    def spoil(state: Any, event: RecordedEvent) -> None:
        state["tags"] = {"a", "set"}

    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        append_history(store)
        store.append("account-1", NewEvent("Spoiled"))
        store.append("account-1", deposited())
        store.append("account-3", deposited())
        history = all_events(store)

        # when
        with pytest.raises(HandlerFailed) as raised:
            catch_up(store, projection)

        # then
        assert raised.value.position == 10
        assert isinstance(raised.value.cause, PayloadError)
        assert "tags" in str(raised.value.cause)
        assert rows_of(store) == plain_fold(history[:9])
        assert checkpoint_of(store).position == 9


@pytest.mark.parametrize("policy", [Stop(), Skip()], ids=["stop", "skip"])
def test_a_row_that_can_be_stored_when_it_is_made_again_is_a_failure_of_its_last_event(policy: Any) -> None:
    """The handler is no pure function: which of its two rows is right, nobody knows."""
    # given
    calls = count(1)
    projection = Projection[Any]("balances", category="account", initial=lambda: {"sum": 0}, on_error=policy)

    @projection.when("Deposited")
    def add(state: Any, event: RecordedEvent) -> None:
        state["sum"] += event.data["amount"]
        state["odd"] = object() if next(calls) == 2 else None

    with memory_store(settings=TEST_SETTINGS) as store:
        store.append("account-1", [deposited(1), deposited(2)])

        # when
        bench = Workbench(store, projection).run()

        # then
        assert rows_of(store) == {"account-1": {"sum": 1, "odd": None}}
        if isinstance(policy, Skip):
            [skipped] = skipped_of(store)
            assert (skipped.position, bench.errors) == (2, [])
            assert "no pure function" in skipped.error
        else:
            assert ["position 2" in error and "no pure function" in error for error in bench.errors] == [True]


def test_the_first_of_two_rows_that_cannot_be_stored_is_the_one_that_stops_it(store: EventStore) -> None:
    """C7. Whatever the order of the rows, the projection stops at the earliest event that spoiled one."""
    # given
    projection = balances()
    projection.when("Spoiled", lambda state, event: {1, 2, 3})
    store.append("account-1", deposited())
    store.append("account-2", [deposited(), NewEvent("Spoiled")])
    store.append("account-1", NewEvent("Spoiled"))

    # when
    with pytest.raises(HandlerFailed) as raised:
        catch_up(store, projection)

    # then
    assert raised.value.position == 3
    assert rows_of(store) == plain_fold(all_events(store)[:2])


def test_a_failing_key_function_stops_before_its_event(small_store: EventStore) -> None:
    """C7. key= that raises, or gives no usable key, is a failure at that event; the events before are committed."""
    # given
    small_store.append("account-1", [deposited(1, currency="EUR"), deposited(2, currency="EUR"), deposited(3)])
    by_currency = Projection("by-currency", key=lambda event: event.data["currency"])
    by_currency.when("Deposited", lambda state, event: {"total": state.get("total", 0) + event.data["amount"]})

    # when
    with pytest.raises(HandlerFailed) as raised:
        catch_up(small_store, by_currency)

    # then
    assert raised.value.position == 3
    assert isinstance(raised.value.cause, KeyError)
    assert rows_of(small_store, "by-currency") == {"EUR": {"total": 3}}


def test_a_key_that_is_not_text_stops_before_its_event(store: EventStore) -> None:
    """C7. A key must be a text: a number is refused by name, at the event it was made for."""
    # given
    store.append("account-1", deposited(17))
    projection = Projection("bad-key", key=lambda event: event.data["amount"])
    projection.when("Deposited", lambda state, event: None)

    # when
    with pytest.raises(HandlerFailed, match="must be text, not int: 17"):
        catch_up(store, projection)

    # then
    assert checkpoint_of(store, "bad-key").position == 0


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_damage_in_the_log_stops_every_projection_with_all_events_before_it_committed(
    url: str, fresh_name: str, page_size: int
) -> None:
    """C7. A position that is missing from the log is noticed: everything before it is applied, nothing after it."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        append_history(store)
        history = all_events(store)
        store.driver.execute([("XDEL", store.info.keys[0].log, f"6-{history[5].number}")])

        # when
        with pytest.raises(DataError, match="position 6"):
            catch_up(store, balances("a"), balances("b"))

        # then
        for name in ("a", "b"):
            assert rows_of(store, name) == plain_fold(history[:5])
            assert checkpoint_of(store, name).position == 5
