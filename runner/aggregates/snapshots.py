"""Snapshots: they save replaying what is long ago, and are never believed more than the log.

A snapshot is kept beside its stream, ``{es.0}:snapshot:<stream>``, a string: a CRC-32 (4 bytes), then a MessagePack
array::

    [class, snapshot_version, version, id of the event with that number (16 bytes), state]

It is passed over, and the whole history replayed, when it is damaged, is of another class or `snapshot_version`, or
when the stream holds another event there or none; where it was trimmed, loading raises LogTrimmed as it would without.
The next save that a snapshot is due for replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..effects import DriverOperation, Execute
from ..format.checksum import seal, unseal
from ..format.codec import pack_value
from ..format.keys import PartitionKeys
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
    return seal([*content, state], what)


def write_snapshot(keys: PartitionKeys, stream: str, packed: bytes) -> DriverOperation[None]:
    yield Execute([("SET", keys.snapshot(stream), packed)])


def read_snapshot(keys: PartitionKeys, stream: str, kind: type[Aggregate]) -> DriverOperation[Snapshot | None]:
    """The stored snapshot, if it is whole and of this class."""
    [found] = yield Execute([("GET", keys.snapshot(stream))])
    if found is None:
        return None
    try:
        name, snapshot_version, version, event_id, state = unseal(found)
    except ValueError:  # Damaged is one
        return None
    fits = (name, snapshot_version) == (kind.__qualname__, kind.snapshot_version)
    possible = isinstance(version, int) and 0 < version < 2**63
    return Snapshot(version, event_id, state) if fits and possible else None
