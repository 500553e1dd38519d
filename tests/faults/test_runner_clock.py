"""The fault matrix, clocks that jump: row 28."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from accounts import PATIENCE, balances, deposited, plain_fold, reached, rows_of

from runner import ANY, EventStore
from runner.progress.lease import ClaimRequest, RunnerIdentity, acquire
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS

LEASE = 0.8
HOUR = 3600.0


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of the machine, server and runners alike, by so many seconds. The monotonic one goes on."""
    offset, true = 0.0, time.time

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(time, "time", lambda: true() + offset)
    return move


@pytest.fixture
def engines(fresh_name: str, jump: Callable[[float], None]) -> Iterator[list[Engine]]:
    """Two runners of three projections in memory; the first store is also the test's."""
    with ExitStack() as stack:
        settings = replace(TEST_SETTINGS, lease=LEASE)
        stores = [stack.enter_context(EventStore.open(f"memory:{fresh_name}", settings=settings)) for _ in range(2)]
        found = [
            Engine(store, [balances(f"view{place}") for place in range(3)], patience=float("inf")) for store in stores
        ]
        for engine in found:
            engine.start()
        yield found
        for engine in found:
            engine.stop()
            assert engine.join(PATIENCE)


def held(engines: list[Engine]) -> list[str]:
    return sorted(assignment.name for engine in engines for assignment in engine.assignments if assignment.held)


def is_right(store: EventStore, patience: float = PATIENCE) -> bool:
    """Whether each view comes to be the fold of the log, with each event counted once."""
    keys, expected = store.info.keys[0], plain_fold(store.read_all())
    return reached(
        lambda: all(
            rows_of(store, name) == expected
            and store.run(status(keys, name))[0].applied == sum(len(row["numbers"]) for row in expected.values())
            for name in ("view0", "view1", "view2")
        ),
        patience,
    )


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_row_28_clock_jumps(engines: list[Engine], jump: Callable[[float], None], seconds: float) -> None:
    """Forward or back by an hour, once and again in the midst of work: each event is counted once, and work goes on."""
    # given
    store = engines[0]._store
    assert reached(lambda: held(engines) == ["view0", "view1", "view2"])

    # when
    for place in range(6):
        store.append_each([(f"account-{place}", [deposited() for _ in range(20)], ANY) for place in range(5)])
        if place % 2:
            jump(seconds)

    # then
    assert is_right(store)
    store.append("account-1", deposited(), ANY)
    assert is_right(store, patience=3 * LEASE)


def test_row_28_clock_jumps_back_after_a_runner_died(fresh_name: str, jump: Callable[[float], None]) -> None:
    """The lease of the dead ends an hour from now by the clock, and a lease from now for who waits for it."""
    with EventStore.open(f"memory:{fresh_name}", settings=replace(TEST_SETTINGS, lease=LEASE)) as store:
        # given
        dead = RunnerIdentity("dead", store.info, LEASE)
        for name in ("view0", "view1", "view2"):
            store.run(acquire(dead, ClaimRequest(store.info.keys[0], name, "1")))
        jump(-HOUR)
        store.append("account-1", deposited())

        # when
        engine = Engine(store, [balances(f"view{place}") for place in range(3)])
        engine.start()
        try:
            # then
            assert is_right(store, patience=2 * LEASE + 1.0)
        finally:
            engine.stop()
            assert engine.join(PATIENCE)
