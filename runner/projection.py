"""Projections: plain functions that fold events into rows, and the fold itself.

A handler takes ``(state, event)``. It changes the state in place and returns None, or returns the new state, or
returns `DELETE` to remove the row. It must be a pure function of the two: the runner may call it again for an event
whose result was not committed. Handlers may be ``async def``.

A handler that raises leaves no trace. Rows are kept packed and unpacked for each batch, so the state it had begun to
change is thrown away, and the row is folded again from its packed form up to the event before.
"""

from __future__ import annotations

import inspect
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

from msgspec import UNSET

from .codec import FAULTS, pack, pack_value, unpack
from .errors import HandlerFailed, InvalidName, ProjectionError
from .events import RecordedEvent
from .names import category_of, check_name, check_plain_name
from .requests import Await, Operation

State = Any
Handler = Callable[[State, RecordedEvent], Any]


#: What a handler may raise and is its own fault; a KeyboardInterrupt is not.
HANDLER_FAULTS = (Exception, SystemExit, CancelledError, GeneratorExit)


class _Delete:
    def __repr__(self) -> str:
        return "DELETE"


#: What a handler returns to remove the row.
DELETE: Final = _Delete()


def by_stream(event: RecordedEvent) -> str:
    """The default key of a row: the stream's name."""
    return event.stream


class Projection:
    """A fold over events into a view of keyed rows.

    ``category``: only the events of that category; None means all events. ``initial`` makes the state of a new
    row; it must be a function, so that no two rows share one. ``key`` gives the row's key, a text. Raises
    ProjectionError or InvalidName.
    """

    def __init__(
        self,
        name: str,
        *,
        category: str | None = None,
        initial: Callable[[], State] = dict,
        key: Callable[[RecordedEvent], str] = by_stream,
    ) -> None:
        self.name = check_plain_name(name, "projection")
        if category is not None and category_of(check_name(category, "category")) != category:
            raise InvalidName(f"projection {name!r}: category {category!r} holds a '-'; a category is what precedes it")
        if not callable(initial):
            raise ProjectionError(f"projection {name!r}: initial must be a function that makes a state: {initial!r}")
        if not callable(key):
            raise ProjectionError(f"projection {name!r}: key must be a function of the event: {key!r}")
        self.category = category
        self.initial = initial
        self.key = key
        self._handlers: dict[str, Handler] = {}
        self._otherwise: Handler | None = None

    def when(self, *args: Any) -> Any:
        """Declare the handler of one or more event types: ``@p.when("A", "B")``, or ``p.when("A", function)``.

        Without a type it takes every event that no other handler takes. Raises ProjectionError for a second
        handler of the same type.
        """
        if args and callable(args[-1]) and not isinstance(args[-1], str):
            return self._add(args[:-1], args[-1])
        return lambda handler: self._add(args, handler)

    @property
    def types(self) -> tuple[str, ...]:
        """The event types that have a handler, sorted; ``*`` stands for all others."""
        return (*sorted(self._handlers), *(("*",) if self._otherwise else ()))

    def handler(self, event_type: str) -> Handler | None:
        """The handler of an event type, or None when such events pass by."""
        return self._handlers.get(event_type, self._otherwise)

    def state_at(self, store: Any, *, position: int | None = None, time: Any = None, key: str | None = None) -> Any:
        """The rows as they were after ``position``, or by ``time`` (a datetime), folded in memory; nothing is written.

        Returns a dict of rows, or with ``key`` that one row (None where it is missing). A coroutine for an
        asynchronous store.
        """
        return store.state_at(self, position=position, time=time, key=key)

    def _add(self, types: tuple[Any, ...], handler: Handler) -> Handler:
        if not callable(handler):
            raise ProjectionError(f"projection {self.name!r}: a handler must be a function, not {handler!r}")
        try:
            inspect.signature(handler).bind(None, None)
        except TypeError:
            raise ProjectionError(
                f"projection {self.name!r}: handler {getattr(handler, '__name__', handler)!r} must take (state, event)"
            ) from None
        except ValueError:
            pass  # a builtin without a signature
        for event_type in types:
            check_name(event_type, "event type")
            if event_type in self._handlers:
                raise ProjectionError(f"projection {self.name!r}: two handlers for event type {event_type!r}")
        if not types:
            if self._otherwise is not None:
                raise ProjectionError(f"projection {self.name!r}: two handlers for every other event type")
            self._otherwise = handler
        self._handlers.update(dict.fromkeys(types, handler))
        return handler

    def __repr__(self) -> str:
        return f"<Projection {self.name!r} {', '.join(self.types)}>"


#: One event that has a handler: the key of the row it goes to, the handler, the event.
Step = tuple[str, Handler, RecordedEvent]


@dataclass(slots=True)
class Folded:
    """What a batch did to the rows: packed, None = deleted. ``failure`` is why it ended early, if it did."""

    changed: dict[str, bytes | None] = field(default_factory=dict)
    handled: int = 0
    failure: HandlerFailed | None = None


@dataclass(slots=True)
class Plan:
    """The steps of one projection for a batch. ``failure``: the key of the event behind them could not be told."""

    steps: list[Step] = field(default_factory=list)
    failure: HandlerFailed | None = None


class Router:
    """Sorts a batch of events to the handlers of several projections, looking at each event once."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._projections = projections
        self._routes: dict[str, list[tuple[int, Projection, Handler]]] = {}

    def plan(self, events: Iterable[RecordedEvent]) -> list[Plan]:
        """A plan for each projection, in their order."""
        plans = [Plan() for _ in self._projections]
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
                    plans[place].steps.append((event.stream, handler, event))
                elif plans[place].failure is None:
                    self._add_keyed(plans[place], projection, handler, event)
        return plans

    def _route(self, event_type: str) -> list[tuple[int, Projection, Handler]]:
        found = []
        for place, projection in enumerate(self._projections):
            handler = projection.handler(event_type)
            if handler is not None:
                found.append((place, projection, handler))
        return found

    @staticmethod
    def _add_keyed(plan: Plan, projection: Projection, handler: Handler, event: RecordedEvent) -> None:
        try:
            plan.steps.append((check_name(projection.key(event), "row"), handler, event))
        except HANDLER_FAULTS as cause:
            plan.failure = _failed(projection, event, cause)


def fold(projection: Projection, steps: Sequence[Step], rows: dict[str, bytes | None]) -> Operation[Folded]:
    """Fold steps over packed rows (None or absent = no row), and pack what changed."""
    states: dict[str, State] = {}
    base = rows.get
    handled, failure = 0, None
    for key, handler, event in steps:
        if event._data is not UNSET or event._metadata is not UNSET:
            event.forget()  # what another projection did to the payload is its own business
        try:
            state = states.get(key, UNSET)
            if state is UNSET:
                packed = base(key)
                state = states[key] = _new_state(projection) if packed is None else unpack(packed)
            elif state is DELETE:
                state = _new_state(projection)
            answer = handler(state, event)
            if answer is None:
                answer = state
            elif isawaitable(answer):
                waited = yield Await(answer)
                answer = state if waited is None else waited
        except HANDLER_FAULTS as cause:
            failure = _failed(projection, event, cause)
            if key in states:
                states[key] = yield from _refold(projection, _of_row(steps[:handled], key), base(key))
            break
        states[key] = answer
        handled += 1
    changed: dict[str, bytes | None] = {}
    for key, state in states.items():
        try:
            packed = None if state is DELETE else pack(state)
        except FAULTS:
            return (yield from _fold_to_the_bad_row(projection, steps[:handled], key, rows))
        if packed != base(key):
            changed[key] = packed
    return Folded(changed, handled, failure)


def _refold(projection: Projection, steps: Sequence[Step], packed: bytes | None) -> Operation[State]:
    """The state of one row after ``steps``, which have all succeeded before."""
    state = _unpacked(projection, packed) if packed is not None or steps else DELETE
    for _, handler, event in steps:
        event.forget()
        if state is DELETE:
            state = _new_state(projection)
        answer = handler(state, event)
        if answer is not None and isawaitable(answer):
            answer = yield Await(answer)
        state = state if answer is None else answer
    return state


def _fold_to_the_bad_row(
    projection: Projection, steps: Sequence[Step], key: str, rows: dict[str, bytes | None]
) -> Operation[Folded]:
    """A row came out that cannot be packed: find the event that made it so, and fold what precedes that event."""
    places = [place for place, step in enumerate(steps) if step[0] == key]
    for count, place in enumerate(places, 1):
        state = yield from _refold(projection, [steps[p] for p in places[:count]], rows.get(key))
        try:
            if state is not DELETE:
                pack_value(state, f"row {key!r}")
        except Exception as cause:
            before = yield from fold(projection, steps[:place], rows)
            before.failure = before.failure or _failed(projection, steps[place][2], cause)
            return before
    raise AssertionError(f"row {key!r} of projection {projection.name!r}: a handler is not a pure function")


def _of_row(steps: Sequence[Step], key: str) -> list[Step]:
    return [step for step in steps if step[0] == key]


def _unpacked(projection: Projection, packed: bytes | None) -> State:
    return _new_state(projection) if packed is None else unpack(packed)


def _new_state(projection: Projection) -> State:
    """What ``initial`` gives, as it will come back from the view: a defaultdict is a dict from the start."""
    state = projection.initial()
    return state if type(state) is dict else unpack(pack(state))


def _failed(projection: Projection, event: RecordedEvent, cause: BaseException) -> HandlerFailed:
    failure = HandlerFailed(projection.name, event.position, event.stream, event.number, event.type, cause)
    failure.__cause__ = cause
    return failure
