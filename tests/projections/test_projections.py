"""Projections: what a view holds at rest, after failures, after crashes, and beside another runner."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from accounts import balances, closed, deposited, noted, plain_fold, reached, rows_of, withdrew
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench import relayed

from runner import (
    DELETE,
    CommitRefused,
    DataError,
    EventStore,
    HandlerFailed,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    Settings,
    View,
    catch_up,
)
from runner.effects import Await, Effect, Leave, Operation, Pause, Receive, Send
from runner.errors import HistoryDiverged, PayloadError, ProjectionError, StoreUnavailable
from runner.progress.builds import reset
from runner.progress.checkpoint import Checkpoint
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.sync.interpreter import Interpreter
from runner.testing import TEST_SETTINGS, all_events, memory_store
from runner.wire.clock import SYSTEM_CLOCK
from runner.workers.assignment import Assignment
from runner.workers.pool import WorkerPool
from runner.workers.projection_worker import ProjectionWorker
from runner.workers.worker import Worker

#: Pages so small that a handful of events makes several batches.
SMALL = replace(TEST_SETTINGS, page_size=2)

#: Pages of one event, of some, and one page for all that a test here appends.
PAGE_SIZES = [1, 2, 500]

_stores = count(1)


def reopened(store: EventStore, url: str, settings: Settings = SMALL) -> EventStore:
    """The same store as another process would open it."""
    return EventStore.open(url, name=store.info.name, settings=settings)


def checkpoint_of(store: EventStore, name: str = "balances") -> Checkpoint:
    keys = store.info.keys[0]
    [(position, event_id)] = store.driver.execute([("HMGET", keys.build(name, "1"), "position", "id")])
    return Checkpoint(int(position or 0), event_id or b"")


def append_history(store: EventStore) -> None:
    """Nine events over four streams: rows that are made, changed, deleted and made again, and events nobody wants."""
    store.append("account-1", [deposited(100), withdrew(30)])
    store.append("account-2", [deposited(7), closed()])
    store.append("order-1", noted())
    store.append("account-2", deposited(8))
    store.append("account-3", [noted(), deposited(1)])
    store.append("account-1", deposited(5))


def counting_all(name: str = "all") -> Projection:
    """One row with the count of events of each type: a row that every event changes."""
    projection = Projection(name, key=lambda event: "total")

    @projection.when
    def seen(state: Any, event: RecordedEvent) -> None:
        state[event.type] = state.get(event.type, 0) + 1

    return projection


@pytest.fixture
def small_store(url: str, fresh_name: str) -> Iterator[EventStore]:
    """An empty store that reads two events at a time, fake and real."""
    with EventStore.open(url, name=fresh_name, settings=SMALL) as opened:
        yield opened


# -- catching up --------------------------------------------------------------------------------


def test_catching_up_applies_what_is_new_and_says_how_many(store: EventStore) -> None:
    """C1. catch_up applies what is new and returns how many events were applied; again without new events: 0."""
    # given
    store.append("account-1", [deposited(100), withdrew(30)])

    # when
    first = catch_up(store, balances())
    again = catch_up(store, balances())
    store.append("account-1", [deposited(1)])
    later = catch_up(store, balances())

    # then
    assert (first, again, later) == (2, 0, 1)
    assert rows_of(store) == {"account-1": {"balance": 71, "numbers": [1, 2, 3]}}


def test_catching_up_with_an_empty_store_applies_nothing(store: EventStore) -> None:
    """C1. With no events there are no rows, and the checkpoint stays at 0."""
    # when
    applied = catch_up(store, balances())

    # then
    assert applied == 0
    assert rows_of(store) == {}
    assert checkpoint_of(store) == Checkpoint(0, b"")


def test_several_projections_catch_up_together_from_where_each_of_them_stands(small_store: EventStore) -> None:
    """C1. Projections at different positions are each applied from their own checkpoint, and the counts add up."""
    # given
    append_history(small_store)
    catch_up(small_store, balances("early"))
    small_store.append("account-9", [deposited(1), deposited(2), deposited(3)])

    # when
    applied = catch_up(small_store, balances("early"), balances("late"), counting_all())

    # then
    expected = plain_fold(all_events(small_store))
    assert rows_of(small_store, "early") == rows_of(small_store, "late") == expected
    assert View(small_store, "all")["total"] == {"Deposited": 8, "Withdrew": 1, "Closed": 1, "Noted": 2}
    assert applied == 3 + 10 + 12


def test_declared_and_registered_handlers_make_the_same_projection(store: EventStore) -> None:
    """C3. A handler declared with a decorator and one registered with a call do the same; other types pass by."""

    # given
    def add(state: Any, event: RecordedEvent) -> None:
        state["balance"] = state.get("balance", 0) + event.data["amount"]

    declared, registered = Projection("declared", category="account"), Projection("registered", category="account")
    declared.when("Deposited")(add)
    registered.when("Deposited", add)
    append_history(store)

    # when
    applied = [catch_up(store, projection) for projection in (declared, registered)]

    # then
    assert declared.types == registered.types == ("Deposited",)
    assert rows_of(store, "declared") == rows_of(store, "registered")
    assert rows_of(store, "declared")["account-1"] == {"balance": 105}
    assert applied == [5, 5]


def test_the_checkpoint_is_the_last_event_of_the_batch_whoever_wanted_it(store: EventStore) -> None:
    """C4. After a batch the checkpoint is the position and id of its last event, also where no handler wanted it."""
    # given
    last = noted()
    store.append("account-1", deposited())
    store.append("order-1", [noted(), last])

    # when
    catch_up(store, balances())

    # then
    assert checkpoint_of(store) == Checkpoint(3, last.id.bytes)


def test_a_projection_that_wants_nothing_still_moves_its_checkpoint(store: EventStore) -> None:
    """C4. A projection whose handlers match no event ends at the last position with no rows."""
    # given
    append_history(store)
    nothing = Projection("nothing")
    nothing.when("NeverHappens", lambda state, event: None)

    # when
    applied = catch_up(store, nothing)

    # then
    assert applied == 0
    assert checkpoint_of(store, "nothing").position == store.last_position()
    assert rows_of(store, "nothing") == {}


def test_a_new_process_resumes_where_the_last_one_was(small_store: EventStore, url: str) -> None:
    """C5. State and position are saved: a new process applies only what came later, onto the rows that are there."""
    # given
    append_history(small_store)
    catch_up(small_store, balances())
    resumed_after = small_store.last_position()
    small_store.append("account-1", [deposited(1000)])
    handled: list[int] = []

    # when
    with reopened(small_store, url) as other:
        catch_up(other, balances(on_event=lambda event: handled.append(event.position)))

    # then
    assert handled == [resumed_after + 1]
    assert rows_of(small_store) == plain_fold(all_events(small_store))


def test_after_a_reset_the_next_run_equals_the_first(small_store: EventStore) -> None:
    """C6. Reset: view and checkpoint are gone, and the next run applies everything again, to equal rows."""
    # given
    append_history(small_store)
    first = catch_up(small_store, balances())
    rows, checkpoint = rows_of(small_store), checkpoint_of(small_store)

    # when
    result = small_store.run(reset(small_store.info.keys[0], "balances"))

    # then
    assert (result.position, result.rows) == (9, len(rows))
    assert rows_of(small_store) == {}
    assert checkpoint_of(small_store) == Checkpoint(0, b"")
    assert catch_up(small_store, balances()) == first
    assert (rows_of(small_store), checkpoint_of(small_store)) == (rows, checkpoint)


def test_a_dry_run_of_a_reset_says_what_would_go_and_removes_nothing(store: EventStore) -> None:
    """C6. With dry_run, reset counts and changes nothing."""
    # given
    append_history(store)
    catch_up(store, balances())
    rows, checkpoint = rows_of(store), checkpoint_of(store)

    # when
    result = store.run(reset(store.info.keys[0], "balances", dry_run=True))

    # then
    assert (result.position, result.rows) == (9, 3)
    assert (rows_of(store), checkpoint_of(store)) == (rows, checkpoint)


def test_a_reset_of_one_projection_leaves_the_others_alone(store: EventStore) -> None:
    """C6. Reset forgets the projection it names and no other; one that the store does not know is refused."""
    # given
    append_history(store)
    catch_up(store, balances("kept"), balances("forgotten"))
    kept = rows_of(store, "kept")

    # when
    store.run(reset(store.info.keys[0], "forgotten"))

    # then
    assert rows_of(store, "kept") == kept
    with pytest.raises(InvalidInput, match="forgotten"):
        store.run(reset(store.info.keys[0], "forgotten"))


def test_a_reset_under_a_running_projection_lets_it_begin_anew(small_store: EventStore) -> None:
    """C6. A runner that was at work when its projection was reset cannot commit what it had: it begins anew."""
    # given
    append_history(small_store)
    handled: list[int] = []

    def reset_once(event: RecordedEvent) -> None:
        handled.append(event.position)
        if handled == [1, 2, 3, 4]:
            small_store.run(reset(small_store.info.keys[0], "balances"))

    # when
    catch_up(small_store, balances(on_event=reset_once))

    # then
    assert handled[4:].count(1) == 1
    assert rows_of(small_store) == plain_fold(all_events(small_store))
    assert small_store.run(status(small_store.info.keys[0], "balances"))[0].applied == 7


# -- handlers that fail -------------------------------------------------------------------------


def failing_at(position: int, name: str = "balances") -> Projection:
    """`balances` whose handler changes its row and then raises, at one position."""

    def fail(event: RecordedEvent) -> None:
        if event.position == position:
            raise ZeroDivisionError("no handler is perfect")

    return balances(name, on_event=fail)


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
        engine.run_here()

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


# -- crashes and lost connections ---------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


#: What becomes of the k-th effect of a run, and of the run.
KILLED_BEFORE, KILLED_AFTER, LOST_BEFORE, LOST_AFTER = "killed before", "killed after", "lost before", "lost after"


def with_a_hand_on_the_wire(
    operation: Operation[None],
    before: Callable[[Effect], None] = lambda effect: None,
    after: Callable[[Effect], None] = lambda effect: None,
) -> Operation[None]:
    """The operation, with ``before`` and ``after`` called around each request to the store; they may raise.

    It does not pause: nobody has to wait for a server that is there.
    """

    def touched(effect: Effect) -> Operation[Any]:
        on_the_way = not isinstance(effect, Await | Pause | Leave)
        if on_the_way:
            before(effect)
        outcome = None if isinstance(effect, Pause) else (yield effect)
        if on_the_way:
            after(effect)
        return outcome

    return relayed(operation, touched)


@contextmanager
def a_port(store: EventStore) -> Iterator[Interpreter]:
    """What runs the operations of a worker in this thread."""
    port = Interpreter(store.driver, store.feed(0))
    try:
        yield port
    finally:
        port.close()


def drive(store: EventStore, worker: Worker, at: int = 0, what: str = KILLED_BEFORE) -> int:
    """Run a worker's work; its request number ``at`` (from 1) is where the process or the connection dies.

    Returns how many requests to the store the work took.
    """
    taken = 0
    with a_port(store) as port:

        def die(moment: str) -> None:
            if taken == at and what == f"killed {moment}":
                raise Killed
            if taken == at and what == f"lost {moment}":
                port.session.close()
                raise StoreUnavailable("the connection was lost")

        def before(effect: Effect) -> None:
            nonlocal taken
            taken += 1
            die("before")

        port.run(with_a_hand_on_the_wire(worker.work(live=False), before, lambda effect: die("after")))
    return taken


def crash_projections() -> list[Projection]:
    """Rows by stream that come and go, a row that every event changes, and handlers that are awaited."""
    slow = Projection("slow", category="account", initial=lambda: {"numbers": []})

    @slow.when("Deposited")
    async def seen(state: Any, event: RecordedEvent) -> None:
        state["numbers"].append(event.number)

    return [balances(), counting_all(), slow]


def views(store: EventStore) -> dict[str, dict[str, Any]]:
    return {name: rows_of(store, name) for name in ("balances", "all", "slow")}


def plain_views(events: list[RecordedEvent]) -> dict[str, dict[str, Any]]:
    """The same views folded from scratch in plain Python."""
    total: dict[str, int] = {}
    slow: dict[str, Any] = {}
    for event in events:
        total[event.type] = total.get(event.type, 0) + 1
        if event.category == "account" and event.type == "Deposited":
            slow.setdefault(event.stream, {"numbers": []})["numbers"].append(event.number)
    return {"balances": plain_fold(events), "all": {"total": total}, "slow": slow}


def a_group(store: EventStore, projections: list[Projection]) -> Worker:
    """The worker of projections that stand at one position, on a clock that does not go."""
    [assignments] = take_assignments(store, projections)
    return worker_of(store, assignments)


def take_assignments(store: EventStore, projections: list[Projection]) -> list[list[Assignment[Any]]]:
    """Claim projections; those that stand at the same position come together."""
    together: list[list[Assignment[Any]]] = []
    pool = WorkerPool(
        store.info, projections, store.settings, SYSTEM_CLOCK,
        live=False, patience=1.0, notify=lambda assignment: None, work_on=together.append,
    )  # fmt: skip
    store.run(pool.coordinator.first_round())
    return together


def worker_of(store: EventStore, assignments: list[Assignment[Any]]) -> Worker:
    """A worker whose clock does not go, and whose assignments do not come back when they leave for a while."""
    pool = WorkerPool(
        store.info, [assignment.projection for assignment in assignments], store.settings, SYSTEM_CLOCK,
        live=False, patience=1.0, notify=lambda assignment: None, work_on=lambda assignments: None,
    )  # fmt: skip
    runner = replace(pool.context.runner, id=assignments[0].claim.owner)
    context = replace(pool.context, runner=runner, clock=replace(SYSTEM_CLOCK, monotonic=lambda: 0.0))
    return ProjectionWorker(assignments[0].keys, assignments, context, spin_off=lambda assignment, delay: None)


def unsettled(cache_rows: int) -> Settings:
    """Pages of two and a small cache, so that a short run loads, folds, commits and evicts many times.

    The lease is short, because a run that was killed keeps it.
    """
    return replace(SMALL, cache_rows=cache_rows, lease=0.05)


def every_crash(
    url: str, what: str, cache_rows: int
) -> Iterator[tuple[EventStore, list[Assignment], int, list[RecordedEvent]]]:
    """A store with events, and the projections that were at work on it, for each effect of the run in turn."""
    for at in count(1):
        name = f"crash{next(_stores)}-{os.getpid()}"
        with EventStore.open(url, name=name, settings=unsettled(cache_rows)) as store:
            append_history(store)
            worker = a_group(store, crash_projections())
            assignments = list(worker.assignments)
            try:
                if drive(store, worker, at, what) < at:
                    return
            except Killed:
                pass
            yield store, assignments, at, all_events(store)


@pytest.mark.parametrize(("what", "cache_rows"), [(KILLED_BEFORE, 2), (KILLED_AFTER, 1000)])
def test_a_crash_at_any_point_of_a_run_leaves_views_that_a_restart_completes(
    url: str, what: str, cache_rows: int
) -> None:
    """C10. Killed at its k-th effect, for every k: after a restart the views equal a fold from scratch."""
    points = 0
    for store, _, at, history in every_crash(url, what, cache_rows):
        # given: a run that was killed; its views are those of some prefix of the log
        points += 1
        for name, rows in views(store).items():
            assert rows == plain_views(history[: checkpoint_of(store, name).position])[name] or (
                name == "all" and rows == {} and checkpoint_of(store, name).position == 0
            ), f"{name} after a kill at effect {at}"

        # when
        with reopened(store, url) as restarted:
            Engine(restarted, crash_projections(), live=False).run_here()

        # then
        assert views(store) == plain_views(history), f"killed at effect {at}"
        applied = [store.run(status(store.info.keys[0], name))[0].applied for name in ("balances", "all", "slow")]
        assert applied == [7, 9, 5], f"killed at effect {at}"
    assert points > 10


@pytest.mark.parametrize(("what", "cache_rows"), [(LOST_BEFORE, 1000), (LOST_AFTER, 2), (LOST_AFTER, 1000)])
def test_a_connection_lost_at_any_point_of_a_run_is_passed_over(url: str, what: str, cache_rows: int) -> None:
    """C10. The k-th effect fails, for every k, done or not: the run goes on, views and counts are right."""
    points = 0
    for store, assignments, at, history in every_crash(url, what, cache_rows):
        # then
        points += 1
        assert [assignment.failure for assignment in assignments] == [None, None, None], f"lost at effect {at}"
        assert views(store) == plain_views(history), f"lost at effect {at}"
        applied = [store.run(status(store.info.keys[0], name))[0].applied for name in ("balances", "all", "slow")]
        assert applied == [7, 9, 5], f"lost at effect {at}"
        handled = {assignment.name: assignment.handled for assignment in assignments}  # what catch_up returns
        assert handled == {"balances": 7, "all": 9, "slow": 5}, f"lost at effect {at}"
    assert points > 10


@pytest.mark.parametrize("what", [LOST_BEFORE, LOST_AFTER])
def test_a_failure_is_recorded_whenever_the_connection_was_lost(url: str, fresh_name: str, what: str) -> None:
    """C7. The k-th effect of a run that ends in a failure is lost: its state in the store is still "stopped"."""
    for at in count(1):
        with EventStore.open(url, name=f"{fresh_name}-{at}", settings=SMALL) as store:
            # given
            append_history(store)
            history = all_events(store)
            worker = a_group(store, [failing_at(4)])

            # when
            taken = drive(store, worker, at, what)

            # then
            state = store.run(status(store.info.keys[0], "balances"))[0]
            assert (state.position, state.state) == (3, "stopped"), f"lost at effect {at}"
            assert "ZeroDivisionError" in state.error
            assert rows_of(store) == plain_fold(history[:3])
            if taken < at:
                return


@pytest.mark.parametrize("what", [LOST_BEFORE, LOST_AFTER])
def test_damage_is_told_whenever_the_connection_was_lost(url: str, fresh_name: str, what: str) -> None:
    """C10. The log is damaged and the k-th effect lost: the projection ends at the damage, and with that error."""
    for at in count(1):
        with EventStore.open(url, name=f"{fresh_name}-{at}", settings=SMALL) as store:
            # given
            append_history(store)
            history = all_events(store)
            store.driver.execute([("XDEL", store.info.keys[0].log, f"6-{history[5].number}")])
            worker = a_group(store, [balances()])
            [assignment] = worker.assignments

            # when
            taken = drive(store, worker, at, what)

            # then
            assert isinstance(assignment.failure, DataError), f"lost at effect {at}"
            assert "position 6" in str(assignment.failure)
            assert rows_of(store) == plain_fold(history[:5]), f"lost at effect {at}"
            assert store.run(status(store.info.keys[0], "balances"))[0].state == "stopped"
            if taken < at:
                return


def test_a_commit_that_the_server_runs_late_does_no_harm(url: str, fresh_name: str) -> None:
    """C10. A commit whose connection was lost runs after the runner has asked where it stands: the run goes on."""
    # given: a first batch, whose commit hangs in the network
    late: list[Any] = []
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store, a_port(store) as port:
        store.append("account-1", [deposited(1), deposited(2)])
        worker = a_group(store, [balances()])
        assignments = list(worker.assignments)

        def delay_the_first_commit(effect: Effect) -> None:
            if isinstance(effect, Send) and effect.commands[0][0] != "XRANGE" and not late:
                late.extend(effect.commands)
                port.session.close()
                raise StoreUnavailable("the connection was lost")
            if isinstance(effect, Send) and late and late[-1] is not None:
                # when: it knows where it stands and is about to read on, an event comes, and then the commit runs
                store.append("account-1", deposited(4))
                store.driver.execute(list(late))
                late.append(None)

        port.run(with_a_hand_on_the_wire(worker.work(live=False), delay_the_first_commit))

        # then
        assert late[-1] is None
        assert [assignment.failure for assignment in assignments] == [None]
        assert rows_of(store) == plain_fold(all_events(store))


@pytest.mark.real
@pytest.mark.parametrize("cache_rows", [1, 1000])
def test_a_run_goes_on_when_all_connections_are_killed_in_the_middle(
    real_url: str, fresh_name: str, cache_rows: int
) -> None:
    """C10. Every client connection of the server is killed in the midst of a batch, twice: the view is right."""
    # given
    with EventStore.open(real_url, name=fresh_name, settings=unsettled(cache_rows)) as store:
        append_history(store)
        to_kill = {3, 8}

        def kill_connections(event: RecordedEvent) -> None:
            if event.position in to_kill:
                to_kill.remove(event.position)
                store.driver.execute([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])

        # when
        applied = catch_up(store, balances(on_event=kill_connections), counting_all())

        # then
        assert not to_kill
        assert rows_of(store) == plain_fold(all_events(store))
        assert View(store, "all")["total"] == {"Deposited": 5, "Withdrew": 1, "Closed": 1, "Noted": 2}
        assert applied == 7 + 9


# -- workers whose projections stand at different places -----------------------------------------


def test_a_projection_that_joins_a_worker_behind_it_is_brought_forward(small_store: EventStore) -> None:
    """C2. One that is taken in by a worker that has gone further gets what it has missed, and then the rest."""
    # given
    append_history(small_store)
    catch_up(small_store, balances("ahead"))
    small_store.append("account-1", [deposited(1), deposited(2), deposited(3)])
    ahead, behind = take_assignments(small_store, [balances("ahead"), balances("behind")])
    worker = worker_of(small_store, ahead)
    worker.take_in(behind)

    # when
    drive(small_store, worker)

    # then
    expected = plain_fold(all_events(small_store))
    assert rows_of(small_store, "ahead") == rows_of(small_store, "behind") == expected
    assert checkpoint_of(small_store, "behind") == checkpoint_of(small_store, "ahead")


@pytest.mark.parametrize("bad", [1, 3, 4, 8, 9, 10, 11])
def test_a_projection_that_fails_while_it_is_brought_forward_stops_at_that_event(
    small_store: EventStore, bad: int
) -> None:
    """C7. A failure in what it has missed stops it there: no event behind it is applied, none is left out."""
    # given
    append_history(small_store)
    catch_up(small_store, balances("ahead"))
    small_store.append("account-1", [deposited(1), deposited(2), deposited(3)])
    history = all_events(small_store)
    ahead, behind = take_assignments(small_store, [balances("ahead"), failing_at(bad, "behind")])
    worker = worker_of(small_store, ahead)
    worker.take_in(behind)

    # when
    drive(small_store, worker)

    # then
    assert isinstance(behind[0].failure, HandlerFailed)
    assert behind[0].failure.position == bad
    assert checkpoint_of(small_store, "behind").position == bad - 1
    assert rows_of(small_store, "behind") == plain_fold(history[: bad - 1])
    assert rows_of(small_store, "ahead") == plain_fold(history)


# -- two runners --------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_second_claimer_fences_the_first(url: str, fresh_name: str, page_size: int, at: int) -> None:
    """C11. One run is too slow for its lease and another takes the projection: each event is counted once."""
    # given
    settings = replace(TEST_SETTINGS, page_size=page_size, lease=0.05)
    with EventStore.open(url, name=fresh_name, settings=settings) as store, reopened(store, url, settings) as second:
        append_history(store)
        taken: list[int] = []

        def take_over(event: RecordedEvent) -> None:
            if event.position == at and not taken:
                taken.append(catch_up(second, balances()))

        # when: the second has given it back by the time the first wants to commit
        own = catch_up(store, balances(on_event=take_over))

        # then
        assert own + taken[0] == 7
        assert rows_of(store) == plain_fold(all_events(store))
        assert store.run(status(store.info.keys[0], "balances"))[0].applied == 7


def test_a_projection_that_was_taken_over_leaves_its_neighbours_running(small_store: EventStore, url: str) -> None:
    """C11. The loser stands by alone: the other projections of its runner apply everything."""
    # given
    append_history(small_store)
    with reopened(small_store, url, replace(SMALL, lease=0.05)) as slow, reopened(small_store, url) as second:

        def take_over(event: RecordedEvent) -> None:
            if event.position == 3:
                assert reached(lambda: bool(take_assignments(second, [balances("taken")])))  # and it is not given back

        # when
        with pytest.raises(CommitRefused, match=r"'taken'.*another runner has claimed it"):
            catch_up(slow, balances("taken"), balances("kept", on_event=take_over))

    # then
    history = all_events(small_store)
    assert rows_of(small_store, "kept") == plain_fold(history)
    assert rows_of(small_store, "taken") == plain_fold(history[: checkpoint_of(small_store, "taken").position])


# -- a log that is not the one that was projected -----------------------------------------------


def replace_history(store: EventStore, url: str, *events: NewEvent) -> None:
    """Put another log in the place of the store's, as a restore from a backup does; views and checkpoints stay."""
    keys = store.info.keys[0]
    [found] = store.driver.execute([("KEYS", "*" + store.info.name + ".0*")])
    logs = [key for key in found if not any(kind in key for kind in (b":projection", b":build:", b":view:"))]
    store.driver.execute([("DEL", *logs)])
    with reopened(store, url) as new:
        if events:
            new.append("account-1", events)
        assert new.last_position() == len(events)
        assert new.info.keys[0] == keys


def test_a_checkpoint_on_another_event_stops_the_projection(store: EventStore, url: str) -> None:
    """C5. The event a checkpoint stands on is another: history was rewritten, and the view is left as it is."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    catch_up(store, balances())
    rows, checkpoint = rows_of(store), checkpoint_of(store)

    # when
    replace_history(store, url, deposited(50), deposited(60), deposited(70))

    # then
    with reopened(store, url) as new:
        with pytest.raises(HistoryDiverged, match=r"position 2, but the event there is") as raised:
            catch_up(new, balances())
        assert (raised.value.projection, raised.value.position) == ("balances", 2)
        assert "reset" in raised.value.hint
        assert (rows_of(new), checkpoint_of(new)) == (rows, checkpoint)


@pytest.mark.parametrize("left", [0, 1])
def test_a_checkpoint_behind_the_end_of_the_log_stops_the_projection(store: EventStore, url: str, left: int) -> None:
    """C5. The log ends before the checkpoint, because it lost its tail or was flushed: the projection says so."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    catch_up(store, balances())

    # when
    replace_history(store, url, *[deposited(1)] * left)

    # then
    with (
        reopened(store, url) as new,
        pytest.raises(HistoryDiverged, match=f"position 2, but .*the log ends at {left}"),
    ):
        catch_up(new, balances())


def test_a_projection_whose_history_was_rewritten_runs_again_after_a_reset(store: EventStore, url: str) -> None:
    """C6. Reset is the way out: the view is then that of the log that is there."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    catch_up(store, balances())
    replace_history(store, url, deposited(50))

    with reopened(store, url) as new:
        # when
        new.run(reset(new.info.keys[0], "balances"))
        catch_up(new, balances())

        # then
        assert rows_of(new) == {"account-1": {"balance": 50, "numbers": [1]}}


def test_history_that_is_replaced_while_the_connection_is_away_is_noticed(url: str, fresh_name: str) -> None:
    """C5. After a lost connection the checkpoint is compared again: a store flushed meanwhile stops the run."""
    # given
    received = count(1)
    with EventStore.open(url, name=fresh_name, settings=SMALL) as store, a_port(store) as port:
        append_history(store)
        worker = a_group(store, [balances()])
        assignments = list(worker.assignments)

        def flush_in_the_middle(effect: Effect) -> None:
            if isinstance(effect, Receive) and next(received) == 5:
                # when
                port.session.close()
                [found] = store.driver.execute([("KEYS", "*" + fresh_name + ".0*")])
                store.driver.execute([("DEL", *found)])
                raise StoreUnavailable("the server went away and came back empty")

        port.run(with_a_hand_on_the_wire(worker.work(live=False), flush_in_the_middle))

        # then
        assert isinstance(assignments[0].failure, HistoryDiverged)


# -- any order of events, any pages -------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, NewEvent]]:
    """Events over a few accounts and a stream of another category, in any order."""
    kinds = st.sampled_from([deposited, withdrew, closed, noted])
    streams = st.sampled_from(["account-1", "account-2", "account-3", "account", "accounts-1"])
    events: list[tuple[str, NewEvent]] = []
    for kind, stream, amount in draw(st.lists(st.tuples(kinds, streams, st.integers(0, 1000)), max_size=20)):
        events.append((stream, kind(amount) if kind in (deposited, withdrew) else kind()))
    return events


def apply_in_parts(store: EventStore, history: list[tuple[str, NewEvent]], splits: list[int]) -> int:
    """Append a history with a catch_up at every split and at the end; how many events were applied."""
    applied = 0
    for place, (stream, event) in enumerate(history):
        if place in splits:
            applied += catch_up(store, balances(), counting_all())
        store.append(stream, event)
    return applied + catch_up(store, balances(), counting_all())


def check_against_a_plain_fold(
    url: str, history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    # given
    settings = replace(TEST_SETTINGS, page_size=page_size, cache_rows=cache_rows)
    with EventStore.open(url, name=f"any{next(_stores)}-{os.getpid()}", settings=settings) as store:
        # when
        applied = apply_in_parts(store, history, splits)

        # then
        events = all_events(store)
        assert rows_of(store) == plain_fold(events)
        assert rows_of(store, "all").get("total", {}) == plain_views(events)["all"]["total"]
        wanted = [e for e in events if e.category == "account" and e.type != "Noted"]
        assert applied == len(wanted) + len(events)
        assert balances().state_at(store) == rows_of(store)
        assert checkpoint_of(store).position == len(history)


any_history = given(
    history=histories(),
    splits=st.lists(st.integers(0, 20), max_size=3),
    page_size=st.sampled_from(PAGE_SIZES),
    cache_rows=st.sampled_from([0, 1, 2, 1000]),
)


@settings(max_examples=50)
@any_history
def test_any_history_in_any_pages_equals_a_plain_fold(
    history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    """C12. Whatever the events, the page size, the cache and the points of rest: the view is the plain fold."""
    check_against_a_plain_fold("memory:", history, splits, page_size, cache_rows)


@pytest.mark.real
@settings(max_examples=15)
@any_history
def test_any_history_in_any_pages_equals_a_plain_fold_on_a_server(
    real_url: str, history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    """C12. The same on a real server."""
    check_against_a_plain_fold(real_url, history, splits, page_size, cache_rows)


def test_running_a_projection_twice_from_scratch_gives_equal_views(small_store: EventStore) -> None:
    """C12. Two replays of the same events, as two projections and after a reset, give equal views."""
    # given
    append_history(small_store)

    # when
    catch_up(small_store, balances("one"))
    catch_up(small_store, balances("two"))
    first = rows_of(small_store, "one")
    small_store.run(reset(small_store.info.keys[0], "one"))
    catch_up(small_store, balances("one"))

    # then
    assert first == rows_of(small_store, "one") == rows_of(small_store, "two") == plain_fold(all_events(small_store))


@pytest.mark.parametrize("cache_rows", [0, 3])
def test_rows_that_fell_out_of_the_cache_are_read_again(url: str, fresh_name: str, cache_rows: int) -> None:
    """C12. A cache that is far too small for the rows gives the same view."""
    # given
    with EventStore.open(url, name=fresh_name, settings=unsettled(cache_rows)) as store:
        for _ in range(3):
            for account in range(10):
                store.append(f"account-{account}", deposited(account))
        store.append("account-4", [closed(), deposited(1)])

        # when
        engine = Engine(store, [balances()], live=False)
        engine.run_here()

        # then
        assert rows_of(store) == plain_fold(all_events(store))
        assert len(engine.assignments[0].rows) <= max(cache_rows, 2)


# -- views as they were -------------------------------------------------------------------------


def test_a_view_as_it_was_after_any_position(store: EventStore) -> None:
    """state_at(position=) is the fold of the events up to that position, for every position; it writes nothing."""
    # given
    append_history(store)
    history = all_events(store)
    projection = balances()

    # when
    past = [projection.state_at(store, position=position) for position in range(len(history) + 2)]

    # then
    assert past == [plain_fold(history[:position]) for position in range(len(history) + 2)]
    assert rows_of(store) == {}
    assert checkpoint_of(store) == Checkpoint(0, b"")


def test_a_view_as_it_was_at_a_time(store: EventStore) -> None:
    """state_at(time=) takes what was recorded up to and with that moment, in whatever order the log has it."""
    # given
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    minute = timedelta(minutes=1)
    store.append("account-1", deposited(1, recorded_at=noon))
    store.append("account-1", deposited(2, recorded_at=noon + 2 * minute))
    store.append("account-1", deposited(4, recorded_at=noon + minute))
    projection = balances()

    # when
    balance = {
        after: projection.state_at(store, time=noon + after * minute, key="account-1") for after in (-1, 0, 1, 2)
    }

    # then
    assert balance == {
        -1: None,
        0: {"balance": 1, "numbers": [1]},
        1: {"balance": 5, "numbers": [1, 3]},
        2: {"balance": 7, "numbers": [1, 2, 3]},
    }


def test_one_row_of_a_view_as_it_was(store: EventStore) -> None:
    """state_at(key=) gives that row alone; None where it is missing or was deleted."""
    # given
    append_history(store)
    projection = balances()

    # when
    row = projection.state_at(store, position=1, key="account-1")

    # then
    assert row == {"balance": 100, "numbers": [1]}
    assert projection.state_at(store, position=4, key="account-2") is None
    assert projection.state_at(store, position=4, key="account-3") is None
    assert projection.state_at(store) == plain_fold(all_events(store))


def test_the_past_of_a_long_log_is_folded_in_parts() -> None:
    """state_at folds a thousand events at a time; the state goes on from part to part."""
    # given
    with memory_store(settings=TEST_SETTINGS) as store:
        store.append("account-1", [deposited(1) for _ in range(2500)])

        # when
        row = balances().state_at(store, position=2400, key="account-1")

    # then
    assert row["balance"] == 2400
    assert row["numbers"] == list(range(1, 2401))


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 1, "time": datetime(2026, 1, 1, tzinfo=UTC)},
        {"position": -1},
        {"position": "1"},
        {"time": datetime(2026, 1, 1)},
        {"time": "yesterday"},
        {"key": ""},
    ],
)
def test_a_past_that_cannot_be_told_is_refused(wrong: dict[str, Any]) -> None:
    """state_at refuses a position and a time together, negative positions, times without a zone and empty keys."""
    with memory_store() as store, pytest.raises(InvalidInput):
        balances().state_at(store, **wrong)


def test_a_position_in_a_store_of_several_partitions_is_refused() -> None:
    """With several partitions no one position says when; a time does."""
    # given
    with memory_store(partitions=3) as store:
        for account in range(6):
            store.append(f"account-{account}", deposited(account))

        # when
        with pytest.raises(InvalidInput, match="3 partitions"):
            balances().state_at(store, position=1)

        # then
        assert balances().state_at(store, time=datetime.now(UTC)) == plain_fold(all_events(store))


def test_a_handler_that_fails_in_the_past_is_raised() -> None:
    """state_at raises HandlerFailed with the position, as a run would."""
    # given
    with memory_store() as store:
        append_history(store)

        # then
        with pytest.raises(HandlerFailed) as raised:
            failing_at(4).state_at(store)
    assert raised.value.position == 4


# -- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_a_row_that_was_deleted_begins_anew(url: str, fresh_name: str, page_size: int) -> None:
    """DELETE removes the row; a later event starts from the initial state, in the same batch or in another."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        store.append("account-1", [deposited(100), closed(), deposited(1), closed(), closed()])
        store.append("account-2", [deposited(100), closed(), deposited(1)])
        store.append("account-3", [closed(), deposited(2)])

        # when
        catch_up(store, balances())

        # then
        assert rows_of(store) == {
            "account-2": {"balance": 1, "numbers": [3]},
            "account-3": {"balance": 2, "numbers": [2]},
        }
        assert "account-1" not in View(store, "balances")
        assert len(View(store, "balances")) == 2


def test_a_handler_may_return_the_new_state(small_store: EventStore) -> None:
    """A handler changes the state in place and returns None, or returns the new one; falsy states are states."""
    # given
    total = Projection("total", initial=lambda: 10, key=lambda event: "sum")
    total.when("Deposited", lambda state, event: state - event.data["amount"])
    small_store.append("account-1", [deposited(4), deposited(6)])

    # when
    catch_up(small_store, total)

    # then
    assert rows_of(small_store, "total") == {"sum": 0}
    small_store.append("account-1", deposited(1))
    catch_up(small_store, total)
    assert rows_of(small_store, "total") == {"sum": -1}


def test_rows_do_not_share_their_initial_state(store: EventStore) -> None:
    """Every new row gets an initial state of its own."""
    # given
    store.append("account-1", deposited(1))
    store.append("account-2", deposited(2))

    # when
    catch_up(store, balances())

    # then
    assert rows_of(store) == {
        "account-1": {"balance": 1, "numbers": [1]},
        "account-2": {"balance": 2, "numbers": [1]},
    }


def test_rows_go_by_the_key_function(small_store: EventStore) -> None:
    """key= gives the row's key: events of several streams meet in one row, events of one stream go to several."""
    # given
    by_currency = Projection("by-currency", category="account", key=lambda event: event.data["currency"])
    by_currency.when("Deposited", lambda state, event: {"total": state.get("total", 0) + event.data["amount"]})
    small_store.append("account-1", [deposited(1, currency="EUR"), deposited(2, currency="☕ beans")])
    small_store.append("account-2", [deposited(4, currency="EUR"), deposited(8, currency="☕ beans")])

    # when
    catch_up(small_store, by_currency)

    # then
    assert rows_of(small_store, "by-currency") == {"EUR": {"total": 5}, "☕ beans": {"total": 10}}


def test_only_the_category_of_the_projection_reaches_its_handlers(store: EventStore) -> None:
    """category= takes the streams of that category: the name alone and what has it before the first "-", no more."""
    # given
    streams = ["account-1", "account", "account-2-b", "accounts-1", "my-account-1", "Account-1"]
    for stream in streams:
        store.append(stream, deposited())
    projection = Projection("only", category="account")
    projection.when(lambda state, event: None)

    # when
    catch_up(store, projection)

    # then
    assert set(rows_of(store, "only")) == {"account-1", "account", "account-2-b"}


# -- handlers -----------------------------------------------------------------------------------


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
    assert rest.__name__ == "rest"


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
    ],
)
def test_a_projection_that_is_not_well_made_is_refused(options: dict[str, Any], text: str) -> None:
    """Names, category, initial and key are checked when the projection is made, each named in the error."""
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
                catch_up(where, *what)  # type: ignore[arg-type]


def test_handlers_may_be_asynchronous(small_store: EventStore) -> None:
    """An async handler is awaited before the next event; it may change in place, return a state, or DELETE."""
    # given
    projection = Projection("awaited", category="account", initial=lambda: {"numbers": []})

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
    async def removed(state: Any, event: RecordedEvent) -> object:
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
        projection = Projection(name, initial=lambda: {"found": []})

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
    projection = Projection("takes", initial=lambda: {"amounts": []})

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
