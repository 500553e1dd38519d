"""The event store with ``await`` and ``async for``: the operations of `runner.EventStore`, run by another driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
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
from ..subscriptions.sources import All, Category, Source, one_partition, source_of
from ..wire import address
from ..wire.clock import now_in_microseconds
from .driver import AsyncDriver
from .feed import AsyncFeed
from .subscription import AsyncSubscription

T = TypeVar("T")


class AsyncEventStore:
    """An event log in Redis, for one event loop. See `runner.EventStore` for what each method does and raises.

    ``AsyncEventStore(client)`` takes a ``redis.asyncio.Redis``; `open` a URL. It connects on first use.
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
        self._driver = AsyncDriver(where, settings)
        self._feeds: dict[int, AsyncFeed] = {}
        self._opening = (name, partitions, durability, settings, where.fake)
        self._info: StoreInfo | None = None

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
        where = address.parse(url, insecure_tls=insecure_tls)
        return cls(where, name=name, partitions=partitions, durability=durability, settings=settings)

    # -- appending ------------------------------------------------------------------------------

    async def append(
        self, stream: str, events: Iterable[NewEvent] | NewEvent, expected_version: ExpectedVersion = ANY
    ) -> AppendResult:
        given = [events] if isinstance(events, NewEvent) else events
        [result] = await self.append_many([(stream, given, expected_version)])
        return result

    async def append_many(
        self,
        appends: Sequence[Append],
        *,
        bookmark: tuple[str, int] | None = None,
        partition: int | None = None,
    ) -> list[AppendResult]:
        info, now = await self.info(), now_in_microseconds()
        return await self.run(appending.append_all(info, appends, bookmark, partition, now, self.durability))

    async def append_each(self, appends: Sequence[Append]) -> list[AppendResult | RunnerError]:
        info, now = await self.info(), now_in_microseconds()
        return await self.run(appending.append_each(info, appends, now, self.durability))

    async def bookmark(self, name: str, *, partition: int = 0) -> int:
        return await self.run(reading.bookmark((await self.info()).of_partition(partition), name))

    # -- reading --------------------------------------------------------------------------------

    async def read_stream(
        self, stream: str, after: int = 0, to: int | None = None, backwards: bool = False, limit: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        pages = reading.StreamPages(reading.StreamRange(stream, after, to, backwards), limit, self.settings.page_size)
        async for event in self._iterate(pages):
            yield event

    async def read_category(
        self, category: str, after: int = 0, *, since: datetime | None = None, partition: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        only = reading.in_category(category)
        async for event in self._iterate(reading.LogPages(after, since, partition, only, self.settings.page_size)):
            yield event

    async def read_all(
        self, after: int = 0, *, since: datetime | None = None, partition: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        async for event in self._iterate(reading.LogPages(after, since, partition, None, self.settings.page_size)):
            yield event

    async def read_all_backwards(self, *, partition: int = 0) -> AsyncIterator[RecordedEvent]:
        async for event in self._iterate(reading.BackwardPages(partition, self.settings.page_size)):
            yield event

    async def version(self, stream: str) -> int:
        return await self.run(reading.version(await self.info(), stream))

    async def last_position(self, *, partition: int = 0) -> int:
        return await self.run(reading.last_position((await self.info()).of_partition(partition)))

    # -- following ------------------------------------------------------------------------------

    def subscribe(
        self,
        to: str | Category | All,
        after: int = 0,
        *,
        since: datetime | None = None,
        partition: int | None = None,
        resubscribe: bool = False,
    ) -> AsyncSubscription:
        """``async with store.subscribe(ALL) as subscription:``"""

        async def locate() -> tuple[AsyncFeed, Source]:
            info = await self.info()
            source = source_of(info, to, one_partition(info, to, partition))
            return self.feed(info, source.keys.partition), source

        moment = None if since is None else to_microseconds(since, "since")
        return AsyncSubscription(self._driver, locate, reading.check_place(after, "after"), moment, resubscribe)

    # -- the past -------------------------------------------------------------------------------

    async def state_at(
        self,
        projection: Projection,
        *,
        position: int | None = None,
        time: datetime | None = None,
        key: str | None = None,
    ) -> Any:
        past = AsOf(projection, position, time, (await self.info()).partitions)
        async for event in self.read_all():
            if past.beyond(event):
                break
            if past.add(event):
                await self.run(past.fold())
        await self.run(past.fold())
        return past.rows() if key is None else past.row(check_name(key, "row"))

    # -- for the other rooms of the package -----------------------------------------------------

    async def info(self) -> StoreInfo:
        """Open the store, once."""
        if self._info is None:
            self._info = await self.run(open_durable(*self._opening))
        return self._info

    @property
    def driver(self) -> AsyncDriver:
        return self._driver

    async def run(self, operation: DriverOperation[T]) -> T:
        return await self._driver.run(operation)

    def feed(self, info: StoreInfo, partition: int) -> AsyncFeed:
        if partition not in self._feeds:
            self._feeds[partition] = AsyncFeed(self._driver, info, partition)
        return self._feeds[partition]

    async def close(self) -> None:
        """End the feeds, close the connections, and leave an embedded server."""
        for feed in self._feeds.values():
            await feed.close()
        await self._driver.close()
        self._driver.address.close()

    async def __aenter__(self) -> Self:
        try:
            await self.info()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncEventStore {self._opening[0]!r} at {self._driver.address.label}>"

    async def _iterate(self, pages: reading.Pages) -> AsyncIterator[RecordedEvent]:
        info = await self.info()
        while (page := await self.run(pages.next(info))) is not None:
            for event in page:
                yield event
