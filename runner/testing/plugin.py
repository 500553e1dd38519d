"""Fixtures that pytest finds by itself where the package is installed: an event store for each test.

======================  =====================================================================================
``event_store``         an empty store in memory; needs the extra ``memory``
``async_event_store``   the same, asynchronous; not yet connected, closed by ``async with`` or by the test
``real_event_store``    an empty store on the embedded server; one server a session; the test is skipped without one
======================  =====================================================================================

A fixture of the same name in a project's own ``conftest.py`` takes precedence. The package's stores are imported only
when a test asks for one of these fixtures; otherwise no server is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from ..aio.store import AsyncEventStore
    from ..sync.store import EventStore

T = TypeVar("T")

# So that failed assertions of the contract show the compared values, in any project.
pytest.register_assert_rewrite("runner.testing.contract")


@pytest.fixture
def event_store() -> Iterator[EventStore]:
    """An empty event store in memory, closed after the test."""
    from .stores import memory_store

    with _made_by(memory_store, "event_store") as store:
        yield store


@pytest.fixture
def async_event_store() -> AsyncEventStore:
    """An empty asynchronous event store in memory: ``async with async_event_store as store:``."""
    from .stores import async_memory_store

    return _made_by(async_memory_store, "async_event_store")


@pytest.fixture(scope="session")
def _server_of_real_event_store() -> Iterator[EventStore]:
    """A store that keeps the embedded server running for the session. Then the server's directory is removed."""
    from .. import embedded
    from ..errors import StoreTrouble
    from ..sync.store import EventStore

    try:
        embedded.find_binary()
    except StoreTrouble as error:
        pytest.skip(f"real_event_store needs a server: {error}")
    # A short path, because the path of a socket must be short.
    with TemporaryDirectory(prefix="runner-") as directory, EventStore.open(f"embedded:{directory}") as keeper:
        yield keeper


@pytest.fixture
def real_event_store(_server_of_real_event_store: EventStore) -> Iterator[EventStore]:
    """An empty event store on a real server: the events of the test before are removed."""
    from ..sync.store import EventStore
    from .stores import TEST_SETTINGS

    keeper = _server_of_real_event_store
    keeper.driver.execute([("FLUSHALL",)])
    with EventStore.open(keeper.label, settings=TEST_SETTINGS) as store:
        yield store


def _made_by(make: Callable[[], T], fixture: str) -> T:
    """A store in memory. If a package is missing, the test fails with its hint instead of a long trace."""
    from ..errors import InvalidInput

    try:
        return make()
    except InvalidInput as missing:
        pytest.fail(f"the fixture {fixture!r} cannot be made: {missing}. {missing.hint}", pytrace=False)
