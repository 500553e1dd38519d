"""The library's projection store: the progress of each projection, which only rises or is cleared.

The interface gives an event id and two times, and an event id says nothing about order. So the id is searched in the
log after the stored event. A state is written on two conditions: its event follows the stored event, and the log still
holds the stored event (or it was trimmed). The write is refused if another state was stored since the comparison (see
`runner.log.records`), so two projectors of one name cannot overwrite each other unnoticed.

===============================  ==================================================================
stored                           may follow
===============================  ==================================================================
nothing, or no event yet         anything
an event                         the same event
an event of the log              a later event of the log
an integer                       a higher one
anything else                    a state that was updated at the same time or later
===============================  ==================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from castlecraft_engineer.abstractions.projection import ProjectionState
from castlecraft_engineer.abstractions.projection_store import ProjectionStore, TEventId

from ...aio.store import AsyncEventStore
from ...effects import Command, Execute, StoreOperation
from ...errors import Conflict, InvalidInput, RecordDamaged
from ...format import fields
from ...format.events import to_microseconds
from ...format.keys import PartitionKeys
from ...format.names import check_name
from ...format.numbers import check_number
from ...format.scripts import load
from ...log import records
from ...log.info import StoreInfo
from ...log.records import Place, Stored
from .ids import check_store


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a projection is. ``position`` is its event's position; 0 = no event, or none in the log."""

    position: int
    event_id: Any
    timestamp: datetime | None
    updated: datetime

    def __str__(self) -> str:
        return f"event {self.event_id} (position {self.position})" if self.position else f"event {self.event_id!r}"


class RedisProjectionStore(ProjectionStore[TEventId]):
    """The states of projections whose events are in the log of the same store, which has one partition.

    For events that are kept elsewhere give ``events_in_log=False``: then their ids are not searched in the log.
    """

    def __init__(self, store: AsyncEventStore, *, events_in_log: bool = True) -> None:
        self._store = check_store(store)
        self._events_in_log = events_in_log

    async def get_projection_state(self, projection_id: str) -> ProjectionState | None:
        """How far a projection is; None if no state is stored. Raises DataError for a damaged state."""
        place = _place(await self._info(projection_id), projection_id)
        progress = _progress(await self._store.run(records.read(place)), place, projection_id)
        if progress is None:
            return None
        return ProjectionState(projection_id, progress.event_id, progress.timestamp, progress.updated)

    async def save_projection_state(self, projection_state: ProjectionState) -> None:
        """Write how far a projection is. Repeating the same write is safe.

        Raises Conflict for a state that does not follow the stored one (`clear_projection_state` goes back on purpose);
        InvalidInput for an id or a time that cannot be stored; StoreTrouble.
        """
        state = projection_state
        new = _Progress(0, state.last_processed_event_id, state.last_processed_event_timestamp, state.last_updated_at)
        info = await self._info(state.projection_id)
        to_microseconds(new.updated, "last_updated_at")
        _record(new, state.projection_id)  # an unfit state is refused before any request
        log = info.keys[0] if self._events_in_log else None
        await self._store.run(_save(info, state.projection_id, new, log, self._store.settings.page_size))

    async def clear_projection_state(self, projection_id: str) -> None:
        """Forget how far a projection is, so that it begins anew."""
        await self._store.run(records.remove(_place(await self._info(projection_id), projection_id)))

    async def _info(self, projection_id: str) -> StoreInfo:
        """Raises InvalidInput for an invalid name, and for a store whose events have no single order."""
        check_name(projection_id, "projection")
        info = await self._store.info()
        if self._events_in_log and info.partitions > 1:
            raise InvalidInput(
                f"store {info.name!r} has {info.partitions} partitions, so its events have no single order",
                hint="Make the store with one partition; or say events_in_log=False if the projection knows the order.",
            )
        return info


def _place(info: StoreInfo, projection: str) -> Place:
    return Place(f"{info.keys[0].tag}:castlecraft:projection:{projection}")


def _record(progress: _Progress, projection: str) -> bytes:
    content = [progress.position, progress.event_id, progress.timestamp, progress.updated]
    return records.record_of(content, f"state of projection {projection!r}")


def _progress(stored: Stored, place: Place, projection: str) -> _Progress | None:
    """The stored state of a projection. Raises DataError."""
    if not stored:
        return None
    try:
        progress = _Progress(*stored.values(int, object, datetime | None, datetime))
        check_number(progress.position, "its position")
    except ValueError as fault:  # Damaged and InvalidInput are such
        raise RecordDamaged(
            f"the state of projection {projection!r} is damaged: {place.key}: {fault}",
            place.key,
            hint="Restore it from a backup, or call clear_projection_state() and rebuild its read model.",
        ) from fault
    return progress


def _save(
    info: StoreInfo, projection: str, new: _Progress, log: PartitionKeys | None, page: int
) -> StoreOperation[None]:
    def decide(stored: Stored) -> StoreOperation[bytes]:
        follows = yield from _follow(projection, _progress(stored, place, projection), new, log, page)
        return _record(follows, projection)

    place = _place(info, projection)
    yield from records.update(info, info.keys[0], place, decide)


def _follow(
    projection: str, stored: _Progress | None, new: _Progress, log: PartitionKeys | None, page: int
) -> StoreOperation[_Progress]:
    """``new`` with its position, if it may follow. Raises Conflict."""
    before = _Progress(0, None, None, new.updated) if stored is None else stored
    if new.event_id == before.event_id:
        return replace(new, position=before.position)
    if log is None:
        before = replace(before, position=0)
    elif isinstance(new.event_id, UUID):
        new = replace(new, position=(yield from _find(log, new.event_id, before, page)))
    if before.event_id is None or _is_further(before, new):
        return new
    raise Conflict(
        f"projection {projection!r} stands on {before}, and {new} does not follow it",
        hint="Another projector of this name is further, or history was rewritten. Run one projector only; "
        "call clear_projection_state() to begin anew.",
    )


def _is_further(before: _Progress, new: _Progress) -> bool:
    if new.event_id is None:
        return False
    if before.position:
        return new.position > 0  # it was searched after the stored event
    if isinstance(before.event_id, int) and isinstance(new.event_id, int):
        return new.event_id > before.event_id
    return new.updated >= before.updated


def _find(keys: PartitionKeys, event_id: UUID, before: _Progress, page: int) -> StoreOperation[int]:
    """The position of an event that follows ``before``; 0 if there is none, or if the event of ``before`` is gone."""
    after = before.position
    history = [_look(keys, before.event_id, after, 1), ("HGET", keys.meta, "floor")] if after else []
    [[verdict, *where], *history] = yield Execute([_look(keys, event_id, after + 1, page), *history])
    floor = fields.number(keys.meta, "floor", history[1]) if history else 0
    if history and history[0][0] != b"found" and floor < after:  # and it was not trimmed
        return 0
    while verdict == b"further":
        [[verdict, *where]] = yield Execute([_look(keys, event_id, _position(where) + 1, page)])
    return _position(where) if verdict == b"found" else 0


def _look(keys: PartitionKeys, event_id: UUID, first: int, count: int) -> Command:
    return load("adapters/find_event").call([keys.log], event_id.bytes, first, count)


def _position(where: list[bytes]) -> int:
    return int(where[0].partition(b"-")[0])
