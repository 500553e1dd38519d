"""Either face of a store, for tests of what both must do alike."""

from __future__ import annotations

import asyncio

from accounts import PATIENCE

from runner import AsyncEventStore, EventStore, catch_up
from runner.testing import TEST_SETTINGS
from runner.workers.pool import Runnable

#: The faces: threads, and tasks of an event loop.
FACES = ("sync", "async")


def catch_up_on(face: str, url: str, name: str, *given: Runnable) -> int:
    """`catch_up` on one face of the store at a URL. On the asynchronous one it may take a bounded time only."""
    if face == "sync":
        with EventStore.open(url, name=name, settings=TEST_SETTINGS) as store:
            return catch_up(store, *given)

    async def run() -> int:
        async with asyncio.timeout(PATIENCE), AsyncEventStore.open(url, name=name, settings=TEST_SETTINGS) as store:
            return await catch_up(store, *given)

    return asyncio.run(run())
