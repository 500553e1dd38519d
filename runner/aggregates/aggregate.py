"""An aggregate: an object that checks its rules, records events, and is loaded from its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from ..errors import InvalidInput, ProjectionError
from ..format.codec import pack_value, unpack
from ..format.events import NewEvent, RecordedEvent
from ..format.names import check_name
from ..projections.functions import check_plain

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_handled_types"


class Happened(Protocol):
    """The attributes that a handler may read of an event: the same when it is recorded and when it is loaded."""

    @property
    def type(self) -> str:
        """The event's type."""

    @property
    def id(self) -> UUID:
        """The id of the event within its stream."""

    @property
    def data(self) -> Any:
        """The data, as it is read from the log."""

    @property
    def metadata(self) -> Any:
        """The metadata, as it is read from the log."""


def handles(*types: str) -> Callable[[F], F]:
    """Declare a method ``(self, event)`` of an aggregate as the handler of one or more event types.

    Raises ProjectionError without a type, and InvalidName; the class raises ProjectionError for two handlers of a type,
    and for one that is no plain method of these parameters.
    """
    if not types:
        raise ProjectionError("@handles needs the event types that the method is for")
    for event_type in types:
        check_name(event_type, "event type")

    def mark(method: F) -> F:
        setattr(method, _MARK, types)
        return method

    return mark


class Aggregate:
    """The base class. State is the attributes that the handlers set; names that begin with ``_`` are not state.

    A subclass that has an ``__init__`` takes the id and passes it on. New aggregates have version 0 and nothing
    uncommitted; they exist once they are saved.
    """

    #: A snapshot of another number is not used. Raise the number when the handlers or their state change.
    snapshot_version: ClassVar[int] = 1

    _handlers: ClassVar[dict[str, str]] = {}

    def __init__(self, id: str) -> None:  # noqa: A002 - it is called what it is
        self._id = check_name(id, "aggregate")
        self._version = 0
        self._uncommitted: list[NewEvent] = []
        self._failed: str | None = None
        self._snapshot_at = 0

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own: dict[str, str] = {}
        for name, method in vars(cls).items():
            for event_type in getattr(method, _MARK, ()):
                if event_type in own:
                    raise ProjectionError(f"aggregate {cls.__name__!r}: two handlers for event type {event_type!r}")
                own[event_type] = name
        inherited: dict[str, str] = {}
        for base in reversed(cls.__mro__[1:]):  # the handlers of mixins, too
            for name, method in vars(base).items():
                inherited.update(dict.fromkeys(getattr(method, _MARK, ()), name))
        cls._handlers = inherited | own
        for name in cls._handlers.values():
            check_plain(getattr(cls, name), f"aggregate {cls.__name__!r}: the handler", "(self, event)")

    @property
    def id(self) -> str:
        """What follows the category in the name of its stream."""
        return self._id

    @property
    def version(self) -> int:
        """The number of the last event that was loaded or saved; 0 = the aggregate does not exist yet."""
        return self._version

    @property
    def uncommitted(self) -> tuple[NewEvent, ...]:
        """The events that were recorded and are not saved yet."""
        return tuple(self._uncommitted)

    def record(self, event_type: str, data: Any = None, metadata: Any = None) -> None:
        """Record an event, which is applied at once.

        Raises InvalidInput for a type without a handler, PayloadError for a value that cannot be stored, and what
        the handler raises. The event is not recorded then.
        """
        if event_type not in self._handlers:
            raise InvalidInput(
                f"aggregate {type(self).__name__!r} has no handler for event type {event_type!r}; "
                f"declare one with @handles({event_type!r}), even if it does nothing"
            )
        packed = pack_value(data, f"event {event_type!r}: data")
        beside = pack_value(metadata, f"event {event_type!r}: metadata")
        event = NewEvent(event_type, unpack(packed), unpack(beside))
        self._apply(replace(event, data=unpack(packed), metadata=unpack(beside)))  # a copy: handlers may keep it
        self._uncommitted.append(event)

    def state(self) -> Any:
        """The state for a snapshot: any value that events can hold. By default a map of the attributes.

        If this raises, or the state cannot be stored, `Repository.save` raises the error and saves nothing.
        """
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: Any) -> None:
        """Take over a state that `state` returned, in a new aggregate. `Repository.load` raises what this raises."""
        vars(self).update(state)

    def _apply(self, event: Happened) -> None:
        """Call the handler of an event. An event without a handler (any more) is passed over."""
        name = self._handlers.get(event.type)
        if name is None:
            return
        try:
            getattr(self, name)(event)
        except BaseException as fault:
            self._failed = event.type  # the handler may have changed only half of the state
            fault.add_note(f"aggregate {type(self).__name__!r}, {self.id!r}: while {event!r} was applied")
            raise

    def _replay(self, events: Iterable[RecordedEvent]) -> None:
        for event in events:
            self._apply(event)
            self._version = event.number

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} version={self.version} uncommitted={len(self._uncommitted)}>"
