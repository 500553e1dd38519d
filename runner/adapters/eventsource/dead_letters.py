"""The dead-letter queue: events that a projection of the library could not process.

``{es.0}:eventsource:dlq``, a hash, holds a record (see `runner.log.records`) of one map by ``<event id>:<projection>``,
which is the entry's id::

    {"event_id": "…", "projection": "orders", "event_type": "Placed", "event_data": "{…}", "error": "…", "trace": "…",
     "retries": 3, "first": "2026-01-31T12:00:00+00:00", "last": "…", "status": "failed"}

and ``resolved`` and ``by`` once the entry was resolved. The port asks for lists by status and time, so each list reads
the whole queue, a page at a time. Keep the queue short: resolve and delete its entries.
"""

from __future__ import annotations

import heapq
import traceback
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from eventsource.adapters.serialization import json_dumps
from eventsource.ports.dlq import DLQEntry, DLQStats, ProjectionFailureCount

from .records import Check, Record, Records, count, moment, text
from .store import RedisEventStore

#: The statuses that count as a failure.
ACTIVE = frozenset({"failed", "retrying"})

_NEEDED: dict[str, Check] = {
    "event_id": UUID, "projection": text, "event_type": text, "event_data": text, "error": text, "trace": text,
    "retries": count, "first": moment, "last": moment, "status": text,
}  # fmt: skip
_POSSIBLE: dict[str, Check] = {"resolved": moment, "by": text}


class RedisDLQRepository:
    """A `DLQRepository` beside the events of a store. Times are by the callers' clocks.

    Closing the store closes it; errors are those of the store.
    """

    def __init__(self, store: RedisEventStore) -> None:
        self._threads = store.threads
        self._records = Records(store.event_store, "dlq", _NEEDED, _POSSIBLE)

    async def add_failed_event(
        self,
        event_id: UUID,
        projection_name: str,
        event_type: str,
        event_data: dict[str, Any],
        error: Exception,
        retry_count: int = 0,
    ) -> None:
        """Add a failure. If it is known, update the entry, but not its first time and the event's data."""
        now = datetime.now(UTC).isoformat()
        initial = {
            "event_id": str(event_id),
            "projection": projection_name,
            "event_type": event_type,
            "event_data": json_dumps(event_data),
            "first": now,
        }
        changes = {
            "error": _storable(str(error)),
            "trace": _storable("".join(traceback.format_exception(error))),
            "retries": retry_count,
            "last": now,
            "status": "failed",
        }
        await self._threads.run(self._records.patch, f"{event_id}:{projection_name}", changes, initial)

    async def get_failed_events(
        self, projection_name: str | None = None, status: str = "failed", limit: int = 100
    ) -> list[DLQEntry]:
        """Up to ``limit`` entries of a status, and of a projection if one is named; the newest failure first."""
        return await self._threads.run(self._newest, projection_name, status, limit)

    async def get_failed_event_by_id(self, dlq_id: int | str) -> DLQEntry | None:
        """The entry of an id; None if there is none."""
        record = await self._threads.run(self._records.get, str(dlq_id))
        return _entry(str(dlq_id), record) if record else None

    async def mark_resolved(self, dlq_id: int | str, resolved_by: str | UUID) -> None:
        """Mark an entry as resolved. Nothing happens if the entry does not exist."""
        changes = {"status": "resolved", "resolved": datetime.now(UTC).isoformat(), "by": str(resolved_by)}
        await self._threads.run(self._records.patch, str(dlq_id), changes)

    async def mark_retrying(self, dlq_id: int | str) -> None:
        """Mark an entry as being retried. Nothing happens if the entry does not exist."""
        await self._threads.run(self._records.patch, str(dlq_id), {"status": "retrying"})

    async def get_failure_stats(self) -> DLQStats:
        """The number of failed and of retried entries, of how many projections, and since when."""
        return await self._threads.run(self._stats)

    async def get_projection_failure_counts(self) -> list[ProjectionFailureCount]:
        """The number of failures of each projection, the highest number first."""
        return await self._threads.run(self._counts)

    async def delete_resolved_events(self, older_than_days: int = 30) -> int:
        """Remove entries resolved longer ago; returns how many. An entry that fails again meanwhile stays."""
        cutoff = datetime.now(UTC) - timedelta(days=older_than_days)
        return await self._threads.run(self._delete_resolved, cutoff)

    def _newest(self, projection_name: str | None, status: str, limit: int) -> list[DLQEntry]:
        wanted = (
            (record["first"], entry_id, record)
            for entry_id, record, _ in self._records.all()
            if record["status"] == status and projection_name in (None, "", record["projection"])
        )
        return [_entry(entry_id, record) for _, entry_id, record in heapq.nlargest(limit, wanted, key=lambda e: e[:2])]

    def _active(self) -> Iterator[Record]:
        return (record for _, record, _ in self._records.all() if record["status"] in ACTIVE)

    def _stats(self) -> DLQStats:
        failed, retrying, projections, oldest = 0, 0, set(), None
        for record in self._active():
            failed += record["status"] == "failed"
            retrying += record["status"] == "retrying"
            projections.add(record["projection"])
            oldest = min(oldest or record["first"], record["first"])
        return DLQStats(failed, retrying, len(projections), oldest)

    def _counts(self) -> list[ProjectionFailureCount]:
        times: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for record in self._active():
            times[record["projection"]].append((record["first"], record["last"]))
        found = [
            ProjectionFailureCount(name, len(each), min(first for first, _ in each), max(last for _, last in each))
            for name, each in times.items()
        ]
        return sorted(found, key=lambda count: (-count.failure_count, count.projection_name))

    def _delete_resolved(self, cutoff: datetime) -> int:
        old = [
            (entry_id, stored)
            for entry_id, record, stored in self._records.all()
            if record["status"] == "resolved"
            and "resolved" in record
            and datetime.fromisoformat(record["resolved"]) < cutoff
        ]
        return self._records.drop(old)


def _storable(text: str) -> str:
    """The text, with characters that UTF-8 cannot hold escaped: an error may hold half a letter of a file name."""
    return text.encode(errors="backslashreplace").decode()


def _entry(entry_id: str, record: Record) -> DLQEntry:
    resolved = record.get("resolved")
    return DLQEntry(
        id=entry_id,
        event_id=UUID(record["event_id"]),
        projection_name=record["projection"],
        event_type=record["event_type"],
        event_data=record["event_data"],
        error_message=record["error"],
        error_stacktrace=record["trace"],
        retry_count=record["retries"],
        first_failed_at=datetime.fromisoformat(record["first"]),
        last_failed_at=datetime.fromisoformat(record["last"]),
        status=record["status"],
        resolved_at=datetime.fromisoformat(resolved) if resolved else None,
        resolved_by=record.get("by"),
    )
