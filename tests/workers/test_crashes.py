"""Crashes and lost connections: killed or cut off at any point of a run, a worker leaves views that are right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from accounts import (
    SMALL,
    append_history,
    balances,
    checkpoint_of,
    counting_all,
    deposited,
    failing_at,
    plain_fold,
    reopened,
    rows_of,
    unsettled,
)
from driving import (
    KILLED_AFTER,
    KILLED_BEFORE,
    LOST_AFTER,
    LOST_BEFORE,
    Killed,
    a_worker,
    drive,
    interpreter_of,
    with_a_hand_on_the_wire,
)

from runner import (
    DataError,
    EventStore,
    Projection,
    RecordedEvent,
    View,
    catch_up,
)
from runner.effects import Effect, Send
from runner.errors import StoreUnavailable
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS, all_events
from runner.workers.assignment import Assignment

_stores = count(1)


def crash_projections() -> list[Projection]:
    """Rows by stream that come and go, a row that every event changes, and handlers that are awaited."""
    slow = Projection[Any]("slow", category="account", initial=lambda: {"numbers": []})

    @slow.when("Deposited")
    async def seen(state: Any, event: RecordedEvent) -> None:
        state["numbers"].append(event.number)

    return [balances(), counting_all(), slow]


def plain_views(events: list[RecordedEvent]) -> dict[str, dict[str, Any]]:
    """The same views folded from scratch in plain Python."""
    total: dict[str, int] = {}
    slow: dict[str, Any] = {}
    for event in events:
        total[event.type] = total.get(event.type, 0) + 1
        if event.category == "account" and event.type == "Deposited":
            slow.setdefault(event.stream, {"numbers": []})["numbers"].append(event.number)
    return {"balances": plain_fold(events), "all": {"total": total}, "slow": slow}


def views(store: EventStore) -> dict[str, dict[str, Any]]:
    return {name: rows_of(store, name) for name in ("balances", "all", "slow")}


def every_crash(
    url: str, what: str, cache_rows: int
) -> Iterator[tuple[EventStore, list[Assignment], int, list[RecordedEvent]]]:
    """A store with events, and the projections that were at work on it, for each effect of the run in turn."""
    for at in count(1):
        name = f"crash{next(_stores)}-{os.getpid()}"
        with EventStore.open(url, name=name, settings=unsettled(cache_rows)) as store:
            append_history(store)
            worker = a_worker(store, crash_projections())
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
            Engine(restarted, crash_projections(), live=False).run_to_end()

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
            worker = a_worker(store, [failing_at(4)])

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
            worker = a_worker(store, [balances()])
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
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store, interpreter_of(store) as port:
        store.append("account-1", [deposited(1), deposited(2)])
        worker = a_worker(store, [balances()])
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
