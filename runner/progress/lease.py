"""Leases: which runner may commit to a build, and for how long.

A lease gives liveness; the fencing token in every commit gives safety. A lease ends by the server's clock. Its holder
stops earlier, by its own monotonic clock, counted from the moment before it asked. Every claim has a higher fencing
token, also after a failover that took the last claim back. So a late renewal or commit is told from a present one, even
of the same owner.

In each partition, code drives one build of a projection: the live one if the same version of the code made it, else a
candidate beside it. Code that was live and was replaced makes no candidate by itself, and neither does code whose
version is a lower number than the live one's: it gets BuildReplaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..effects import Command, Execute, StoreOperation
from ..errors import LONGEST_TEXT, BuildReplaced, LogTrimmed, StoreReplaced
from ..format import fields
from ..format.events import entry_id
from ..format.keys import PartitionKeys
from ..format.scripts import expect, load
from ..log.info import StoreInfo
from .builds import NEVER_AGAIN, Builds, code_of, is_older, propose, read_builds
from .checkpoint import Checkpoint, Claim

#: A longer error of a build is cut to so many characters: a cut text of an exception, and what stands around it.
LONGEST_ERROR = 2 * LONGEST_TEXT


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a runner claims: a projection or reactor in a partition, and the version of its code.

    ``kind`` is "projection" or "reactor". ``from_end``: if there is no checkpoint yet, begin after the last event.
    """

    keys: PartitionKeys
    name: str
    code: str
    kind: str = "projection"
    from_end: bool = False
    #: The Python and the fingerprint of the code; empty if the code is not compared.
    fingerprint: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class HeldByOther:
    """Another runner owns the lease: its id, its machine and process, and the seconds left of the lease."""

    owner: str
    where: str
    left: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The projection stopped by a failure. Only a runner that has just been started claims it again."""


@dataclass(frozen=True, slots=True)
class Free:
    """No runner owns the projection, and ``which`` did not allow to claim it."""


class Which(Enum):
    """What may be claimed."""

    #: An assignment that has not stopped by a failure.
    RUNNABLE = ""
    #: Any assignment.
    ANY = "also"
    #: Only an assignment that has stopped by a failure.
    FAILED_ONLY = "only"
    #: Claim nothing, report the owner.
    NONE = "look"


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """A runner as the store knows it: a random id, the store, the length of its leases in seconds, and its place."""

    id: str
    info: StoreInfo
    lease: float
    #: For people: machine and process.
    where: str = ""

    @property
    def lease_ms(self) -> int:
        return max(1, int(self.lease * 1000))


def acquire(
    runner: RunnerIdentity, request: ClaimRequest, which: Which = Which.RUNNABLE, *, rebuilding: bool = False
) -> StoreOperation[Claim | HeldByOther | Stopped | Free]:
    """Claim the build that this code drives; begin a candidate if code of another version made the live build.

    ``rebuilding``: begin a candidate also beside a live build of the same code. Raises BuildReplaced, LogTrimmed or
    StoreReplaced.
    """
    while True:
        builds = yield from read_builds(request.keys, request.name)
        build, candidate = yield from _choose(request, builds, rebuilding)
        if build is None:
            continue  # another runner proposed a candidate meanwhile
        start = (yield from _end(request.keys)) if request.from_end and builds.live is None else Checkpoint()
        [reply] = yield Execute([_claim_command(runner, request, build, candidate, start, which)])
        verdict = reply[0]
        if verdict == b"changed":
            continue
        if verdict == b"replaced":
            raise StoreReplaced(request.keys.name)
        if verdict == b"held":
            return _held_by_other(reply)
        if verdict == b"stopped":
            return Stopped()
        if verdict == b"trimmed":
            raise LogTrimmed(start.position, int(reply[1]), hint=NEVER_AGAIN)
        if verdict == b"free":
            return Free()
        expect("progress/claim", verdict, b"ok")
        return _claim(runner, request, build, candidate, reply)


def claim_again(runner: RunnerIdentity, request: ClaimRequest, held: Claim) -> StoreOperation[Claim | HeldByOther]:
    """Claim a held build under a new fencing token, and continue from the stored checkpoint.

    After a lost connection the last commit may have run, or may run later: the new token fences it off. Returns
    `HeldByOther` if another runner owns the lease; the owner is empty if this build is no longer the one to drive.
    Raises StoreReplaced.
    """
    command = _claim_command(runner, request, held.build, held.candidate, Checkpoint(), Which.ANY)
    [reply] = yield Execute([command])
    if reply[0] == b"replaced":
        raise StoreReplaced(request.keys.name)
    if reply[0] in (b"changed", b"trimmed"):
        return HeldByOther("", "", 0.0)  # this build is no longer the one to drive
    if reply[0] == b"held":
        return _held_by_other(reply)
    expect("progress/claim", reply[0], b"ok")
    return _claim(runner, request, held.build, held.candidate, reply)


def report_command(
    runner: RunnerIdentity, keys: PartitionKeys, name: str, held: Claim, state: str, error: str = "", *,
    release: bool = False, committed: int = 0, traceback: str = "",
) -> Command:  # fmt: skip
    """The heartbeat: reports what the owner is doing, and renews its lease or releases it.

    ``traceback`` is that of the error; the store keeps it until there is another error, or none. The store refuses the
    report if its checkpoint is before the position ``committed``, or if another build is live by now.
    """
    return load("progress/report").call(
        [keys.build(name, held.build), keys.log, keys.meta, keys.projection(name), keys.view(name, held.build)],
        held.owner, held.token, state, error[:LONGEST_ERROR], 0 if release else runner.lease_ms, runner.info.epoch,
        committed, "" if held.candidate or release else held.build, traceback,
    )  # fmt: skip


def _choose(request: ClaimRequest, builds: Builds, rebuilding: bool) -> StoreOperation[tuple[str | None, bool]]:
    """The build to drive, and whether it is a candidate; None if the builds have to be read again."""
    live = builds.live
    if live is None:
        return request.code, False
    if code_of(live) == request.code and not rebuilding:
        return live, False
    if builds.candidate is not None and code_of(builds.candidate) == request.code:
        return builds.candidate, True
    if (request.code in builds.gone or is_older(request.code, code_of(live))) and not rebuilding:
        raise BuildReplaced(request.name, request.keys.partition, request.code, live)
    if request.kind != "projection":
        return live, False
    return (yield from propose(request.keys, request.name, builds, request.code)), True


def _claim_command(
    runner: RunnerIdentity, request: ClaimRequest, build: str, candidate: bool, start: Checkpoint, which: Which
) -> Command:
    keys = request.keys
    return load("progress/claim").call(
        [keys.projection(request.name), keys.build(request.name, build), keys.projections, keys.meta],
        runner.id, runner.where, runner.lease_ms, runner.info.epoch, request.name, build,
        "candidate" if candidate else "live", request.kind, start.position, start.id, which.value,
        *request.fingerprint,
    )  # fmt: skip


def _held_by_other(reply: list[Any]) -> HeldByOther:
    _, owner, where, left = reply
    return HeldByOther(owner.decode(errors="replace"), where.decode(errors="replace"), left / 1000)


def _claim(runner: RunnerIdentity, request: ClaimRequest, build: str, candidate: bool, reply: list[Any]) -> Claim:
    _, position, event_id, token, generation, ahead, resets, before, mixed, where, silent = reply
    key = request.keys.build(request.name, build)
    return Claim(
        runner.id, build, candidate, int(token), Checkpoint(fields.number(key, "position", position), event_id),
        str(fields.number(key, "generation", generation)), check_ahead(key, ahead),
        resets.decode() if resets == b"new" else str(fields.number(key, "resets", resets)),
        fields.number(key, "token", before), fields.number(key, "mixed", mixed) if mixed else None,
        where.decode(errors="replace"), int(silent) / 1000,
    )  # fmt: skip


def check_ahead(key: str, stored: bytes) -> bytes:
    """The events after the checkpoint that are done, packed. Raises RecordDamaged unless all are marks."""
    marks = fields.packed(key, "ahead", stored) if stored else []
    if not isinstance(marks, list) or not all(map(_is_mark, marks)):
        raise fields.damaged(key, "ahead", stored, "no list of positions and ids")
    return stored


def _is_mark(value: Any) -> bool:
    """Whether a value is the position and the id of an event."""
    return (
        isinstance(value, (list, tuple)) and len(value) == 2 and type(value[0]) is int and isinstance(value[1], bytes)
    )


def _end(keys: PartitionKeys) -> StoreOperation[Checkpoint]:
    """The checkpoint of the log's last event."""
    [last] = yield Execute([("XREVRANGE", keys.log, "+", "-", "COUNT", 1)])
    if not last:
        return Checkpoint()
    return Checkpoint(int(last[0][0].partition(b"-")[0]), entry_id(last[0]))
