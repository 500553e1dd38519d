"""Reactors: plain functions with effects outside Redis, such as a mail, called at least once for each event.

A handler takes ``(event, key)``. The key is the same in every call for the same event, so the receiver of the effect
can tell a repetition. Effects outside Redis cannot be fenced: after a crash the last ones happen again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..errors import InvalidInput
from ..format.events import RecordedEvent
from .handlers import Handlers
from .policies import DEFAULT, OnError

#: A reactor's handler: a function of the event and its key, plain or ``async``; its result is not used.
H = TypeVar("H", bound=Callable[[RecordedEvent, str], object])

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
        ``(event, key)``. Returns the handler, or the decorator that does.

        Raises ProjectionError for a second handler of the same type, or a handler that is not a function of two
        arguments; InvalidName for a type that no event can have.
        """
        return super().when(*args)

    def key(self, event: RecordedEvent) -> str:
        """The idempotency key of an event's effects: the reactor's name, the stream and the event's id."""
        return f"{self.name}:{event.stream}:{event.id}"
