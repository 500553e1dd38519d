"""Tests that are coroutines are run here, each on an event loop of its own; their stores know nothing of it."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runner import EventStore
from runner.adapters.eventsource import RedisEventStore
from runner.testing import TEST_SETTINGS

settings.register_profile("suite", deadline=None, suppress_health_check=list(HealthCheck), max_examples=10)
settings.load_profile("suite")

_names = count(1)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(scope="session")
def embedded_url() -> Iterator[str]:
    """An embedded server that runs as long as the session."""
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:
        keeper = EventStore.open(f"embedded:{Path(directory)}", name="keeper")
        yield f"embedded:{directory}"
        keeper.close()


@pytest.fixture(params=["memory", "embedded"])
def redis_store(request: pytest.FixtureRequest) -> Iterator[RedisEventStore]:
    """An empty store, in memory and on the embedded server in turn."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("embedded_url")
    opened = RedisEventStore.open(url, name=f"s{next(_names)}", settings=TEST_SETTINGS)
    yield opened
    opened.close_now()
