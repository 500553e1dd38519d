"""The event store with ``await`` and ``async for``: the operations of `runner.EventStore`, run by another driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from ..effects import DriverOperation, Operation
from ..errors import InvalidInput, RunnerError
from ..format.events import NewEvent, RecordedEvent, to_microseconds
from ..format.numbers import check_number
from ..log import appending, reading
from ..log.append_plan import ANY, Append, AppendResult, ExpectedVersion
from ..log.durability import Durability, Opening, open_durable
from ..log.info import StoreInfo
from ..settings import DEFAULT_NAME, DEFAULTS, Settings
from ..subscriptions.sources import All, Category, Source, one_partition, source_of
from ..wire import address
from ..wire.blocks import TakesAsyncWith
from ..wire.clock import now_in_microseconds
from .driver import AsyncDriver
from .feed import AsyncFeed
from .interpreter import AsyncInterpreter
from .subscription import AsyncSubscription

T = TypeVar("T")


def check_store(store: object) -> AsyncEventStore:
    """The store, if it is of this face. Raises InvalidInput."""
    if not isinstance(store, AsyncEventStore):
        raise InvalidInput(
            f"an AsyncEventStore is needed, not {type(store).__name__}: {store!r}",
            hint="An EventStore has View and Repository.",
        )
    return store


class AsyncEventStore(TakesAsyncWith):
    """An event log in Redis, for the tasks of one event loop. `runner.EventStore` has the same methods.

    ``AsyncEventStore(client)`` uses the server of an existing ``redis.asyncio.Redis`` client; `open` takes a URL. The
    first use, or the beginning of ``async with``, reads the store's epoch and number of partitions, and makes a store
    that does not exist yet. `close` it, or use ``async with``.

    The arguments are those of `runner.EventStore`. What that one raises, the first use of this one raises. In another
    event loop every method raises InvalidInput.
    """

    def __init__(
        self,
        client: Any,
        *,
        name: str = DEFAULT_NAME,
        partitions: int | None = None,
        durability: Durability = None,
        settings: Settings = DEFAULTS,
        create: bool = True,
    ) -> None:
        where = client if isinstance(client, address.Address) else address.from_client(client)
        self.settings = settings
        self.durability = durability
        self._driver = AsyncDriver(where, settings)
        self._feeds: dict[int, AsyncFeed] = {}
        self._opening = Opening(name, partitions, durability, settings, create, where.label, where.fake)
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
        create: bool = True,
        insecure_tls: bool = False,
    ) -> Self:
        """Open the store at ``redis://``, ``rediss://``, ``unix://``, ``embedded:PATH`` or ``memory:[NAME]``.

        ``insecure_tls`` accepts any certificate. The other arguments and the other errors are those of the class.
        Raises InvalidInput for an invalid URL; StoreNotFound if ``create`` is False and an embedded store is not there.
        """
        where = address.parse(url, create=create, insecure_tls=insecure_tls)
        return cls(
            where, name=name, partitions=partitions, durability=durability, settings=settings, create=create
        )  # fmt: skip

    # -- appending ------------------------------------------------------------------------------

    async def append(
        self, stream: str, events: Iterable[NewEvent] | NewEvent, expected_version: ExpectedVersion = ANY
    ) -> AppendResult:
        """Append events to a stream, all or none of them. Repeating the same append is safe, and changes nothing.

        ``expected_version`` is what the writer takes the stream's version to be: the number of its last event,
        `NO_STREAM`, `STREAM_EXISTS`, or `ANY`. Returns the new version, the last event's position and partition, and
        whether it was a duplicate.

        Raises WrongExpectedVersion, and nothing was written; EventIdReused; PayloadError, AppendTooLarge or InvalidName
        before anything is sent; StoreReplaced where the store was flushed or restored since it was opened;
        StoreTrouble, after which the events may have been appended: repeat the same append. NotConfirmed is the
        StoreTrouble of a store that declares `Replicated`.
        """
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
        """Append to several streams of one partition, all or nothing, and move a bookmark forward with them.

        ``appends`` holds (stream, events, expected version). Positions are in the order given; a stream may come
        several times if each append of it has events and expects the version, as a number, that the one before leaves.
        A bookmark, ``("feed", 17)``, is the caller's own progress: a name, and a number above the stored one, of 64
        bits at most. Without streams, ``partition`` says which partition keeps the bookmark.

        Returns a result for each of ``appends``. Raises what `append` raises; BookmarkConflict where the bookmark
        would not move forward; InvalidInput for streams of several partitions.
        """
        info, now = await self.info(), now_in_microseconds()
        return await self.run(appending.append_all(info, appends, bookmark, partition, now, self.durability))

    async def append_each(self, appends: Sequence[Append]) -> list[AppendResult | RunnerError]:
        """Append to streams independently of each other, in order, with many appends in a round trip.

        Returns a result for each of ``appends``; a refused append has its error in its place, and the others are
        appended. Raises StoreTrouble or StoreReplaced, after which some may have been appended: repeat them all.
        """
        info, now = await self.info(), now_in_microseconds()
        return await self.run(appending.append_each(info, appends, now, self.durability))

    async def bookmark(self, name: str, *, partition: int = 0) -> int:
        """The position of a bookmark; 0 where there is none. See `append_many`.

        Raises InvalidName, InvalidInput for a partition that does not exist, or StoreTrouble.
        """
        return await self.run(reading.bookmark((await self.info()).of_partition(partition), name))

    # -- reading --------------------------------------------------------------------------------

    async def read_stream(
        self, stream: str, after: int = 0, to: int | None = None, backwards: bool = False, limit: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        """The events of a stream with numbers above ``after``, up to and including ``to``; none without the stream.

        ``backwards`` gives the last event first; ``limit`` is the most events. Pages are read during the iteration.
        Raises, while it is iterated, InvalidInput; LogTrimmed or LogCorrupt in place of an event that is gone;
        StoreTrouble.
        """
        pages = reading.StreamPages(reading.StreamRange(stream, after, to, backwards), limit, self.settings.page_size)
        async for event in self._iterate(pages):
            yield event

    async def read_category(
        self, category: str, after: int = 0, *, since: datetime | None = None, partition: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        """The events of a category's streams, in the order of the log.

        The arguments are those of `read_all`. The whole log is read, and filtered in this process. Raises
        InvalidInput for an invalid category, and what `read_all` raises.
        """
        only = reading.in_category(category)
        async for event in self._iterate(reading.LogPages(after, since, partition, only, self.settings.page_size)):
            yield event

    async def read_all(
        self,
        after: int = 0,
        *,
        since: datetime | None = None,
        partition: int | None = None,
        backwards: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Every event with a position above ``after`` that was recorded at ``since`` or later.

        With several partitions the events come one partition after the other, and ``after`` and ``backwards`` need a
        ``partition``. ``backwards`` gives the last event first. The log is not sorted by time, so ``since`` reads the
        whole log and passes over older events. Pages are read during the iteration.

        Raises InvalidInput; LogTrimmed or LogCorrupt in place of an event that is gone; StoreTrouble.
        """
        page_size = self.settings.page_size
        pages: reading.Pages = reading.LogPages(after, since, partition, None, page_size)
        if backwards:
            pages = reading.BackwardPages(after, since, partition, page_size)
        async for event in self._iterate(pages):
            yield event

    async def version(self, stream: str) -> int:
        """The number of the stream's last event; 0 where there is none. Raises InvalidName or StoreTrouble."""
        return await self.run(reading.version(await self.info(), stream))

    async def last_position(self, *, partition: int = 0) -> int:
        """The position of the last event, which is the number of events ever appended to the partition.

        Raises InvalidInput for a partition that does not exist, or StoreTrouble.
        """
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
        """A subscription to a stream, a `Category` or `ALL`: history first, then each event as it is appended.

        ``after`` is an event number for a stream, else a position; ``after=await store.last_position()`` starts at the
        end. ``since`` passes over events recorded earlier. With several partitions, a category or `ALL` needs a
        ``partition``. When the live feed drops the subscription (it was too slow, or the connection was lost) it ends
        with an error; with ``resubscribe`` it goes back to reading after its last event instead.

        Raises InvalidInput for ``after`` or ``since``; the subscription raises other errors of the arguments when it
        begins. `AsyncSubscription` says what its iteration raises.
        """

        async def locate() -> tuple[AsyncFeed, Source]:
            info = await self.info()
            source = source_of(info, to, one_partition(info, to, partition))
            return self.feed(source.keys.partition), source

        moment = None if since is None else to_microseconds(since, "since")
        return AsyncSubscription(self._driver, locate, check_number(after, "after"), moment, resubscribe)

    # -- what it is made of ---------------------------------------------------------------------

    async def info(self) -> StoreInfo:
        """The store's name, its number of partitions and their keys, and its epoch. The first call opens the store.

        Raises the errors that the class documents for its first use.
        """
        if self._info is None:
            self._info = await self.run(open_durable(self._opening))
        return self._info

    @property
    def label(self) -> str:
        """The store's address, for people to read; holds no secret."""
        return self._driver.address.label

    @property
    def driver(self) -> AsyncDriver:
        """The driver that runs operations against this store."""
        return self._driver

    async def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation (see `runner.effects`), and return its result. Raises what the operation raises."""
        return await self._driver.run(operation)

    async def work(self, operation: Operation[T]) -> T:
        """Run an operation that may also wait and drive workers, in this task, and return its result.

        Raises what the operation raises.
        """
        await self.info()
        interpreter = AsyncInterpreter(self._driver, self.feed(0))
        try:
            return await interpreter.run(operation)
        finally:
            await interpreter.close()

    def feed(self, partition: int) -> AsyncFeed:
        """The live feed of a partition. All subscriptions and workers of this store object share it.

        The store must be open. Raises InvalidInput for a partition that does not exist.
        """
        assert self._info is not None, "a store has feeds after its info was asked for"
        if partition not in self._feeds:
            self._feeds[partition] = AsyncFeed(self._driver, self._info, partition)
        return self._feeds[partition]

    async def close(self) -> None:
        """End the feeds and close the connections; an embedded server ends with the last process that uses it.

        Later uses of the store raise StoreClosed.
        """
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
        return f"<AsyncEventStore {self._opening.name!r} at {self.label}>"

    async def _iterate(self, pages: reading.Pages) -> AsyncIterator[RecordedEvent]:
        info = await self.info()
        while (page := await self.run(pages.next(info))) is not None:
            for event in page:
                yield event
