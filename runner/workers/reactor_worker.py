"""The worker of a reactor: performs effects, those of several streams at a time.

The events of a batch are sorted into lanes, one for each stream, which run beside each other. Every 0.2 s the lanes
pause so that progress is committed: the checkpoint is the last event before which everything is done, and the set of
later events that are done already is stored with it, by position and event id. Ids are stored because after a restore
another event may stand at the same position. When the process is killed, only the effects after the last commit are
repeated.

An event that waits for its next attempt holds up its stream and no other: further events are taken on meanwhile, up to
a bound.

Lanes also pause when the lease has run out by this process's clock, when an effect fails and its policy says so, and
when the process is to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from ..effects import Begin, Finish, Operation, Pause
from ..errors import RunnerError
from ..format.codec import pack, unpack
from ..format.events import RecordedEvent
from ..progress.checkpoint import Checkpoint
from ..projections.reactor import Reactor
from ..subscriptions.reader import SubscriptionReader
from .assignment import Assignment, Assignments
from .commits import Commit
from .failures import park_limit, too_many_parked
from .lanes import Lane, Mark, first_failure, mark, sum_up
from .worker import Worker, before

#: How long the lanes run before progress is committed, in seconds.
EFFECTS_SLICE = 0.2


class ReactorWorker(Worker):
    """Drives one reactor."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: The events after the checkpoint, while one of them waits for its next attempt and later ones go on.
        self._window: list[RecordedEvent] = []
        #: Whether the window must be done before further events are taken on.
        self._in_order = False

    def _new_reader(self, live: bool) -> SubscriptionReader:
        self._window = []  # the new reader reads these events again
        return super()._new_reader(live)

    def _idle_time(self) -> float:
        return self._until_due() if self._window else super()._idle_time()

    def _on_idle(self) -> Operation[None]:
        if self._window:
            yield from self._apply_all(self.assignments, [])

    def _on_end(self) -> Operation[None]:
        self._in_order = True
        try:
            yield from self._on_idle()
        finally:
            self._in_order = False

    def _apply_all(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[None]:
        known = self._window[-1].position if self._window else 0
        merged = [*self._window, *(event for event in events if event.position > known)]
        yield from super()._apply_all(assignments, merged)

    def _bring_all_forward(self, assignments: Assignments, upto: int) -> Operation[None]:
        if not self._window:  # else the window holds all events up to there; one of them waits for its next attempt
            yield from super()._bring_all_forward(assignments, upto)

    def _bring_forward(self, assignment: Assignment[Any], upto: int) -> Operation[None]:
        in_order, self._in_order = self._in_order, True
        try:
            yield from super()._bring_forward(assignment, upto)
        finally:
            self._in_order = in_order

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        [assignment] = assignments
        held = assignment.claim.checkpoint
        known = self._window[-1].position if self._window else held.position
        events = self._window = [*self._window, *(event for event in events if event.position > known)]
        if not events:
            return []
        stored = _marks(assignment.claim.ahead)
        assignment.effects = {done for done in assignment.effects if done[0] > held.position}
        lanes = _lanes(assignment, events, stored | assignment.effects, self.context.store)
        yield from self._run(assignment, lanes)
        if assignment not in self.assignments:
            return []
        changes, settled, undone = sum_up(lanes)
        fresh = assignment.effects - stored
        changes.handled = len(fresh)
        after = before(min(undone), events, held) if undone else Checkpoint(events[-1].position, events[-1]._id)
        changes.ahead = pack(sorted(done for done in stored | fresh | settled if done[0] > after.position))
        for position, _ in settled | assignment.effects:
            assignment.attempts.pop(position, None)
        assignment.parked |= {lane.stream for lane in lanes if lane.set_aside}
        assignment.parked_events += len(changes.parked)
        self._window = [event for event in events if event.position > after.position]
        if after.position > held.position or changes.ahead != (assignment.claim.ahead or pack([])):
            assignment.claim.ahead = changes.ahead
            yield from self.holdings.commit([Commit(assignment, changes, after)])
        yield from self.holdings.settle()
        failure = first_failure(lanes)
        if failure is not None and assignment in self.assignments:
            yield from self.holdings.stop_unless_outdated(assignment, failure)
            return []
        if not undone:
            return []
        room = len(self._window) < self.context.settings.buffer_size
        if not self._in_order and room and all(lane.at_rest for lane in lanes):
            return []  # further events need not wait for an event's next attempt
        if after.position == held.position and not fresh:
            yield Pause(self._until_due())
        return assignments

    def _until_due(self) -> float:
        """How many seconds to wait for the next attempt at an event of the window. Later events are not read yet."""
        [attempts] = [one.attempts for one in self.assignments] or [{}]
        known = (attempts.get(event.position) for event in self._window)
        due = min((made.due for made in known if made is not None), default=0.0)
        return max(0.0, min(due - self._clock(), self.context.settings.beat))

    def _run(self, assignment: Assignment[Reactor], lanes: list[Lane]) -> Operation[None]:
        """Run the lanes for a while, and keep the lease meanwhile.

        It ends only when no effect is under way, so that no effect is begun again while it still runs.
        """
        if not lanes:
            return
        until = self._clock() + EFFECTS_SLICE
        error: RunnerError | None = None

        def halt() -> bool:
            now = self._clock()
            failed = error is not None or any(lane.failure is not None for lane in lanes)
            lost = now >= assignment.expires or assignment not in self.assignments
            return self.stopping or failed or now >= until or lost

        places, limit = count(assignment.parked_events), park_limit(assignment.projection.on_error)

        def take_place(event: RecordedEvent) -> RunnerError | None:
            return None if next(places) < limit else too_many_parked(assignment, event.position)

        clock = self.context.clock
        work = yield Begin([lane.run(clock, halt, take_place) for lane in lanes], assignment.projection.at_a_time)
        while not (yield Finish(work, self.context.settings.beat / 2)):
            if assignment in self.assignments and error is None:
                try:
                    yield from self.holdings.heartbeat_if_due()
                except RunnerError as raised:
                    error = raised
        for lane in lanes:
            assignment.effects.update(lane.done)
            if lane.retried is not None:
                self.context.tell(lane.retried)
        if error is not None:
            raise error


def _lanes(
    assignment: Assignment[Reactor], events: Sequence[RecordedEvent], ahead: set[Mark], store: object
) -> list[Lane]:
    """The events that are not done yet, by stream."""
    reactor, lanes = assignment.projection, dict[str, Lane]()
    for event in events:
        handler = reactor.handler(event.type)
        wanted = handler is not None and (reactor.category is None or event.category == reactor.category)
        if handler is None or not wanted or event.position <= assignment.position or mark(event) in ahead:
            continue
        lane = lanes.get(event.stream)
        if lane is None:
            lane = lanes[event.stream] = Lane(assignment, event.stream, event.stream in assignment.parked, store)
        lane.steps.append((handler, event))
    return list(lanes.values())


def _marks(ahead: bytes) -> set[Mark]:
    """The marks of the events after the checkpoint that are stored as done."""
    return {(position, event_id) for position, event_id in unpack(ahead)} if ahead else set()
