"""Tracking: how far an application has processed another one, kept as bookmarks, which must rise.

A process that waits for tracking is woken: the request that records it also publishes an empty message, a ring, on the
application's channel. A waiting process that hears it reads the bookmark. The ring is not part of the step that
records, so a crash in between can lose it, and a waiting process also reads the bookmark now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from time import monotonic

from eventsourcing.persistence import DataError, Tracking, TrackingRecorder, WaitInterruptedError

from ...effects import Command, Execute, Hear, Listen, StoreOperation
from ...errors import StoreUnavailable
from ...format.keys import PartitionKeys
from ...format.scripts import load
from ...log.append_plan import Append, AppendResult
from ...log.appending import append_all
from ...log.reading import bookmark
from ...wire.clock import now_in_microseconds
from .datastore import RunnerDatastore, RunnerRecorder

#: A ring wakes a waiting process. In case the ring was lost, the process reads the bookmark after these seconds.
LOOK_ANYWAY = 1.0

#: A waiting process checks for an interrupt at this interval, in seconds, without a request to the server.
INTERRUPT_LATENCY = 0.05


class RunnerTrackingRecorder(RunnerRecorder, TrackingRecorder):
    """Records tracking objects. `RunnerProcessRecorder` records them together with events."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record tracking. Raises IntegrityError unless the notification id is above all earlier ones."""
        self.datastore.run(append_with(self.datastore, (), tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The last recorded notification id of the application; None if there is none."""
        keys, name = self.datastore.store.info.of_partition(0), _bookmark_of(self.datastore.reader, application_name)
        return self.datastore.run(bookmark(keys, name)) or None

    def wait(
        self,
        application_name: str,
        notification_id: int | None,
        timeout: float = 1.0,
        interrupt: Event | None = None,
    ) -> None:
        """Wait until tracking with this notification id or a higher one is recorded, by any process.

        Raises TimeoutError after ``timeout`` seconds, WaitInterruptedError soon after ``interrupt`` is set.
        """
        if not self.has_tracking_id(application_name, notification_id):
            assert notification_id is not None
            keys, name = (
                self.datastore.store.info.of_partition(0),
                _bookmark_of(self.datastore.reader, application_name),
            )
            try:
                self.datastore.run(_wait(keys, name, notification_id, monotonic() + timeout, interrupt))
            except TimeoutError:
                said = f"notification {notification_id} of application {application_name!r} was not processed in time"
                raise TimeoutError(said) from None


def append_with(
    datastore: RunnerDatastore, appends: Sequence[Append], tracking: Tracking | None
) -> StoreOperation[list[AppendResult]]:
    """Append, and record tracking, if given, in the same script: in one round trip, all or nothing."""
    store, now = datastore.store, now_in_microseconds()
    if tracking is None:
        return append_all(store.info, appends, None, 0, now, store.durability)
    name = _bookmark_of(datastore.reader, tracking.application_name)
    append = append_all(store.info, appends, (name, tracking.notification_id), 0, now, store.durability)
    return _ringing(append, _ring(store.info.of_partition(0), name))


def _ringing(append: StoreOperation[list[AppendResult]], ring: Command) -> StoreOperation[list[AppendResult]]:
    """The append operation, with a ring after the commands of its first request."""
    request = next(append)
    assert isinstance(request, Execute)
    replies = (yield Execute([*request.commands, ring]))[:-1]
    try:
        while True:
            replies = yield append.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _wait(
    keys: PartitionKeys, name: str, target: int, deadline: float, interrupt: Event | None
) -> StoreOperation[None]:
    channel = _channel_of(keys, name)
    listen_at, look = 0.0, True
    while True:
        try:
            if monotonic() >= listen_at:  # again now and then: a connection may be lost unnoticed
                yield Listen(channel)
                listen_at, look = monotonic() + LOOK_ANYWAY, True
            late = monotonic() >= deadline
            if (look or late) and (yield from bookmark(keys, name)) >= target:
                return
            if interrupt is not None and interrupt.is_set():
                raise WaitInterruptedError
            if late:
                raise TimeoutError
            until = min(deadline, listen_at) - monotonic()
            heard = yield Hear(max(0.0, until if interrupt is None else min(until, INTERRUPT_LATENCY)))
            look = heard is not None
        except StoreUnavailable:  # `Listen` is not repeated by the driver; the request below is, until it raises
            yield from bookmark(keys, name)
            listen_at = 0.0


def _ring(keys: PartitionKeys, name: str) -> Command:
    return load("adapters/ring").call([keys.meta], _channel_of(keys, name))


def _bookmark_of(reader: str, application_name: str) -> str:
    """The bookmark that says how far ``reader`` has processed an application."""
    if not isinstance(application_name, str):
        raise DataError(f"an application's name must be text, not {application_name!r}")
    return f"tracking:{reader}:{application_name}"


def _channel_of(keys: PartitionKeys, name: str) -> str:
    return f"{keys.tag}:eventsourcing:{name}"
