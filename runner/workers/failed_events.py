"""What is told of each event that failed: by which projection, what was done with it, and why.

Events that were parked or skipped are told when it is known that the store has taken the commit which records that: by
the answer, or by the next claim where no answer came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import Any, Final

from ..errors import HandlerFailed, counted
from ..progress.parked import SetAsideEvent, failing_at
from ..views.redis_rows import Changes
from .assignment import Assignment, Attempts

#: What was done with an event. One that was parked is redriven by `runner parked retry`, or dropped.
RETRIED, PARKED, SKIPPED, REDRIVEN, DROPPED = "retried", "parked", "skipped", "redriven", "dropped"

#: What comes next, by what was done with the event.
_NEXT: Final = {
    RETRIED: "the next attempt is in {pause:.1f} s, and other projections go on meanwhile",
    PARKED: "correct the cause, then `runner parked retry {name}`",
    SKIPPED: "its record is in `runner skipped {name}`",
    REDRIVEN: "it is applied now",
    DROPPED: "its row goes on without it; its record is in `runner skipped {name}`",
}


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """An event that failed, or waits for one that did. ``pause``: seconds until the next attempt."""

    projection: str
    partition: int
    outcome: str
    event: SetAsideEvent
    pause: float = 0.0

    @property
    def level(self) -> int:
        """How serious it is: ERROR if the event will not be handled before a person does something."""
        return ERROR if self.outcome == PARKED and self.event.error else WARNING

    @property
    def text(self) -> str:
        """What happened, and what comes next."""
        what = f"{self.projection}[{self.partition}] {self.outcome} the event at position {self.event.position}"
        return f"{what} {self._which}: {self._why}; {self._next}"

    @property
    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        event = self.event
        found = {
            "projection": self.projection, "partition": self.partition, "outcome": self.outcome,
            "position": event.position, "type": event.type, "stream": event.stream, "number": event.number,
            "attempt": event.attempts, "error": event.error, "next": self._next,
        }  # fmt: skip
        return {**found, "traceback": event.traceback} if event.traceback else found

    @property
    def _why(self) -> str:
        if not self.event.error:
            return "it waits for a parked event of its row" if self.outcome == PARKED else "it did not fail itself"
        return f"{self.event.error} (after {counted(self.event.attempts, 'attempt')})"

    @property
    def _which(self) -> str:
        of = f", event {self.event.number} of {self.event.stream!r}" if self.event.stream else ""
        return f"({self.event.type or 'unreadable'!r}{of})"

    @property
    def _next(self) -> str:
        return _NEXT[self.outcome].format(name=self.projection, pause=self.pause)


def set_aside(assignment: Assignment[Any], changes: Changes) -> Iterator[FailedEvent]:
    """The events that a commit has parked or skipped."""
    for outcome, events in ((PARKED, changes.parked), (SKIPPED, changes.skipped)):
        for event in events:
            yield FailedEvent(assignment.name, assignment.keys.partition, outcome, event)


def to_retry(assignment: Assignment[Any], failure: HandlerFailed, made: Attempts, pause: float) -> FailedEvent:
    """An event that is tried again after a pause."""
    event = failing_at(failure, made.count, made.first_us, made.last_us)
    return FailedEvent(assignment.name, assignment.keys.partition, RETRIED, event, pause)
