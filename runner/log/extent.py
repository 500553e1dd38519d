"""What a copy of a log needs beside the events: where the log begins and ends, bookmarks, what is left of the trimmed.

What may be large comes in portions. A portion may repeat what an earlier one had, as scans of Redis do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..effects import Command, Execute, StoreOperation
from ..errors import InvalidInput, LogCorrupt, LogTrimmed
from ..format import fields
from ..format.events import RecordedEvent, decode_log
from ..format.keys import PartitionKeys
from ..format.scripts import load
from .append_replies import being_restored
from .info import StoreInfo
from .page_size import PAGE_BYTES, PageSize
from .reading import halving, last_position, read_log_command

#: The bytes of an event id.
ID_BYTES = 16

_PLACE = re.compile(rb"(\d{1,16})-\d{1,16}(?= |$)")

#: How often the bookmarks are read again because events were appended meanwhile.
TRIES = 1_000

#: How many keys, or fields of a hash, are looked at in a round trip.
A_PORTION = 1_000


@dataclass(frozen=True, slots=True)
class Extent:
    """The events of a partition: those above the floor, up to the last position; and the bookmarks at that moment."""

    partition: int
    floor: int
    last: int
    #: By name: "<position> <run id of the call that set it>".
    bookmarks: dict[str, str]

    @property
    def events(self) -> int:
        """How many events there are."""
        return self.last - self.floor


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a stream has lost: its events up to this number.

    ``position``: that of its last event, if none is left in the extent; the floor, if that is not known any more.
    """

    stream: str
    number: int
    position: int | None = None


def read_extent(keys: PartitionKeys) -> StoreOperation[Extent]:
    """Where the log of a partition begins and ends now, with the bookmarks that belong to these events.

    Raises StoreRefused if the store is being restored, InvalidInput if it is written to all the time.
    """
    before = yield from last_position(keys)
    for _ in range(TRIES):
        stored, (floor, restoring) = yield Execute(
            [("HGETALL", keys.bookmarks), ("HMGET", keys.meta, "floor", "restoring")]
        )
        after = yield from last_position(keys)
        if restoring is not None:
            raise being_restored(keys.name)
        if before == after or not stored:
            bookmarks = dict(zip(stored[::2], stored[1::2], strict=True))
            return Extent(
                keys.partition,
                fields.number(keys.meta, "floor", floor),
                before,
                {name.decode(): fields.text(keys.bookmarks, repr(name), value) for name, value in bookmarks.items()},
            )
        before = after
    raise InvalidInput(
        f"the bookmarks of partition {keys.partition} of store {keys.name!r} cannot be read between two appends",
        hint="Stop the writers for a moment.",
    )


def is_restored_now(keys: PartitionKeys) -> StoreOperation[bool]:
    """Whether a restore of the partition has begun and not ended: its log is the beginning of another."""
    [restoring] = yield Execute([("HGET", keys.meta, "restoring")])
    return restoring is not None


def check_whole(keys: PartitionKeys) -> StoreOperation[None]:
    """Raise StoreRefused if the partition is being restored."""
    if (yield from is_restored_now(keys)):
        raise being_restored(keys.name)


def check_not_trimmed_since(keys: PartitionKeys, extent: Extent) -> StoreOperation[None]:
    """Raise LogTrimmed if events of this extent were trimmed since it was read."""
    [stored] = yield Execute([("HGET", keys.meta, "floor")])
    floor = fields.number(keys.meta, "floor", stored)
    if floor != extent.floor:
        raise LogTrimmed(extent.floor, floor)


class StreamNames:
    """The names of the streams of a partition, in portions; ``which``: a pattern of Redis that the names must match."""

    def __init__(self, keys: PartitionKeys, which: str = "*") -> None:
        self._prefix = keys.stream("").encode()
        self._pattern = keys.stream("").replace("{", "[{]").replace("}", "[}]") + which
        self._cursor: int | None = 0

    def next(self) -> StoreOperation[list[str] | None]:
        """The next portion, which may be empty; None at the end."""
        if self._cursor is None:
            return None
        [(cursor, found)] = yield Execute([("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", A_PORTION)])
        self._cursor = int(cursor) or None
        return [key[len(self._prefix) :].decode() for key in found]


class TrimmedStreams:
    """The streams of a partition that have lost events, in portions, as of an extent; appends may go on meanwhile."""

    def __init__(self, keys: PartitionKeys, extent: Extent) -> None:
        self._keys = keys
        self._floor, self._last = extent.floor, extent.last
        self._names = StreamNames(keys)

    def next(self) -> StoreOperation[list[Trimmed] | None]:
        """The next portion, which may be empty; None at the end."""
        names = (yield from self._names.next()) if self._floor else None
        if names is None:
            return None
        if not names:
            return []
        keys = [self._keys.stream(name) for name in names]
        looks: list[Command] = [("XRANGE", key, "-", "+", "COUNT", 1) for key in keys]
        replies = yield Execute([*looks, *(load("log/last_id").call([key]) for key in keys)])
        trimmed: list[Trimmed] = []
        for name, first, last in zip(names, replies[: len(keys)], replies[len(keys) :], strict=True):
            number, position = map(int, last.split(b"-"))
            if position <= self._floor:
                trimmed.append(Trimmed(name, number, position))
            elif first:
                number, position = map(int, first[0][0].split(b"-"))
                if number > 1:  # the place of the last event is forgotten once the stream has another event
                    trimmed.append(Trimmed(name, number - 1, self._floor if position > self._last else None))
        return trimmed


class TrimmedIds:
    """The ids of trimmed events that the index of ids has, in portions: pairs of an id and its place."""

    def __init__(self, info: StoreInfo, keys: PartitionKeys, floor: int) -> None:
        self._epoch = info.epoch.encode()
        self._keys = keys
        self._scan = _Scan(keys.ids, floor)

    def upto(self) -> StoreOperation[int]:
        """Up to which position the ids of the trimmed events are known; 0 if there is no index."""
        [(epoch, upto)] = yield Execute([("HMGET", self._keys.ids, "epoch", "upto")])
        if epoch != self._epoch:
            self._scan.cursor = None
            return 0
        return min(fields.number(self._keys.ids, "upto", upto), self._scan.floor)

    def next(self) -> StoreOperation[list[tuple[bytes, str]] | None]:
        """The next portion, which may be empty; None at the end."""
        found = yield from self._scan.next()
        return None if found is None else [(name, place) for name, place in found if len(name) == ID_BYTES]


class TrimmedRecent:
    """The ids of trimmed events among the recent ids of a partition, in portions: stream, id and place."""

    def __init__(self, keys: PartitionKeys, floor: int) -> None:
        self._prefix = keys.stream("").encode()
        self._scans = [_Scan(key, floor) for key in keys.recent]

    def next(self) -> StoreOperation[list[tuple[str, bytes, str]] | None]:
        """The next portion, which may be empty; None at the end."""
        while self._scans:
            found = yield from self._scans[0].next()
            if found is not None:
                at = len(self._prefix)
                return [(name[at:-ID_BYTES].decode(), name[-ID_BYTES:], place) for name, place in found]
            self._scans.pop(0)
        return None


class _Scan:
    """The fields of a hash whose values begin with the place of a trimmed event."""

    def __init__(self, key: str, floor: int) -> None:
        self._key = key
        self.floor = floor
        self.cursor: int | None = 0 if floor else None

    def next(self) -> StoreOperation[list[tuple[bytes, str]] | None]:
        if self.cursor is None:
            return None
        [(cursor, flat)] = yield Execute([("HSCAN", self._key, self.cursor, "COUNT", A_PORTION)])
        self.cursor = int(cursor) or None
        found: list[tuple[bytes, str]] = []
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            place = _PLACE.match(value)
            if place is not None and int(place[1]) <= self.floor:
                found.append((name, place[0].decode()))
        return found


class ExtentPages:
    """The events of an extent in pages of ``size`` bytes at most, each event with its envelope."""

    def __init__(self, keys: PartitionKeys, extent: Extent, page_size: int, size: int = PAGE_BYTES) -> None:
        self._keys = keys
        self._extent = extent
        self._size = PageSize(page_size, size)
        self._at = extent.floor

    def next(self) -> StoreOperation[list[tuple[RecordedEvent, bytes]]]:
        """The next page; an empty one at the end.

        Raises LogTrimmed if events were trimmed meanwhile, and other DataError for one that is damaged or missing.
        """
        left = self._extent.last - self._at
        if not left:
            return []
        asked = min(self._size.count, left)
        (entries,), _ = yield from halving(lambda count: [read_log_command(self._keys, self._at, count)], asked)
        page = decode_log(entries, self._at, self._keys.partition)
        if not page.events or page.damage is not None:
            yield from check_not_trimmed_since(self._keys, self._extent)
            raise page.damage or LogCorrupt(
                f"the log of partition {self._keys.partition} ends at position {self._at} on a second look, "
                f"and ended at {self._extent.last}"
            )
        self._size.saw(page.largest)
        self._at = page.events[-1].position
        return list(zip(page.events, (entry[1][1] for entry in entries), strict=True))
