"""An aggregate: it checks its rules, records events, and is made again from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from ..errors import InvalidInput, ProjectionError
from ..format.codec import pack_value, unpack
from ..format.events import NewEvent, RecordedEvent
from ..format.names import check_name

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_handled_types"


class Happened(Protocol):
    """What a handler may ask an event for: the same right after it was recorded and whenever it is read again."""

    @property
    def type(self) -> str:
        """The event's type."""

    @property
    def id(self) -> UUID:
        """What identifies the event within its stream."""

    @property
    def data(self) -> Any:
        """The payload, as it is read from the log."""

    @property
    def metadata(self) -> Any:
        """What is stored beside the payload, as it is read from the log."""


def handles(*types: str) -> Callable[[F], F]:
    """Declare a method ``(self, event)`` of an aggregate as the handler of one or more event types.

    Raises ProjectionError without a type, and InvalidName; the class raises ProjectionError for two handlers of a type.
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

    #: What a snapshot must say to be used. Count it up whenever handlers or the state they make have changed.
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
        for base in reversed(cls.__mro__[1:]):  # those of mixins, too
            for name, method in vars(base).items():
                inherited.update(dict.fromkeys(getattr(method, _MARK, ()), name))
        cls._handlers = inherited | own

    @property
    def id(self) -> str:
        """What follows the category in the name of its stream."""
        return self._id

    @property
    def version(self) -> int:
        """The number of the last event that was loaded or saved; 0 = it does not exist yet."""
        return self._version

    @property
    def uncommitted(self) -> tuple[NewEvent, ...]:
        """What was recorded and is not saved yet."""
        return tuple(self._uncommitted)

    def record(self, event_type: str, data: Any = None, metadata: Any = None) -> None:
        """Record an event, which is applied at once.

        Raises InvalidInput for a type without a handler, PayloadError for what cannot be stored, and what the
        handler raises; the event is not recorded then.
        """
        if event_type not in self._handlers:
            raise InvalidInput(
                f"aggregate {type(self).__name__!r} has no handler for event type {event_type!r}; "
                f"declare one with @handles({event_type!r}), even if it does nothing"
            )
        packed = pack_value(data, f"event {event_type!r}: data")
        beside = pack_value(metadata, f"event {event_type!r}: metadata")
        event = NewEvent(event_type, unpack(packed), unpack(beside))
        self._apply(replace(event, data=unpack(packed), metadata=unpack(beside)))  # handlers may keep what they get
        self._uncommitted.append(event)

    def state(self) -> Any:
        """What a snapshot keeps: anything that events can hold. By default a map of the attributes.

        Where it raises, or returns what cannot be stored, `Repository.save` raises that and saves nothing.
        """
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: Any) -> None:
        """Take over what `state` returned, in an aggregate that is new. What it raises, `Repository.load` raises."""
        vars(self).update(state)

    def _apply(self, event: Happened) -> None:
        """Have an event handled. One that the class has no handler for (any more) passes by."""
        name = self._handlers.get(event.type)
        if name is None:
            return
        try:
            getattr(self, name)(event)
        except BaseException as fault:
            self._failed = event.type  # its state may be half of what it should be
            fault.add_note(f"aggregate {type(self).__name__!r}, {self.id!r}: while {event!r} was applied")
            raise

    def _replay(self, events: Iterable[RecordedEvent]) -> None:
        for event in events:
            self._apply(event)
            self._version = event.number

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} version={self.version} uncommitted={len(self._uncommitted)}>"
