"""What becomes of an event that fails: decided here, for projections and for reactors.

A policy is asked with the number of attempts so far, and gives one of four verdicts. `RETRY` and `STOP` end the work
before the event; `PARK` and `SKIP` let the work go on without it.
"""

from __future__ import annotations

from typing import Any

from ..errors import HandlerFailed, RunnerError
from ..projections.fold import Verdict
from ..projections.policies import MOST_PARKED, ParkStream, Policy, Skip, last_resort, retries
from .assignment import Assignment, Attempts


def verdict(policy: Policy, attempts: int, *, can_park: bool) -> Verdict:
    """What a policy says after ``attempts`` attempts in vain. ``can_park``: the event has a row to be parked with."""
    if attempts <= retries(policy):
        return Verdict.RETRY
    resort = last_resort(policy)
    if isinstance(resort, Skip):
        return Verdict.SKIP
    if isinstance(resort, ParkStream) and can_park:
        return Verdict.PARK
    return Verdict.STOP


def park_limit(policy: Policy) -> int:
    """How many events may be parked. Rows that were parked under another policy stay parked, and need room, too."""
    resort = last_resort(policy)
    return resort.limit if isinstance(resort, ParkStream) else MOST_PARKED


class Judge:
    """Gives verdicts on the events of one batch, each event once, also where the batch is folded again."""

    def __init__(self, assignment: Assignment[Any], now_us: int) -> None:
        self._assignment = assignment
        self._now_us = now_us
        self._verdicts: dict[int, Verdict] = {}
        #: The attempts at each event that was given up, by position.
        self.given_up: dict[int, Attempts] = {}

    def __call__(self, key: str, failure: HandlerFailed) -> Verdict:
        found = self._verdicts.get(failure.position)
        if found is None:
            attempts = self._assignment.failed_at(failure, self._now_us)
            found = verdict(self._assignment.projection.on_error, attempts.count, can_park=bool(key))
            self._verdicts[failure.position] = found
            if found is not Verdict.RETRY:
                self.given_up[failure.position] = attempts
        return found


def too_many_parked(assignment: Assignment[Any], position: int) -> RunnerError:
    """Why a projection or reactor stops before an event that there is no room for among the parked ones."""
    one, limit = assignment.projection, park_limit(assignment.projection.on_error)
    return RunnerError(
        f"{one.kind} {one.name!r} (partition {assignment.keys.partition}) would park the event at position "
        f"{position}, but {limit} events are parked already, which is its limit",
        hint=f"Correct the cause, then `runner parked retry {one.name}`, and start again.",
    )
