"""Reactors: plain functions with effects outside Redis, such as a mail, called at least once for each event.

A handler takes ``(event, key)``. The key is the same for every call for the same event, so whoever receives the effect
can tell a repetition: effects outside Redis cannot be fenced, and after a crash the last ones happen again.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..format.events import RecordedEvent
from .handlers import Handlers
from .policies import DEFAULT, Policy

#: Streams whose effects a reactor works on at a time, unless told otherwise.
AT_A_TIME = 8


class Reactor(Handlers):
    """Handlers with effects: called in order for the events of a stream, for several streams at a time.

    ``at_a_time`` bounds how many streams; sync handlers run in as many threads. ``start="end"`` begins behind the
    events that are there when it first runs. Its checkpoint moves on after the effects, so each happens at least once;
    a rebuild never repeats them. Raises ProjectionError, InvalidInput or InvalidName.
    """

    kind = "reactor"
    signature = "(event, key)"

    def __init__(
        self,
        name: str,
        *,
        category: str | None = None,
        on_error: Policy = DEFAULT,
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

    def key(self, event: RecordedEvent) -> str:
        """What identifies the effects of an event: the reactor's name, the stream and the event's id."""
        return f"{self.name}:{event.stream}:{event.id}"
