"""Parked events: running them again with the present code, in order, and giving them up.

The owner of a build does not write a row that has parked events. So this needs no lease: the row and its parked events
change in one step, which is refused if either has changed since it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..effects import DriverOperation, Execute
from ..effects.clock import Clock
from ..errors import DataError, HandlerFailed, InvalidInput, UndecodableEvent
from ..format.events import RecordedEvent, decode_entry
from ..format.keys import PartitionKeys
from ..progress.builds import code_of
from ..progress.parked import SetAsideEvent, failing, read_parked, unpark
from ..progress.status import partitions_of
from ..projections.calling import check_waiting, handled
from ..projections.fold import Step, fold
from ..projections.handlers import Handlers
from ..projections.projection import Projection, check_projection
from ..projections.reactor import Reactor
from ..views.redis_rows import BuildView, packed_row, rows_command, stored_row
from ..wire.log import write
from ..workers.failed_events import DROPPED, PARKED, REDRIVEN, FailedEvent
from .face import StoreContext, for_either_store
from .parked import live_build, parked_rows

#: How many parked events of a row are tried before the row is written.
EVENTS_A_TRY = 200


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What a retry or a drop did with the parked events of a row."""

    partition: int
    key: str
    #: Events that are parked no more, and events that still are.
    freed: int
    left: int
    #: The error of the event that failed again, if one did.
    error: str = ""


@for_either_store
def retry_parked(
    store: StoreContext, projection: Projection | Reactor, *, row: str | None = None, dry_run: bool = False
) -> DriverOperation[list[RowOutcome]]:
    """Run the parked events of all rows, or of one, in order with the code given. A row ends at an event that fails.

    A row without parked events takes new events again. ``dry_run``: only say how many events would succeed; nothing is
    written, and a reactor performs no effects. Raises InvalidInput if the projection was never run or other code made
    its live build; DataError, StoreTrouble.
    """
    if not isinstance(projection, Reactor):
        check_projection(projection, "a retry, if it is no Reactor,")
    yield from check_waiting(projection)
    if isinstance(projection, Reactor):
        projection.check_store(store.store)
    outcomes = []
    for keys in (yield from partitions_of(store.info, projection.name)):
        for key in (yield from parked_rows(keys, projection.name, row)):
            outcomes.append(
                (yield from retry_row(keys, projection, key, store.clock, dry_run=dry_run, store=store.store))
            )
    return outcomes


@for_either_store
def drop_parked(store: StoreContext, projection: str, *, row: str | None = None) -> DriverOperation[list[RowOutcome]]:
    """Give parked events up: their rows, or the one row, go on without them until the view is made again.

    Records of them stay with the skipped events. Raises InvalidInput if the projection was never run, StoreTrouble.
    """
    outcomes = []
    for keys in (yield from partitions_of(store.info, projection)):
        for key in (yield from parked_rows(keys, projection, row)):
            outcomes.append((yield from drop_row(keys, projection, key)))
    return outcomes


def retry_row(
    keys: PartitionKeys, one: Handlers, key: str, clock: Clock, *, dry_run: bool, store: object = None
) -> DriverOperation[RowOutcome]:
    """Try the parked events of a row in order, until one fails again. Raises InvalidInput for code of another build.

    ``store``: for the handlers of a reactor that ask for it.
    """
    build = yield from live_build(keys, one.name)
    if isinstance(one, Projection) and one.build != code_of(build):
        raise InvalidInput(
            f"projection {one.name!r}: the live build is {build!r}, and this code is build {one.build!r}",
            hint="Load the code of the live build with --projections, or rebuild the projection.",
        )
    freed = 0
    while True:
        waiting = [aside for aside in (yield from read_parked(keys, one.name, build)) if aside.key == key]
        portion = waiting[:EVENTS_A_TRY]
        if not portion:
            return RowOutcome(keys.partition, key, freed, 0)
        if dry_run and isinstance(one, Reactor):
            return RowOutcome(keys.partition, key, 0, len(waiting), "effects cannot be tried without performing them")
        try:
            tried = yield from _try(keys, one, build, key, waiting if dry_run else portion, store)
        except UndecodableEvent as damage:
            return RowOutcome(keys.partition, key, freed, len(waiting), str(damage))
        done, row = tried.done, tried.row
        if dry_run:
            left = len(waiting) - done
            return RowOutcome(
                keys.partition, key, done, left, _text(tried.failure) or (waiting[done].error if left else "")
            )
        again = None
        if tried.failure is not None:
            was = portion[done]
            now = clock.now()
            again = replace(
                failing(key, tried.events[done], tried.failure, was.attempts + 1, was.first_us or now, now),
                position=was.position,
            )
        if not (yield from unpark(keys, one.name, build, key, row, portion[:done], failed=again)):
            continue  # the row or its parked events changed meanwhile: read them again
        freed += done
        for aside in portion[:done]:
            write(FailedEvent(one.name, keys.partition, REDRIVEN, aside))
        if again is not None:
            write(FailedEvent(one.name, keys.partition, PARKED, again))
        if tried.failure is not None:
            return RowOutcome(keys.partition, key, freed, len(waiting) - done, _text(tried.failure))


def drop_row(keys: PartitionKeys, name: str, key: str) -> DriverOperation[RowOutcome]:
    """Give the parked events of a row up: they become skipped events, and the row takes new events again."""
    build, given_up = (yield from live_build(keys, name)), 0
    while True:
        waiting = [aside for aside in (yield from read_parked(keys, name, build)) if aside.key == key]
        if not waiting:  # else the runner may have parked later events meanwhile: these are given up, too
            return RowOutcome(keys.partition, key, given_up, 0)
        [[row]] = yield Execute([rows_command(keys, name, build, [key])])
        records = [replace(aside, error=aside.error or "dropped after a parked event") for aside in waiting]
        if (yield from unpark(keys, name, build, key, (row, row), waiting, skipped=records)):
            given_up += len(waiting)
            for aside in waiting:
                write(FailedEvent(name, keys.partition, DROPPED, aside))


@dataclass(slots=True)
class _Tried:
    """How many of the events succeeded, the row before and after them, and the failure of the next one."""

    events: list[RecordedEvent]
    done: int
    row: tuple[bytes | None, bytes | None]
    failure: HandlerFailed | None


def _try(
    keys: PartitionKeys, one: Handlers, build: str, key: str, portion: Sequence[SetAsideEvent], store: object
) -> DriverOperation[_Tried]:
    events = yield from _read(keys, portion)
    if isinstance(one, Projection):
        return (yield from _fold(keys, one, build, key, events))
    assert isinstance(one, Reactor)
    return (yield from _react(one, events, store))


def _read(keys: PartitionKeys, portion: Sequence[SetAsideEvent]) -> DriverOperation[list[RecordedEvent]]:
    """The parked events, from the log, up to one that cannot be decoded. Raises UndecodableEvent if it is the first."""
    replies = yield Execute([("XRANGE", keys.log, aside.position, aside.position) for aside in portion])
    events = []
    for aside, entries in zip(portion, replies, strict=True):
        if not entries:
            raise DataError(f"the parked event at position {aside.position} is not in the log any more")
        try:
            events.append(decode_entry(entries[0], keys.partition))
        except UndecodableEvent:
            if not events:
                raise
            break
    return events


def _fold(
    keys: PartitionKeys, one: Projection, build: str, key: str, events: list[RecordedEvent]
) -> DriverOperation[_Tried]:
    [[before]] = yield Execute([rows_command(keys, one.name, build, [key])])
    steps: list[Step] = [
        (key, handler, event) for event in events if (handler := one.handler(event.type)) is not None
    ]  # fmt: skip
    folded = yield from fold(one, steps, {key: packed_row(BuildView(keys, one.name, build), key, before)})
    after = stored_row(keys, key, folded.changed[key]) if key in folded.changed else before
    failed = folded.failure
    done = len(events) if failed is None else [event.position for event in events].index(failed.position)
    return _Tried(events, done, (before, after), failed)


def _react(one: Reactor, events: list[RecordedEvent], store: object) -> DriverOperation[_Tried]:
    """Try one event only: an effect that was performed is recorded before the next event is tried."""
    event, handler = events[0], one.handler(events[0].type)
    cause = None if handler is None else (yield from handled(handler, *one.arguments(handler, event, store)))
    failure = None if cause is None else one.failed(event, cause)
    return _Tried(events, 0 if failure is not None else 1, (None, None), failure)


def _text(failure: HandlerFailed | None) -> str:
    return "" if failure is None else str(failure)
