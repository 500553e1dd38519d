"""The sources of subscriptions: a stream, a category, or all events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..effects import Command
from ..errors import InvalidInput
from ..format.events import Page, RecordedEvent, decode_log
from ..format.keys import PartitionKeys
from ..format.names import check_name
from ..log.info import StoreInfo
from ..log.reading import (
    Filter,
    StreamRange,
    decode_stream,
    in_category,
    read_log_command,
    read_stream_command,
)


class All:
    """Every event of the store; use the constant `ALL`."""

    def __repr__(self) -> str:
        return "ALL"


#: Subscribe to every event.
ALL = All()


@dataclass(frozen=True, slots=True)
class Category:
    """Subscribe to the events of every stream of a category."""

    name: str


def source_of(info: StoreInfo, what: str | Category | All, partition: int) -> Source:
    """The source for a subscription to a stream, by its name, to a category or to `ALL`."""
    if isinstance(what, Category):
        return LogSource(info.of_partition(partition), in_category(what.name))
    if isinstance(what, All):
        return LogSource(info.of_partition(partition))
    return StreamSource(info, check_name(what))


def one_partition(info: StoreInfo, what: str | Category | All, partition: int | None) -> int:
    """The partition to subscribe to. Raises InvalidInput if it has to be given and is not."""
    if partition is None and info.partitions > 1 and not isinstance(what, str):
        raise InvalidInput(
            f"store {info.name!r} has {info.partitions} partitions; a subscription follows one",
            hint="Give partition= (--partition), and subscribe once for each partition.",
        )
    return partition or 0


class Source(Protocol):
    """The source of a subscription."""

    keys: PartitionKeys

    def number(self, event: RecordedEvent) -> int:
        """The number that orders the events of this source."""

    def command(self, after: int, count: int) -> Command:
        """The command that reads a page."""

    def decode(self, reply: Any, after: int) -> Page:
        """The page that the command's reply holds."""

    def wanted(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        """Those of the log's events that belong to this source."""

    def upto(self, page: list[RecordedEvent], after: int) -> int:
        """The number that a page of events has passed."""


class LogSource:
    """A partition's log, or those of its events that a filter takes; ordered by position."""

    def __init__(self, keys: PartitionKeys, only: Filter | None = None) -> None:
        self.keys = keys
        self._only = only

    def number(self, event: RecordedEvent) -> int:
        return event.position

    def command(self, after: int, count: int) -> Command:
        return read_log_command(self.keys, after, count)

    def decode(self, reply: Any, after: int) -> Page:
        return decode_log(reply, after, self.keys.partition)

    def wanted(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        only = self._only
        return events if only is None else [event for event in events if only(event)]

    def upto(self, page: list[RecordedEvent], after: int) -> int:
        return page[-1].position if page else after


class StreamSource:
    """One stream; ordered by event number."""

    def __init__(self, info: StoreInfo, stream: str) -> None:
        self.keys = info.of_stream(stream)
        self._stream = stream

    def number(self, event: RecordedEvent) -> int:
        return event.number

    def command(self, after: int, count: int) -> Command:
        return read_stream_command(self.keys, StreamRange(self._stream, after), count)

    def decode(self, reply: Any, after: int) -> Page:
        return decode_stream(reply, StreamRange(self._stream, after), self.keys)

    def wanted(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        return [event for event in events if event.stream == self._stream]

    def upto(self, page: list[RecordedEvent], after: int) -> int:
        return page[-1].number if page else after
