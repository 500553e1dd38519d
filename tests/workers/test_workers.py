"""Workers: projections that stand at different places, a second runner, and a log that is not the one projected."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from accounts import (
    PAGE_SIZES,
    SMALL,
    append_history,
    balances,
    checkpoint_of,
    deposited,
    failing_at,
    plain_fold,
    reached,
    reopened,
    rows_of,
)
from driving import (
    a_worker,
    drive,
    interpreter_of,
    take_assignments,
    with_a_hand_on_the_wire,
    worked_off,
    worker_of,
)
from trouble import Trap, envelope, rogue, three_accounts, trapped
from workbench import Workbench, let_lease_end, pool_of

from runner import (
    CommitRefused,
    DataError,
    EventStore,
    HandlerFailed,
    NewEvent,
    RecordedEvent,
    catch_up,
)
from runner.effects import Effect, Execute, Receive
from runner.errors import HistoryDiverged, StoreUnavailable
from runner.operations.retry_parked import drop_row
from runner.progress.builds import reset
from runner.progress.status import status
from runner.projections.policies import ParkStream, Retry
from runner.testing import TEST_SETTINGS, all_events
from runner.workers.assignment import Assignment
from runner.workers.live_workers import LiveWorkers


def take_assignments_apart(store: EventStore, *names: str) -> list[list[Assignment[Any]]]:
    """Claim projections, each for a worker of its own."""
    return [[one] for together in take_assignments(store, [balances(name) for name in names]) for one in together]


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


def test_a_live_worker_does_not_end_while_assignments_join_it(store: EventStore) -> None:
    """They have been handed over to it, so nobody else would serve them."""
    # given
    one, two = (worker_of(store, together) for together in take_assignments_apart(store, "one", "two"))
    live = LiveWorkers()
    assert live.hand_over(one) is None
    assert live.hand_over(two) is one

    # when
    ended = live.end(one)

    # then
    assert not ended
    assert [assignment.name for assignment in one.assignments] == ["one", "two"]
    assert live.end(one)


def test_a_checkpoint_whose_event_was_deleted_stops_the_projection(store: EventStore) -> None:
    """The log goes on after it, and the entry was not trimmed: this is not the history that was projected."""
    # given
    store.append("account-1", [deposited(), deposited()])
    catch_up(store, balances())
    store.append("account-1", deposited())
    store.driver.execute([("XDEL", store.info.keys[0].log, "2-2")])

    # when, then
    with pytest.raises(HistoryDiverged, match="there is no such event; the log ends at 3"):
        catch_up(store, balances())


def test_a_heartbeat_in_a_store_of_another_epoch_stops_the_projection(small_store: EventStore) -> None:
    """The database was replaced below the runner; the log is the same by chance, and its epoch is not."""
    # given
    three_accounts(small_store)

    def replace_store(event: RecordedEvent) -> None:
        if event.position == 2:
            small_store.driver.execute([("HSET", small_store.info.keys[0].meta, "epoch", "another")])
        bench.time += small_store.settings.beat

    bench = Workbench(small_store, balances(on_event=replace_store))

    # when
    bench.run()

    # then
    [failure] = [assignment.failure for assignment in bench.assignments]
    assert isinstance(failure, HistoryDiverged)
    assert "its epoch has changed or is gone" in str(failure)


@pytest.mark.parametrize("forgotten", [False, True], ids=["went back", "forgotten"])
def test_a_store_that_lost_what_it_had_acknowledged_stops_the_projection(
    small_store: EventStore, forgotten: bool
) -> None:
    """A replica without the last commits was promoted: the runner knows better than the store, and says so."""
    # given
    three_accounts(small_store)
    keys = small_store.info.keys[0]
    build, view = keys.build("balances", "1"), keys.view("balances", "1")

    def lose_commits(event: RecordedEvent) -> None:
        if event.position == 6:
            lost = ("DEL", build) if forgotten else ("HSET", build, "position", 0, "id", "", "rows", 0)
            small_store.driver.execute([lost, ("DEL", view)])

    bench = Workbench(small_store, balances(on_event=lose_commits))

    # when
    bench.run()

    # then
    [failure] = [assignment.failure for assignment in bench.assignments]
    assert isinstance(failure, HistoryDiverged)
    what = "has forgotten the projection" if forgotten else "has it at 0 now"
    assert f"{what}: it lost what it had acknowledged" in str(failure)


def test_a_commit_whose_reply_is_not_awaited_counts_where_it_was_accepted(small_store: EventStore) -> None:
    """Parked events are set free while a projection meets damage: it is claimed again, and its last commit counts."""
    # given: one that is brought forward by one event, and then has no place to park the damaged one
    three_accounts(small_store)
    policy = ParkStream(1)
    Workbench(small_store, trapped(Trap(6), policy, "late")).run()
    small_store.append("account-1", deposited())
    catch_up(small_store, balances("ahead"))
    rogue(small_store, 8, envelope(), number=4)
    [late], ahead = take_assignments(small_store, [trapped(Trap(), policy, "late"), balances("ahead")])
    worker = worker_of(small_store, ahead)
    worker.take_in([late])

    def set_free(effect: Effect) -> None:
        if isinstance(effect, Execute) and late.unanswered and late.parked_events:
            assert reached(lambda: checkpoint_of(small_store, "late").position == 7)
            small_store.run(drop_row(small_store.info.keys[0], "late", "account-3"))

    # when
    with interpreter_of(small_store) as port:
        port.run(with_a_hand_on_the_wire(worked_off(worker), before=set_free))

    # then
    assert (late.held, late.position, late.parked_events) == (True, 7, 0)
    assert late.handled == 1


def test_an_assignment_is_a_candidate_only_while_it_is_held(store: EventStore) -> None:
    """Before the first claim and after the loss nobody knows which build it would be."""
    # given
    catch_up(store, balances())
    newer = balances()
    newer.build = "2"
    pool = pool_of(store, [newer])
    [assignment] = pool.assignments
    before = assignment.candidate

    # when
    store.run(pool.coordinator.first_round())
    held = assignment.candidate
    assignment.lose()

    # then
    assert (before, held, assignment.candidate) == (False, True, False)


def test_a_projection_is_not_brought_forward_over_events_that_are_gone(small_store: EventStore) -> None:
    """The log ends before the place where the others of its worker stand: it stops, and says so."""
    # given: a log that is lost when the projection has joined
    append_history(small_store)
    catch_up(small_store, balances("ahead"))
    small_store.append("account-1", deposited())
    history = all_events(small_store)
    ahead, [late] = take_assignments(small_store, [balances("ahead"), balances("late")])
    worker = worker_of(small_store, ahead)
    worker.take_in([late])

    def lose_the_log(effect: Effect) -> None:
        if late in worker.assignments and isinstance(effect, Execute):
            small_store.driver.execute([("DEL", small_store.info.keys[0].log)])

    # when
    with interpreter_of(small_store) as port:
        port.run(with_a_hand_on_the_wire(worked_off(worker), before=lose_the_log))

    # then
    assert isinstance(late.failure, DataError)
    assert "the log ends at 0" in str(late.failure)
    assert rows_of(small_store, "late") == plain_fold(history[: checkpoint_of(small_store, "late").position])


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


def test_a_projection_that_was_taken_over_before_it_began_handles_nothing(store: EventStore, url: str) -> None:
    """The first report says so, before anything is read."""
    # given
    three_accounts(store)
    seen: list[RecordedEvent] = []
    bench = Workbench(store, balances(on_event=seen.append))
    [assignment] = bench.claim()
    let_lease_end(store, assignment)

    # when
    with reopened(store, url) as second:
        assert Workbench(second, balances()).claim()
        bench.work()

    # then
    assert (seen, bench.errors) == ([], [])
    assert rows_of(store) == {}


def test_a_projection_that_was_taken_over_while_it_waits_is_not_tried_again(store: EventStore, url: str) -> None:
    """It waits an hour for its next attempt, and hears of it at the next heartbeat."""
    # given
    three_accounts(store)
    tries: list[int] = []

    def take_over(event: RecordedEvent) -> None:
        tries.append(event.position)
        let_lease_end(store, bench.assignments[0])
        with reopened(store, url) as second:
            assert Workbench(second, balances()).claim()
        raise ValueError("not now")

    projection = balances(on_event=take_over)
    projection.on_error = Retry(times=3, backoff=3600.0, longest=3600.0)
    bench = Workbench(store, projection)

    # when
    bench.run()

    # then
    assert tries == [1]
    assert bench.time < 3600.0


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
    with EventStore.open(url, name=fresh_name, settings=SMALL) as store, interpreter_of(store) as port:
        append_history(store)
        worker = a_worker(store, [balances()])
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
