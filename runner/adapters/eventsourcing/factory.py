"""The infrastructure factory: makes recorders from the settings in the environment."""

from __future__ import annotations

from typing import Any, TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
    ProcessRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from ...errors import InvalidInput
from ...settings import DEFAULT_NAME
from .datastore import RunnerDatastore
from .errors import translated
from .process import RunnerProcessRecorder
from .recorders import RunnerAggregateRecorder, RunnerApplicationRecorder
from .snapshots import RunnerSnapshotRecorder
from .topics import TopicRules, checked
from .tracking import RunnerTrackingRecorder

T = TypeVar("T")


class RunnerFactory(InfrastructureFactory[RunnerTrackingRecorder]):
    """Makes recorders over one store. The factory opens the store and closes it.

    Raises OSError for missing or invalid settings, OperationalError when the server does not answer.
    """

    RUNNER_STORE = "RUNNER_STORE"
    RUNNER_NAME = "RUNNER_NAME"
    RUNNER_TOPICS = "RUNNER_TOPICS"

    aggregate_recorder_class = RunnerAggregateRecorder
    application_recorder_class = RunnerApplicationRecorder
    tracking_recorder_class = RunnerTrackingRecorder
    process_recorder_class = RunnerProcessRecorder

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        url = self.env.get(self.RUNNER_STORE)
        if not url:
            keys = ", ".join(self.env.create_keys(self.RUNNER_STORE))
            raise OSError(f"the store's URL is not in the environment, with keys: {keys}")
        name = self.env.get(self.RUNNER_NAME) or self.env.name or DEFAULT_NAME
        with translated():
            try:
                self.datastore = RunnerDatastore(url, name, reader=self.env.name or name)
            except InvalidInput as error:
                said = f"{self.RUNNER_STORE} and {self.RUNNER_NAME} name no store that can be used: {error.with_hint}"
                raise OSError(said) from error

    def mapper(
        self, transcoder: Transcoder | None = None, mapper_class: type[Mapper[Any]] | None = None
    ) -> Mapper[Any]:
        """A mapper of the given class, or of that which ``MAPPER_TOPIC`` names. It refuses topics by `topics`."""
        if mapper_class is None:
            topic = self.env.get(self.MAPPER_TOPIC)
            mapper_class = resolve_topic(topic) if topic else Mapper
        modules = self.env.get(self.RUNNER_TOPICS)
        return super().mapper(transcoder, checked(mapper_class, TopicRules(modules.split() if modules else None)))

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """For ``events``, a recorder of the log; for other purposes, such as ``snapshots``, one beside the log."""
        if purpose == "events":
            return self.aggregate_recorder_class(self.datastore)
        return RunnerSnapshotRecorder(self.datastore, purpose)

    def application_recorder(self) -> ApplicationRecorder:
        """A recorder of the class that ``APPLICATION_RECORDER_TOPIC`` names, if that is set."""
        return self._chosen(self.APPLICATION_RECORDER_TOPIC, self.application_recorder_class)(self.datastore)

    def tracking_recorder(
        self, tracking_recorder_class: type[RunnerTrackingRecorder] | None = None
    ) -> RunnerTrackingRecorder:
        """A recorder of the given class, or of the class that ``TRACKING_RECORDER_TOPIC`` names."""
        if tracking_recorder_class is None:
            tracking_recorder_class = self._chosen(self.TRACKING_RECORDER_TOPIC, self.tracking_recorder_class)
        _check_class(tracking_recorder_class, self.tracking_recorder_class)
        return tracking_recorder_class(self.datastore)

    def process_recorder(self) -> ProcessRecorder:
        """A recorder of the class that ``PROCESS_RECORDER_TOPIC`` names, if that is set."""
        return self._chosen(self.PROCESS_RECORDER_TOPIC, self.process_recorder_class)(self.datastore)

    def close(self) -> None:
        """End the subscriptions of the recorders, and close the connections."""
        self.datastore.close()

    def _chosen(self, topic_key: str, usual: type[T]) -> type[T]:
        topic = self.env.get(topic_key)
        return _check_class(resolve_topic(topic), usual) if topic else usual


def _check_class(found: type[T], base: type[T]) -> type[T]:
    if not isinstance(found, type) or not issubclass(found, base):
        raise OSError(f"the recorder {found!r} is not a subclass of {base.__name__}, which this store needs")
    return found
