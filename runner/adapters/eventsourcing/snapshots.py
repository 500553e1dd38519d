"""Recorders for other purposes than events, which is snapshots: kept beside the log, by originator and version.

Their versions have gaps, and may be recorded in any order. A sorted set an originator, scored by version; what goes
into it, all of a call or none, is checked by `keep.lua`. A member is a MessagePack array [call, version, topic, state]:
``call`` is 16 random bytes, by which a call that is repeated after a lost connection is known from another one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import AggregateRecorder, DataError, IntegrityError, StoredEvent

from ...effects import Command, Execute, StoreOperation
from ...errors import AppendTooLarge, StoreReplaced
from ...format.codec import pack, unpack
from ...format.scripts import load
from ...settings import MAX_APPEND_BYTES
from .datastore import RunnerDatastore, RunnerRecorder
from .naming import text_of

#: Scores are floats: whole numbers up to here are exact.
HIGHEST = 2**53


class RunnerSnapshotRecorder(RunnerRecorder, AggregateRecorder):
    """Records stored events by originator and version, without an order between originators."""

    def __init__(self, datastore: RunnerDatastore, purpose: str) -> None:
        super().__init__(datastore)
        self.purpose = purpose

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Record them. Raises IntegrityError where one of the versions is there already."""
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
        """Those of an originator with versions above ``gt`` up to and with ``lte``."""
        low, high = "-inf" if gt is None else f"({gt}", "+inf" if lte is None else str(lte)
        ends = ("ZREVRANGEBYSCORE", self._key(originator_id), high, low)
        if not desc:
            ends = ("ZRANGEBYSCORE", self._key(originator_id), low, high)
        count = -1 if limit is None else max(limit, 0)
        flat = self.datastore.run(_one((*ends, "WITHSCORES", "LIMIT", 0, count)))
        found = []
        for member, score in zip(flat[::2], flat[1::2], strict=True):
            _, _, topic, state = unpack(member)
            found.append(StoredEvent(originator_id, int(float(score)), topic, state))
        return found

    def _insert(self, stored_events: Sequence[StoredEvent]) -> StoreOperation[None]:
        info = self.datastore.store.info
        call = os.urandom(16)
        keys, size = [info.of_partition(0).meta], 0
        args: list[Any] = [info.epoch]
        seen: set[tuple[str, int]] = set()
        for stored in stored_events:
            key, version = self._key(stored.originator_id), stored.originator_version
            if not isinstance(version, int) or not 0 <= version <= HIGHEST:
                raise DataError(f"version {version!r} of {self.purpose} must be a number from 0 to 2**53")
            if (key, version) in seen:
                raise _taken(stored)
            seen.add((key, version))
            keys.append(key)
            member = pack([call, version, stored.topic, stored.state])  # a set holds equal members once
            args += (version, member)
            size += len(member)
        if size > MAX_APPEND_BYTES:
            raise AppendTooLarge(f"{self.purpose} of {size} bytes are over the limit of {MAX_APPEND_BYTES}")
        verdict, place = yield from _one(load("adapters/keep").call(keys, *args))
        if verdict == b"replaced":
            raise StoreReplaced(info.name)
        if verdict == b"taken":
            raise _taken(stored_events[place - 1])

    def _key(self, originator_id: UUID | str) -> str:
        tag = self.datastore.store.info.of_partition(0).tag
        return f"{tag}:eventsourcing:{self.purpose}:{text_of(originator_id)}"


def _one(command: Command) -> StoreOperation[Any]:
    [reply] = yield Execute([command])
    return reply


def _taken(stored: StoredEvent) -> IntegrityError:
    version, text = stored.originator_version, text_of(stored.originator_id)
    return IntegrityError(f"version {version} of originator {text!r} is there already; nothing was recorded")
