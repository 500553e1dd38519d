"""Snapshots: they save replaying old events. If a snapshot and the log disagree, the log is right.

A snapshot is kept beside its stream, ``{es.0}:snapshot:<stream>``, a string that holds a record (see
`runner.log.records`)::

    [class, snapshot_version, version, id of the event with that number (16 bytes), state]

A snapshot is passed over, and all events are replayed, in three cases: the snapshot is damaged; it is of another class
or `snapshot_version`; the stream holds another event, or none, under the number. If the first events were trimmed,
replaying raises LogTrimmed, as without a snapshot. The next save that is due for a snapshot replaces the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from ..effects import StoreOperation
from ..errors import RecordDamaged
from ..format.checksum import Damaged
from ..format.keys import PartitionKeys
from ..format.sharing import Held, check_own
from ..format.states import check_state
from ..log import records
from ..projections.reach import held_by
from .aggregate import Aggregate


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, and the number and id of the last event in it."""

    version: int
    event_id: bytes
    state: Any


def pack_snapshot(aggregate: Aggregate, version: int, event_id: UUID) -> bytes:
    """The record to store. Raises PayloadError for a state that would not come back as it is."""
    kind = type(aggregate)
    what = f"snapshot of {aggregate!r}"
    content = [kind.__qualname__, kind.snapshot_version, version, event_id.bytes]
    check_fit(state := aggregate.state(), kind, what)  # alone first, so that the error names the wrong part
    return records.record_of([*content, state], what)


def check_fit(state: Any, kind: type[Aggregate], what: str) -> bytes:
    """Pack a state of an aggregate. Raises PayloadError for one that would not come back as it is."""
    packed = check_state(state, what)
    check_own(state, what, _held_by(kind))  # type: ignore[arg-type]
    return packed


@cache
def _held_by(kind: type[Any]) -> Held:
    """The lists and maps that the methods of a class reach, and those that are its attributes."""
    found = [(f"{each.__name__}.{name}", value) for each in kind.__mro__ for name, value in vars(each).items()]
    return held_by((), found)


def write_snapshot(keys: PartitionKeys, stream: str, packed: bytes) -> StoreOperation[None]:
    """Store a snapshot in place of any other. Mostly the newest is the best, and loading needs none."""
    yield from records.put(keys.snapshot(stream), packed)


def read_snapshot(keys: PartitionKeys, stream: str, kind: type[Aggregate]) -> StoreOperation[Snapshot | None]:
    """The stored snapshot, if it is whole and of this class."""
    try:
        found = yield from records.read(records.Place(keys.snapshot(stream)))
        if not found:
            return None
        name, snapshot_version, version, event_id, state = found.values(object, object, int, bytes, object)
    except (RecordDamaged, Damaged):
        return None
    fits = (name, snapshot_version) == (kind.__qualname__, kind.snapshot_version)
    return Snapshot(version, event_id, state) if fits and 0 < version < 2**63 else None
