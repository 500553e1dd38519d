"""Recorders for other purposes than events, in practice for snapshots, kept beside the log by originator and version.

Versions of snapshots have gaps, and may be recorded in any order. Each originator has a sorted set, scored by version,
of records (see `runner.log.records`) of [topic, state]. A call writes all of its records, or none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import AggregateRecorder, IntegrityError, StoredEvent

from ...effects import Command, Execute, StoreOperation
from ...errors import AppendTooLarge
from ...format.checksum import Damaged
from ...format.numbers import check_number
from ...log import records
from ...log.records import NOTHING, Change, Place, Stored
from ...settings import MAX_APPEND_BYTES
from .datastore import RunnerDatastore, RunnerRecorder
from .naming import text_of

log = logging.getLogger("runner")

#: Scores are floats: whole numbers up to here are exact.
HIGHEST = 2**53


class RunnerSnapshotRecorder(RunnerRecorder, AggregateRecorder):
    """Records stored events by originator and version, without an order between originators."""

    def __init__(self, datastore: RunnerDatastore, purpose: str) -> None:
        super().__init__(datastore)
        self.purpose = purpose

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Record the snapshots. Raises IntegrityError if one of the versions exists already."""
        if stored_events:
            self.datastore.run(self._insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The snapshots of an originator with versions above ``gt``, up to and including ``lte``.

        A damaged snapshot is passed over with a warning: an older one, or none, gives the same aggregate.
        """
        low, high = "-inf" if gt is None else f"({gt}", "+inf" if lte is None else str(lte)
        ends = ("ZREVRANGEBYSCORE", self._key(originator_id), high, low)
        if not desc:
            ends = ("ZRANGEBYSCORE", self._key(originator_id), low, high)
        count = -1 if limit is None else max(limit, 0)
        flat = self.datastore.run(_one((*ends, "WITHSCORES", "LIMIT", 0, count)))
        found = []
        for member, score in zip(flat[::2], flat[1::2], strict=True):
            try:
                topic, state = Stored(member).values(str, bytes)
                version = _version(score)
            except Damaged as fault:
                log.warning(
                    "%s of %s: version %s is damaged and passed over: %s",
                    self.purpose, originator_id, score.decode(), fault,
                )  # fmt: skip
                continue
            found.append(StoredEvent(originator_id, version, topic, state))
        return found

    def _insert(self, stored_events: Sequence[StoredEvent]) -> StoreOperation[None]:
        changes: dict[Place, Change] = {}
        for stored in stored_events:
            version = check_number(stored.originator_version, f"a version of {self.purpose}", 0, HIGHEST)
            place = Place(self._key(stored.originator_id), number=version)
            if place in changes:
                raise _taken(stored)
            what = f"version {version} of {self.purpose}"
            changes[place] = Change(place, NOTHING, records.record_of([stored.topic, stored.state], what))
        size = sum(len(change.record) for change in changes.values())
        if size > MAX_APPEND_BYTES:
            raise AppendTooLarge(f"{self.purpose} of {size} bytes are over the limit of {MAX_APPEND_BYTES}")
        info = self.datastore.store.info
        moved = yield from records.replace(info, info.of_partition(0), list(changes.values()))
        if moved is not None:
            raise _taken(stored_events[moved.change])

    def _key(self, originator_id: UUID | str) -> str:
        tag = self.datastore.store.info.of_partition(0).tag
        return f"{tag}:eventsourcing:{self.purpose}:{text_of(originator_id)}"


def _version(score: bytes) -> int:
    """The version that a score stands for. Raises Damaged."""
    version = float(score)
    if not (version.is_integer() and 0 <= version <= HIGHEST):
        raise Damaged(f"its score {score.decode()} is no version")
    return int(version)


def _one(command: Command) -> StoreOperation[Any]:
    [reply] = yield Execute([command])
    return reply


def _taken(stored: StoredEvent) -> IntegrityError:
    version, text = stored.originator_version, text_of(stored.originator_id)
    return IntegrityError(f"version {version} of originator {text!r} is there already; nothing was recorded")
