"""Servers and stores for the tests. Tests that need a real server are marked ``real`` and find one by themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from accounts import SMALL
from hypothesis import HealthCheck, settings
from proxy import Proxy
from quick import is_quick

from runner import EventStore
from runner.testing import TEST_SETTINGS

settings.register_profile("suite", deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
settings.load_profile("suite")

_names = count(1)

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests; the rule stands in `quick`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            name = f"{item.path.relative_to(HERE).as_posix()}::{item.nodeid.partition('::')[2]}"
            if is_quick(name, real=item.get_closest_marker("real") is not None):
                item.add_marker(pytest.mark.quick)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A directory whose embedded server runs as long as the session: a short path, as sockets need one."""
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:
        keeper = EventStore.open(f"embedded:{directory}", name="keeper")
        yield Path(directory)
        keeper.close()


@pytest.fixture
def real_url(server_directory: Path) -> str:
    """The URL of the real server that the session shares. Use `fresh_name` for a store of one's own on it."""
    return f"embedded:{server_directory}"


@pytest.fixture
def fresh_name() -> str:
    """The name of a store that no other test uses."""
    return f"s{next(_names)}-{os.getpid()}"


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest) -> str:
    """Fake and real, for contract tests. (A memory URL with a name, so that several stores can share it.)"""
    if request.param == "memory":
        return f"memory:{next(_names)}"
    return str(request.getfixturevalue("real_url"))


@pytest.fixture
def store(url: str, fresh_name: str) -> Iterator[EventStore]:
    """An empty store, on fakeredis and on the real server in turn."""
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as opened:
        yield opened


@pytest.fixture
def small_store(url: str, fresh_name: str) -> Iterator[EventStore]:
    """An empty store that reads two events at a time, fake and real."""
    with EventStore.open(url, name=fresh_name, settings=SMALL) as opened:
        yield opened


@pytest.fixture
def real_store(real_url: str, fresh_name: str) -> Iterator[EventStore]:
    """An empty store on the real server."""
    with EventStore.open(real_url, name=fresh_name, settings=TEST_SETTINGS) as opened:
        yield opened


@pytest.fixture
def proxy(real_store: EventStore) -> Iterator[Proxy]:
    """A proxy before the real server, which may lose what goes through it."""
    server = real_store.driver.address.server
    assert server is not None
    with (
        tempfile.TemporaryDirectory(prefix="runner-proxy-") as directory,  # short: a socket's path must be
        Proxy(server.socket, Path(directory)) as opened,
    ):
        yield opened
