"""The wrong kind of ``with`` block: each object of the two faces names the right one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runner import AsyncEventStore, EventStore, InvalidInput, Projection, follow
from runner.testing import TEST_SETTINGS, memory_store

PROJECTION: Projection[Any] = Projection("p")

#: What is made of a store, on either face.
MAKE: dict[str, Callable[[Any], Any]] = {
    "store": lambda store: store,
    "follow": lambda store: follow(store, PROJECTION),
    "subscribe": lambda store: store.subscribe("a-1"),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))
def test_what_is_asynchronous_refuses_a_plain_block(make: Callable[[Any], Any]) -> None:
    """Nothing has begun then."""

    async def run() -> None:
        async with AsyncEventStore.open("memory:", settings=TEST_SETTINGS) as store:
            with pytest.raises(InvalidInput, match=r"Async\w+ is used by `async with`, not by `with`"), make(store):
                pass

    asyncio.run(run())


@pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))
def test_what_is_synchronous_refuses_an_asynchronous_block(make: Callable[[Any], Any]) -> None:
    """Nothing has begun then."""

    async def use(thing: Any) -> None:
        async with thing:
            pass

    with memory_store() as store:
        assert isinstance(store, EventStore)
        with pytest.raises(InvalidInput, match=r"\w+ is used by `with`, not by `async with`"):
            asyncio.run(use(make(store)))
