"""Checkpoints and commits. All as operations and commands.

Safety lies in `commit.lua`: it refuses any commit that was not folded from the stored checkpoint by the owner of the
build under its present claim. Everything here can therefore be repeated, lost or late without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..effects import Execute, StoreOperation
from ..errors import CommitRefused, HistoryDiverged, LogTruncated
from ..format.events import entry_id
from ..format.keys import PartitionKeys


@dataclass(slots=True)
class Checkpoint:
    """The position of the last event applied, and that event's id (16 bytes); 0 and empty before the first."""

    position: int = 0
    id: bytes = b""


@dataclass(slots=True)
class Claim:
    """The right to commit to a build of a projection, and where it stands."""

    owner: str
    build: str
    #: Being made beside the live build, not live itself.
    candidate: bool
    #: The fencing token: higher with every claim of the build, the same owner's included.
    token: int
    checkpoint: Checkpoint
    #: How often parked rows of the build were set free, as far as the owner has looked.
    generation: str = "0"
    #: A reactor's own: what it has done beyond the checkpoint.
    ahead: bytes = b""
    #: How often the build was reset; "new": there was no record of it before.
    resets: str = "0"


def check_commit(reply: Sequence[Any], name: str, partition: int) -> None:
    """Raise CommitRefused unless the commit was taken."""
    if reply[0] == b"ok":
        return
    what = reply[1].decode()
    detail = {
        b"owner": "another runner has claimed it" if what else "it was reset, switched to another build, or released",
        b"generation": "rows of it that were parked are free again",
        b"moved": f"its checkpoint was moved to {what} by someone else",
        b"suspect": f"the event at its checkpoint, position {what}, is another or gone",
    }[reply[0]]
    raise CommitRefused(name, partition, detail)


def compare_with_log(keys: PartitionKeys, name: str, checkpoint: Checkpoint) -> StoreOperation[None]:
    """Compare a checkpoint with the log: the event it stands on must be there.

    Raises LogTruncated where the log ends before it, HistoryDiverged where another event is there, or none.
    """
    position = checkpoint.position
    if position == 0:
        return
    entries, floor, last = yield Execute([
        ("XRANGE", keys.log, position, position),
        ("HGET", keys.meta, "floor"),
        ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
    ])  # fmt: skip
    if not entries:
        trimmed = int(floor or 0)
        if position <= trimmed:
            return  # there is nothing left to compare with
        end = int(last[0][0].partition(b"-")[0]) if last else trimmed
        if end < position:
            raise LogTruncated(name, keys.partition, position, end)
        raise HistoryDiverged(name, keys.partition, position, f"there is no such event; the log ends at {end}")
    found = entry_id(entries[0])
    if found != checkpoint.id:
        raise HistoryDiverged(
            name, keys.partition, position, f"the event there is {_uuid(found)}, not {_uuid(checkpoint.id)}"
        )


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw)) if len(raw) == 16 else raw.hex() or "none"
