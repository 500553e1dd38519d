"""Leases: who may commit to a build, for how long, and who else is there to take over.

A lease is for liveness, the fencing token in every commit for safety. A lease runs by the server's clock; its holder
stops earlier, by its own monotonic clock, counted from before it asked. Every claim has a higher fencing token, so a
claim, a renewal or a commit that comes late is told from a present one, even of the same owner.

A projection has in each partition one build to be driven by this code: the live one if the same version of the code
made it, else a candidate beside it. Code that was live before and was replaced makes no view again by
itself, nor does code whose version is a lower number than the live one's: it stands by.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
    """What a runner asks for: a projection in a partition, and the version of its code.

    ``kind`` is "projection" or "reactor"; ``from_end``: where there is no checkpoint, begin after the last event.
    """

    keys: PartitionKeys
    name: str
    code: str
    kind: str = "projection"
    from_end: bool = False


@dataclass(frozen=True, slots=True)
class HeldByOther:
    """Another runner holds it: its id, where it runs, and for how many more seconds by its lease."""

    owner: str
    where: str
    left: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """It stopped by a failure; only a runner that is started takes it up again."""


@dataclass(frozen=True, slots=True)
class Free:
    """It could be claimed, and was not, as only a look was asked for, or only what has stopped."""


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
    """A runner as the store knows it: a random id, the store, the lease that it claims (seconds), and its place."""

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
    """Claim the build of a unit that this code may drive, beginning a candidate where the live one is of other code.

    ``rebuilding``: a candidate beside a live build of the same code. Raises BuildReplaced or StoreReplaced.
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
    """Claim what is held already under a new fencing token, and take up from the stored checkpoint.

    After a lost connection it is not known whether the last commit ran, or is still to run: the new token fences it
    off. Returns `HeldByOther` if another runner owns it, with an empty owner if this build is no longer the one to run.
    Raises StoreReplaced.
    """
    command = _claim_command(runner, request, held.build, held.candidate, Checkpoint(), Which.ANY)
    [reply] = yield Execute([command])
    if reply[0] == b"replaced":
        raise StoreReplaced(request.keys.name)
    if reply[0] in (b"changed", b"trimmed"):
        return HeldByOther("", "", 0.0)  # another build is to be driven now
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
    runner: RunnerIdentity, request: ClaimRequest, build: str, candidate: bool, start: Checkpoint, which: Which
) -> Command:
    keys = request.keys
    return load("progress/claim").call(
        [keys.projection(request.name), keys.build(request.name, build), keys.projections, keys.meta],
        runner.id, runner.where, runner.lease_ms, runner.info.epoch, request.name, build,
        "candidate" if candidate else "live", request.kind, start.position, start.id, which.value,
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
