"""The engines of both faces: a crash is told to who waits, and leaves no lease behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from accounts import PATIENCE, balances, deposited
from driving import Killed
from faces import FACES

from runner import AppendResult, AsyncEventStore, EventStore, follow
from runner.effects import Operation
from runner.progress.status import status
from runner.testing import TEST_SETTINGS
from runner.workers.coordinator import Coordinator
from runner.workers.worker import Worker

#: What is done with a `Following` of either face.
Use = Callable[[Any, AppendResult], Any]

USES: dict[str, Use] = {
    "wait_live": lambda following, result: following.wait_live(PATIENCE),
    "wait_for": lambda following, result: following.wait_for(result, PATIENCE),
}


def follow_on(face: str, url: str, name: str, use: Use) -> None:
    """Follow with a projection on one face, append an event, and use the `Following`."""
    if face == "sync":
        with EventStore.open(url, name=name, settings=TEST_SETTINGS) as store, follow(store, balances()) as following:
            use(following, store.append("account-1", deposited()))
        return

    async def run() -> None:
        async with (
            asyncio.timeout(2 * PATIENCE),
            AsyncEventStore.open(url, name=name, settings=TEST_SETTINGS) as store,
            follow(store, balances()) as following,
        ):
            await use(following, await store.append("account-1", deposited()))

    asyncio.run(run())


def owner_of(store: EventStore) -> str:
    return store.run(status(store.info.keys[0], "balances"))[0].holder


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("face", FACES)
def test_who_waits_is_told_of_a_crash(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, face: str, use: Use
) -> None:
    """The crash itself, and not the error of the projection that it stopped."""

    def crash(worker: Worker, live: bool) -> Operation[Any]:
        raise Killed
        yield

    monkeypatch.setattr(Worker, "work", crash)
    with pytest.raises(Killed):
        follow_on(face, url, store.info.name, use)


@pytest.mark.parametrize("face", FACES)
def test_a_coordinator_that_crashes_leaves_no_lease_behind(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    """The workers release their leases: another runner need not wait until these have run out."""

    def crash(coordinator: Coordinator) -> Operation[Any]:
        raise Killed
        yield

    monkeypatch.setattr(Coordinator, "work", crash)
    with pytest.raises(Killed):
        follow_on(face, url, store.info.name, lambda following, result: following._engine.join(PATIENCE))
    assert owner_of(store) == ""


@pytest.mark.parametrize("face", FACES)
def test_a_first_round_that_fails_leaves_no_lease_behind(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    """What was claimed before the error is released, and the error is raised at the start."""
    real, owners = Coordinator.first_round, list[str]()

    def fail(coordinator: Coordinator) -> Operation[None]:
        yield from real(coordinator)
        owners.append(owner_of(store))
        raise Killed

    monkeypatch.setattr(Coordinator, "first_round", fail)
    with pytest.raises(Killed):
        follow_on(face, url, store.info.name, lambda following, result: pytest.fail("it has not begun"))
    assert owners != [""]
    assert owner_of(store) == ""
