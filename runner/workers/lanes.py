"""Lanes: the events of a batch by stream, so that effects of several streams happen at the same time.

A lane runs its handlers in order. It ends early when it is told to halt, before an event that waits for its next
attempt, and at an event that the policy stops at or skips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..effects import UserCodeOperation
from ..effects.clock import Clock
from ..errors import HandlerFailed, RunnerError
from ..format.events import RecordedEvent
from ..progress.parked import SetAsideEvent, failing, parked_after
from ..projections.calling import handled
from ..projections.fold import Verdict
from ..projections.handlers import Handler
from ..projections.policies import Retry
from ..projections.reactor import Reactor
from ..views.redis_rows import Changes
from .assignment import Assignment
from .failed_events import FailedEvent, to_retry
from .failures import verdict

#: The position and id of an event that is done. After a restore another event may stand at the same position.
Mark = tuple[int, bytes]

#: Takes one of the places for parked events; returns an error if no place is left.
TakePlace = Callable[[RecordedEvent], RunnerError | None]


@dataclass
class Lane:
    """The events of one stream in a batch, and which of them were done, parked or skipped."""

    assignment: Assignment[Reactor]
    stream: str
    parked: bool
    #: What handlers are given that ask for the store.
    store: object = None
    steps: list[tuple[Handler, RecordedEvent]] = field(default_factory=list)
    done: list[Mark] = field(default_factory=list)
    set_aside: dict[int, SetAsideEvent] = field(default_factory=dict)
    skipped: list[SetAsideEvent] = field(default_factory=list)
    #: The position and error at which the lane ended for good.
    failure: tuple[int, RunnerError] | None = None
    #: Whether the next event waits for its next attempt.
    waits: bool = False
    #: What is told of the event that failed and is tried again.
    retried: FailedEvent | None = None

    def run(self, clock: Clock, halt: Callable[[], bool], take_place: TakePlace) -> UserCodeOperation[None]:
        """Perform the effects of one event after the other, until the lane ends (see the head of this module)."""
        reactor, attempts = self.assignment.projection, self.assignment.attempts
        for handler, event in self.steps:
            if self.parked:
                if not self._park(event, parked_after(self.stream, event), take_place):
                    return
                continue
            made = attempts.get(event.position)
            self.waits = made is not None and clock.monotonic() < made.due
            if self.waits or halt():
                return
            given = event.copy()  # each attempt changes its own event
            cause = yield from handled(handler, *reactor.arguments(handler, given, self.store))
            if cause is None:
                self.done.append(mark(event))
            elif not self._goes_on(event, reactor.failed(event, cause), clock, take_place):
                return

    @property
    def at_rest(self) -> bool:
        """Whether the lane is at its end, or before an event that waits for its next attempt."""
        return self.waits or len(self.done) + len(self.set_aside) + len(self.skipped) == len(self.steps)

    def _goes_on(self, event: RecordedEvent, failure: HandlerFailed, clock: Clock, take_place: TakePlace) -> bool:
        """Do with a failed event what the policy says; False if the lane ends for now."""
        policy = self.assignment.projection.on_error
        made = self.assignment.failed_at(failure, clock.now())
        found = verdict(policy, made.count, can_park=True)
        if found is Verdict.RETRY:
            assert isinstance(policy, Retry)
            pause = policy.pause(made.count, clock.random)
            made.due = clock.monotonic() + pause
            self.retried = to_retry(self.assignment, failure, made, pause)
            self.waits = True
            return False
        if found is Verdict.STOP:
            self.failure = event.position, failure
            return False
        aside = failing(self.stream, event, failure, made.count, made.first_us, made.last_us)
        if found is Verdict.PARK:
            return self._park(event, aside, take_place)
        # The lane ends, so that the skip is committed before the next event. Otherwise the event could be tried again
        # after a crash, and its effect could come after the effects of later events.
        self.skipped.append(aside)
        return False

    def _park(self, event: RecordedEvent, aside: SetAsideEvent, take_place: TakePlace) -> bool:
        no_room = take_place(event)
        if no_room is not None:
            self.failure = event.position, no_room
            return False
        self.set_aside[event.position] = aside
        self.parked = True
        return True


def mark(event: RecordedEvent) -> Mark:
    """The mark of an event."""
    return event.position, event._id


def sum_up(lanes: list[Lane]) -> tuple[Changes, set[Mark], list[int]]:
    """The events that the lanes set aside, as changes; the marks of settled events; the positions of all others."""
    changes, settled, undone = Changes(), set[Mark](), list[int]()
    for lane in lanes:
        changes.parked += lane.set_aside.values()
        changes.skipped += lane.skipped
        done = {position for position, _ in lane.done}
        ended = {*done, *lane.set_aside, *(aside.position for aside in lane.skipped)}
        settled.update(mark(event) for _, event in lane.steps if event.position in ended)
        undone += [event.position for _, event in lane.steps if event.position not in ended]
    return changes, settled, undone


def first_failure(lanes: list[Lane]) -> RunnerError | None:
    """The failure at the lowest position, if a lane ended for good."""
    failures = [lane.failure for lane in lanes if lane.failure is not None]
    return min(failures, key=lambda failure: failure[0])[1] if failures else None
