"""Handlers by event type: the common part of projections and reactors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import HandlerFailed, InvalidName, ProjectionError
from ..format.events import RecordedEvent
from ..format.names import category_of, check_name, check_plain_name
from .functions import check_handler, is_async
from .policies import OnError, Policy, check_policy

Handler = Callable[[Any, Any], Any]


class Handlers:
    """A name, a category of events, handlers by event type, and a policy for events that fail."""

    #: The name of the kind, and the arguments of its handlers.
    kind = "projection"
    signature = "(state, event)"

    def __init__(self, name: str, category: str | None, on_error: OnError) -> None:
        self.name = check_plain_name(name, self.kind)
        if category is not None and category_of(check_name(category, "category")) != category:
            raise InvalidName(
                f"{self.kind} {name!r}: category {category!r} holds a '-'; a category is the text before the first '-'"
            )
        self.category = category
        self.on_error: Policy = check_policy(on_error, f"{self.kind} {name!r}")
        self._handlers: dict[str, Handler] = {}
        self._otherwise: Handler | None = None

    def when(self, *args: Any) -> Any:
        """Declare a handler; `Projection.when` and `Reactor.when` say how. Raises ProjectionError or InvalidName."""
        if args and callable(args[-1]) and not isinstance(args[-1], str):
            return self._add(args[:-1], args[-1])
        for event_type in args:  # also what should have been the handler, and is none
            check_name(event_type, "event type")
        return lambda handler: self._add(args, handler)

    @property
    def types(self) -> tuple[str, ...]:
        """The event types that have a handler, sorted; ``*`` stands for all others."""
        return (*sorted(self._handlers), *(("*",) if self._otherwise else ()))

    def handler(self, event_type: str) -> Handler | None:
        """The handler of an event type, or None if it has none."""
        return self._handlers.get(event_type, self._otherwise)

    @property
    def awaits(self) -> bool:
        """Whether a handler is an ``async def``."""
        handlers = (*self._handlers.values(), self._otherwise)
        return any(map(is_async, handlers))

    @property
    def keyed_by_stream(self) -> bool:
        """Whether the key of an event's row is the name of its stream."""
        return True

    def wants(self, stream: str, event_type: str) -> bool:
        """Whether there is a handler for an event of this stream and type."""
        return self.handler(event_type) is not None and self.category in (None, category_of(stream))

    def failed(self, event: RecordedEvent, cause: BaseException) -> HandlerFailed:
        """The error that names the event that failed; its cause is chained."""
        failure = HandlerFailed(self.name, event.position, event.stream, event.number, event.type, cause, self.kind)
        failure.__cause__ = cause
        return failure

    def _add(self, types: tuple[Any, ...], handler: Handler) -> Handler:
        self._check(handler)
        for event_type in types:
            check_name(event_type, "event type")
            if event_type in self._handlers:
                raise ProjectionError(f"{self.kind} {self.name!r}: two handlers for event type {event_type!r}")
        if not types:
            if self._otherwise is not None:
                raise ProjectionError(f"{self.kind} {self.name!r}: two handlers for every other event type")
            self._otherwise = handler
        self._handlers.update(dict.fromkeys(types, handler))
        return handler

    def _check(self, handler: Handler) -> None:
        """Raise ProjectionError for what cannot be a handler."""
        check_handler(handler, f"{self.kind} {self.name!r}", self.signature)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {', '.join(self.types)}>"
