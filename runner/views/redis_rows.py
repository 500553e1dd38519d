"""Rows in Redis: the command that loads rows, and the command that commits rows with the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..effects import Command
from ..format.keys import PartitionKeys
from ..format.scripts import expect, load
from ..progress.checkpoint import Checkpoint, Claim


@dataclass(slots=True)
class Changes:
    """What a commit writes beside the checkpoint."""

    #: Packed rows; None = delete.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    handled: int = 0
    #: Records of parked events by position, and records of skipped events.
    parked: dict[int, bytes] = field(default_factory=dict)
    skipped: list[bytes] = field(default_factory=list)
    ahead: bytes = b""


def commit_command(keys: PartitionKeys, name: str, held: Claim, after: Checkpoint, changes: Changes) -> Command:
    """The command that writes changes and moves the checkpoint from the held one to ``after``."""
    before, rows = held.checkpoint, changes.rows
    gone = [key for key, row in rows.items() if row is None]
    args: list[Any] = [
        held.owner, held.token, held.generation, before.position, before.id, after.position, after.id,
        changes.handled, changes.ahead, keys.applied(name),
        len(rows) - len(gone), len(gone), len(changes.parked), len(changes.skipped),
    ]  # fmt: skip
    if gone:
        for key, row in rows.items():
            if row is not None:
                args += (key, row)
        args += gone
    else:
        for pair in rows.items():
            args += pair
    for parked in changes.parked.items():
        args += parked
    args += changes.skipped
    return load("progress/commit").call([*keys.of_build(name, held.build), keys.log, keys.meta], *args)


def was_committed(reply: Sequence[Any]) -> bool:
    """Whether a commit took effect. Every other answer says that its claim or its checkpoint is not the stored one."""
    expect("progress/commit", reply[0], b"ok", b"owner", b"generation", b"moved", b"suspect")
    return bool(reply[0] == b"ok")


def rows_command(keys: PartitionKeys, name: str, build: str, wanted: Sequence[str]) -> Command:
    """The command that loads packed rows."""
    return ("HMGET", keys.view(name, build), *wanted)
