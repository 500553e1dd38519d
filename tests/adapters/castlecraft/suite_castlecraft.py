"""The library's own tests of an event store, a snapshot store and a projection store."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from castlecraft_engineer.abstractions.event_store import EventStore
from castlecraft_engineer.testing.event_store import BaseEventStoreTest, MyTestEvent, create_test_events
from castlecraft_engineer.testing.projection_store import BaseProjectionStoreTest
from castlecraft_engineer.testing.snapshot_store import BaseSnapshotStoreTest, MyTestSnapshotData

from runner import AsyncEventStore
from runner.adapters.castlecraft import RedisEventStore, RedisProjectionStore, RedisSnapshotStore


class TestEventStore(BaseEventStoreTest[UUID]):
    @pytest.fixture
    def event_store(self, store: AsyncEventStore) -> RedisEventStore[UUID]:
        return RedisEventStore(store, category="thing", events=[MyTestEvent])

    @pytest.fixture
    def generate_aggregate_id(self) -> UUID:
        return uuid4()

    async def test_stream_isolation(self, event_store: EventStore[UUID], generate_aggregate_id: UUID) -> None:
        """The published one takes one id for both streams, and fails on the library's own store: here they are two."""
        first, other = generate_aggregate_id, uuid4()
        events, others, more = create_test_events(2, "a"), create_test_events(3, "b"), create_test_events(1, "c")
        await event_store.append_events(first, -1, events)
        await event_store.append_events(other, -1, others)
        await event_store.append_events(first, 1, more)
        assert await event_store.load_events(first) == events + more
        assert await event_store.load_events(other) == others
        assert [await event_store.get_current_version(each) for each in (first, other)] == [2, 2]


class TestSnapshotStore(BaseSnapshotStoreTest[UUID]):
    @pytest.fixture
    def snapshot_store(self, store: AsyncEventStore) -> RedisSnapshotStore[UUID]:
        # The state of these tests is a plain class, which has to be told how it is stored.
        return RedisSnapshotStore(
            store, category="thing", states=[MyTestSnapshotData], encode=vars, decode=lambda kind, data: kind(**data)
        )

    @pytest.fixture
    def generate_aggregate_id(self) -> UUID:
        return uuid4()


class TestProjectionStore(BaseProjectionStoreTest[Any]):
    @pytest.fixture
    def projection_store(self, store: AsyncEventStore) -> RedisProjectionStore[Any]:
        return RedisProjectionStore(store)
