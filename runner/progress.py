"""How far a projection is: claiming it, committing a batch, saying its state, resetting it. All as operations.

Safety lies in `commit.lua`: it refuses any commit that was not folded from the stored checkpoint by the runner that
claimed the projection last. Everything here can therefore be repeated, lost or late without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .errors import CommitRefused, DataError, HistoryDiverged, InvalidInput
from .events import decode_entry
from .keys import PartitionKeys
from .names import check_plain_name
from .requests import Command, Execute, Operation
from .scripts import load

#: The build of a projection that has never been rebuilt.
FIRST_BUILD = "1"


@dataclass(slots=True)
class Checkpoint:
    """The position of the last event applied, and that event's id (16 bytes); 0 and empty before the first."""

    position: int = 0
    id: bytes = b""


@dataclass(slots=True)
class Claim:
    """The right to commit to a projection, and where it stands."""

    owner: str
    build: str
    checkpoint: Checkpoint


def claim(keys: PartitionKeys, name: str, owner: str) -> Operation[Claim]:
    """Become the one that commits to the projection, after checking that its checkpoint is still in the log.

    Raises HistoryDiverged.
    """
    command = load("claim").call([keys.projection(name), keys.projections], owner, name, FIRST_BUILD, "")
    [[_, position, event_id, build]] = yield Execute([command])
    found = Claim(owner, build.decode(), Checkpoint(int(position), event_id))
    yield from verify(keys, name, found.checkpoint)
    return found


def confirm(keys: PartitionKeys, name: str, held: Claim) -> Operation[None]:
    """Claim a projection that is claimed already once more, and take up from where it stands, checked against the log.

    After a lost connection nobody else knows whether the last commit ran, or is still to run: a new owner's name
    fences it off. Raises CommitRefused when the claim is lost, HistoryDiverged when the log is another.
    """
    owner, _, count = held.owner.partition(".")
    again = f"{owner}.{int(count or 0) + 1}"
    command = load("claim").call([keys.projection(name), keys.projections], again, name, held.build, held.owner)
    [reply] = yield Execute([command])
    if reply[0] == b"owner":
        if not reply[1] and held.checkpoint.position:
            raise HistoryDiverged(
                name, keys.partition, held.checkpoint.position, "the store has forgotten the projection"
            )
        check_commit(reply, name, keys.partition)
    _, position, event_id, build = reply
    if build.decode() != held.build:
        check_commit([b"build", build], name, keys.partition)
    held.owner, held.checkpoint = again, Checkpoint(int(position), event_id)
    yield from verify(keys, name, held.checkpoint)


def verify(keys: PartitionKeys, name: str, checkpoint: Checkpoint) -> Operation[None]:
    """Compare a checkpoint with the log: the event it stands on must be there. Raises HistoryDiverged."""
    position = checkpoint.position
    if position == 0:
        return
    entries, floor, last = yield Execute([
        ("XRANGE", keys.log, position, position),
        ("HGET", keys.meta, "floor"),
        ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
    ])  # fmt: skip
    if not entries:
        if floor is not None and position <= int(floor):
            return  # trimmed, so there is nothing left to compare with
        end = int(last[0][0].partition(b"-")[0]) if last else 0
        raise HistoryDiverged(name, keys.partition, position, f"there is no such event; the log ends at {end}")
    found = entries[0][1][1][3:19]
    if found != checkpoint.id:
        raise HistoryDiverged(
            name, keys.partition, position, f"the event there is {_uuid(found)}, not {_uuid(checkpoint.id)}"
        )


def commit_command(
    keys: PartitionKeys,
    name: str,
    held: Claim,
    after: Checkpoint,
    changed: dict[str, bytes | None],
    handled: int,
) -> Command:
    """The command that writes a batch and moves the checkpoint from the held one to ``after``."""
    before = held.checkpoint
    gone = [key for key, row in changed.items() if row is None]
    args: list[Any] = [
        held.owner, held.build, before.position, before.id, after.position, after.id, handled, len(changed) - len(gone),
    ]  # fmt: skip
    if gone:
        for key, row in changed.items():
            if row is not None:
                args += (key, row)
        args += gone
    else:
        for pair in changed.items():
            args += pair
    return load("commit").call([keys.projection(name), keys.view(name, held.build)], *args)


def check_commit(reply: Sequence[Any], name: str, partition: int) -> None:
    """Raise CommitRefused unless the commit was taken."""
    if reply[0] == b"ok":
        return
    kind, what = reply[0].decode(), reply[1].decode()
    detail = {
        "owner": "another runner has claimed it" if what else "it was reset or released",
        "build": f"its live build is {what!r} now" if what else "it was reset",
        "moved": f"its checkpoint was moved to {what} by someone else",
    }[kind]
    raise CommitRefused(name, partition, detail)


def rows_command(keys: PartitionKeys, name: str, build: str, wanted: Sequence[str]) -> Command:
    """The command that loads packed rows."""
    return ("HMGET", keys.view(name, build), *wanted)


def report_command(keys: PartitionKeys, name: str, owner: str, state: str, error: str = "") -> Command:
    """The command that records what the owner is doing."""
    return load("report").call([keys.projection(name)], owner, state, error)


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """What the store knows about a projection in one partition, whether or not a runner is there."""

    name: str
    partition: int
    #: "catching up", "live", "stopped" or "idle"; as its runner said last.
    state: str
    error: str
    position: int
    #: Events appended but not applied.
    lag: int
    #: How long ago the oldest of these was recorded, in seconds by the writer's clock; 0 where there are none.
    lag_seconds: float
    rows: int
    applied: int
    build: str
    #: Seconds since its runner was heard of; None if never.
    seen_ago: float | None


def projection_names(keys: PartitionKeys) -> Operation[list[str]]:
    """The names of the projections that have a checkpoint in this partition, sorted."""
    [members] = yield Execute([("SMEMBERS", keys.projections)])
    return sorted(member.decode() for member in members)


def status(keys: PartitionKeys, name: str) -> Operation[ProjectionStatus]:
    """Where a projection stands. Raises InvalidInput for a projection the store does not know."""
    fields = ("position", "build", "state", "error", "applied", "seen")
    values, last, now = yield Execute([
        ("HMGET", keys.projection(check_plain_name(name, "projection")), *fields),
        ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
        ("TIME",),
    ])  # fmt: skip
    if values[1] is None:
        raise unknown_projection(name)
    position, build = int(values[0] or 0), values[1].decode()
    end = int(last[0][0].partition(b"-")[0]) if last else 0
    time = int(now[0]) * 1_000_000 + int(now[1])
    waiting, rows = yield Execute([
        ("XRANGE", keys.log, position + 1, "+", "COUNT", 1),
        ("HLEN", keys.view(name, build)),
    ])  # fmt: skip
    lag_seconds = 0.0
    if waiting:
        try:
            oldest = decode_entry(waiting[0], keys.partition).recorded_us
            lag_seconds = max(0.0, (time - oldest) / 1e6)
        except DataError:
            pass  # the next event cannot be read: its time is not known, and its projection says what is wrong
    return ProjectionStatus(
        name, keys.partition, (values[2] or b"idle").decode(), (values[3] or b"").decode(), position,
        max(0, end - position), lag_seconds, rows, int(values[4] or 0), build,
        (time - int(values[5])) / 1e6 if values[5] else None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What a reset removed, or would remove: rows of the view, and the position the checkpoint stood at."""

    partition: int
    position: int
    rows: int


def reset(keys: PartitionKeys, name: str, *, dry_run: bool = False) -> Operation[ResetResult]:
    """Forget a projection's view and checkpoint; the next run begins at position 0. Raises InvalidInput."""
    [build] = yield Execute([("HGET", keys.projection(check_plain_name(name, "projection")), "build")])
    if build is None:
        raise unknown_projection(name)
    command = load("reset").call(
        [keys.projection(name), keys.projections, keys.view(name, build.decode())],
        name, build, "1" if dry_run else "0",
    )  # fmt: skip
    [[verdict, *what]] = yield Execute([command])
    if verdict == b"build":
        raise CommitRefused(name, keys.partition, "its live build changed just now; try again")
    return ResetResult(keys.partition, int(what[0]), int(what[1]))


def unknown_projection(name: str) -> InvalidInput:
    return InvalidInput(
        f"the store knows no projection {name!r}", hint="`runner status` lists those it knows; has it ever been run?"
    )


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw)) if len(raw) == 16 else raw.hex() or "none"
