"""What the published tests take for granted: pytest-asyncio, of which they need next to nothing."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from runner import AsyncEventStore
from runner.testing import TEST_SETTINGS

#: The published modules import it for the decorator of abstract fixtures, all of which are overridden here.
_stand_in = ModuleType("pytest_asyncio")
_stand_in.fixture = pytest.fixture  # type: ignore[attr-defined]
sys.modules.setdefault("pytest_asyncio", _stand_in)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "asyncio: on half of the published tests")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests, marked or not, in the event loop of their fixtures."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.funcargs["loop"].run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def store(url: str, fresh_name: str, loop: asyncio.Runner) -> Iterator[AsyncEventStore]:
    """An empty store, in memory and on the real server in turn."""
    opened = AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)
    yield opened
    loop.run(opened.close())
