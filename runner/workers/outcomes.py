"""The outcomes that a worker returns to the pool.

A worker runs until something happens that the pool has to act on. It returns that as outcomes, and goes on where it was
when it is run again. An empty list means that the worker has nothing left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .assignment import Assignment


@dataclass(frozen=True, slots=True)
class Again:
    """The assignment is held and goes on in a worker of its own, after ``delay`` seconds.

    Its event is to be tried again, or it was claimed again, or it is slow.
    """

    assignment: Assignment[Any]
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The assignment is not held any more: another runner holds it, or it has stopped by a failure."""

    assignment: Assignment[Any]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The worker has reached the end of the log.

    With ``joins``, the live worker of its partition takes its assignments over, if there is one.
    """

    joins: bool


Outcome = Again | Lost | CaughtUp
