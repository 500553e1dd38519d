"""A slow handler keeps only its own projection waiting: that projection gets a worker of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from accounts import PATIENCE, balances, deposited, reached, rows_of
from ground import Ground

from runner import AsyncEventStore, AsyncView, EventStore, Projection, RecordedEvent, View, catch_up, follow
from runner.testing import TEST_SETTINGS
from runner.workers.outcomes import Again, CaughtUp
from runner.workers.pace import APART, LONGEST_APART, LONGEST_TURN, Pace, SlowTurn

LONG = LONGEST_TURN * 1.2


def test_a_long_turn_beside_others_means_to_leave_for_a_while() -> None:
    pace = Pace()
    assert pace.was_slow(100.0, shared=True)
    assert pace.is_apart(100.0 + APART - 1)
    assert not pace.is_apart(100.0 + APART)


def test_a_long_turn_alone_lengthens_the_stay_only_of_what_is_apart() -> None:
    """A projection that is the only one of its worker keeps nobody waiting."""
    pace = Pace()
    assert not pace.was_slow(100.0, shared=False)
    assert not pace.is_apart(100.0)

    pace.was_slow(200.0, shared=True)
    assert not pace.was_slow(250.0, shared=False)
    assert pace.is_apart(250.0 + APART - 1)


def test_who_has_to_leave_again_stays_away_for_twice_as_long() -> None:
    pace, now, stays = Pace(), 0.0, []
    for _ in range(9):
        pace.was_slow(now, shared=True)
        stays.append(pace.apart_until - now)
        now = pace.apart_until
    assert stays[:3] == [APART, 2 * APART, 4 * APART]
    assert stays[-2:] == [LONGEST_APART, LONGEST_APART]


def taking(here: list[Ground], seconds: list[float]) -> Projection[dict[str, int]]:
    """A projection whose handlers take so much of the test's time, one after the other."""
    projection = Projection[dict[str, int]]("slow", category="account", initial=lambda: {"count": 0})

    @projection.when("Deposited")
    def count(state: dict[str, int], event: RecordedEvent) -> None:
        here[0].time += seconds.pop(0)
        state["count"] += 1

    return projection


def test_a_turn_of_the_longest_time_is_not_slow(ground: Callable[..., Ground], store: EventStore) -> None:
    grounds: list[Ground] = []
    here = ground(balances("fast"), taking(grounds, [LONGEST_TURN]))
    grounds.append(here)
    store.append("account-1", deposited())
    assert here.run(here.worker()) == [CaughtUp(joins=True)]


def test_a_slow_projection_leaves_and_comes_back_when_it_is_fast(
    ground: Callable[..., Ground], store: EventStore
) -> None:
    """It leaves after its turn is committed, lives apart, and joins the live worker after a while of short turns."""
    # given
    grounds: list[Ground] = []
    slow = taking(grounds, [LONG, 0.0, 0.0])
    here = ground(balances("fast"), slow)
    grounds.append(here)
    shared = here.worker()
    store.append("account-1", deposited())

    # when: it leaves
    outcomes = here.run(shared)

    # then
    assert outcomes == [Again(here.claimed["slow"])]
    assert here.told == [SlowTurn("slow", 0, LONG, APART)]
    assert "slow[0] took 0.3 s for a batch while others waited" in SlowTurn("slow", 0, LONG, APART).text
    assert [one.name for one in shared.assignments] == ["fast"]
    assert View(store, "slow").get("account-1") == {"count": 1}
    assert here.run(shared) == [CaughtUp(joins=True)]
    assert here.pool.conclude(shared, [CaughtUp(joins=True)]).wake == []

    # when: it has caught up, and its time apart is not over
    apart = here.pool.new_worker([here.claimed["slow"]])
    outcomes = here.run(apart)

    # then: nobody takes it over, and it goes live by itself
    assert outcomes == [CaughtUp(joins=False)]
    assert here.pool.conclude(apart, outcomes).wake == []
    assert apart.assignments == [here.claimed["slow"]]

    # when: its time apart is over
    here.time += APART
    outcomes = here.run(apart)

    # then: the live worker takes it over
    assert outcomes == [CaughtUp(joins=True)]
    assert here.pool.conclude(apart, outcomes).wake == [shared]
    assert apart.assignments == []


class Gate:
    """A handler that is slow once, and then waits until the gate is opened."""

    def __init__(self) -> None:
        self.calls = 0
        self.opened = threading.Event()

    def slow(self) -> Projection[dict[str, int]]:
        projection = Projection[dict[str, int]]("slow", category="account", initial=lambda: {"count": 0})

        @projection.when("Deposited")
        def pass_gate(state: dict[str, int], event: RecordedEvent) -> None:
            self.calls += 1
            if self.calls == 1:
                time.sleep(LONG)  # the handler is slow
            else:
                self.opened.wait(PATIENCE)
            state["count"] += 1

        return projection

    def slow_async(self) -> Projection[dict[str, int]]:
        projection = Projection[dict[str, int]]("slow", category="account", initial=lambda: {"count": 0})

        @projection.when("Deposited")
        async def pass_gate(state: dict[str, int], event: RecordedEvent) -> None:
            self.calls += 1
            if self.calls == 1:
                await asyncio.sleep(LONG)  # the handler is slow
            else:
                await asyncio.to_thread(self.opened.wait, PATIENCE)
            state["count"] += 1

        return projection


def test_others_go_on_while_a_slow_handler_runs(store: EventStore) -> None:
    gate = Gate()
    with follow(store, gate.slow(), balances("fast")) as following:
        following.wait_live(PATIENCE)
        following.wait_for(store.append("account-1", deposited(1)), PATIENCE)

        # when: the slow handler is held, and does not come back
        store.append("account-1", deposited(2))
        assert reached(lambda: gate.calls == 2)
        store.append("account-1", deposited(3))

        # then
        assert reached(lambda: rows_of(store, "fast")["account-1"]["balance"] == 6)
        assert View(store, "slow").get("account-1") == {"count": 1}
        gate.opened.set()
        assert reached(lambda: View(store, "slow").get("account-1") == {"count": 3})


@pytest.mark.asyncio
async def test_others_go_on_while_a_slow_coroutine_runs(fresh_name: str) -> None:
    gate = Gate()

    async def shows(name: str, field: str, value: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await AsyncView(store, name).get("account-1") or {}).get(field) != value:
                await asyncio.sleep(0.005)

    async with (
        AsyncEventStore.open("memory:", name=fresh_name, settings=TEST_SETTINGS) as store,
        follow(store, gate.slow_async(), balances("fast")) as following,
    ):
        await following.wait_live(PATIENCE)
        await following.wait_for(await store.append("account-1", deposited(1)), PATIENCE)

        # when: the slow handler is held, and does not come back
        await store.append("account-1", deposited(2))
        await store.append("account-1", deposited(3))

        # then
        await shows("fast", "balance", 6)
        assert await AsyncView(store, "slow").get("account-1") == {"count": 1}
        gate.opened.set()
        await shows("slow", "count", 3)


def test_nobody_leaves_where_all_workers_take_turns(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """`catch_up` works in the calling thread: a worker of its own would run after the others, its lease unattended."""
    slow = Projection[dict[str, int]]("slow", category="account", initial=lambda: {"count": 0})

    @slow.when("Deposited")
    def count(state: dict[str, int], event: RecordedEvent) -> None:
        time.sleep(LONG)  # the handler is slow
        state["count"] += 1

    store.append("account-1", deposited())
    assert catch_up(store, balances("fast"), slow) == 2
    assert caplog.records == []
