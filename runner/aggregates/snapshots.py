"""Snapshots: they save replaying what is long ago, and are never believed more than the log.

A snapshot is kept beside its stream, ``{es.0}:snapshot:<stream>``, a string that holds a record (see
`runner.log.records`)::

    [class, snapshot_version, version, id of the event with that number (16 bytes), state]

It is passed over, and the whole history replayed, when it is damaged, is of another class or `snapshot_version`, or
when the stream holds another event there or none; where it was trimmed, loading raises LogTrimmed as it would without.
The next save that a snapshot is due for replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..effects import StoreOperation
from ..format.codec import pack_value
from ..format.keys import PartitionKeys
from ..log import records
from .aggregate import Aggregate


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, and the event it was taken at: its number and id."""

    version: int
    event_id: bytes
    state: Any


def pack_snapshot(aggregate: Aggregate, version: int, event_id: UUID) -> bytes:
    """What is stored. Raises PayloadError for a state that cannot be."""
    kind = type(aggregate)
    what = f"snapshot of {aggregate!r}"
    content = [kind.__qualname__, kind.snapshot_version, version, event_id.bytes]
    pack_value(state := aggregate.state(), what)  # so that the error names what is wrong in it
    return records.record_of([*content, state], what)


def write_snapshot(keys: PartitionKeys, stream: str, packed: bytes) -> StoreOperation[None]:
    """Store a snapshot in place of any other: the newest is mostly the best one, and each may be passed over."""
    yield from records.put(keys.snapshot(stream), packed)


def read_snapshot(keys: PartitionKeys, stream: str, kind: type[Aggregate]) -> StoreOperation[Snapshot | None]:
    """The stored snapshot, if it is whole and of this class."""
    found = yield from records.read(records.Place(keys.snapshot(stream)))
    if not found:
        return None
    try:
        name, snapshot_version, version, event_id, state = found.content
    except ValueError:  # Damaged is one
        return None
    fits = (name, snapshot_version) == (kind.__qualname__, kind.snapshot_version)
    possible = isinstance(version, int) and 0 < version < 2**63
    return Snapshot(version, event_id, state) if fits and possible else None
