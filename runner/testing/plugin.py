"""What the fixtures of the package make. The fixtures stand outside of it, in ``redis_streams_runner_pytest.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from .. import embedded
from ..aio.store import AsyncEventStore
from ..errors import InvalidInput, StoreTrouble
from ..sync.store import EventStore
from .stores import TEST_SETTINGS, async_memory_store, memory_store

T = TypeVar("T")


def made_in_memory() -> EventStore:
    """An empty store in memory."""
    return _made_by(memory_store, "event_store")


def made_in_memory_for_asyncio() -> AsyncEventStore:
    """The same, asynchronous."""
    return _made_by(async_memory_store, "async_event_store")


@contextmanager
def kept_server() -> Iterator[EventStore]:
    """A store that keeps an embedded server running. Then the server's directory is removed."""
    try:
        embedded.find_binary()
    except StoreTrouble as error:
        pytest.skip(f"real_event_store needs a server: {error}")
    # A short path, because the path of a socket must be short.
    with TemporaryDirectory(prefix="runner-") as directory, EventStore.open(f"embedded:{directory}") as keeper:
        yield keeper


@contextmanager
def emptied(keeper: EventStore) -> Iterator[EventStore]:
    """An empty store on a server that is kept: everything on it is removed."""
    keeper.driver.execute([("FLUSHALL",)])
    with EventStore.open(keeper.label, settings=TEST_SETTINGS) as store:
        yield store


def _made_by(make: Callable[[], T], fixture: str) -> T:
    """A store in memory. If a package is missing, the test fails with its hint instead of a long trace."""
    try:
        return make()
    except InvalidInput as missing:
        pytest.fail(f"the fixture {fixture!r} cannot be made: {missing}. {missing.hint}", pytrace=False)
