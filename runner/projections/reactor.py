"""Reactors: plain functions with effects outside Redis, such as a mail, called at least once for each event.

A handler takes ``(event, key)``. The key is the same in every call for the same event, so the receiver of the effect
can tell a repetition. Effects outside Redis cannot be fenced: after a crash the last ones happen again.

A handler that takes ``(event, key, store)`` is given the store that the reactor runs on, to append what follows. It is
a store of the handler's own kind: an EventStore for a plain function, an AsyncEventStore for an ``async def``.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeVar, overload

from ..errors import InvalidInput, ProjectionError
from ..format.events import RecordedEvent
from .functions import check_handler, is_async, third_parameter
from .handlers import Handler, Handlers
from .policies import DEFAULT, OnError


class AsksForStore(Protocol):
    """A handler that is given the store, too: an EventStore, or an AsyncEventStore if it is an ``async def``."""

    def __call__(self, event: RecordedEvent, key: str, /, store: Any) -> object: ...


#: A reactor's handler: a function of the event and its key, plain or ``async``; its result is not used.
H = TypeVar("H", bound=Callable[[RecordedEvent, str], object] | AsksForStore)

#: The number of streams that a reactor works on at a time by default.
AT_A_TIME = 8


class Reactor(Handlers):
    """Handlers with effects: called in order for the events of a stream, for several streams at a time.

    ``category``: only the events of that category; None means all events. ``at_a_time`` bounds how many streams are
    worked on at a time; plain functions run in as many threads. ``start="end"`` begins after the events that the log
    holds when the reactor first runs. ``on_error`` is the policy for events that fail (see
    `runner.projections.policies`). The checkpoint moves on after the effects, so each effect happens at least once; a
    rebuild never repeats it.

    Raises ProjectionError, InvalidInput or InvalidName.
    """

    kind = "reactor"
    signature = "(event, key)"

    def __init__(
        self,
        name: str,
        *,
        category: str | None = None,
        on_error: OnError = DEFAULT,
        at_a_time: int = AT_A_TIME,
        start: str = "beginning",
    ) -> None:
        super().__init__(name, category, on_error)
        if not isinstance(at_a_time, int) or isinstance(at_a_time, bool) or not 1 <= at_a_time <= 1000:
            raise InvalidInput(f"reactor {name!r}: at_a_time must be a number from 1 to 1000, not {at_a_time!r}")
        if start not in ("beginning", "end"):
            raise InvalidInput(f"reactor {name!r}: start must be 'beginning' or 'end', not {start!r}")
        self.at_a_time = at_a_time
        self.start = start
        self._asking: dict[int, Handler] = {}

    @overload
    def when(self, handler: H, /) -> H: ...
    @overload
    def when(self, type: str, handler: H, /) -> H: ...
    @overload
    def when(self, type: str, second: str, handler: H, /) -> H: ...
    @overload
    def when(self, type: str, second: str, third: str, handler: H, /) -> H: ...
    @overload
    def when(self, *types: str) -> Callable[[H], H]: ...
    def when(self, *args: Any) -> Any:
        """Declare the handler of one or more event types: ``@r.when("A", "B")``, or ``r.when("A", "B", handler)``.

        Without a type, ``@r.when()``, it takes every event that no other handler takes. A handler takes
        ``(event, key)``, or ``(event, key, store)``: the store that the reactor runs on. Returns the handler, or the
        decorator that does.

        Raises ProjectionError for a second handler of the same type, or a handler that is not a function of these
        arguments; InvalidName for a type that no event can have.
        """
        return super().when(*args)

    def key(self, event: RecordedEvent) -> str:
        """The idempotency key of an event's effects: the reactor's name, the stream and the event's id."""
        return f"{self.name}:{event.stream}:{event.id}"

    def arguments(self, handler: Handler, event: RecordedEvent, store: object) -> tuple[Any, ...]:
        """What a handler is called with for an event, if the reactor runs on this store; raises nothing."""
        more = (store,) if id(handler) in self._asking else ()
        return event, self.key(event), *more

    def check_store(self, store: object) -> None:
        """Raise ProjectionError if a handler asks for the store, and this one is not of the handler's kind."""
        awaited = iscoroutinefunction(getattr(store, "run", None))
        for handler in self._asking.values():
            if is_async(handler) is not awaited:
                is_what, runs_on, make = (
                    ("a plain function", "an AsyncEventStore", "an async def, or run the reactor on an EventStore")
                    if awaited
                    else ("an async def", "an EventStore", "a plain function, or run the reactor on an AsyncEventStore")
                )
                named = getattr(handler, "__name__", handler)
                raise ProjectionError(
                    f"reactor {self.name!r}: handler {named!r} asks for the store and is {is_what}, "
                    f"and the reactor runs on {runs_on}",
                    hint=f"Make the handler {make}.",
                )

    def _check(self, handler: Handler) -> None:
        if third_parameter(handler) != "store":
            super()._check(handler)
            return
        check_handler(handler, f"reactor {self.name!r}", "(event, key, store)")
        self._asking[id(handler)] = handler
