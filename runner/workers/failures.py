"""The verdict on an event that fails, for projections and for reactors.

The verdict follows from the policy and the number of failed attempts. `RETRY` and `STOP` end the work before the event;
`PARK` and `SKIP` let the work go on without the event.
"""

from __future__ import annotations

from typing import Any

from ..effects.clock import Clock
from ..errors import CommitRefused, HandlerFailed, RunnerError, UndecodableEvent
from ..progress.parked import SetAsideEvent
from ..projections.fold import Verdict
from ..projections.policies import MOST_PARKED, ParkStream, Policy, Skip, last_resort, retries
from ..views.redis_rows import Changes
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


def bad_entry_aside(assignment: Assignment[Any], error: UndecodableEvent, now_us: int) -> Changes | None:
    """The changes that record an event that cannot be decoded; None if the projection stops.

    An event that the projection has no handler for is not recorded. An entry without a readable stream cannot be
    parked, because the later events that would have to wait are not known.
    """
    one, key = assignment.projection, error.stream
    if key and not one.wants(key, error.type):
        return Changes()
    room = assignment.parked_events < park_limit(one.on_error)
    can_park = room and bool(key) and one.keyed_by_stream
    found = verdict(last_resort(one.on_error), 1, can_park=can_park)
    if found is Verdict.STOP:
        return None
    aside = SetAsideEvent(error.position, key, key, error.number, error.type, 1, now_us, now_us, str(error))
    if found is Verdict.SKIP:
        return Changes(skipped=[aside])
    assignment.parked.add(key)
    assignment.parked_events += 1
    return Changes(parked=[aside])
