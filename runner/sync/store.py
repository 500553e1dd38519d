"""The event store: the synchronous face of the log."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from ..effects import DriverOperation
from ..errors import RunnerError
from ..format.events import NewEvent, RecordedEvent, to_microseconds
from ..format.names import check_name
from ..log import appending, reading
from ..log.append_plan import ANY, Append, AppendResult, ExpectedVersion
from ..log.durability import Durability, open_durable
from ..log.info import StoreInfo
from ..projections.as_of import AsOf
from ..projections.projection import Projection
from ..settings import DEFAULT_NAME, DEFAULTS, Settings
from ..subscriptions.sources import All, Category, one_partition, source_of
from ..wire import address
from ..wire.clock import now_in_microseconds
from .driver import Driver
from .feed import Feed
from .subscription import Subscription

T = TypeVar("T")

#: How long opening a store waits for a server that does not answer, in seconds.
OPENING_PATIENCE = 1.0


class EventStore:
    """An event log in Redis. Safe to share between threads; each process opens its own.

    ``EventStore(client)`` uses the server of a ``redis.Redis`` client that is there already; `open` takes a URL.
    """

    def __init__(
        self,
        client: Any,
        *,
        name: str = DEFAULT_NAME,
        partitions: int | None = None,
        durability: Durability = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        where = client if isinstance(client, address.Address) else address.from_client(client)
        self.settings = settings
        self.durability = durability
        self._driver = Driver(where, settings)
        self._feeds: dict[int, Feed] = {}
        self._lock = threading.Lock()
        try:
            # A wrong address should show soon; once it was right, an outage is given more time.
            hasty = Driver(where, replace(settings, retry_for=min(settings.retry_for, OPENING_PATIENCE)))
            try:
                opening = open_durable(name, partitions, durability, settings, where.fake)
                self.info: StoreInfo = hasty.run(opening)
            finally:
                hasty.close()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        url: str,
        *,
        name: str = DEFAULT_NAME,
        partitions: int | None = None,
        durability: Durability = None,
        settings: Settings = DEFAULTS,
        insecure_tls: bool = False,
    ) -> Self:
        """Open the store at ``redis://``, ``rediss://``, ``unix://``, ``embedded:PATH`` or ``memory:[NAME]``.

        A store that is not there is made, with ``partitions`` (1 unless told; fixed from then on). A server that
        gives less than ``durability`` (see `runner.log.durability`) is refused. Raises InvalidInput, StoreTrouble or
        LogCorrupt.
        """
        where = address.parse(url, insecure_tls=insecure_tls)
        return cls(where, name=name, partitions=partitions, durability=durability, settings=settings)

    # -- appending ------------------------------------------------------------------------------

    def append(
        self, stream: str, events: Iterable[NewEvent] | NewEvent, expected_version: ExpectedVersion = ANY
    ) -> AppendResult:
        """Append events to a stream, all or none of them; repeating the same append is safe.

        Raises WrongExpectedVersion, EventIdReused, PayloadError, AppendTooLarge or StoreTrouble; NotConfirmed is
        one of the last kind, for stores that declare `Replicated`.
        """
        given = [events] if isinstance(events, NewEvent) else events
        [result] = self.append_many([(stream, given, expected_version)])
        return result

    def append_many(
        self,
        appends: Sequence[Append],
        *,
        bookmark: tuple[str, int] | None = None,
        partition: int | None = None,
    ) -> list[AppendResult]:
        """Append to several streams of one partition, all or nothing, and move a bookmark forward with them.

        Positions are in the order given; a stream may come several times if each time it expects the version that
        it had the time before. A bookmark, ``("feed", 17)``, is the caller's note of how far it has come: a name and a
        position from 1, which only rises. ``partition`` says where it is kept when there are no streams. Raises what
        `append` raises, and BookmarkConflict.
        """
        now = now_in_microseconds()
        return self.run(appending.append_all(self.info, appends, bookmark, partition, now, self.durability))

    def append_each(self, appends: Sequence[Append]) -> list[AppendResult | RunnerError]:
        """Independent appends, in order, many a round trip. A refused one gives its error in its place."""
        return self.run(appending.append_each(self.info, appends, now_in_microseconds(), self.durability))

    def bookmark(self, name: str, *, partition: int = 0) -> int:
        """The position of the bookmark ``name``, which `append_many` sets; 0 where there is none."""
        return self.run(reading.bookmark(self.info.of_partition(partition), name))

    # -- reading --------------------------------------------------------------------------------

    def read_stream(
        self, stream: str, after: int = 0, to: int | None = None, backwards: bool = False, limit: int | None = None
    ) -> Iterator[RecordedEvent]:
        """The events of a stream with numbers above ``after`` up to and with ``to``; pages are read as needed.

        Raises LogTrimmed or LogCorrupt where an event of it is gone.
        """
        pages = reading.StreamPages(reading.StreamRange(stream, after, to, backwards), limit, self.settings.page_size)
        return self._iterate(pages)

    def read_category(
        self, category: str, after: int = 0, *, since: datetime | None = None, partition: int | None = None
    ) -> Iterator[RecordedEvent]:
        """The events of a category's streams; the arguments are those of `read_all`."""
        only = reading.in_category(category)
        return self._iterate(reading.LogPages(after, since, partition, only, self.settings.page_size))

    def read_all(
        self, after: int = 0, *, since: datetime | None = None, partition: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Every event after position ``after``, recorded at ``since`` or later.

        With several partitions they come one partition after the other, and a position needs its ``partition``.
        The log is not sorted by time, so ``since`` reads it all and passes over what is older.
        """
        return self._iterate(reading.LogPages(after, since, partition, None, self.settings.page_size))

    def read_all_backwards(self, *, partition: int = 0) -> Iterator[RecordedEvent]:
        """Every event of a partition, the last one first."""
        pages = reading.BackwardPages(partition, self.settings.page_size)
        return self._iterate(pages)

    def version(self, stream: str) -> int:
        """The number of the stream's last event; 0 when it does not exist."""
        return self.run(reading.version(self.info, stream))

    def last_position(self, *, partition: int = 0) -> int:
        """The position of the last event, which is the number of events ever appended to the partition."""
        return self.run(reading.last_position(self.info.of_partition(partition)))

    # -- following ------------------------------------------------------------------------------

    def subscribe(
        self,
        to: str | Category | All,
        after: int = 0,
        *,
        since: datetime | None = None,
        partition: int | None = None,
        resubscribe: bool = False,
    ) -> Subscription:
        """History after ``after`` (a number of the stream, else a position), then the live tail.

        ``after=store.last_position()`` starts at the end. With several partitions, a category or `ALL` needs a
        ``partition``. When the live feed drops the subscription it ends with an error; with ``resubscribe`` it goes
        back to reading after the last event instead.
        """
        source = source_of(self.info, to, one_partition(self.info, to, partition))
        start = reading.check_place(after, "after")
        moment = None if since is None else to_microseconds(since, "since")
        return Subscription(self._driver, self.feed(source.keys.partition), source, start, moment, resubscribe)

    # -- the past -------------------------------------------------------------------------------

    def state_at(
        self,
        projection: Projection,
        *,
        position: int | None = None,
        time: datetime | None = None,
        key: str | None = None,
    ) -> Any:
        """See `Projection.state_at`."""
        past = AsOf(projection, position, time, self.info.partitions)
        for event in self.read_all():
            if past.beyond(event):
                break
            if past.add(event):
                self.run(past.fold())
        self.run(past.fold())
        return past.rows() if key is None else past.row(check_name(key, "row"))

    # -- for the other rooms of the package -----------------------------------------------------

    @property
    def driver(self) -> Driver:
        """What runs operations against this store."""
        return self._driver

    @property
    def label(self) -> str:
        """Where the store is, for people; holds no secret."""
        return self._driver.address.label

    def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation (see `runner.effects`) and return its result."""
        return self._driver.run(operation)

    def feed(self, partition: int) -> Feed:
        """The live feed of a partition: one a process."""
        with self._lock:
            if partition not in self._feeds:
                self._feeds[partition] = Feed(self._driver, self.info, partition)
            return self._feeds[partition]

    def close(self) -> None:
        """End the feeds, close the connections, and leave an embedded server."""
        for feed in self._feeds.values():
            feed.close()
        self._driver.close()
        self._driver.address.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EventStore {self.info.name!r} at {self.label}>"

    def _iterate(self, pages: reading.Pages) -> Iterator[RecordedEvent]:
        while (page := self.run(pages.next(self.info))) is not None:
            yield from page
