"""The interpreters: what ends a wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from accounts import PATIENCE
from faces import FACES

from runner.aio.interpreter import AsyncInterpreter
from runner.effects import Effect, Join, Operation, Pause, Take
from runner.sync.interpreter import Interpreter
from runner.testing import async_memory_store, memory_store

#: How long the wait that nobody ends is, in seconds.
SHORT = 0.05


def two_waits(wait: Callable[[float], Effect], wake: Callable[[], None]) -> Operation[list[float]]:
    """Wait after a wake, then once more; how long each wait took."""
    yield Join()
    wake()
    took = []
    for seconds in (PATIENCE, SHORT):
        began = time.monotonic()
        yield wait(seconds)
        took.append(time.monotonic() - began)
    return took


def joined_twice() -> Operation[None]:
    """What a worker does that begins anew."""
    yield Join()
    yield Join()


@pytest.mark.parametrize("face", FACES)
def test_who_joins_again_has_one_place_in_the_feed(face: str) -> None:
    """And none when it leaves: the feed ends with its last member."""

    async def asynchronously() -> list[int]:
        async with async_memory_store() as store:
            await store.last_position()
            port = AsyncInterpreter(store.driver, store.feed(0))
            members = store.feed(0)._core.members
            await port.run(joined_twice())
            found = [len(members)]
            await port.close()
            return [*found, len(members)]

    # when
    if face == "async":
        found = asyncio.run(asynchronously())
    else:
        with memory_store() as store:
            port = Interpreter(store.driver, store.feed(0))
            members = store.feed(0)._core.members
            port.run(joined_twice())
            found = [len(members)]
            port.close()
            found.append(len(members))

    # then
    assert found == [1, 0]


@pytest.mark.parametrize("wait", [Take, Pause])
@pytest.mark.parametrize("face", FACES)
def test_a_wake_ends_one_wait_and_no_later_one(face: str, wait: Callable[[float], Effect]) -> None:
    """A worker that was woken once does not turn without a pause from then on."""

    async def asynchronously() -> list[float]:
        async with async_memory_store() as store:
            await store.last_position()
            port = AsyncInterpreter(store.driver, store.feed(0))
            try:
                return await port.run(two_waits(wait, port.wake))
            finally:
                await port.close()

    # when
    if face == "async":
        woken, alone = asyncio.run(asynchronously())
    else:
        with memory_store() as store:
            port = Interpreter(store.driver, store.feed(0))
            try:
                woken, alone = port.run(two_waits(wait, port.wake))
            finally:
                port.close()

    # then
    assert woken < PATIENCE / 2
    assert alone > SHORT / 2
