"""Fixtures that pytest finds by itself where the package is installed: an event store for each test.

======================  =====================================================================================
``event_store``         an empty store in memory; needs the extra ``memory``
``async_event_store``   the same, asynchronous; not yet connected, closed by ``async with`` or by the test
``real_event_store``    an empty store on the embedded server; one server a session; the test is skipped without one
======================  =====================================================================================

A fixture of the same name in a project's own ``conftest.py`` takes precedence.

pytest loads this module in every project, also in those that have a module ``runner`` of their own. So it stands
outside the package, and the package is imported only when a test asks for one of these fixtures.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runner import AsyncEventStore, EventStore

# So that failed assertions of the contract show the compared values, in any project.
pytest.register_assert_rewrite("runner.testing.contract")


@pytest.fixture
def event_store() -> Iterator[EventStore]:
    """An empty event store in memory, closed after the test."""
    with _helpers("event_store").made_in_memory() as store:
        yield store


@pytest.fixture
def async_event_store() -> AsyncEventStore:
    """An empty asynchronous event store in memory: ``async with async_event_store as store:``."""
    return _helpers("async_event_store").made_in_memory_for_asyncio()  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def _server_of_real_event_store() -> Iterator[EventStore]:
    """A store that keeps the embedded server running for the session. Then the server's directory is removed."""
    with _helpers("real_event_store").kept_server() as keeper:
        yield keeper


@pytest.fixture
def real_event_store(_server_of_real_event_store: EventStore) -> Iterator[EventStore]:
    """An empty event store on a real server: the events of the test before are removed."""
    with _helpers("real_event_store").emptied(_server_of_real_event_store) as store:
        yield store


def _helpers(fixture: str) -> Any:
    """The module that makes the stores. Where another module has the package's name, the test fails and is told so."""
    try:
        package = importlib.import_module("runner")
    except Exception as fault:
        pytest.fail(f"the fixture {fixture!r} cannot be made: the import of runner failed: {fault!r}", pytrace=False)
    ours = Path(__file__).with_name("runner")
    file = package.__file__
    if file is None or not (ours.is_dir() and Path(file).parent.samefile(ours)):
        pytest.fail(
            f"the fixture {fixture!r} cannot be made: the name runner is that of {file or package}, not of the package "
            f"in {ours}. Rename that module, or start pytest with `{Path(sys.executable).name} -P -m pytest`.",
            pytrace=False,
        )
    return importlib.import_module("runner.testing.plugin")
