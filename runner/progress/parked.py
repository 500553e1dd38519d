"""Events that a build set aside: parked ones, which wait in order for another try, and records of skipped ones.

A parked event is a position and a record; the event itself stays in the log. While a row has parked events its owner
does not touch it: later events of the row are parked behind them. So whoever tries them again may write the row without
the owner's lease; the commit script notices by the generation that a row was set free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..effects import Execute, StoreOperation
from ..errors import HandlerFailed
from ..format.codec import pack, unpack
from ..format.events import RecordedEvent, from_microseconds
from ..format.keys import PartitionKeys
from ..format.scripts import load

#: Longer error texts and tracebacks are cut, in characters: the first of the one, the last of the other.
LONGEST_ERROR, LONGEST_TRACEBACK = 1_000, 8_000


@dataclass(frozen=True, slots=True)
class SetAsideEvent:
    """An event that was set aside. ``error`` is empty for one that only waits behind a failing event of its row."""

    position: int
    #: The row it would have changed.
    key: str
    stream: str
    number: int
    type: str
    #: How often it was tried in vain, and when first and last (µs since 1970, the runner's clock).
    attempts: int = 0
    first_us: int = 0
    last_us: int = 0
    error: str = ""
    traceback: str = ""

    @property
    def first(self) -> datetime | None:
        """When it failed first."""
        return from_microseconds(self.first_us) if self.first_us else None

    @property
    def last(self) -> datetime | None:
        """When it failed last."""
        return from_microseconds(self.last_us) if self.last_us else None

    def record(self) -> bytes:
        """It, packed."""
        return pack([
            self.position, self.key, self.stream, self.number, self.type,
            self.attempts, self.first_us, self.last_us, self.error, self.traceback,
        ])  # fmt: skip


def parked_after(key: str, event: RecordedEvent) -> SetAsideEvent:
    """The record of an event that waits after a failing event of its row."""
    return SetAsideEvent(event.position, key, event.stream, event.number, event.type)


def failing(
    key: str, event: RecordedEvent, failure: HandlerFailed, attempts: int, first_us: int, last_us: int
) -> SetAsideEvent:
    """The record of an event that failed."""
    trace = failure.traceback[-LONGEST_TRACEBACK:]
    error = f"{type(failure.cause).__name__}: {failure.cause_text}"[:LONGEST_ERROR]
    return SetAsideEvent(
        event.position, key, event.stream, event.number, event.type, attempts, first_us, last_us, error, trace
    )


def read_parked(keys: PartitionKeys, name: str, build: str) -> StoreOperation[list[SetAsideEvent]]:
    """The parked events of a build, in the order of the log: at most as many as a policy allows (10,000)."""
    [records] = yield Execute([("HVALS", keys.parked(name, build))])
    return sorted((_aside(record) for record in records), key=lambda one: one.position)


def read_skipped(keys: PartitionKeys, name: str, build: str) -> StoreOperation[list[SetAsideEvent]]:
    """The records of skipped events that are kept (the last 10,000 or so), oldest first."""
    [entries] = yield Execute([("XRANGE", keys.skipped(name, build), "-", "+")])
    return [_aside(fields[1]) for _, fields in entries]


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
    """Take ``taken`` out of the parked events of row ``key``, and change the row from one state to another with it.

    ``failed`` replaces its own record. False when something had changed meanwhile; nothing was written then.
    """
    before, after = (b"" if state is None else b"=" + state for state in row)
    args: list[Any] = [key, before, after]
    args += (failed.position, failed.record()) if failed is not None else ("", "")
    args += (len(taken), *(one.position for one in taken), *(one.record() for one in skipped))
    [[verdict]] = yield Execute([load("progress/unpark").call(keys.of_build(name, build), *args)])
    return bool(verdict == b"ok")


def _aside(record: bytes) -> SetAsideEvent:
    return SetAsideEvent(*unpack(record))
