"""The suites of the five store ports."""

from __future__ import annotations

from itertools import count

import pytest
from eventsource.domain.event_registry import default_registry
from eventsource.testing.conformance_ports import (
    AppenderConformance,
    CategoryQueryConformance,
    EventLookupConformance,
    GlobalFeedConformance,
    StreamReaderConformance,
)
from eventsource.testing.conformance_ports._fixtures import ConformanceEvent
from eventsource.testing.conformance_ports.stateful import StoreStateMachine
from eventsource.testing.sync_facade import SyncStoreFacade

from runner.adapters.eventsource import RedisEventStore
from runner.testing import TEST_SETTINGS

default_registry.register(ConformanceEvent)


class _OnRedis:
    @pytest.fixture
    def store(self, redis_store: RedisEventStore) -> object:
        return redis_store


class TestAppender(_OnRedis, AppenderConformance): ...


class TestStreamReader(_OnRedis, StreamReaderConformance): ...


class TestEventLookup(_OnRedis, EventLookupConformance): ...


class TestGlobalFeed(_OnRedis, GlobalFeedConformance): ...


class TestCategoryQuery(_OnRedis, CategoryQueryConformance): ...


class InMemory(StoreStateMachine):
    """The model of the library: each of its examples gets a store of its own."""

    def make_store(self) -> SyncStoreFacade:
        return SyncStoreFacade(RedisEventStore.open("memory:", settings=TEST_SETTINGS))


class Embedded(StoreStateMachine):
    """The same on the embedded server."""

    url = ""
    stores = count(1)

    def make_store(self) -> SyncStoreFacade:
        name = f"model{next(self.stores)}"
        return SyncStoreFacade(RedisEventStore.open(self.url, name=name, settings=TEST_SETTINGS))


class TestModelInMemory(InMemory.TestCase): ...  # type: ignore[misc,valid-type]


class TestModelEmbedded(Embedded.TestCase):  # type: ignore[misc,valid-type]
    @pytest.fixture(autouse=True)
    def _on_the_server(self, real_url: str) -> None:
        Embedded.url = real_url
