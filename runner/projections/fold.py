"""The fold: events are applied to rows, and the projection's policy decides about events that fail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from inspect import isawaitable
from typing import Any, Final

from msgspec import UNSET

from ..effects import Await, UserCodeOperation
from ..errors import HandlerFailed, PayloadError
from ..format.codec import FAULTS, unpack
from ..format.events import RecordedEvent
from ..format.names import check_name
from ..format.sharing import Sharing
from ..format.states import check_state, pack_state
from .calling import check_failure, outcome_of
from .handlers import Handler
from .projection import DELETE, Projection, by_stream

#: The state of a row, of the type that its projection makes.
State = Any

#: One event that has a handler: the key of its row ("" = the key function failed), the handler, the event.
Step = tuple[str, Handler, RecordedEvent]


class Verdict(Enum):
    """What the fold does with an event that failed."""

    #: The fold ends before the event, which is tried again later.
    RETRY = "retry"
    #: The fold ends before the event, for good.
    STOP = "stop"
    #: The fold goes on without the event and without the later events of its row.
    PARK = "park"
    #: The fold goes on without the event.
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that the fold went on without: skipped, parked, or (no failure) parked after another of its row."""

    verdict: Verdict
    key: str
    event: RecordedEvent
    failure: HandlerFailed | None


@dataclass(slots=True)
class Folded:
    """What a batch did to the rows: packed, None = deleted. ``failure``: the error that ended the fold early, if any.

    ``rest``: the position of the first event that the fold had no time for; 0 = there was time for all.
    """

    changed: dict[str, bytes | None] = field(default_factory=dict)
    handled: int = 0
    failure: HandlerFailed | None = None
    aside: list[SetAside] = field(default_factory=list)
    rest: int = 0


class Router:
    """Assigns the events of a batch to the handlers of several projections, in one pass over the events."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._projections = projections
        self._routes: dict[str, list[tuple[int, Projection, Handler]]] = {}

    def plan(self, events: Iterable[RecordedEvent]) -> list[list[Step]]:
        """The steps of each projection, in the order of the projections."""
        plans: list[list[Step]] = [[] for _ in self._projections]
        routes = self._routes
        for event in events:
            route = routes.get(event.type)
            if route is None:
                route = routes[event.type] = self._route(event.type)
            for place, projection, handler in route:
                category = projection.category
                if category is not None and event.stream.partition("-")[0] != category:
                    continue
                if projection.key is by_stream:
                    plans[place].append((event.stream, handler, event))
                else:
                    plans[place].append(_keyed(projection, handler, event))
        return plans

    def _route(self, event_type: str) -> list[tuple[int, Projection, Handler]]:
        found = []
        for place, projection in enumerate(self._projections):
            handler = projection.handler(event_type)
            if handler is not None:
                found.append((place, projection, handler))
        return found


def row_of(projection: Projection, event: RecordedEvent) -> str:
    """The key of an event's row. Raises what the projection's key function raises, or InvalidName."""
    event.forget()  # a handler, or another projection's key function, may have changed the decoded payload
    return check_name(projection.key(event), "row")


def _keyed(projection: Projection, handler: Handler, event: RecordedEvent) -> Step:
    """The step of an event whose row the projection's key function names. If that function fails, the step fails."""
    try:
        return row_of(projection, event), handler, event
    except BaseException as raised:
        fault = check_failure(raised)

    def fail(_: State, __: RecordedEvent) -> None:
        raise fault

    return "", fail, event


@dataclass(slots=True)
class Rules:
    """How a fold deals with failure and time.

    ``decide`` gives the verdict on an event that failed; it gets the key of the event's row and the failure. ``parked``
    are the keys of rows whose events are parked without a call of their handler. The fold ends before an event when
    ``clock`` has passed ``until``.
    """

    decide: Callable[[str, HandlerFailed], Verdict] = lambda key, failure: Verdict.STOP
    parked: Collection[str] = ()
    clock: Callable[[], float] = lambda: 0.0
    until: float = 1.0


#: The fold ends at the first failure, and has no time limit.
PLAIN: Final = Rules()


class _Fold:
    """One fold: what it has handled and decided so far."""

    def __init__(
        self, projection: Projection, rows: dict[str, bytes | None], rules: Rules, decided: dict[int, SetAside]
    ) -> None:
        self.projection = projection
        self.base = rows.get
        self.rows = rows
        self.rules = rules
        #: The events that were parked or skipped, by position: decided once, also when the batch is folded again.
        self.decided = decided
        self.parked = set(rules.parked)
        self.steps: Sequence[Step] = ()
        self.states: dict[str, State] = {}
        self.done: list[Step] = []
        self.out = Folded()
        self.sharing = Sharing(projection.held)

    def run(self, steps: Sequence[Step]) -> UserCodeOperation[Folded]:
        self.steps = steps
        states, base, out = self.states, self.base, self.out
        clock, until = self.rules.clock, self.rules.until
        held, decided, done = self.parked, self.decided, self.done
        for step in steps:
            key, handler, event = step
            if clock() > until and (done or out.aside):
                out.rest = event.position
                break
            if held and key in held:
                out.aside.append(SetAside(Verdict.PARK, key, event, None))
                continue
            if decided and event.position in decided:
                self._set_aside(decided[event.position])
                continue
            if event._data is not UNSET or event._metadata is not UNSET:
                event.forget()  # another projection's handler may have changed the decoded payload
            try:
                state = states.get(key, UNSET)
                if state is UNSET:
                    packed = base(key)
                    state = states[key] = self.projection.new_state() if packed is None else unpack(packed)
                elif state is DELETE:
                    state = self.projection.new_state()
                answer = handler(state, event)
                cause = None
            except BaseException as raised:
                answer, cause = None, check_failure(raised)
            if answer is not None and isawaitable(answer):
                answer, cause = yield from outcome_of(Await(answer))
            if cause is None:
                states[key] = state if answer is None else answer
                done.append(step)
                continue
            if key in states:
                states[key], again = yield from _refold(self.projection, _of_row(done, key), base(key))
                if again is not None:
                    return (yield from self._again(key, *again))
                if not _can_be_stored(states[key]):
                    return (yield from self._without_the_bad_row(key))
            if not self._goes_on_without(key, event, self.projection.failed(event, cause)):
                break
        out.handled = len(done)
        return (yield from self._pack())

    def _goes_on_without(self, key: str, event: RecordedEvent, failure: HandlerFailed) -> bool:
        verdict = self.rules.decide(key, failure)
        if verdict in (Verdict.RETRY, Verdict.STOP):
            self.out.failure = failure
            return False
        self.decided[event.position] = SetAside(verdict, key, event, failure)
        self._set_aside(self.decided[event.position])
        return True

    def _set_aside(self, what: SetAside) -> None:
        self.out.aside.append(what)
        if what.verdict is Verdict.PARK:
            self.parked.add(what.key)

    def _pack(self) -> UserCodeOperation[Folded]:
        for key, state in self.states.items():
            try:
                packed = None if state is DELETE else pack_state(state)
            except FAULTS:
                return (yield from self._without_the_bad_row(key))
            if packed != self.base(key):
                if packed is not None and not self.sharing.add(state, packed):
                    return (yield from self._without_the_bad_row(key))
                self.out.changed[key] = packed
        return self.out

    def _without_the_bad_row(self, key: str) -> UserCodeOperation[Folded]:
        """A row cannot be packed: find the event that made it so, and fold again as the policy says."""
        places = [place for place, step in enumerate(self.done) if step[0] == key]
        for count, place in enumerate(places, 1):
            state, again = yield from _refold(self.projection, [self.done[p] for p in places[:count]], self.base(key))
            try:
                if state is not DELETE:
                    check_state(state, f"row {key!r}")
                    self.sharing.check(state, f"row {key!r}")
            except PayloadError as cause:
                event = self.done[place][2]
                again = event, self.projection.failed(event, cause)
            if again is not None:
                return (yield from self._again(key, *again))
        event = self.done[places[-1]][2]
        impure = PayloadError(f"row {key!r} could not be stored, and can be when it is made again: no pure function")
        return (yield from self._again(key, event, self.projection.failed(event, impure)))

    def _again(self, key: str, event: RecordedEvent, failure: HandlerFailed) -> UserCodeOperation[Folded]:
        before = self.out.failure
        end = before.position if before is not None else self.out.rest
        if not self._goes_on_without(key, event, failure):
            end, before = event.position, failure
        steps = [step for step in self.steps if not end or step[2].position < end]
        folded = yield from _Fold(self.projection, self.rows, self.rules, self.decided).run(steps)
        if not folded.rest and folded.failure is None:
            folded.rest, folded.failure = (0, before) if before is not None else (self.out.rest, None)
        return folded


def fold(
    projection: Projection, steps: Sequence[Step], rows: dict[str, bytes | None], rules: Rules = PLAIN
) -> UserCodeOperation[Folded]:
    """Fold steps over packed rows (None or absent = no row), and pack the rows that changed."""
    return _Fold(projection, rows, rules, {}).run(steps)


#: An event that failed, and its failure.
Failed = tuple[RecordedEvent, HandlerFailed]


def _refold(
    projection: Projection, steps: Sequence[Step], packed: bytes | None
) -> UserCodeOperation[tuple[State, Failed | None]]:
    """The state of one row after ``steps``. They have all succeeded before; returns also the one that now fails."""
    state = DELETE if packed is None else unpack(packed)
    for _, handler, event in steps:
        event.forget()
        try:
            state = projection.new_state() if state is DELETE else state
            answer = handler(state, event)
            cause = None
        except BaseException as raised:
            answer, cause = None, check_failure(raised)
        if answer is not None and isawaitable(answer):
            answer, cause = yield from outcome_of(Await(answer))
        if cause is not None:
            return state, (event, projection.failed(event, cause))
        state = state if answer is None else answer
    return state, None


def _can_be_stored(state: State) -> bool:
    try:
        return state is DELETE or bool(pack_state(state))
    except FAULTS:
        return False


def _of_row(steps: Sequence[Step], key: str) -> list[Step]:
    return [step for step in steps if step[0] == key]
