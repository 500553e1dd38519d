"""Events for tests, with consistent numbers, positions and times that need not be given one by one.

A domain gets a builder of its own by naming its events::

    class Account(EventsFor):
        def deposited(self, amount=10):
            return self.event("Deposited", {"amount": amount})
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from ..errors import InvalidInput
from ..format.events import FIELD, NewEvent, RecordedEvent, decode_entry, pack_event
from ..format.names import check_name
from .clock import START, FixedClock

#: The time between two events of a builder, unless its clock is moved.
APART = timedelta(seconds=1)


class EventsFor:
    """The events of one stream, one after the other: numbers and positions count up, and each event is a second later.

    ``version`` and ``position`` are those of the event before the first one. Builders that share a ``clock`` make
    events that follow each other in time. Every event keeps its own id. Raises InvalidInput.
    """

    def __init__(self, stream: str, *, version: int = 0, position: int = 0, clock: FixedClock | None = None) -> None:
        if version < 0 or position < version:
            raise InvalidInput(f"version {version} at position {position}: a log has at least the stream's events")
        self.stream = check_name(stream)
        self.clock = FixedClock() if clock is None else clock
        self._version = version
        self._position = position
        self._events: list[NewEvent] = []

    def event(self, event_type: str, data: Any = None, metadata: Any = None) -> Self:
        """One more event, recorded at the clock's time; then the clock moves on by a second. Raises InvalidName."""
        self._events.append(NewEvent(event_type, data, metadata, recorded_at=self.clock.now()))
        self.clock.advance(APART)
        return self

    def new(self) -> list[NewEvent]:
        """The events to append, always the same ones: ``store.append(builder.stream, builder.new())``."""
        return list(self._events)

    def recorded(self) -> list[RecordedEvent]:
        """The events as they stand in a log, to be folded or handled. Raises PayloadError for an unfit value."""
        return [
            record(self.stream, event, self._version + count, self._position + count)
            for count, event in enumerate(self._events, 1)
        ]

    def __iter__(self) -> Iterator[RecordedEvent]:
        return iter(self.recorded())

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream!r} {', '.join(event.type for event in self._events)}>"


def events_for(stream: str, *, version: int = 0, position: int = 0, clock: FixedClock | None = None) -> EventsFor:
    """A builder of events for ``stream``: ``events_for("account-1").event("Opened").event("Closed")``.

    The arguments are those of `EventsFor`, and it raises the same.
    """
    return EventsFor(stream, version=version, position=position, clock=clock)


def record(stream: str, event: NewEvent, number: int, position: int, default: datetime = START) -> RecordedEvent:
    """The event as it comes out of a log: packed and unpacked, so that an unfit value is refused here, too."""
    now = FixedClock(default).microseconds()
    return decode_entry((f"{position}-{number}".encode(), [FIELD, pack_event(stream, event, now)]), 0)


#: The kinds of events that a scenario takes.
Happened = RecordedEvent | NewEvent | EventsFor


def placed(event: Happened, before: Sequence[RecordedEvent], stream: str) -> list[RecordedEvent]:
    """The event, or a builder's events, with positions after all events before; NewEvents go to ``stream``."""
    if isinstance(event, EventsFor):
        return _after(before, event.stream, event.new())
    if isinstance(event, NewEvent):
        return _after(before, stream, [event])
    if not isinstance(event, RecordedEvent):
        raise InvalidInput(f"a scenario takes events or builders of events, not {type(event).__name__}: {event!r}")
    position = max((one.position for one in before), default=0)
    if event.position <= position:
        raise InvalidInput(f"{event!r} cannot follow position {position}; give events in the order of their log")
    return [event]


def _after(before: Sequence[RecordedEvent], stream: str, events: Sequence[NewEvent]) -> list[RecordedEvent]:
    position = max((one.position for one in before), default=0)
    number = max((one.number for one in before if one.stream == stream), default=0)
    return [record(stream, event, number + count, position + count) for count, event in enumerate(events, 1)]
