"""Stores for the published tests, on the event loop of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runner import AsyncEventStore
from runner.testing import TEST_SETTINGS


@pytest.fixture
async def store(url: str, fresh_name: str) -> AsyncIterator[AsyncEventStore]:
    """An empty store, in memory and on the real server in turn."""
    async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as opened:
        yield opened
