"""How many events to ask for, so that a page has few enough bytes to be held in memory.

XRANGE and XREAD count entries and know no bytes. So the events that came last tell how large the next ones may be. A
reader that has seen none asks for so few that even the largest would do, and after a large event the pages grow again
step by step. Only where large events follow many small ones without a warning is one page larger than it should be.
"""

from __future__ import annotations

from ..settings import MAX_EVENT_BYTES

#: The most bytes of a page. A reader holds a page while the next one is on its way.
PAGE_BYTES = 8 * 1024 * 1024


class PageSize:
    """The number of events of the next page: ``most``, or fewer where they are larger than ``size`` bytes together."""

    def __init__(self, most: int, size: int = PAGE_BYTES) -> None:
        self._most = most
        self._size = size
        self._largest: int | None = None

    @property
    def count(self) -> int:
        """How many events to ask for."""
        return max(1, min(self._most, self._size // (self._largest or MAX_EVENT_BYTES)))

    def saw(self, largest: int) -> None:
        """A page came, whose largest event has so many bytes. A page without events tells nothing."""
        if largest:
            self._largest = max(largest, (self._largest or 0) // 2)
