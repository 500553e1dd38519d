"""What an import did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class BadLine(NamedTuple):
    """A line that was skipped: its number, from 1, and the reason."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did."""

    #: Lines read, without empty ones.
    lines: int
    #: Events appended, and events that were in the store already.
    appended: int
    known: int
    #: Lines that were skipped.
    bad: tuple[BadLine, ...] = ()
