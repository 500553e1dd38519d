"""Leases: who may commit to a build, for how long, and who else is there to take over.

A lease is for liveness, the commit script's fencing for safety. It runs by the server's clock; its holder stops before
that by its own monotonic clock, counted from before it asked. Every claim has a fencing token, so that a claim, a renewal or
a commit that comes late is told from a present one, even of the same owner.

A unit is a projection in a partition. Each has one build to be driven by this code: the live one if the same version
of the code made it, else a candidate beside it. Code that was live before and was replaced makes no view again by
itself, nor does code whose version is a lower number than the live one's: it stands by.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from ..effects import Command, Execute, StoreOperation
from ..errors import BuildReplaced, LogTrimmed, StoreReplaced
from ..format.events import entry_id
from ..format.keys import PartitionKeys
from ..format.scripts import load
from ..log.info import StoreInfo
from .builds import NEVER_AGAIN, Builds, code_of, is_older, propose, read_builds
from .checkpoint import Checkpoint, Claim


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a runner would like to hold: a unit, the version of its code, and what it knows of it.

    ``kind`` is "projection" or "reactor"; ``from_end``: without a checkpoint, begin behind the events there are.
    """

    keys: PartitionKeys
    name: str
    code: str
    kind: str = "projection"
    from_end: bool = False


@dataclass(frozen=True, slots=True)
class HeldByOther:
    """Another runner has it: who, where it runs, and for how long by its lease, in seconds."""

    owner: str
    where: str
    left: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """It stopped by a failure; only a runner that is started takes it up again."""


@dataclass(frozen=True, slots=True)
class Free:
    """It could be claimed, and was not, as only a look was asked for, or only what has stopped."""


#: What is claimed: a unit unless it stopped by a failure, whether or not, only if it did; or none, and it is looked at.
NOT_STOPPED, ALSO_STOPPED, ONLY_STOPPED, LOOK_ONLY = "", "also", "only", "look"


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """Who asks: a random id, and the store and lease (seconds) it asks for."""

    id: str
    info: StoreInfo
    lease: float

    @property
    def where(self) -> str:
        """For people: the machine and the process."""
        return f"{socket.gethostname()}:{os.getpid()}"

    @property
    def lease_ms(self) -> int:
        return max(1, int(self.lease * 1000))


def acquire(
    runner: RunnerIdentity, request: ClaimRequest, which: str = NOT_STOPPED, *, rebuilding: bool = False
) -> StoreOperation[Claim | HeldByOther | Stopped | Free]:
    """Claim the build of a unit that this code may drive, beginning a candidate where the live one is of other code.

    ``which``: NOT_STOPPED and its like. ``rebuilding``: a candidate beside a live build of the same code.
    Raises BuildReplaced or StoreReplaced.
    """
    while True:
        builds = yield from read_builds(request.keys, request.name)
        build, candidate = yield from _choose(request, builds, rebuilding)
        if build is None:
            continue  # someone else proposed meanwhile
        start = (yield from _end(request.keys)) if request.from_end and builds.live is None else Checkpoint()
        [reply] = yield Execute([_claim_command(runner, request, build, candidate, start, which)])
        verdict = reply[0]
        if verdict == b"changed":
            continue
        if verdict == b"replaced":
            raise StoreReplaced(request.keys.name)
        if verdict == b"held":
            return HeldByOther(reply[1].decode(), reply[2].decode(), reply[3] / 1000)
        if verdict == b"stopped":
            return Stopped()
        if verdict == b"trimmed":
            raise LogTrimmed(start.position, int(reply[1]), hint=NEVER_AGAIN)
        if verdict == b"free":
            return Free()
        return _claim(runner, build, candidate, reply)


def claim_again(runner: RunnerIdentity, request: ClaimRequest, held: Claim) -> StoreOperation[Claim | HeldByOther]:
    """Claim once more what is held already, and take up from where it stands. Raises StoreReplaced.

    After a lost connection nobody else knows whether the last commit ran, or is still to run: the new token fences it
    off. Returns who has it, if it was lost meanwhile; nobody, if another build is to be driven now.
    """
    command = _claim_command(runner, request, held.build, held.candidate, Checkpoint(), ALSO_STOPPED)
    [reply] = yield Execute([command])
    if reply[0] == b"replaced":
        raise StoreReplaced(request.keys.name)
    if reply[0] in (b"changed", b"trimmed"):
        return HeldByOther("", "", 0.0)
    if reply[0] == b"held":
        return HeldByOther(reply[1].decode(), reply[2].decode(), reply[3] / 1000)
    return _claim(runner, held.build, held.candidate, reply)


def report_command(
    runner: RunnerIdentity, keys: PartitionKeys, name: str, held: Claim, state: str, error: str = "", *,
    release: bool = False, committed: int = 0,
) -> Command:  # fmt: skip
    """The heartbeat: what the owner is doing; renews its lease, or gives it back.

    It is refused where the store has forgotten that ``committed``, a position, is, or that the build is live.
    """
    return load("progress/report").call(
        [keys.build(name, held.build), keys.log, keys.meta, keys.projection(name)],
        held.owner, held.token, state, error, 0 if release else runner.lease_ms, runner.info.epoch,
        committed, "" if held.candidate or release else held.build,
    )  # fmt: skip


def announce(runner: RunnerIdentity, units: str, *, leaving: bool = False) -> StoreOperation[int]:
    """Say that the runner is alive; how many are that run the same units, itself included."""
    member = f"{runner.id} {units}"
    command = load("progress/announce").call([runner.info.keys[0].runners], member, 0 if leaving else runner.lease_ms)
    [members] = yield Execute([command])
    return sum(other.decode().partition(" ")[2] == units for other in members)


def _choose(request: ClaimRequest, builds: Builds, rebuilding: bool) -> StoreOperation[tuple[str | None, bool]]:
    """The build to drive, and whether it is a candidate; None: look again."""
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
    runner: RunnerIdentity, request: ClaimRequest, build: str, candidate: bool, start: Checkpoint, which: str
) -> Command:
    keys = request.keys
    return load("progress/claim").call(
        [keys.projection(request.name), keys.build(request.name, build), keys.projections, keys.meta],
        runner.id, runner.where, runner.lease_ms, runner.info.epoch, request.name, build,
        "candidate" if candidate else "live", request.kind, start.position, start.id, which,
    )  # fmt: skip


def _claim(runner: RunnerIdentity, build: str, candidate: bool, reply: list[Any]) -> Claim:
    _, position, event_id, token, generation, ahead, resets = reply
    return Claim(
        runner.id, build, candidate, int(token), Checkpoint(int(position), event_id),
        generation.decode(), ahead, resets.decode(),
    )  # fmt: skip


def _end(keys: PartitionKeys) -> StoreOperation[Checkpoint]:
    """A checkpoint on the last event of the log."""
    [last] = yield Execute([("XREVRANGE", keys.log, "+", "-", "COUNT", 1)])
    if not last:
        return Checkpoint()
    return Checkpoint(int(last[0][0].partition(b"-")[0]), entry_id(last[0]))
