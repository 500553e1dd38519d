"""Reactors at work: a worker of one assignment that has effects, several streams at a time.

The events of a batch are sorted into lanes, one a stream; a lane runs its handlers in order, and lanes run beside each
other. Lanes are stopped before their next event every now and then, so that what was done is committed: the checkpoint
on the last event before which everything is done, and beside it the events beyond that are done, by position and id:
at the same position of another history stands an event that is not. Only what was done after the last commit happens
again when the process is killed.

An event that waits for its next try holds up its stream and nothing else: further events are taken on meanwhile, up to
a bound.

Lanes stop too when the lease has run out by the holder's clock, when an effect fails and its policy says so, and when
the process is to end. One that goes on without an event first has that committed: else, after a crash, the event could
have its effect behind those of later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import count
from typing import Any

from ..effects import Await, Begin, Finish, Invoke, Operation, Pause, UserCodeOperation
from ..errors import HandlerFailed, RunnerError
from ..format.codec import pack, unpack
from ..format.events import RecordedEvent
from ..progress.checkpoint import Checkpoint
from ..progress.parked import Aside, behind, failing
from ..projections.handlers import HANDLER_FAULTS, Handler
from ..projections.policies import MOST_PARKED, ParkStream, Retry, Skip, last_resort
from ..projections.reactor import Reactor
from ..subscriptions.reader import SubscriptionReader
from ..views.redis_rows import Changes
from .assignment import Assignment
from .context import Context
from .lease_keeper import Assignments
from .worker import Worker, before, too_many

#: How long effects go on before those that are done are committed, in seconds.
SLICE = 0.2


@dataclass(slots=True)
class _Tries:
    """How often an event was tried in vain, when first (µs since 1970), and when it may be tried again (monotonic)."""

    count: int
    first_us: int
    due: float


#: An event that is done with: its position and its id.
Mark = tuple[int, bytes]

#: Takes one of the places for parked events, or says why there is none.
NoRoom = Callable[[RecordedEvent], RunnerError | None]


@dataclass
class _Lane:
    """The events of one stream, and what became of them."""

    reactor: Reactor
    stream: str
    parked: bool
    tries: dict[int, _Tries]
    steps: list[tuple[Handler, RecordedEvent]] = field(default_factory=list)
    done: list[Mark] = field(default_factory=list)
    set_aside: dict[int, Aside] = field(default_factory=dict)
    skipped: list[Aside] = field(default_factory=list)
    #: Where and why it ended for good.
    failure: tuple[int, RunnerError] | None = None
    #: The event it stands before is to be tried again later.
    waits: bool = False

    def run(self, context: Context, halt: Callable[[], bool], no_room: NoRoom) -> UserCodeOperation[None]:
        """Have the effects of one event after the other, until one must wait or fails for good."""
        for handler, event in self.steps:
            if self.parked:
                if not self._park(event, behind(self.stream, event), no_room):
                    return
                continue
            tries = self.tries.get(event.position)
            self.waits = tries is not None and context.clock.monotonic() < tries.due
            if self.waits or halt():
                return
            try:
                answer = yield Invoke(handler, (event, self.reactor.key(event)))
                if isawaitable(answer):
                    yield Await(answer)
            except HANDLER_FAULTS as cause:
                if not self._goes_on(event, self.reactor.failed(event, cause), context, no_room):
                    return
            else:
                self.done.append(_mark(event))

    def _goes_on(self, event: RecordedEvent, failure: HandlerFailed, context: Context, no_room: NoRoom) -> bool:
        """What the policy says about an event that failed; False if the lane ends there for now."""
        policy, now = self.reactor.on_error, context.clock.now()
        tries = self.tries.setdefault(event.position, _Tries(0, now, 0.0))
        tries.count += 1
        if isinstance(policy, Retry) and tries.count <= policy.times:
            tries.due = context.clock.monotonic() + policy.pause(tries.count, context.clock.random)
            self.waits = True
            return False
        aside = failing(self.stream, event, failure, tries.count, tries.first_us, now)
        resort = last_resort(policy)
        if isinstance(resort, Skip):
            self.skipped.append(aside)
            return False
        elif isinstance(resort, ParkStream):
            return self._park(event, aside, no_room)
        else:
            self.failure = event.position, failure
            return False
        return True

    def _park(self, event: RecordedEvent, aside: Aside, no_room: NoRoom) -> bool:
        trouble = no_room(event)
        if trouble is not None:
            self.failure = event.position, trouble
            return False
        self.set_aside[event.position] = aside
        self.parked = True
        return True


class ReactorWorker(Worker):
    """A worker of one reactor."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Events that are tried again, by position.
        self._tries: dict[int, _Tries] = {}
        #: The events behind the checkpoint, where one of them waits for its next try and later ones go on.
        self._window: list[RecordedEvent] = []
        #: Further events are not to be taken on before these are done.
        self._in_order = False

    def _new_reader(self, live: bool) -> SubscriptionReader:
        self._window = []  # it reads them again
        return super()._new_reader(live)

    def _idle_time(self) -> float:
        return self._until_due() if self._window else super()._idle_time()

    def _tend(self) -> Operation[None]:
        if self._window:
            yield from self._apply_all(self.assignments, [])

    def _finish(self) -> Operation[None]:
        self._in_order = True
        yield from self._tend()
        self._in_order = False

    def _apply_all(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[None]:
        known = self._window[-1].position if self._window else 0
        yield from super()._apply_all(
            assignments, [*self._window, *(event for event in events if event.position > known)]
        )

    def _bring_all_forward(self, assignments: Assignments, upto: int) -> Operation[None]:
        if not self._window:  # else it has come as far as that, with one event left to try again
            yield from super()._bring_all_forward(assignments, upto)

    def _bring_forward(self, assignment: Assignment[Any], upto: int) -> Operation[None]:
        before, self._in_order = self._in_order, True
        yield from super()._bring_forward(assignment, upto)
        self._in_order = before

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        [assignment] = assignments
        held = assignment.claim.checkpoint
        known = self._window[-1].position if self._window else held.position
        events = self._window = [*self._window, *(event for event in events if event.position > known)]
        if not events:
            return []
        stored = _marks(assignment.claim.ahead)
        assignment.effects = {mark for mark in assignment.effects if mark[0] > held.position}
        lanes = self._lanes(assignment, events, stored | assignment.effects)
        yield from self._run(assignment, lanes)
        if assignment not in self.assignments:
            return []
        changes, settled, undone = _sum_up(lanes)
        fresh = assignment.effects - stored
        changes.handled = len(fresh)
        after = before(min(undone), events, held) if undone else Checkpoint(events[-1].position, events[-1]._id)
        changes.ahead = pack(sorted(mark for mark in stored | fresh | settled if mark[0] > after.position))
        for position, _ in settled | assignment.effects:
            self._tries.pop(position, None)
        assignment.parked |= {lane.stream for lane in lanes if lane.set_aside}
        assignment.parked_events += len(changes.parked)
        self._window = [event for event in events if event.position > after.position]
        if after.position > held.position or changes.ahead != (assignment.claim.ahead or pack([])):
            assignment.claim.ahead = changes.ahead
            yield from self._send([self._commit(assignment, changes, after)], [assignment])
        yield from self._settle()
        failure = min((lane.failure for lane in lanes if lane.failure is not None), default=None, key=_position)
        if failure is not None and assignment in self.assignments:
            yield from self._stop_unless_it_was_outdated(assignment, failure[1])
            return []
        if not undone:
            return []
        if not self._in_order and len(self._window) < self.context.settings.buffer_size and _only_wait(lanes):
            return []  # others need not wait for what is to be tried again
        if after.position == held.position and not fresh and not settled:
            yield Pause(self._until_due())
        return assignments

    def _until_due(self) -> float:
        """How long to wait for the next try of an event of the window; those beyond it are not read again yet."""
        known = (self._tries.get(event.position) for event in self._window)
        due = min((tries.due for tries in known if tries is not None), default=0.0)
        return max(0.0, min(due - self._clock(), self.context.settings.beat))

    def _lanes(self, assignment: Assignment[Reactor], events: Sequence[RecordedEvent], ahead: set[Mark]) -> list[_Lane]:
        reactor, lanes = assignment.projection, dict[str, _Lane]()
        for event in events:
            handler = reactor.handler(event.type)
            wanted = handler is not None and (reactor.category is None or event.category == reactor.category)
            if handler is None or not wanted or event.position <= assignment.position or _mark(event) in ahead:
                continue
            lane = lanes.get(event.stream)
            if lane is None:
                lane = lanes[event.stream] = _Lane(
                    reactor, event.stream, event.stream in assignment.parked, self._tries
                )
            lane.steps.append((handler, event))
        return list(lanes.values())

    def _run(self, assignment: Assignment[Reactor], lanes: list[_Lane]) -> Operation[None]:
        """Run the lanes for a while, and keep the lease meanwhile.

        Effects under way are waited for whatever happens, so that none of them is begun again beside itself.
        """
        if not lanes:
            return
        until = self._clock() + SLICE
        trouble: RunnerError | None = None

        def halt() -> bool:
            now = self._clock()
            failed = trouble is not None or any(lane.failure is not None for lane in lanes)
            return (
                self.stopping
                or failed
                or now >= until
                or now >= assignment.expires
                or assignment not in self.assignments
            )

        places = count(assignment.parked_events)
        resort = last_resort(assignment.projection.on_error)
        limit = resort.limit if isinstance(resort, ParkStream) else MOST_PARKED

        def no_room(event: RecordedEvent) -> RunnerError | None:
            return None if next(places) < limit else too_many(assignment, event.position, limit)

        work = yield Begin([lane.run(self.context, halt, no_room) for lane in lanes], assignment.projection.at_a_time)
        while not (yield Finish(work, self.context.settings.beat / 2)):
            if assignment in self.assignments and trouble is None:
                try:
                    yield from self._beat()
                except RunnerError as found:
                    trouble = found
        assignment.effects.update(mark for lane in lanes for mark in lane.done)
        if trouble is not None:
            raise trouble


def _mark(event: RecordedEvent) -> Mark:
    return event.position, event._id


def _marks(ahead: bytes) -> set[Mark]:
    """What is stored as done beyond the checkpoint."""
    return {(position, event_id) for position, event_id in unpack(ahead)} if ahead else set()


def _sum_up(lanes: list[_Lane]) -> tuple[Changes, set[Mark], list[int]]:
    """What the lanes set aside; the events that are settled, and the positions of those that are left."""
    changes, settled, undone = Changes(), set[Mark](), list[int]()
    for lane in lanes:
        changes.parked.update({position: aside.record() for position, aside in lane.set_aside.items()})
        changes.skipped += [aside.record() for aside in lane.skipped]
        done = {position for position, _ in lane.done}
        ended = {*done, *lane.set_aside, *(aside.position for aside in lane.skipped)}
        settled.update(_mark(event) for _, event in lane.steps if event.position in ended)
        undone += [event.position for _, event in lane.steps if event.position not in ended]
    return changes, settled, undone


def _only_wait(lanes: list[_Lane]) -> bool:
    """Whether each lane is at its end, or before an event that is to be tried again later."""
    return all(
        lane.waits or len(lane.done) + len(lane.set_aside) + len(lane.skipped) == len(lane.steps) for lane in lanes
    )


def _position(failure: tuple[int, RunnerError]) -> int:
    return failure[0]
