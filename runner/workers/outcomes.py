"""What a worker returns: whatever concerns the pool, as data.

A worker runs until something happens that is not its own affair, returns that, and is run again; it goes on where it
was. An empty list means that it has nothing left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .assignment import Assignment


@dataclass(frozen=True, slots=True)
class Again:
    """The assignment is held and goes on in a worker of its own, after ``delay`` seconds."""

    assignment: Assignment[Any]
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The assignment is not held any more: another runner has it, or it has stopped by a failure."""

    assignment: Assignment[Any]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The worker has reached the end of the log. A worker that is live already may take its assignments over."""


Outcome = Again | Lost | CaughtUp
