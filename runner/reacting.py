"""Reactors at work: a group of one seat that has effects, several streams at a time.

The events of a batch are sorted into lanes, one a stream; a lane runs its handlers in order, and lanes run beside each
other. Lanes are stopped before their next event every now and then, so that what was done is committed: the checkpoint
on the last event before which everything is done, and beside it the positions that are done beyond. Only what was done
after the last commit happens again when the process is killed.

Lanes stop too when the lease has run out by the holder's clock, when an effect fails and its policy says so, and when
the process is to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import count
from typing import Any

from .codec import pack, unpack
from .errors import HandlerFailed, RunnerError
from .events import RecordedEvent
from .group import Group, Seats, before
from .handlers import HANDLER_FAULTS, Handler
from .policies import ParkStream, Retry, Skip, last_resort
from .progress.checkpoint import Changes, Checkpoint
from .progress.parking import Aside, behind, failing
from .reactor import Reactor
from .requests import Await, Begin, Finish, Invoke, Operation, Pause
from .seat import Context, Seat

#: How long effects go on before those that are done are committed, in seconds.
SLICE = 0.2


@dataclass(slots=True)
class _Tries:
    """How often an event was tried in vain, when first (µs since 1970), and when it may be tried again (monotonic)."""

    count: int
    first_us: int
    due: float


@dataclass
class _Lane:
    """The events of one stream, and what became of them."""

    reactor: Reactor
    stream: str
    parked: bool
    tries: dict[int, _Tries]
    steps: list[tuple[Handler, RecordedEvent]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    set_aside: dict[int, Aside] = field(default_factory=dict)
    skipped: list[Aside] = field(default_factory=list)
    failure: HandlerFailed | None = None

    def run(self, context: Context, halt: Callable[[], bool], has_room: Callable[[], bool]) -> Operation[None]:
        """Have the effects of one event after the other, until one must wait or fails for good."""
        for handler, event in self.steps:
            if self.parked:
                self.set_aside[event.position] = behind(self.stream, event)
                continue
            tries = self.tries.get(event.position)
            if halt() or (tries is not None and context.clock() < tries.due):
                return
            try:
                answer = yield Invoke(handler, (event, self.reactor.key(event)))
                if isawaitable(answer):
                    yield Await(answer)
            except HANDLER_FAULTS as cause:
                if not self._goes_on(event, self.reactor.failed(event, cause), context, has_room):
                    return
            else:
                self.done.append(event.position)

    def _goes_on(
        self, event: RecordedEvent, failure: HandlerFailed, context: Context, has_room: Callable[[], bool]
    ) -> bool:
        """What the policy says about an event that failed; False if the lane ends before it."""
        policy, now = self.reactor.on_error, context.now()
        tries = self.tries.setdefault(event.position, _Tries(0, now, 0.0))
        tries.count += 1
        if isinstance(policy, Retry) and tries.count <= policy.times:
            tries.due = context.clock() + policy.pause(tries.count, context.random)
            return False
        aside = failing(self.stream, event, failure, tries.count, tries.first_us, now)
        resort = last_resort(policy)
        if isinstance(resort, Skip):
            self.skipped.append(aside)
        elif isinstance(resort, ParkStream) and has_room():
            self.set_aside[event.position] = aside
            self.parked = True
        else:
            self.failure = failure
            return False
        return True


class Reacting(Group):
    """A group of one reactor."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Events that are tried again, by position.
        self._tries: dict[int, _Tries] = {}

    def _apply(self, seats: Seats, events: Sequence[RecordedEvent]) -> Operation[Seats]:
        [seat] = seats
        held, last = seat.claim.checkpoint, events[-1]
        ahead: set[int] = set(unpack(seat.claim.ahead)) if seat.claim.ahead else set()
        lanes = self._lanes(seat, events, ahead)
        yield from self._run(seat, lanes)
        if seat not in self.seats:
            return []
        changes, undone, failure = _sum_up(lanes, ahead)
        after = before(min(undone), events, held) if undone else Checkpoint(last.position, last._id)
        changes.ahead = pack(sorted(position for position in ahead if position > after.position))
        for position in ahead:
            self._tries.pop(position, None)
        seat.parked |= {lane.stream for lane in lanes if lane.set_aside}
        seat.parked_events += len(changes.parked)
        if after.position > held.position or changes.ahead != (seat.claim.ahead or pack([])):
            seat.claim.ahead = changes.ahead
            yield from self._send([self._commit(seat, changes, after)], [seat])
        yield from self._settle()
        if failure is not None and seat in self.seats:
            yield from self._stop(seat, failure)
        elif undone and after.position == held.position and not changes.handled:
            due = min((tries.due for tries in self._tries.values()), default=0.0)
            yield Pause(max(0.0, min(due - self._clock(), self.context.settings.beat)))
        return seats if undone else []

    def _lanes(self, seat: Seat[Reactor], events: Sequence[RecordedEvent], ahead: set[int]) -> list[_Lane]:
        reactor, lanes = seat.projection, dict[str, _Lane]()
        for event in events:
            handler = reactor.handler(event.type)
            wanted = handler is not None and (reactor.category is None or event.category == reactor.category)
            if handler is None or not wanted or event.position <= seat.position or event.position in ahead:
                continue
            lane = lanes.get(event.stream)
            if lane is None:
                lane = lanes[event.stream] = _Lane(reactor, event.stream, event.stream in seat.parked, self._tries)
            lane.steps.append((handler, event))
        return list(lanes.values())

    def _run(self, seat: Seat[Reactor], lanes: list[_Lane]) -> Operation[None]:
        """Run the lanes for a while, and keep the lease meanwhile."""
        until = self._clock() + SLICE

        def halt() -> bool:
            now = self._clock()
            failed = any(lane.failure is not None for lane in lanes)
            return self.stopping or failed or now >= until or now >= seat.expires or seat not in self.seats

        places = count(seat.parked_events)
        resort = last_resort(seat.projection.on_error)

        def has_room() -> bool:
            return isinstance(resort, ParkStream) and next(places) < resort.limit

        if not lanes:
            return
        work = yield Begin([lane.run(self.context, halt, has_room) for lane in lanes], seat.projection.at_a_time)
        while not (yield Finish(work, self.context.settings.beat / 2)):
            if seat in self.seats:
                yield from self._beat()


def _sum_up(lanes: list[_Lane], ahead: set[int]) -> tuple[Changes, list[int], RunnerError | None]:
    """What the lanes did, with what is done added to ``ahead``; the positions that are left; why one failed."""
    changes, undone = Changes(), list[int]()
    for lane in lanes:
        changes.handled += len(lane.done)
        changes.parked.update({position: aside.record() for position, aside in lane.set_aside.items()})
        changes.skipped += [aside.record() for aside in lane.skipped]
        settled = {*lane.done, *lane.set_aside, *(aside.position for aside in lane.skipped)}
        ahead |= settled
        undone += [event.position for _, event in lane.steps if event.position not in settled]
    failures = [lane.failure for lane in lanes if lane.failure is not None]
    return changes, undone, min(failures, key=lambda failure: failure.position, default=None)
