"""The library's tests of recorders and factories, in memory and on a real server."""

from __future__ import annotations

import os
from typing import Any, ClassVar
from uuid import uuid4

from eventsourcing.persistence import AggregateRecorder, InfrastructureFactory, TrackingRecorder
from eventsourcing.tests import persistence as published
from eventsourcing.utils import Environment

from runner.adapters.eventsourcing import (
    RunnerAggregateRecorder,
    RunnerApplicationRecorder,
    RunnerFactory,
    RunnerProcessRecorder,
    RunnerTrackingRecorder,
)


class InMemory:
    """Makes factories, and closes them."""

    real: ClassVar[bool] = False

    def factory_here(self) -> RunnerFactory:
        factory = InfrastructureFactory.construct(Environment(env=os.environ))
        assert isinstance(factory, RunnerFactory)
        self.addCleanup(factory.close)  # type: ignore[attr-defined]
        return factory


class TestEvents(InMemory, published.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory_here().aggregate_recorder()


class TestEventsOnAServer(TestEvents):
    real = True


class TestSnapshots(InMemory, published.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory_here().aggregate_recorder(purpose="snapshots")


class TestSnapshotsOnAServer(TestSnapshots):
    real = True


class TestApplicationRecorder(InMemory, published.ApplicationRecorderTestCase[Any]):
    def create_recorder(self) -> Any:
        return self.factory_here().application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderOnAServer(TestApplicationRecorder):
    real = True


class TestApplicationRecorderFromZero(TestApplicationRecorderOnAServer):
    INITIAL_VERSION = 0


class TestApplicationRecorderWithTextIds(TestApplicationRecorderOnAServer):
    def new_originator_id(self) -> str:
        return f"dog-{uuid4()}"


class TestApplicationRecorderWithTextLikeUUIDs(TestApplicationRecorderOnAServer):
    def new_originator_id(self) -> str:
        return str(uuid4())


class TestTrackingRecorder(InMemory, published.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.factory_here().tracking_recorder()


class TestTrackingRecorderOnAServer(TestTrackingRecorder):
    real = True


class TestProcessRecorder(InMemory, published.ProcessRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.factory_here().process_recorder()


class TestProcessRecorderOnAServer(TestProcessRecorder):
    real = True


class TestProcessRecorderAsApplicationRecorder(TestApplicationRecorderOnAServer):
    def create_recorder(self) -> Any:
        return self.factory_here().process_recorder()


class TestProcessRecorderAsTrackingRecorder(TestTrackingRecorder):
    def create_recorder(self) -> TrackingRecorder:
        return self.factory_here().process_recorder()


class TestNonInterleaving(InMemory, published.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> Any:
        return self.factory_here().application_recorder()


class TestNonInterleavingOnAServer(TestNonInterleaving):
    real = True


class OwnTrackingRecorder(RunnerTrackingRecorder):
    """What an application would have that keeps a view with its tracking."""


class TestFactory(InMemory, published.InfrastructureFactoryTestCase[RunnerFactory]):
    def setUp(self) -> None:
        self.env = Environment(env=os.environ)
        super().setUp()

    def expected_factory_class(self) -> type[RunnerFactory]:
        return RunnerFactory

    def expected_aggregate_recorder_class(self) -> type[RunnerAggregateRecorder]:
        return RunnerAggregateRecorder

    def expected_application_recorder_class(self) -> type[RunnerApplicationRecorder]:
        return RunnerApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[RunnerTrackingRecorder]:
        return RunnerTrackingRecorder

    def tracking_recorder_subclass(self) -> type[RunnerTrackingRecorder]:
        return OwnTrackingRecorder

    def expected_process_recorder_class(self) -> type[RunnerProcessRecorder]:
        return RunnerProcessRecorder
