"""Builds of a projection: the live one, the one before it, and the candidate that is made beside it.

A build is named after the version of the code that makes it, such as ``2``. Another build by the same version gets a
number, such as ``2.3``. Each build has a view, a checkpoint, a lease and parked events of its own, so builds never
share data. In a store of several partitions each partition has its own builds, and switches by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..effects import Execute, StoreOperation
from ..errors import CommitRefused, InvalidInput, LogTrimmed, LogTruncated, RecordDamaged, StoreRefused, counted
from ..format import fields
from ..format.keys import PartitionKeys
from ..format.names import check_plain_name
from ..format.scripts import expect, load
from ..log.reading import last_position
from ..text import nearest
from .checkpoint import Claim

#: The hint where a view cannot be made again, because its first events were trimmed.
NEVER_AGAIN = (
    "Keep the existing view; to make it again, import a full export into a new store and run the projection there."
)


def code_of(build: str) -> str:
    """The version of the code that made a build."""
    return build.partition(".")[0]


def is_older(code: str, other: str) -> bool:
    """Whether a version of the code is known to be older: both are numbers, and it is the lower one."""
    return code.isdecimal() and other.isdecimal() and int(code) < int(other)


def mixed_rows(name: str, build: str, position: int) -> tuple[str, str]:
    """A sentence about rows that two versions of the code have made under one build, and what to do."""
    return (
        f"the code of projection {name!r} changed at position {position}, its build {build!r} did not: "
        "rows may be old and new mixed",
        f"See with `runner rebuild {name} --diff` what the present code makes, which also makes the view again. "
        "Give changed code another build.",
    )


def changed_by_hand(name: str, build: str, rows: int, committed: int) -> tuple[str, str]:
    """A sentence about a view that has another number of rows than its commits have left there, and what to do."""
    return (
        f"the view of projection {name!r} (build {build!r}) has {counted(rows, 'row')} and should have {committed}: "
        "it was written or deleted by hand",
        f"Make the view again: `runner rebuild {name}`, then start its runner.",
    )


@dataclass(frozen=True, slots=True)
class Builds:
    """The builds of a projection in a partition.

    ``gone``: versions of code that were live and were replaced. ``left``: the build that a rollback left.
    """

    live: str | None = None
    previous: str | None = None
    candidate: str | None = None
    gone: frozenset[str] = frozenset()
    made: int = 1
    left: str | None = None

    @property
    def all(self) -> list[str]:
        return [build for build in (self.live, self.previous, self.candidate) if build is not None]

    @property
    def kept(self) -> list[str]:
        """The live build and the previous one."""
        return [build for build in (self.live, self.previous) if build is not None]


def read_builds(keys: PartitionKeys, name: str) -> StoreOperation[Builds]:
    """The builds of a projection; all None if it was never run. Raises RecordDamaged."""
    key = keys.projection(name)
    [flat] = yield Execute([("HGETALL", key)])
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    live, previous, candidate, left = (
        fields.plain_name(key, field, found.get(field.encode())) for field in ("build", "previous", "candidate", "left")
    )
    gone = frozenset(field[5:].decode(errors="replace") for field in found if field.startswith(b"code:"))
    made = fields.number(key, "made", found.get(b"made"), 1)
    return Builds(live, previous, candidate, gone, made, left)


def read_position(keys: PartitionKeys, name: str, build: str) -> StoreOperation[int]:
    """The position of a build's checkpoint; 0 before the first event. Raises RecordDamaged."""
    key = keys.build(name, build)
    [position] = yield Execute([("HGET", key, "position")])
    return fields.number(key, "position", position)


def propose(keys: PartitionKeys, name: str, builds: Builds, code: str) -> StoreOperation[str | None]:
    """Begin a candidate made by ``code``; returns its name, or None if the builds have changed meanwhile.

    Raises LogTrimmed if the first events of the log were trimmed, because a candidate needs all events.
    """
    [stored] = yield Execute([("HGET", keys.meta, "floor")])
    floor = fields.number(keys.meta, "floor", stored)
    if floor:
        raise LogTrimmed(0, floor, hint=NEVER_AGAIN)
    used = {code_of(build) for build in builds.all} | builds.gone
    candidate = f"{code}.{builds.made + 1}" if code in used else code
    dropped = keys.of_build(name, builds.candidate) if builds.candidate else []
    command = load("progress/propose").call(
        [keys.projection(name), *dropped], builds.live or "", builds.candidate or "", candidate, builds.made,
        code, code_of(builds.candidate or ""),
    )  # fmt: skip
    [[verdict]] = yield Execute([command])
    expect("progress/propose", verdict, b"ok", b"changed")
    return candidate if verdict == b"ok" else None


@dataclass(frozen=True, slots=True)
class Lags:
    """The candidate lags the live build: the positions of the two."""

    position: int
    live: int


def switch(keys: PartitionKeys, name: str, held: Claim) -> StoreOperation[Lags | None]:
    """Make the held candidate the live build, unless it lags the present live build.

    Raises CommitRefused; LogTruncated if the live build stands beyond the end of the log, where the candidate cannot
    come.
    """
    while True:
        builds = yield from read_builds(keys, name)
        if builds.live == held.build:
            return None
        live, previous = builds.live or "", builds.previous
        command = load("progress/switch").call(
            [
                keys.projection(name), keys.build(name, held.build), keys.build(name, live),
                *(keys.of_build(name, previous) if previous else []),
            ],
            held.owner, held.token, held.build, live, previous or "", code_of(held.build), code_of(live),
            keys.applied(name),
        )  # fmt: skip
        [reply] = yield Execute([command])
        if reply[0] == b"lags":
            position, goal = int(reply[1]), int(reply[2])
            end = yield from last_position(keys)
            if end < goal:
                raise LogTruncated(name, keys.partition, goal, end)
            return Lags(position, goal)
        if reply[0] == b"changed":
            if builds.candidate != held.build:
                raise CommitRefused(name, keys.partition, f"its build {held.build!r} is not the candidate any more")
            continue
        if reply[0] == b"owner":
            raise CommitRefused(name, keys.partition, "another runner has claimed it")
        expect("progress/switch", reply[0], b"ok")
        return None


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback did: the build that is live now, its position, and the build that was live before.

    ``before`` is None if there was nothing to do, because that build was live already.
    """

    partition: int
    live: str
    position: int
    before: str | None
    #: The live runners that have code of that build, which will keep it up to date: machine and process.
    keepers: tuple[str, ...] = ()


def rollback(
    keys: PartitionKeys, name: str, to: str | None = None, *, dry_run: bool = False
) -> StoreOperation[RollbackResult]:
    """Make the previous build live again, unless a rollback has done it. ``to``: the build, or the version of its code.

    ``dry_run``: only say what would be done. Raises InvalidInput if that build is not kept, and LogTrimmed.
    """
    while True:
        builds = yield from read_builds(keys, check_plain_name(name, "projection"))
        if builds.live is None:
            raise (yield from unknown_projection(keys, name))
        goal = goal_of(builds, to)
        if builds.live == goal:
            position = yield from read_position(keys, name, builds.live)
            return RollbackResult(keys.partition, builds.live, position, None)
        if builds.previous is None or builds.previous != goal:
            raise InvalidInput(
                f"projection {name!r} (partition {keys.partition}) has no build "
                + (f"before {builds.live!r}" if to is None else f"{to!r}; it has {' and '.join(builds.kept)}"),
                hint=(
                    f"Its candidate {builds.candidate!r} is not live here yet. To have {builds.live!r} live in all "
                    f"partitions: `runner rollback {name} --to {builds.live}`."
                    if to is None and builds.candidate is not None
                    else "Rebuild the view with the older code: a replaced build is kept until the next rebuild or "
                    "reset."
                ),
            )
        command = load("progress/rollback").call(
            [
                keys.projection(name), keys.build(name, builds.live), keys.build(name, builds.previous),
                keys.meta, keys.parked(name, builds.previous),
            ],
            builds.live, builds.previous, code_of(builds.live), code_of(builds.previous), keys.applied(name),
            "1" if dry_run else "0",
        )  # fmt: skip
        [[verdict, *what]] = yield Execute([command])
        if verdict == b"trimmed":
            raise LogTrimmed(*what, hint=NEVER_AGAIN)
        if verdict == b"ok":
            return RollbackResult(keys.partition, builds.previous, int(what[0]), builds.live)
        expect("progress/rollback", verdict, b"changed")


def goal_of(builds: Builds, to: str | None) -> str | None:
    """The build that a rollback makes live, or None if there is no such build.

    After a rollback that is the build that it has made live: the same rollback once more changes nothing.
    """
    if to is None:
        return builds.live if builds.left is not None else builds.previous
    found = [build for build in builds.kept if to in (build, code_of(build))]
    return to if to in found else next(iter(found), None)


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What a reset removed, or would remove: the number of the view's rows, and the checkpoint's position."""

    partition: int
    position: int
    rows: int


def reset(keys: PartitionKeys, name: str, *, dry_run: bool = False) -> StoreOperation[ResetResult]:
    """Remove a projection's views and checkpoints, so that its next run begins at position 0.

    Raises InvalidInput; LogTrimmed if the first events of the log were trimmed, because the next run needs them.
    """
    while True:
        builds = yield from read_builds(keys, check_plain_name(name, "projection"))
        if builds.live is None:
            raise (yield from unknown_projection(keys, name))
        others = [keys.of_build(name, build) for build in builds.all]
        command = load("progress/reset").call(
            [keys.projection(name), keys.projections, keys.meta, *(key for build in others for key in build)],
            name, builds.live, builds.previous or "", builds.candidate or "", "1" if dry_run else "0",
        )  # fmt: skip
        [[verdict, *what]] = yield Execute([command])
        if verdict == b"trimmed":
            forget = f"If nobody runs it any more: `runner unregister {name}`."
            raise LogTrimmed(0, int(what[0]), hint=f"{NEVER_AGAIN} {forget}")
        if verdict == b"ok":
            return ResetResult(keys.partition, int(what[0]), int(what[1]))
        expect("progress/reset", verdict, b"changed")


def unknown_projection(keys: PartitionKeys, name: str) -> StoreOperation[InvalidInput | RecordDamaged]:
    """The error for a projection without a live build: it was never run, or its record is gone.

    If it was never run, the error names the one that was probably meant.
    """
    try:
        [members] = yield Execute([("SMEMBERS", keys.projections)])
    except (StoreRefused, RecordDamaged):  # this user may not look, or `verify` names the key
        members = []
    if name.encode() in members:
        key = keys.projection(name)
        return RecordDamaged(
            f"{key} is damaged: its field 'build' is gone, and the partition has a projection {name!r}",
            key,
            hint=f"Start its runner, which goes on with the build of its code, or forget it: runner unregister {name}.",
        )
    return no_projection(name, (member.decode(errors="replace") for member in members))


def no_projection(name: str, known: Iterable[str]) -> InvalidInput:
    """The same, where the names of those that were run are known."""
    meant = nearest(name, known)
    return InvalidInput(
        f"the store knows no projection {name!r}",
        hint=(f"Did you mean {meant!r}? " if meant else "")
        + "Choose one that `runner status` lists; a projection is listed when it has been run once.",
    )
