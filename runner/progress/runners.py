"""The runners that are alive, where each runs, and for which builds each has code.

A runner announces itself in every round of its coordinator. The announcement counts for the time of a lease, or longer
where rounds are rare. So each runner knows how many runners share its work, and operators learn which runner can keep a
view up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..effects import Execute, StoreOperation
from ..format.scripts import load
from ..log.info import StoreInfo
from .builds import code_of
from .lease import RunnerIdentity


@dataclass(frozen=True, slots=True)
class Announcement:
    """A runner that is alive: its id, its machine and process, and the version of its code by projection."""

    id: str
    where: str
    codes: Mapping[str, str]

    def member(self) -> str:
        """The announcement as it is stored. Names and versions hold neither spaces nor ``=``."""
        return " ".join([self.id, self.where, *(f"{name}={code}" for name, code in sorted(self.codes.items()))])


def announce(
    runner: RunnerIdentity, codes: Mapping[str, str], *, lasts: float = 0.0, leaving: bool = False
) -> StoreOperation[list[Announcement]]:
    """Say that the runner is alive; returns the runners that are, itself included.

    ``lasts``: how many seconds the announcement counts, if that is longer than a lease.
    """
    mine = Announcement(runner.id, runner.where.replace(" ", "_"), codes)
    lease = 0 if leaving else max(runner.lease_ms, int(lasts * 1000))
    command = load("progress/announce").call([runner.info.keys[0].runners], mine.member(), lease)
    [members] = yield Execute([command])
    return readable(members)


def live_runners(info: StoreInfo) -> StoreOperation[list[Announcement]]:
    """The runners that are alive, by the server's clock."""
    [(seconds, micros)] = yield Execute([("TIME",)])
    now = int(seconds) * 1_000_000 + int(micros)
    [members] = yield Execute([("ZRANGE", info.keys[0].runners, f"({now}", "+inf", "BYSCORE")])
    return readable(members)


def keepers(runners: Iterable[Announcement], name: str, build: str) -> tuple[str, ...]:
    """Where the runners are that have code for a build of a projection, sorted."""
    return tuple(sorted(one.where for one in runners if one.codes.get(name) == code_of(build)))


def readable(members: Iterable[bytes]) -> list[Announcement]:
    """The announcements among the members of the set. A member that is none is no runner; `runner verify` names it."""
    return [found for found in map(read_announcement, members) if found is not None]


def read_announcement(member: bytes) -> Announcement | None:
    """The announcement that a member of the set is, or None."""
    try:
        runner, where, *codes = member.decode().split(" ")
        return Announcement(runner, where, dict(code.split("=") for code in codes))
    except ValueError:  # UnicodeDecodeError is one
        return None
