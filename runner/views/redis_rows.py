"""Rows in Redis: the command that loads rows, and the command that commits rows with the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..effects import Command
from ..errors import DataError
from ..format.checksum import Damaged
from ..format.codec import UNPACK_FAULTS, unpack
from ..format.keys import PartitionKeys
from ..format.rows import open_row, seal_row, seal_rows
from ..format.scripts import expect, load
from ..progress.checkpoint import Checkpoint, Claim
from ..progress.parked import SetAsideEvent


class BuildView(NamedTuple):
    """The view of a build of a projection, in a partition."""

    keys: PartitionKeys
    name: str
    build: str

    @property
    def key(self) -> str:
        """The key of the hash that holds the rows."""
        return self.keys.view(self.name, self.build)


@dataclass(slots=True)
class Changes:
    """What a commit writes beside the checkpoint."""

    #: Packed rows; None = delete.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    handled: int = 0
    parked: list[SetAsideEvent] = field(default_factory=list)
    skipped: list[SetAsideEvent] = field(default_factory=list)
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
    if keys.has_sealed_rows:
        args += seal_rows(rows)
    else:
        for key, row in rows.items():
            if row is not None:
                args += (key, row)
    args += gone
    for parked in changes.parked:
        args += (parked.position, parked.record())
    args += [skipped.record() for skipped in changes.skipped]
    return load("progress/commit").call([*keys.of_build(name, held.build), keys.log, keys.meta], *args)


def was_committed(reply: Sequence[Any]) -> bool:
    """Whether a commit took effect. Every other answer says that its claim or its checkpoint is not the stored one."""
    expect("progress/commit", reply[0], b"ok", b"owner", b"generation", b"moved", b"rows", b"suspect")
    return bool(reply[0] == b"ok")


def rows_command(keys: PartitionKeys, name: str, build: str, wanted: Sequence[str]) -> Command:
    """The command that loads stored rows; `packed_row` opens them."""
    return ("HMGET", keys.view(name, build), *wanted)


def stored_row(keys: PartitionKeys, key: str, packed: bytes | None) -> bytes | None:
    """A packed row in the form in which it is stored: with a checksum, but for stores of format 1."""
    return packed if packed is None or not keys.has_sealed_rows else seal_row(key, packed)


def packed_row(view: BuildView, key: str, stored: bytes | None) -> bytes | None:
    """The packed state of a stored row of a view. Raises DataError if the row is damaged."""
    if stored is None or not view.keys.has_sealed_rows:
        return stored
    try:
        return open_row(key, stored)
    except Damaged as damage:
        raise damaged_row(view, key, damage) from None


def row_state(view: BuildView, key: str, stored: bytes | None) -> Any:
    """The state of a stored row; None where there is no row. Raises DataError if the row is damaged."""
    packed = packed_row(view, key, stored)
    if packed is None:
        return None
    try:
        return unpack(packed)
    except UNPACK_FAULTS as fault:
        raise damaged_row(view, key, fault) from None


def damaged_row(view: BuildView, key: str, why: Exception) -> DataError:
    """The error that names a row which is not what was written."""
    return DataError(
        f"row {key!r} of {view.key} is damaged: {why}",
        hint=f"Make the view again: `runner rebuild {view.name}`, or `runner reset {view.name}` and a run.",
    )
