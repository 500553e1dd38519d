"""The verdict on an event that fails, for projections and for reactors.

The verdict follows from the policy and the number of failed attempts. `RETRY` and `STOP` end the work before the event;
`PARK` and `SKIP` let the work go on without the event.
"""

from __future__ import annotations

from typing import Any

from ..effects.clock import Clock
from ..errors import CommitRefused, HandlerFailed, RunnerError
from ..projections.fold import Verdict
from ..projections.policies import MOST_PARKED, ParkStream, Policy, Skip, last_resort, retries
from .assignment import Assignment, Attempts


def verdict(policy: Policy, attempts: int, *, can_park: bool) -> Verdict:
    """The verdict of a policy after so many failed attempts. ``can_park``: the event's row is known."""
    if attempts <= retries(policy):
        return Verdict.RETRY
    resort = last_resort(policy)
    if isinstance(resort, Skip):
        return Verdict.SKIP
    if isinstance(resort, ParkStream) and can_park:
        return Verdict.PARK
    return Verdict.STOP


def park_limit(policy: Policy) -> int:
    """How many events may be parked. A policy that parks nothing has a limit, too.

    Rows that were parked under an earlier policy stay parked, and so do their later events.
    """
    resort = last_resort(policy)
    return resort.limit if isinstance(resort, ParkStream) else MOST_PARKED


class Judge:
    """Gives verdicts on the events of one batch, each event once, also where the batch is folded again."""

    def __init__(self, assignment: Assignment[Any], clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._verdicts: dict[int, Verdict] = {}
        #: The attempts at each event that was given up, by position.
        self.given_up: dict[int, Attempts] = {}

    def __call__(self, key: str, failure: HandlerFailed) -> Verdict:
        found = self._verdicts.get(failure.position)
        if found is None:
            attempts = self._assignment.failed_at(failure, self._clock.now())
            found = verdict(self._assignment.projection.on_error, attempts.count, can_park=bool(key))
            self._verdicts[failure.position] = found
            if found is not Verdict.RETRY:
                self.given_up[failure.position] = attempts
        return found


def too_many_parked(assignment: Assignment[Any], position: int) -> RunnerError:
    """The error of a projection or reactor that would have to park one event more than its limit."""
    one, limit = assignment.projection, park_limit(assignment.projection.on_error)
    return RunnerError(
        f"{one.kind} {one.name!r} (partition {assignment.keys.partition}) would park the event at position "
        f"{position}, but {limit} events are parked already, which is its limit",
        hint=f"Correct the cause, run `runner parked retry {one.name}`, and start the {one.kind} again.",
    )


def refused(assignment: Assignment[Any]) -> CommitRefused:
    """The error for an assignment that was lost, where the runner does not wait to claim it again."""
    holder = assignment.holder
    taken = f"another runner has claimed it ({holder})" if holder else "it was reset, switched or released"
    return CommitRefused(assignment.name, assignment.keys.partition, taken)
