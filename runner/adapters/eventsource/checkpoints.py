"""Checkpoints of the library's projections and positions of its subscriptions.

``{es.0}:eventsource:checkpoints``, a hash, holds a record (see `runner.log.records`) of one map by name::

    {"event_id": "…", "event_type": "Placed", "at": "2026-01-31T12:00:00+00:00", "count": 7, "position": "{\\"s\\":…}"}

``count`` is how many times the checkpoint was set; a repeated request counts once. ``position`` exists once a position
was saved.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from eventsource.ports import Position
from eventsource.ports.checkpoints import CheckpointData, LagMetrics

from ...errors import LogTrimmed
from ...format.events import RecordedEvent
from ...log.reading import BackwardPages
from .records import Check, Record, Records, count, moment, text
from .store import RedisEventStore
from .translating import stream_id

#: Events in a page when the lag is computed: mostly only the last event is needed.
LAG_PAGE = 20

_NEEDED: dict[str, Check] = {"event_id": UUID, "event_type": text, "at": moment, "count": count}
_POSSIBLE: dict[str, Check] = {"position": Position.from_str}


class RedisCheckpointRepository:
    """A `CheckpointRepository` beside the events of a store. The last writer wins, as the port says.

    Closing the store closes it; errors are those of the store.
    """

    def __init__(self, store: RedisEventStore) -> None:
        self._store = store.event_store
        self._threads = store.threads
        self._records = Records(self._store, "checkpoints", _NEEDED, _POSSIBLE)

    async def get_checkpoint(self, projection_name: str) -> UUID | None:
        """The id of the last event that was processed; None without a checkpoint."""
        record = await self._threads.run(self._records.get, projection_name)
        return UUID(record["event_id"]) if record else None

    async def update_checkpoint(self, projection_name: str, event_id: UUID, event_type: str) -> None:
        """Set the checkpoint, and count one event more. A saved position stays."""
        await self._set(projection_name, event_id, event_type, {})

    async def reset_checkpoint(self, projection_name: str) -> None:
        """Remove the checkpoint and its position."""
        await self._threads.run(self._records.remove, projection_name)

    async def get_position(self, subscription_id: str) -> Position | None:
        """The position that was saved last; None if there is none."""
        record = await self._threads.run(self._records.get, subscription_id)
        return _position(record) if record else None

    async def save_position(self, subscription_id: str, position: Position, event_id: UUID, event_type: str) -> None:
        """Set the checkpoint with a position, of this or another store, and count one event more."""
        await self._set(subscription_id, event_id, event_type, {"position": position.to_str()})

    async def get_all_checkpoints(self) -> list[CheckpointData]:
        """Every checkpoint, by name."""
        found = await self._threads.run(lambda: [_data(name, record) for name, record, _ in self._records.all()])
        return sorted(found, key=lambda checkpoint: checkpoint.projection_name)

    async def get_lag_metrics(self, projection_name: str, event_types: list[str] | None = None) -> LagMetrics | None:
        """How far a projection lags the last event of its types, or of all; None without a checkpoint.

        The seconds go from the checkpoint's last update to the moment when that event was stored. The log is read from
        its end back to that event, or to the checkpoint's event.
        """
        return await self._threads.run(self._lag, projection_name, frozenset(event_types or ()))

    async def _set(self, name: str, event_id: UUID, event_type: str, more: Record) -> None:
        changes = {"event_id": str(event_id), "event_type": event_type, "at": datetime.now(UTC).isoformat(), **more}
        await self._threads.run(self._records.count, name, changes)

    def _lag(self, name: str, types: frozenset[str]) -> LagMetrics | None:
        record = self._records.get(name)
        if record is None:
            return None
        checkpoint = _data(name, record)
        latest = self._latest(types, checkpoint.last_event_id)
        lag = 0.0
        if latest and latest.id != checkpoint.last_event_id and checkpoint.last_processed_at:
            lag = max(0.0, (latest.recorded_at - checkpoint.last_processed_at).total_seconds())
        return LagMetrics(
            projection_name=name,
            last_event_id=record["event_id"],
            latest_event_id=str(latest.id) if latest else None,
            lag_seconds=round(lag, 1),
            events_processed=checkpoint.events_processed,
            last_processed_at=record["at"],
        )

    def _latest(self, types: frozenset[str], reached: UUID | None) -> RecordedEvent | None:
        """The last event of these types after the event ``reached``, or that event itself; else None."""
        pages = BackwardPages(0, None, 0, LAG_PAGE)
        try:
            while (events := self._store.run(pages.next(self._store.info))) is not None:
                for event in events:
                    relevant = stream_id(event.stream) is not None and (not types or event.type in types)
                    if relevant or event.id == reached:
                        return event
        except LogTrimmed:
            pass  # the trimmed events do not matter
        return None


def _position(record: Record) -> Position | None:
    return Position.from_str(record["position"]) if "position" in record else None


def _data(name: str, record: Record) -> CheckpointData:
    return CheckpointData(
        projection_name=name,
        last_event_id=UUID(record["event_id"]),
        last_event_type=record["event_type"],
        last_processed_at=datetime.fromisoformat(record["at"]),
        events_processed=record["count"],
        position=_position(record),
    )
