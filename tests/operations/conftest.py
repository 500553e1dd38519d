"""Fixtures of more than one file here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Server, server

from runner.embedded.server import find_binary


@pytest.fixture(scope="module", params=["redis-server", "embedded binary"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binary = find_binary() if request.param == "embedded binary" else "redis-server"
    with server("--appendonly", "yes", binary=binary) as started:
        yield started
