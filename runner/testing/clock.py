"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..errors import InvalidInput
from ..format.events import from_microseconds, to_microseconds

#: The default time of a clock: any moment that is always the same would do.
START = datetime(2026, 1, 1, tzinfo=UTC)


class FixedClock:
    """A clock for tests: it shows ``start`` (a datetime with a zone) until `advance` moves it. Raises InvalidInput."""

    def __init__(self, start: datetime = START) -> None:
        self._microseconds = to_microseconds(start, "start")

    def now(self) -> datetime:
        """The clock's time, in UTC."""
        return from_microseconds(self._microseconds)

    def microseconds(self) -> int:
        """The clock's time in microseconds since 1970."""
        return self._microseconds

    def advance(self, by: timedelta | float) -> datetime:
        """Move the clock forward by a timedelta or by seconds. Returns the new time. Raises InvalidInput below 0."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise InvalidInput(f"a clock cannot be advanced by {by!r}; make another one for an earlier time")
        self._microseconds = to_microseconds(self.now() + step)
        return self.now()

    def __repr__(self) -> str:
        return f"<FixedClock {self.now().isoformat()}>"
