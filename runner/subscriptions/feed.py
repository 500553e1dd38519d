"""The live feed: one blocked XREAD a partition and process, shared by every live subscription.

Theory. XREAD from an ID has no gap, so the feed is a position that only moves forward. A member that joins gets every
event after that position. Each member has a buffer of its own. A member that is too slow for its buffer is dropped: it
gets what the buffer holds, and then goes back to reading history. So memory stays bounded and nothing is lost. An error
of the feed drops all members; each reads again, and meets the error by itself.

`FeedCore` holds all of that and does no I/O. `runner.sync.feed.Feed` (a thread) and `runner.aio.feed.AsyncFeed` (a
task) are its drivers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ..effects import Command
from ..errors import DataError, LogCorrupt, LogTrimmed, RunnerError
from ..format import fields
from ..format.events import RecordedEvent, decode_log, entry_id
from ..format.keys import ID_MAX, PartitionKeys
from ..log.info import StoreInfo
from ..log.page_size import PAGE_BYTES, PageSize
from ..settings import Settings

#: How many bytes of events a member may hold: two pages.
BUFFER_BYTES = 2 * PAGE_BYTES

TOO_SLOW = "the subscription was too slow for its buffer"


@dataclass(slots=True)
class Delivery:
    """What the feed has for a member. ``reason``: why the member was dropped, as text or as the damage of the log."""

    events: list[RecordedEvent] = field(default_factory=list)
    upto: int = 0
    reason: str | RunnerError | None = None


class Member:
    """A place in the feed. Events go in on the feed's side and are taken on the subscription's.

    It holds ``limit`` events, and `BUFFER_BYTES` of them; a single page always fits.
    """

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self._limit = limit
        self._pages: deque[tuple[list[RecordedEvent], int]] = deque()
        self._size = self._bytes = 0
        self._reason: str | RunnerError | None = None
        self._wake = wake
        self._lock = Lock()

    def offer(self, events: list[RecordedEvent], upto: int, size: int = 0) -> bool:
        """Buffer a page of ``size`` bytes; False if the member is dropped."""
        if self._reason is not None:
            return False
        with self._lock:
            few = self._size + len(events) <= self._limit and self._bytes + size <= BUFFER_BYTES
            fits = not self._pages or few
            if fits:
                self._size += len(events)
                self._bytes += size
                self._pages.append((events, upto))
        if not fits:
            self.drop(TOO_SLOW)
        self._wake()
        return fits

    def drop(self, reason: str | RunnerError) -> None:
        self._reason = reason  # the events that it holds are within its limit, and still delivered
        self._wake()

    def take(self) -> Delivery | None:
        """Everything that is in the buffer, or the reason of the drop; None if there is neither."""
        reason = self._reason  # read first: events that were offered before the drop are delivered before it
        with self._lock:
            pages, self._size, self._bytes = list(self._pages), 0, 0
            self._pages.clear()
        if not pages:
            return None if reason is None else Delivery(reason=reason)
        return Delivery([event for page, _ in pages for event in page], pages[-1][1])


class FeedCore:
    """The feed without I/O: its position and its members."""

    def __init__(self, info: StoreInfo, keys: PartitionKeys, settings: Settings) -> None:
        self._epoch = info.epoch.encode()
        self._keys = keys
        self._settings = settings
        self._size = PageSize(settings.page_size)
        self.members: list[Member] = []
        self.position = 0
        #: The id of the event at `position`; None until it is known.
        self._id: bytes | None = None

    def stand_at(self, position: int, event_id: bytes | None) -> None:
        """Begin at a position. ``event_id``: the event there; None: the first answer tells it."""
        self.position, self._id = position, event_id

    def read_commands(self) -> list[Command]:
        """The commands that wait for the next events, and after them cheap ones that show if the log was replaced."""
        block = max(1, int(self._settings.block * 1000))
        after = f"{self.position}-{ID_MAX}"
        log = self._keys.log
        return [
            ("XREAD", "COUNT", self._size.count, "BLOCK", block, "STREAMS", log, after),
            ("XRANGE", log, self.position, self.position),
            ("XREVRANGE", log, "+", "-", "COUNT", 1),
            ("XLEN", log),
            ("HMGET", self._keys.meta, "epoch", "floor"),  # last: events trimmed from a reply above are below it
        ]

    def advance(self, replies: list[Any]) -> None:
        """Hand the events that came to the members. Raises DataError if the log is damaged or another one."""
        came, here, last, length, (epoch, stored_floor) = replies
        floor = fields.number(self._keys.meta, "floor", stored_floor)
        end = int(last[0][0].partition(b"-")[0]) if last else floor
        if epoch != self._epoch:
            raise self._another_log(end)
        self._check_place(here, floor, end)
        if came:
            page = decode_log(came[0][1], self.position, self._keys.partition)
            self._size.saw(page.largest)
            if page.events:
                self.position, self._id = page.events[-1].position, page.events[-1]._id
                self._distribute(page.events, sum(page.sizes))
            if page.damage is not None:
                if self.position < floor:
                    raise LogTrimmed(self.position, floor)
                raise page.damage
            return
        if end < self.position:
            raise self._another_log(end)
        self._check_whole(end, length, floor)

    def _check_place(self, here: Any, floor: int, end: int) -> None:
        """Check that the log still holds the event at the feed's position."""
        found = entry_id(here[0]) if here else None
        if self._id is not None and found != self._id and self.position > floor:
            raise self._another_log(end)
        self._id = found

    def _check_whole(self, end: int, length: int, floor: int) -> None:
        """Check that the log holds an entry for each position that was not trimmed.

        The entries were counted after the end was read, so an append in between makes the count larger, never smaller.
        """
        if length + floor < end:
            raise LogCorrupt(
                f"the log of partition {self._keys.partition} ends at position {end}, but holds {length} entries "
                f"after {floor} trimmed ones"
            )

    def _another_log(self, end: int) -> DataError:
        return DataError(
            f"the log of partition {self._keys.partition} was at position {self.position} "
            f"and is now at {end}: it was flushed, restored, or lost its tail"
        )

    def drop_all(self, reason: str | RunnerError) -> None:
        for member in self.members:
            member.drop(reason)
        self.members.clear()

    def _distribute(self, events: list[RecordedEvent], size: int) -> None:
        slow = []
        for place, member in enumerate(self.members):
            own = events if place == 0 else [event.copy() for event in events]  # payloads are never shared
            if not member.offer(own, self.position, size):
                slow.append(member)
        for member in slow:
            self.members.remove(member)
