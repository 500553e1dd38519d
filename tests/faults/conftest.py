"""A lab for each test of the servers' matrix, and a store through a proxy for each of the wire's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accounts import deposited
from lab import Lab
from lab import lab as opened_lab
from wirelab import Wire, wire_to

from runner import NO_STREAM, EventStore


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Servers for one test, gone after it."""
    with opened_lab() as room:
        yield room


@pytest.fixture
def wire(real_store: EventStore) -> Iterator[Wire]:
    """A store through a proxy, over TCP."""
    with wire_to(real_store, tcp=True) as opened:
        yield opened


@pytest.fixture
def first_event(request: pytest.FixtureRequest) -> None:
    """Where a test has a `wire`: its stream account-1 has one event, and the server knows the scripts that append."""
    if "wire" in request.fixturenames:
        request.getfixturevalue("wire").writer.append("account-1", deposited(100), NO_STREAM)
