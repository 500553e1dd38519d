"""Checkpoints and commits, as operations and commands.

`commit.lua` gives safety: it refuses a commit unless the owner of the build, under its present claim, folded it from
the stored checkpoint. So a commit that is repeated, lost or late does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ..effects import Execute, StoreOperation
from ..errors import DataError, HistoryDiverged, LogTruncated
from ..format import fields
from ..format.events import entry_id
from ..format.keys import PartitionKeys

#: How often a number of rows is compared at most, while commits change it.
LOOKS = 10


@dataclass(slots=True)
class Checkpoint:
    """The position of the last event applied, and that event's id (16 bytes); 0 and empty before the first."""

    position: int = 0
    id: bytes = b""


@dataclass(slots=True)
class Claim:
    """The right to commit to a build of a projection, and the build's checkpoint."""

    owner: str
    build: str
    #: Whether the build is a candidate, made beside the live build.
    candidate: bool
    #: The fencing token: higher with every claim of the build, the same owner's included. No other claim has it.
    token: int
    checkpoint: Checkpoint
    #: How often parked rows of the build were set free, as the owner has last read.
    generation: str = "0"
    #: Of a reactor only: the events after the checkpoint that are done, packed.
    ahead: bytes = b""
    #: How often the build was reset; "new": there was no record of it before.
    resets: str = "0"
    #: The fencing token of the claim before this one; 0 if there was none, or its record is gone.
    token_before: int = 0
    #: The position from which other code than that of the earlier rows has gone on with the build; None = none has.
    mixed: int | None = None
    #: The machine and process of an owner that went silent, and for how many seconds; empty if the build was free.
    taken_from: str = ""
    silent: float = 0.0


def compare_with_log(
    keys: PartitionKeys, name: str, checkpoint: Checkpoint, candidate: str | None = None
) -> StoreOperation[None]:
    """Check that the log holds the event of a checkpoint. ``candidate``: the build, if it is a candidate.

    Raises LogTruncated if the log ends before it, and HistoryDiverged if its position holds another event or none.
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
        trimmed = fields.number(keys.meta, "floor", floor)
        if position <= trimmed:
            return  # the event was trimmed, so it cannot be compared
        end = int(last[0][0].partition(b"-")[0]) if last else trimmed
        if end < position:
            raise LogTruncated(name, keys.partition, position, end, candidate=candidate)
        detail = f"there is no such event; the log ends at {end}"
        raise HistoryDiverged(name, keys.partition, position, detail, candidate=candidate)
    found = entry_id(entries[0])
    if found != checkpoint.id:
        detail = f"the event there is {_uuid(found)}, not {_uuid(checkpoint.id)}"
        raise HistoryDiverged(name, keys.partition, position, detail, candidate=candidate)


def compare_rows(keys: PartitionKeys, name: str, build: str) -> StoreOperation[None]:
    """Check that a view has as many rows as its commits have left there. Commits may go on. Raises DataError."""
    look = [("HGET", keys.build(name, build), "rows"), ("HLEN", keys.view(name, build))]
    rows = found = None
    for _ in range(LOOKS):  # a commit may come between the two
        before = rows, found
        rows, found = yield Execute(look)
        committed = fields.number(keys.build(name, build), "rows", rows)
        if rows is None or committed == found:
            return
        if (rows, found) == before:
            break
    if rows is not None:
        raise DataError(
            f"view {keys.view(name, build)} should have {committed} rows and has {found}: rows were written or deleted "
            "by hand",
            hint=f"Make the view again: runner rebuild {name}, or runner reset {name} and a run.",
        )


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw)) if len(raw) == 16 else raw.hex() or "none"
