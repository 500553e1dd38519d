"""Outages: a worker waits for its server, gives up when patience has run out, and ends when it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from accounts import PATIENCE, balances, checkpoint_of, deposited, reached, rows_of
from disturbing import script_of
from ground import Ground
from servers import server

from runner import AsyncEventStore, EventStore, ParkStream, Projection, RecordedEvent, Skip, catch_up
from runner.aio.engine import AsyncEngine
from runner.effects import Effect, Execute, Leave, Pause, Receive, Send
from runner.errors import StoreRefused, StoreUnavailable
from runner.projections.policies import Policy
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS
from runner.workers.assignment import WAITING
from runner.workers.coordinator import LOOK_EVERY
from runner.workers.failed_events import PARKED, SKIPPED, FailedEvent
from runner.workers.outage import Outage
from runner.workers.outcomes import CaughtUp


def be_away(effect: Effect) -> None:
    if isinstance(effect, Execute | Send | Receive):
        raise StoreUnavailable("the server is away")


@pytest.mark.parametrize("who", ["worker", "coordinator"])
def test_a_refusal_that_does_not_pass_ends_the_work_at_once(
    ground: Callable[..., Ground], store: EventStore, who: str
) -> None:
    """The rights of a runner are taken away: patience would not help, and the error is that refusal."""
    # given
    store.append("account-1", deposited())
    here = ground(balances(), patience=1000.0)
    asked: list[Effect] = []

    def refuse(effect: Effect) -> None:
        if isinstance(effect, Execute | Send):
            asked.append(effect)
            raise StoreRefused("this user has no permissions", code="NOPERM")

    here.before = refuse

    # when, then
    with pytest.raises(StoreRefused, match="no permissions"):
        here.drive(here.worker().work(live=True) if who == "worker" else here.pool.coordinator.work())
    assert len(asked) == 1


@pytest.mark.parametrize("at_work", [False, True])
def test_a_runner_that_stands_by_tells_of_an_outage_once_and_of_its_end(
    ground: Callable[..., Ground], store: EventStore, at_work: bool
) -> None:
    """One that is at work tells it by its assignments, so the coordinator says nothing."""
    # given: another runner holds the projection, or this one does
    holder = ground(balances())
    here = holder if at_work else ground(balances(), patience=1000.0)
    refusals = 0

    def be_away_for_a_while(effect: Effect) -> None:
        nonlocal refusals
        if isinstance(effect, Execute) and refusals < 3:
            refusals += 1
            raise StoreUnavailable("the server is away", hint="Start it.")
        if isinstance(effect, Execute) and here.told[-1:] == [Outage(None)]:
            here.pool.coordinator.stopping = True
        if at_work and refusals == 3:
            here.pool.coordinator.stopping = True

    here.before = be_away_for_a_while

    # when
    here.drive(here.pool.coordinator.work())

    # then
    assert refusals == 3
    texts = [getattr(line, "text", "") for line in here.told]
    said = ["the server is away; standing by until it answers. Start it.", "the server answers; standing by"]
    assert texts == ([] if at_work else said)


def test_a_refusal_while_the_server_is_waited_for_ends_the_work(
    ground: Callable[..., Ground], store: EventStore
) -> None:
    """The server comes back without the rights of this runner: the wait ends with that refusal."""
    # given
    store.append("account-1", deposited())
    here = ground(balances(), patience=1000.0)
    asked: list[Effect] = []

    def refuse(effect: Effect) -> None:
        if isinstance(effect, Execute | Send | Receive):
            asked.append(effect)
            if len(asked) == 1:
                raise StoreUnavailable("the server is away")
            raise StoreRefused("this user has no permissions", code="NOPERM")

    here.before = refuse

    # when, then
    with pytest.raises(StoreRefused, match="no permissions"):
        here.run(here.worker())
    assert len(asked) == 2


@pytest.mark.parametrize("held", ["everything", "a part"])
def test_a_coordinator_looks_more_often_while_an_assignment_is_not_held(
    ground: Callable[..., Ground], store: EventStore, held: str
) -> None:
    """Once a heartbeat, or every half second as long as one of its assignments may be free."""
    # given
    settings = replace(store.settings, heartbeat=2.0, lease=10.0)
    here = ground(balances("one"), balances("two"), settings=settings)
    if held == "a part":
        here.claimed["two"].lose()
    pauses: list[float] = []

    def look(effect: Effect) -> None:
        if isinstance(effect, Pause):
            pauses.append(effect.seconds)
            here.pool.coordinator.stopping = True

    here.before = look

    # when
    here.drive(here.pool.coordinator.work())

    # then
    assert pauses == [2.0 if held == "everything" else LOOK_EVERY]


@pytest.mark.parametrize("stopping", [False, True])
def test_a_worker_ends_in_an_outage(ground: Callable[..., Ground], store: EventStore, stopping: bool) -> None:
    """It ends when its patience has run out; when it is to stop, after one more try."""
    # given
    store.append("account-1", deposited())
    here = ground(balances(), patience=1000.0 if stopping else 1.0)
    worker = here.worker()
    worker.stopping = stopping
    here.before = be_away

    # when, then
    with pytest.raises(StoreUnavailable):
        here.run(worker)
    assert (here.time < 1.0) if stopping else (here.time >= 1.0)


@pytest.mark.real
def test_an_engine_that_is_told_to_stop_ends_while_its_server_is_gone(fresh_name: str) -> None:
    """The server is killed, then the engine is told to stop: it ends, however long its patience is."""
    settings = replace(TEST_SETTINGS, retry_for=0.3)
    with server() as running, EventStore.open(running.url, name=fresh_name, settings=settings) as store:
        # given
        store.append("account-1", deposited())
        engine = Engine(store, [balances()], patience=1000.0)
        engine.start()
        engine.wait_live(PATIENCE)
        running.kill()
        assert reached(lambda: engine.assignments[0].state == WAITING)

        # when
        engine.stop()

        # then
        assert engine.join(PATIENCE)
        assert isinstance(engine.crash, StoreUnavailable)


def test_a_claim_that_is_lost_after_a_refusal_is_made_again(ground: Callable[..., Ground], store: EventStore) -> None:
    """The assignment does not leave the worker with the connection: nobody else would claim it."""
    # given
    store.append("account-1", [deposited(), deposited()])
    build, lost = store.info.keys[0].build("balances", "1"), list[Effect]()

    def refuse(event: RecordedEvent) -> None:
        if event.number == 2 and not lost:
            store.driver.execute([("HINCRBY", build, "generation", 1)])

    def lose_once(effect: Effect) -> None:
        if script_of(effect) == "progress/claim" and not lost:
            lost.append(effect)
            here.lose_the_connection()

    here = ground(balances(on_event=refuse))
    here.before = lose_once
    worker = here.worker()

    # when
    outcomes = here.run(worker)

    # then
    assert len(lost) == 1
    assert outcomes == [CaughtUp(joins=True)]
    assert [one.committed for one in worker.assignments] == [2]
    assert rows_of(store) == {"account-1": {"balance": 20, "numbers": [1, 2]}}


def test_an_outage_after_work_that_was_committed_is_an_outage_of_its_own(
    ground: Callable[..., Ground], store: EventStore
) -> None:
    """It is waited for with the whole patience, and the page size stays, however soon it follows the last one."""
    # given: an outage, after which a page is committed and the end is reached
    store.append("account-1", [deposited(), deposited()])
    here = ground(balances())
    worker, lost = here.worker(), [Receive]

    def lose_once(effect: Effect) -> None:
        if lost and isinstance(effect, lost[0]):
            lost.clear()
            here.lose_the_connection()

    here.before = lose_once
    assert here.run(worker) == [CaughtUp(joins=True)]
    assert worker.assignments[0].committed == 2
    first, seen = worker._backoff, []

    # when
    def lose_again(effect: Effect) -> None:
        if isinstance(effect, Pause):
            seen.append((worker._backoff, worker._page_size))
            worker.stopping = True
        elif not seen and not isinstance(effect, Leave):
            here.lose_the_connection()

    here.before = lose_again
    here.run(worker)

    # then
    backoff, page_size = seen[0]
    assert backoff is not first
    assert page_size == store.settings.page_size


@pytest.mark.parametrize(("policy", "outcome"), [(ParkStream(), PARKED), (Skip(), SKIPPED)])
def test_an_event_is_told_once_although_the_answer_to_its_commit_is_lost(
    ground: Callable[..., Ground], store: EventStore, policy: Policy, outcome: str
) -> None:
    """The next claim finds that the commit was taken."""
    # given
    store.append("account-1", deposited())
    broken = Projection[dict[str, int]]("broken", on_error=policy)
    broken.when("Deposited", lambda state, event: {"none": 1 // 0})
    here = ground(broken)
    under_way, lost = list[str](), list[Receive]()

    def lose_the_answer(effect: Effect) -> None:
        if isinstance(effect, Send):
            under_way.append(getattr(effect.commands[0][0], "name", ""))
        elif isinstance(effect, Receive) and under_way.pop(0) == "progress/commit":
            lost.append(effect)
            here.lose_the_answer(effect)

    here.before = lose_the_answer

    # when
    here.run(here.worker())

    # then
    assert len(lost) == 1
    [told] = here.told
    assert isinstance(told, FailedEvent)
    assert (told.outcome, told.event.position) == (outcome, 1)
    assert checkpoint_of(store, "broken").position == 1


def test_a_worker_of_a_lagging_candidate_stops(ground: Callable[..., Ground], store: EventStore) -> None:
    """A candidate that has not caught up with the live build is released when the worker is to stop."""
    # given
    store.append("account-1", [deposited(), deposited()])
    catch_up(store, balances())
    newer = balances()
    newer.build = "2"
    here = ground(newer, live=False)
    worker = here.worker()
    worker.stopping = True

    # when
    while here.run(worker):
        pass

    # then
    assert worker.assignments == []


def test_a_worker_that_has_caught_up_says_so_before_anything_else_can_fail(
    ground: Callable[..., Ground], store: EventStore
) -> None:
    """No heartbeat comes between the end of the log and the hand-over: a claim that changed in it could be half known.

    What is handed over is not claimed again, so its parked rows must be those of its claim.
    """
    # given: a heartbeat is due whenever a page has come
    store.append("account-1", deposited())
    here, after_the_last_page = ground(balances()), list[Effect]()

    def watch(effect: Effect) -> None:
        after_the_last_page.append(effect)
        if isinstance(effect, Receive):
            after_the_last_page.clear()
            here.time += store.settings.beat

    here.before = watch

    # when
    outcomes = here.run(here.worker())

    # then
    assert outcomes == [CaughtUp(joins=True)]
    assert [effect for effect in after_the_last_page if is_report(effect)] == []


def is_report(effect: Effect) -> bool:
    return isinstance(effect, Execute) and getattr(effect.commands[0][0], "name", "") == "progress/report"


@pytest.mark.asyncio
async def test_an_asynchronous_engine_works_on_after_a_join_that_took_too_long(fresh_name: str) -> None:
    """join(timeout) gives False where the time was not enough, and leaves the workers alone."""
    async with AsyncEventStore.open("memory:", name=fresh_name, settings=TEST_SETTINGS) as store:
        engine = AsyncEngine(store, [balances()])
        await engine.start()
        await engine.wait_live(PATIENCE)
        assert not await engine.join(0.01)
        result = await store.append("account-1", deposited())
        await engine.wait_for(result.partition, result.position, PATIENCE)
        engine.stop()
        assert await engine.join(PATIENCE)
        engine.check()
