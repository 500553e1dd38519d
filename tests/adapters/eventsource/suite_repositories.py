"""The suites of the checkpoint and dead-letter ports."""

from __future__ import annotations

import pytest
from eventsource.testing.conformance_ports import CheckpointRepositoryConformance, DLQRepositoryConformance

from runner.adapters.eventsource import RedisCheckpointRepository, RedisDLQRepository, RedisEventStore


class TestCheckpoints(CheckpointRepositoryConformance):
    @pytest.fixture
    def store(self, redis_store: RedisEventStore) -> object:
        return RedisCheckpointRepository(redis_store)


class TestDeadLetters(DLQRepositoryConformance):
    @pytest.fixture
    def store(self, redis_store: RedisEventStore) -> object:
        return RedisDLQRepository(redis_store)
