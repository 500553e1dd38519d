"""Views as they were: a projection folded in memory up to a position or a time, writing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ..effects import UserCodeOperation
from ..errors import InvalidInput, LogTrimmed
from ..format.codec import unpack
from ..format.events import RecordedEvent, to_microseconds
from ..format.numbers import check_number
from .calling import check_waiting
from .fold import Router, fold
from .projection import Projection, check_projection

#: Events folded at a time.
BATCH = 1000

#: Bytes of events after which they are folded, although they are fewer.
BATCH_BYTES = 8 * 1024 * 1024

#: The hint where the first events were trimmed.
NOT_AS_IT_WAS = "A view as it was is folded from the first event: import a full export into a new store and look there."


class AsOf:
    """A projection's rows as of a position or a time: `runner.state_at` gives it the events of the log, in order.

    Raises InvalidInput for a position and a time together, or a position in a store of several partitions.
    """

    def __init__(self, projection: Projection, position: int | None, time: datetime | None, partitions: int) -> None:
        if position is not None and time is not None:
            raise InvalidInput("state_at takes a position or a time, not both")
        if position is not None and partitions > 1:
            raise InvalidInput(
                f"a position belongs to one partition, but the store has {partitions} partitions; give a time"
            )
        self._projection = check_projection(projection, "state_at")
        self._router = Router([projection])
        self._position = None if position is None else check_number(position, "position")
        self._time = None if time is None else to_microseconds(time)
        self._rows: dict[str, bytes | None] = {}
        self._events: list[RecordedEvent] = []
        self._bytes = 0

    @contextmanager
    def from_the_first_event(self) -> Iterator[None]:
        """Around the reading of the log: a trim leaves no view as it was, whatever was asked for."""
        try:
            yield
        except LogTrimmed as trimmed:
            raise LogTrimmed(0, trimmed.floor, hint=NOT_AS_IT_WAS) from None

    def beyond(self, event: RecordedEvent) -> bool:
        """Whether the event is after the position that was asked for. Never where a time was asked for."""
        return self._position is not None and event.position > self._position

    def add(self, event: RecordedEvent) -> bool:
        """Add an event, unless it was recorded after the time that was asked for; True when `fold` should be run."""
        if self._time is None or event.recorded_us <= self._time:
            self._events.append(event)
            self._bytes += event._size
        return len(self._events) >= BATCH or self._bytes >= BATCH_BYTES

    def fold(self) -> UserCodeOperation[None]:
        """Fold the events that were added. Raises HandlerFailed."""
        yield from check_waiting(self._projection)
        [steps] = self._router.plan(self._events)
        self._events, self._bytes = [], 0
        folded = yield from fold(self._projection, steps, self._rows)
        self._rows.update(folded.changed)
        if folded.failure is not None:
            raise folded.failure

    def rows(self) -> dict[str, Any]:
        """All rows."""
        return {key: unpack(packed) for key, packed in self._rows.items() if packed is not None}

    def row(self, key: str) -> Any:
        """One row, or None."""
        packed = self._rows.get(key)
        return None if packed is None else unpack(packed)
