"""What the store knows about projections, also while no runner is alive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..effects import Execute, StoreOperation
from ..errors import DataError, RecordDamaged
from ..format import fields
from ..format.events import decode_entry
from ..format.keys import PartitionKeys
from ..format.names import check_plain_name
from ..log.info import StoreInfo
from .builds import code_of, read_builds, unknown_projection
from .runners import Announcement

#: The state of a projection whose last runner has gone silent.
NO_RUNNER = "no runner"

#: The state of a projection whose record cannot be read.
DAMAGED = "damaged"

#: States in which a projection is not expected to have a runner.
AT_REST = ("stopped", "idle", "replaced")


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The state and progress of a build of a projection in one partition."""

    name: str
    partition: int
    #: What its runner reported last: "catching up", "rebuilding", "live", "retrying", "stopped", "idle", "replaced" …
    state: str
    #: Why it is in that state; empty if nothing is wrong.
    error: str
    #: The position of the last event applied; 0 before the first.
    position: int
    #: Events appended but not applied.
    lag: int
    #: How long ago the oldest of these events was recorded, in seconds by the writer's clock; 0 if there are none.
    lag_seconds: float
    #: Rows of the view, and events applied so far.
    rows: int
    applied: int
    build: str
    #: "live", "candidate" (being made beside it) or "previous" (kept for a rollback).
    role: str
    #: Events that are parked now, and events skipped so far.
    parked: int
    skipped: int
    #: The owner's machine and process, and the seconds left of its lease; empty and 0 without an owner.
    holder: str
    lease_left: float
    #: Seconds since its runner reported last; None if no runner ever did.
    seen_ago: float | None
    #: "projection" or "reactor".
    kind: str = "projection"
    #: The versions of the code that the live runners have for the projection, sorted.
    codes: tuple[str, ...] = ()
    #: The position from which other code of the same build has gone on with the rows; None = none has.
    mixed: int | None = None
    #: How many rows the commits have left, if that is known and is not ``rows``: the view was changed by hand.
    rows_committed: int | None = None
    #: The traceback of the error, if a handler raised it.
    traceback: str = ""

    @property
    def current_state(self) -> str:
        """``state``, or "no runner" if its runner has gone silent: the lease has run out.

        "no runner has build 2" if that is the live build, nobody holds it, and the live runners have other code.
        """
        if self.lease_left or self.state in ("stopped", DAMAGED):
            return self.state
        if self.role == "live" and self.codes and code_of(self.build) not in self.codes:
            return f"{NO_RUNNER} has build {code_of(self.build)}"
        return self.state if self.state in AT_REST else NO_RUNNER


def projection_names(keys: PartitionKeys) -> StoreOperation[list[str]]:
    """The names of the projections that have a checkpoint in this partition, sorted.

    A member of the set that is no name is no projection; `damaged_names` finds it.
    """
    [members] = yield Execute([("SMEMBERS", keys.projections)])
    return sorted(name for member in members if (name := _name(keys, member)) is not None)


def damaged_names(keys: PartitionKeys) -> StoreOperation[list[RecordDamaged]]:
    """The errors of the members of the set of projections that are no names, or of the set."""
    try:
        [members] = yield Execute([("SMEMBERS", keys.projections)])
    except RecordDamaged as damage:
        return [damage]
    return [
        fields.damaged(keys.projections, "member", member, "no name of a projection")
        for member in sorted(members)
        if _name(keys, member) is None
    ]


def _name(keys: PartitionKeys, member: bytes) -> str | None:
    try:
        return fields.plain_name(keys.projections, "member", member)
    except RecordDamaged:
        return None


def partitions_of(info: StoreInfo, name: str) -> StoreOperation[list[PartitionKeys]]:
    """The partitions in which a projection has a checkpoint. Raises InvalidInput if the store knows none."""
    check_plain_name(name, "projection")
    found = []
    for keys in info.keys:
        if name in (yield from projection_names(keys)):
            found.append(keys)
    if not found:
        raise (yield from unknown_projection(info.keys[0], name))
    return found


def status(
    keys: PartitionKeys, name: str, runners: Iterable[Announcement] = ()
) -> StoreOperation[list[ProjectionStatus]]:
    """The status of each build of a projection, the live one first. Raises InvalidInput if the store has none.

    ``runners``: those that are alive.
    """
    builds = yield from read_builds(keys, check_plain_name(name, "projection"))
    if builds.live is None:
        raise (yield from unknown_projection(keys, name))
    roles = {"live": builds.live, "candidate": builds.candidate, "previous": builds.previous}
    codes = tuple(sorted({one.codes[name] for one in runners if name in one.codes}))
    found = []
    for role, build in roles.items():
        if build is not None:
            found.append((yield from _of_build(keys, name, build, role, codes)))
    return found


_FIELDS = (
    "position", "state", "error", "applied", "seen", "where", "lease", "skips", "kind", "mixed", "rows", "traceback",
)  # fmt: skip


def _of_build(
    keys: PartitionKeys, name: str, build: str, role: str, codes: tuple[str, ...]
) -> StoreOperation[ProjectionStatus]:
    values, rows, parked, last, now, again = yield Execute([
        ("HMGET", keys.build(name, build), *_FIELDS),
        ("HLEN", keys.view(name, build)),
        ("HLEN", keys.parked(name, build)),
        ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
        ("TIME",),
        ("HGET", keys.build(name, build), "rows"),
    ])  # fmt: skip
    key, found = keys.build(name, build), dict(zip(_FIELDS, values, strict=True))

    def number(field: str) -> int:
        return fields.number(key, field, found[field])

    def text(field: str, absent: str = "") -> str:
        return fields.text(key, field, found[field], absent)

    steady = found["rows"] is not None and found["rows"] == again  # else a commit may have come in between
    end = int(last[0][0].partition(b"-")[0]) if last else 0
    time = int(now[0]) * 1_000_000 + int(now[1])
    left = max(0.0, (number("lease") - time) / 1e6)
    passed = number("position")
    [waiting] = yield Execute([("XRANGE", keys.log, passed + 1, "+", "COUNT", 1)])
    lag_seconds = 0.0
    if waiting:
        try:
            lag_seconds = max(0.0, (time - decode_entry(waiting[0], keys.partition).recorded_us) / 1e6)
        except DataError:
            pass  # the next event cannot be decoded, so its time is not known; the projection reports the error
    return ProjectionStatus(
        name=name, partition=keys.partition, state=text("state", "idle"), error=text("error"),
        position=passed, lag=max(0, end - passed), lag_seconds=lag_seconds, rows=rows, applied=number("applied"),
        build=build, role=role, parked=parked, skipped=number("skips"),
        holder=text("where") if left else "", lease_left=left,
        seen_ago=(time - number("seen")) / 1e6 if found["seen"] else None, kind=text("kind", "projection"),
        codes=codes, mixed=number("mixed") if found["mixed"] else None,
        rows_committed=number("rows") if steady and number("rows") != rows else None,
        traceback=text("traceback") if text("error") else "",
    )  # fmt: skip


def damaged_status(keys: PartitionKeys, name: str, damage: DataError) -> ProjectionStatus:
    """What stands for a projection whose record is damaged."""
    return ProjectionStatus(
        name=name, partition=keys.partition, state=DAMAGED, error=damage.with_hint, position=0, lag=0, lag_seconds=0.0,
        rows=0, applied=0, build="", role="live", parked=0, skipped=0, holder="", lease_left=0.0, seen_ago=None,
    )  # fmt: skip
