"""Stores for the published suites: they know nothing of the event loops that the tests run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from runner.adapters.eventsource import RedisEventStore
from runner.testing import TEST_SETTINGS

#: Fewer examples than usual: each of the model's runs opens a store.
settings.register_profile("model", deadline=None, suppress_health_check=list(HealthCheck), max_examples=10)
settings.load_profile("model")


@pytest.fixture
def redis_store(url: str, fresh_name: str) -> Iterator[RedisEventStore]:
    """An empty store, in memory and on the embedded server in turn."""
    opened = RedisEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)
    yield opened
    opened.close_now()
