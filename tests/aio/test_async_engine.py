"""The asynchronous engine: crashes of its tasks, and a wait for them that is cancelled."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from accounts import PATIENCE, balances, deposited
from driving import Killed

from runner import AsyncEventStore, EventStore
from runner.aio.engine import AsyncEngine
from runner.effects import Operation
from runner.progress.status import status
from runner.testing import TEST_SETTINGS
from runner.workers.coordinator import Coordinator
from runner.workers.worker import Worker

Play = Callable[[Callable[[AsyncEventStore], Awaitable[None]]], list[Any]]


@pytest.fixture
def play(store: EventStore, url: str) -> Play:
    """Runs a scenario over the store in an event loop; returns the errors that nobody there took notice of."""

    def run(scenario: Callable[[AsyncEventStore], Awaitable[None]]) -> list[Any]:
        unnoticed: list[Any] = []

        async def whole() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: unnoticed.append(context))
            async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as opened:
                await scenario(opened)
            gc.collect()
            await asyncio.sleep(0)

        asyncio.run(whole())
        return unnoticed

    return run


def owner_of(store: EventStore) -> str:
    return store.run(status(store.info.keys[0], "balances"))[0].holder


def test_a_worker_that_crashes_fails_its_projections_and_is_told_at_the_end(
    store: EventStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every assignment of the worker has the crash as its failure; `join` ends, and `check` raises the crash."""
    store.append("account-1", deposited())

    def crash(worker: Worker, live: bool) -> Operation[Any]:
        raise Killed
        yield

    monkeypatch.setattr(Worker, "work", crash)

    async def scenario(opened: AsyncEventStore) -> None:
        engine = AsyncEngine(opened, [balances()])
        await engine.start()
        await engine.wait_live(PATIENCE)
        engine.stop()
        assert await engine.join(PATIENCE)
        assert isinstance(engine.crash, Killed)
        assert ["the runner failed: Killed()" in str(failure) for failure in engine.failures] == [True]
        with pytest.raises(Killed):
            engine.check()

    assert play(scenario) == []


def test_a_coordinator_that_crashes_lets_the_workers_release_their_leases(
    store: EventStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runner need not wait until the leases have run out."""
    store.append("account-1", deposited())

    def crash(coordinator: Coordinator) -> Operation[Any]:
        raise Killed
        yield

    monkeypatch.setattr(Coordinator, "work", crash)

    async def scenario(opened: AsyncEventStore) -> None:
        engine = AsyncEngine(opened, [balances()])
        await engine.start()
        assert await engine.join(PATIENCE)
        assert isinstance(engine.crash, Killed)

    assert play(scenario) == []
    assert owner_of(store) == ""


def test_a_join_that_is_cancelled_ends_the_tasks(store: EventStore, play: Play) -> None:
    """The caller will not call it again: nothing works on in the background."""
    store.append("account-1", deposited())

    async def scenario(opened: AsyncEventStore) -> None:
        engine = AsyncEngine(opened, [balances()])
        await engine.start()
        await engine.wait_live(PATIENCE)
        joining = asyncio.create_task(engine.join())
        await asyncio.sleep(0)

        # when
        joining.cancel()

        # then
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert [task for task in asyncio.all_tasks() if "AsyncEngine" in repr(task.get_coro())] == []

    assert play(scenario) == []
