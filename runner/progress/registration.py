"""The registration of a projection: what a partition keeps of it, and forgetting it.

A projection is registered by its first claim. From then on its checkpoint holds the later events of the log back from a
trim, whether or not anybody still runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..effects import Command, Execute, StoreOperation
from ..errors import ProjectionHeld, RecordDamaged
from ..format.keys import PartitionKeys
from ..format.scripts import expect, load
from .builds import read_builds, read_position


@dataclass(frozen=True, slots=True)
class Registration:
    """What a partition keeps of a projection or reactor, over all its builds."""

    partition: int
    builds: tuple[str, ...]
    #: The position of the live build; 0 without one. This and the counts are 0 where a record is damaged.
    position: int
    rows: int
    parked: int
    #: Records of skipped events.
    skipped: int


def read_registration(keys: PartitionKeys, name: str) -> StoreOperation[Registration]:
    """What a partition keeps of a projection."""
    builds = yield from read_builds(keys, name)
    counts = [0, 0, 0]
    for build in builds.all:
        for place, command in enumerate((
            ("HLEN", keys.view(name, build)), ("HLEN", keys.parked(name, build)), ("XLEN", keys.skipped(name, build)),
        )):  # fmt: skip
            counts[place] += yield from _or_zero(_reply(command))
    position = yield from _or_zero(read_position(keys, name, builds.live or ""))
    return Registration(keys.partition, tuple(builds.all), position, *counts)


def _reply(command: Command) -> StoreOperation[int]:
    [count] = yield Execute([command])
    return count  # type: ignore[no-any-return]


def _or_zero(operation: StoreOperation[int]) -> StoreOperation[int]:
    """What an operation counts; 0 where the record is damaged, which `unregister` removes like every other."""
    try:
        return (yield from operation)
    except RecordDamaged:
        return 0


def unregister(keys: PartitionKeys, name: str, *, dry_run: bool = False) -> StoreOperation[Registration]:
    """Forget a projection in a partition; returns what the partition kept of it. Raises ProjectionHeld.

    ``dry_run``: only say what would be forgotten.
    """
    while True:
        builds, kept = (yield from read_builds(keys, name)), (yield from read_registration(keys, name))
        command = load("progress/unregister").call(
            [keys.projection(name), keys.projections, *(key for one in builds.all for key in keys.of_build(name, one))],
            name, builds.live or "", builds.previous or "", builds.candidate or "", "1" if dry_run else "0",
        )  # fmt: skip
        [[verdict, *what]] = yield Execute([command])
        if verdict == b"held":
            raise ProjectionHeld(name, keys.partition, what[0].decode(errors="replace"))
        if verdict == b"ok":
            return kept
        expect("progress/unregister", verdict, b"changed")
