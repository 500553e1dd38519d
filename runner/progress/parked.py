"""Events that a build set aside: parked ones, which wait in order for another attempt, and records of skipped ones.

A parked event is a position and a record; the event itself stays in the log. While a row has parked events, the owner
of the build does not write the row: later events of the row are parked, too. So a process that retries parked events
may write the row without the lease. The commit script notices by the generation that a row was set free.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..effects import Execute, StoreOperation
from ..errors import LONGEST_TEXT, HandlerFailed, RecordDamaged
from ..format import fields
from ..format.codec import pack
from ..format.events import RecordedEvent, from_microseconds
from ..format.keys import PartitionKeys
from ..format.scripts import expect, load

#: A longer traceback is cut: its last characters are kept.
LONGEST_TRACEBACK = 8_000

#: The types of the values in a record.
_TYPES = [int, str, str, int, str, int, int, int, str, str]

#: How many records a page of parked events has, about a megabyte.
RECORDS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class SetAsideEvent:
    """An event that was set aside. ``error`` is empty if it only waits for a failed event of its row."""

    position: int
    #: The key of the row that the event would have changed.
    key: str
    stream: str
    number: int
    type: str
    #: The number of failed attempts, and when the first and the last were (µs since 1970, the runner's clock).
    attempts: int = 0
    first_us: int = 0
    last_us: int = 0
    error: str = ""
    traceback: str = ""

    @property
    def first(self) -> datetime | None:
        """When the first attempt failed."""
        return from_microseconds(self.first_us) if self.first_us else None

    @property
    def last(self) -> datetime | None:
        """When the last attempt failed."""
        return from_microseconds(self.last_us) if self.last_us else None

    def record(self) -> bytes:
        """The record that is stored."""
        return pack([
            self.position, self.key, self.stream, self.number, self.type,
            self.attempts, self.first_us, self.last_us, self.error, self.traceback,
        ])  # fmt: skip


def parked_after(key: str, event: RecordedEvent) -> SetAsideEvent:
    """The record of an event that waits for a failed event of its row."""
    return SetAsideEvent(event.position, key, event.stream, event.number, event.type)


def failing(
    key: str, event: RecordedEvent, failure: HandlerFailed, attempts: int, first_us: int, last_us: int
) -> SetAsideEvent:
    """The record of an event that failed."""
    return SetAsideEvent(
        event.position, key, event.stream, event.number, event.type, attempts, first_us, last_us,
        error_of(failure), traceback_of(failure),
    )  # fmt: skip


def failing_at(failure: HandlerFailed, attempts: int, first_us: int, last_us: int) -> SetAsideEvent:
    """The same, where the event's row does not matter."""
    return SetAsideEvent(
        failure.position, "", failure.stream, failure.number, failure.type, attempts, first_us, last_us,
        error_of(failure), traceback_of(failure),
    )  # fmt: skip


def error_of(failure: HandlerFailed) -> str:
    """The error as it is kept."""
    return f"{type(failure.cause).__name__}: {failure.cause_text}"[:LONGEST_TEXT]


def traceback_of(failure: BaseException) -> str:
    """The traceback of a failed handler as it is kept; empty for another error."""
    return failure.traceback[-LONGEST_TRACEBACK:] if isinstance(failure, HandlerFailed) else ""


def read_parked(keys: PartitionKeys, name: str, build: str) -> StoreOperation[list[SetAsideEvent]]:
    """The parked events of a build, in the order of the log: at most as many as a policy allows (10,000).

    Raises RecordDamaged.
    """
    key = keys.parked(name, build)
    [flat] = yield Execute([("HGETALL", key)])  # in one look, as the owner of the build needs it
    return sorted(_all_sound([_read_parked(key, *pair) for pair in _pairs(flat)]), key=lambda one: one.position)


def look_at_parked(
    keys: PartitionKeys, name: str, build: str, *, row: str | None = None, limit: int | None = None, brief: bool = False
) -> StoreOperation[list[SetAsideEvent | RecordDamaged]]:
    """The parked events of a build or of one row, in the order of the log, read in pages: all, or the first of them.

    The error of each damaged record stands after the others. ``brief``: without tracebacks, which take most of the
    room. An event that is parked or set free meanwhile may be among them or not.
    """
    key = keys.parked(name, build)
    sound: dict[int, SetAsideEvent] = {}
    damaged: dict[bytes, RecordDamaged] = {}
    cursor, more = 0, True
    while more:
        [(following, flat)] = yield Execute([("HSCAN", key, cursor, "COUNT", RECORDS_A_PAGE)])
        for field, record in _pairs(flat):
            one = _read_parked(key, field, record)
            if isinstance(one, RecordDamaged):
                damaged[field] = one
            elif row in (None, one.key):
                sound[one.position] = replace(one, traceback="") if brief else one
        sound = dict(sorted(sound.items())[:limit])
        cursor = int(following)
        more = cursor != 0
    return [*sound.values(), *damaged.values()]


def read_skipped(keys: PartitionKeys, name: str, build: str) -> StoreOperation[list[SetAsideEvent]]:
    """The records of skipped events that are kept (the last 10,000 or so), oldest first. Raises RecordDamaged."""
    return _all_sound((yield from look_at_skipped(keys, name, build)))


def look_at_skipped(
    keys: PartitionKeys, name: str, build: str, *, limit: int | None = None
) -> StoreOperation[list[SetAsideEvent | RecordDamaged]]:
    """The records of skipped events, or the last of them, oldest first, with an error in the place of a damaged one.

    They are read in pages, from the last one on.
    """
    key = keys.skipped(name, build)
    found: list[SetAsideEvent | RecordDamaged] = []
    end, wanted = "+", sys.maxsize if limit is None else limit
    while len(found) < wanted:
        count = min(RECORDS_A_PAGE, wanted - len(found))
        [entries] = yield Execute([("XREVRANGE", key, end, "-", "COUNT", count)])
        found += [_read(key, _shown(entry), record[1]) for entry, record in entries]
        if len(entries) < count:
            break
        end = f"({entries[-1][0].decode()}"
    return found[::-1]


def in_place_of(damage: RecordDamaged) -> SetAsideEvent:
    """What stands for a damaged record where events that were set aside are listed: an error without an event."""
    return SetAsideEvent(0, "", "", 0, "", error=str(damage))


def unpark(
    keys: PartitionKeys,
    name: str,
    build: str,
    key: str,
    row: tuple[bytes | None, bytes | None],
    taken: Sequence[SetAsideEvent],
    *,
    failed: SetAsideEvent | None = None,
    skipped: Iterable[SetAsideEvent] = (),
) -> StoreOperation[bool]:
    """Remove ``taken`` from the parked events of row ``key``, and change the row, in one step.

    ``row``: the packed row before and after. ``failed``: an event that failed again; its record is replaced. Returns
    False, and writes nothing, if the row or its parked events have changed meanwhile.
    """
    before, after = (b"" if state is None else b"=" + state for state in row)
    args: list[Any] = [key, before, after]
    args += (failed.position, failed.record()) if failed is not None else ("", "")
    args += (len(taken), *(one.position for one in taken), *(one.record() for one in skipped))
    [[verdict]] = yield Execute([load("progress/unpark").call(keys.of_build(name, build), *args)])
    expect("progress/unpark", verdict, b"ok", b"changed")
    return bool(verdict == b"ok")


def _all_sound(found: list[SetAsideEvent | RecordDamaged]) -> list[SetAsideEvent]:
    """The records. Raises the error of the first damaged one."""
    sound = []
    for one in found:
        if isinstance(one, RecordDamaged):
            raise one
        sound.append(one)
    return sound


def _read_parked(key: str, field: bytes, record: bytes) -> SetAsideEvent | RecordDamaged:
    return _read(key, _shown(field), record, int(field) if field.isdigit() else -1)


def _read(key: str, field: str, record: bytes, position: int | None = None) -> SetAsideEvent | RecordDamaged:
    """The event of a record, which stands under its ``position`` if that is given; else the error."""
    try:
        values = fields.packed(key, field, record)
        if not isinstance(values, list) or list(map(type, values)) != _TYPES:
            raise fields.damaged(key, field, record, "no record of an event that was set aside")
        found = SetAsideEvent(*values)
        if position is not None and found.position != position:
            raise fields.damaged(key, field, record, f"the record of position {found.position}")
        return found
    except RecordDamaged as damage:
        return damage


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
