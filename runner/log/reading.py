"""Reading: pages of a stream or of a partition's log, and single values (versions, positions, bookmarks)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from ..effects import Command, Execute, Receive, Send, StoreOperation
from ..errors import DataError, InvalidInput, LogCorrupt, LogTrimmed, StoreUnavailable
from ..format import fields
from ..format.events import Entry, Page, RecordedEvent, decode_entries, decode_log, entry_id, to_microseconds
from ..format.keys import ID_MAX, PartitionKeys
from ..format.names import category_of, check_name
from ..format.numbers import check_number
from ..format.scripts import load
from .info import StoreInfo
from .page_size import PAGE_BYTES, PageSize

#: Whether an event is wanted.
Filter = Callable[[RecordedEvent], bool]


def halving(ask: Callable[[int], list[Command]], count: int) -> StoreOperation[tuple[list[Any], int]]:
    """The replies for a page of ``count`` entries or fewer, and how many entries were asked for in the end.

    A page that is too large for the server's output limits ends the connection each time. So a page is asked for once,
    and after a lost connection half of it is. Raises StoreUnavailable if the server does not answer.
    """
    while count > 1:
        try:
            pending = yield Send(ask(count))
            replies = yield Receive(pending)
        except StoreUnavailable:
            yield Execute([("TIME",)])  # raises if the server does not answer; if it does, the page was too large
            count //= 2
        else:
            return replies, count
    return (yield Execute(ask(count))), count


def read_log_command(keys: PartitionKeys, after: int, count: int) -> Command:
    """The entries that follow position ``after``."""
    return ("XRANGE", keys.log, after + 1, "+", "COUNT", count)


def read_log(keys: PartitionKeys, after: int, size: PageSize, most: int | None = None) -> StoreOperation[Page]:
    """A page of the partition's log, of at most ``most`` events. It is `Page.cut` if more events may follow."""
    wanted = size.count if most is None else min(most, size.count)
    (entries, floor), count = yield from halving(
        lambda count: [read_log_command(keys, after, count), ("HGET", keys.meta, "floor")], wanted
    )
    page = decode_log(entries, after, keys.partition)
    size.saw(page.largest)
    page.cut = len(entries) == count
    if not page.events:
        _check(keys, after, floor)
    return page


def check_floor(keys: PartitionKeys, after: int) -> StoreOperation[None]:
    """Raise LogTrimmed if the event after position ``after`` was trimmed."""
    [floor] = yield Execute([("HGET", keys.meta, "floor")])
    _check(keys, after, floor)


def _check(keys: PartitionKeys, after: int, stored: bytes | None) -> None:
    floor = fields.number(keys.meta, "floor", stored)
    if after < floor:
        raise LogTrimmed(after, floor)


def read_log_backwards(
    keys: PartitionKeys, before: int | None, size: PageSize, after: int = 0
) -> StoreOperation[list[RecordedEvent]]:
    """A page of events above position ``after`` and below ``before`` (None = the end), the last one first.

    When no such events are left, returns an empty list, or raises LogTrimmed if events above ``after`` were trimmed.
    """
    last = "+" if before is None else f"{before - 1}-{ID_MAX}"
    if before is not None and before <= after + 1:
        return []
    [entries], _ = yield from halving(
        lambda count: [("XREVRANGE", keys.log, last, after + 1, "COUNT", count)], size.count
    )
    if not entries:
        yield from check_floor(keys, after)
    size.saw(largest_of(entries))
    return decode_entries(entries, keys.partition)


def largest_of(entries: Sequence[Entry]) -> int:
    """The bytes of the largest value in entries, which may be damaged; 0 without entries."""
    return max((len(value) for _, values in entries for value in values), default=0)


@dataclass(frozen=True, slots=True)
class StreamRange:
    """A range of a stream's events: numbers above ``after``, up to and including ``to``."""

    stream: str
    after: int = 0
    to: int | None = None
    backwards: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", check_name(self.stream))
        object.__setattr__(self, "after", check_number(self.after, "after"))
        if self.to is not None:
            object.__setattr__(self, "to", check_number(self.to, "to"))


def read_stream_command(keys: PartitionKeys, which: StreamRange, count: int) -> Command:
    last = "+" if which.to is None else f"{which.to}-{ID_MAX}"
    return load("log/read_stream").call(
        [keys.log, keys.meta, keys.stream(which.stream)],
        which.after + 1, last, count, "1" if which.backwards else "0", PAGE_BYTES,
    )  # fmt: skip


def read_stream(info: StoreInfo, which: StreamRange, count: int) -> StoreOperation[tuple[list[RecordedEvent], int]]:
    """A page of a stream, and how many events it has unless it is the last one.

    Raises LogTrimmed or LogCorrupt if an event of the page is gone. Backwards, a page ends before the first event that
    was trimmed, and the page after it raises.
    """
    keys = info.of_stream(which.stream)
    if which.to is not None and which.to <= which.after:
        return [], count
    [reply], count = yield from halving(lambda count: [read_stream_command(keys, which, count)], count)
    page = decode_stream(reply, which, keys)
    return page.events, len(page.events) if page.cut else count


def decode_stream(reply: list[object], which: StreamRange, keys: PartitionKeys) -> Page:
    """The page that the reply of `read_stream_command` holds."""
    verdict, *entries = reply
    if verdict == b"trimmed":
        raise LogTrimmed(which.after, int(entries[0]))  # type: ignore[call-overload]
    if verdict == b"missing":
        number, position = entries
        raise LogCorrupt(f"event {number} of stream {which.stream!r} is not in the log at position {position}")
    events = decode_entries(entries, keys.partition)  # type: ignore[arg-type]
    return Page(events, cut=verdict == b"cut")


def version(info: StoreInfo, stream: str) -> StoreOperation[int]:
    """The number of the stream's last event; 0 if there is none."""
    stream = check_name(stream)
    return (yield from _last_id(info.of_stream(stream).stream(stream)))


def versions(info: StoreInfo, streams: list[str]) -> StoreOperation[list[int]]:
    """The versions of many streams in one round trip, or a few more if the log was trimmed."""
    keys = [info.of_stream(stream).stream(stream) for stream in streams]
    lasts: list[Command] = [("XREVRANGE", key, "+", "-", "COUNT", 1) for key in keys]
    replies = yield Execute([*lasts, *(("HGET", each.meta, "floor") for each in info.keys)])
    found = [int(reply[0][0].partition(b"-")[0]) if reply else 0 for reply in replies[: len(keys)]]
    if any(replies[len(keys) :]):  # an index without entries may be that of a trimmed stream
        for place, key in enumerate(keys):
            if not found[place]:
                found[place] = yield from _last_id(key)
    return found


def last_position(keys: PartitionKeys) -> StoreOperation[int]:
    """The position of the last event of the partition, trimmed or not; 0 in an empty one."""
    position, _ = yield from last_event(keys)
    return position


def last_event(keys: PartitionKeys) -> StoreOperation[tuple[int, bytes | None]]:
    """The position and id of the partition's last event. The id is None if the event was trimmed, or there is none."""
    [entries] = yield Execute([("XREVRANGE", keys.log, "+", "-", "COUNT", 1)])
    if entries:
        return int(entries[0][0].partition(b"-")[0]), entry_id(entries[0])
    return (yield from _last_id(keys.log)), None


def _last_id(key: str) -> StoreOperation[int]:
    """The number before the dash in the last ID that a stream has had."""
    [last] = yield Execute([load("log/last_id").call([key])])
    return int(last.partition(b"-")[0]) if last else 0


def bookmark(keys: PartitionKeys, name: str) -> StoreOperation[int]:
    """The position of a bookmark, which `append_many` sets; 0 if there is none."""
    [value] = yield Execute([("HGET", keys.bookmarks, check_name(name, "bookmark"))])
    return fields.number(keys.bookmarks, name, value.partition(b" ")[0]) if value is not None else 0


def in_category(name: str) -> Filter:
    """A filter for the events of a category."""
    if category_of(check_name(name, "category")) != name:
        raise InvalidInput(f"category {name!r} holds a '-'; a category is the text before a stream's first '-'")
    prefix = name + "-"
    return lambda event: event.stream.startswith(prefix) or event.stream == name


# -- lazily paged reads ---------------------------------------------------------------------------


class Pages(Protocol):
    """A read in pages."""

    def next(self, info: StoreInfo) -> StoreOperation[list[RecordedEvent] | None]:
        """The next page, which may be empty; None at the end."""


class StreamPages:
    """The pages of a stream read."""

    def __init__(self, which: StreamRange, limit: int | None, page_size: int) -> None:
        self._which = which
        self._left = None if limit is None else check_number(limit, "limit")
        self._page_size = page_size
        self._end = False

    def next(self, info: StoreInfo) -> StoreOperation[list[RecordedEvent] | None]:
        count = self._page_size if self._left is None else min(self._left, self._page_size)
        if self._end or count == 0:
            return None
        which = self._which
        events, count = yield from read_stream(info, which, count)
        self._end = len(events) < count and not (which.backwards and events)  # the floor cuts a page short, too
        if self._left is not None:
            self._left -= len(events)
        if events:
            number = events[-1].number
            self._which = replace(which, to=number - 1) if which.backwards else replace(which, after=number)
        return events


class LogPages:
    """The pages of a log read, partition after partition."""

    def __init__(
        self, after: int, since: datetime | None, partition: int | None, only: Filter | None, page_size: int
    ) -> None:
        self._after = check_number(after, "after")
        self._since = None if since is None else to_microseconds(since, "since")
        self._partition = partition
        self._only = only
        self._most = page_size
        self._size = PageSize(page_size)
        self._keys: list[PartitionKeys] | None = None
        self._damage: DataError | None = None

    def next(self, info: StoreInfo) -> StoreOperation[list[RecordedEvent] | None]:
        if self._damage is not None:
            raise self._damage
        if self._keys is None:
            self._keys = self._partitions(info)
        if not self._keys:
            return None
        page = yield from read_log(self._keys[0], self._after, self._size)
        self._damage = page.damage
        events = page.events
        if events:
            self._after = events[-1].position
        if not page.cut and page.damage is None:
            self._keys.pop(0)
            self._after, self._size = 0, PageSize(self._most)  # how large events are elsewhere tells nothing
        if self._only is not None:
            events = [event for event in events if self._only(event)]
        if self._since is not None:
            events = [event for event in events if event.recorded_us >= self._since]
        return events

    def _partitions(self, info: StoreInfo) -> list[PartitionKeys]:
        if self._partition is not None:
            return [info.of_partition(self._partition)]
        if self._after and info.partitions > 1:
            raise InvalidInput(
                f"store {info.name!r} has {info.partitions} partitions; position {self._after} needs its partition",
                hint="Give the position with partition= (--partition).",
            )
        return list(info.keys)


class BackwardPages:
    """The pages of a partition's log, the last one first: events above position ``after``.

    After the last event that is left it raises LogTrimmed, if earlier ones above ``after`` were trimmed.
    """

    def __init__(self, after: int, since: datetime | None, partition: int | None, page_size: int) -> None:
        self._after = check_number(after, "after")
        self._since = None if since is None else to_microseconds(since, "since")
        self._partition = partition
        self._before: int | None = None
        self._size = PageSize(page_size)

    def next(self, info: StoreInfo) -> StoreOperation[list[RecordedEvent] | None]:
        events = yield from read_log_backwards(self._keys(info), self._before, self._size, self._after)
        if not events:
            return None
        self._before = events[-1].position
        if self._since is not None:
            events = [event for event in events if event.recorded_us >= self._since]
        return events

    def _keys(self, info: StoreInfo) -> PartitionKeys:
        if self._partition is None and info.partitions > 1:
            raise InvalidInput(
                f"store {info.name!r} has {info.partitions} partitions; only one partition can be read backwards",
                hint="Give partition= (--partition), and read one partition after the other.",
            )
        return info.of_partition(self._partition or 0)
