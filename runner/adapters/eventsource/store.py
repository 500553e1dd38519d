"""The event store under the library's five store ports.

The port has no repeatable append. An append whose events are in the store is refused, even from the same caller: with
OptimisticLockError if the version has changed, else with DuplicateEventError. So `runner.log.append_new` appends the
events; it refuses every id that the store has ever had. There is one exception: a request that this process repeats
by itself, because the answer was lost with its connection, gets the first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry, default_registry
from eventsource.domain.exceptions import DuplicateEventError, EventSourceError, OptimisticLockError
from eventsource.ports import (
    AppendResult,
    CategoryReadOptions,
    EventEnvelope,
    ExpectedVersion,
    FeedReadOptions,
    Position,
    ReadDirection,
    StreamReadOptions,
)

from ...errors import EventIdReused, InvalidInput, RunnerError, WrongExpectedVersion
from ...format.numbers import check_number
from ...log import append_plan, reading
from ...log import id_index as ids
from ...log.append_new import append_new
from ...settings import MAX_APPEND_EVENTS
from ...sync.store import EventStore
from ...wire.clock import now_in_microseconds
from .threads import Threads
from .translating import Positions, category_name, has_tenant, new_event, stream_id, stream_name

#: The expected version in an OptimisticLockError if it is not a number: the same as in the library's own stores.
_EXPECTED = {"any": -1, "no_stream": 0, "stream_exists": -2}

#: A page of envelopes, and an error if the event after them cannot be read.
_Page = tuple[list[EventEnvelope], Exception | None]


class RedisEventStore:
    """A `FullEventStore` on Redis. Safe to share between threads and event loops, and to use after a fork.

    ``RedisEventStore(store)`` uses a `runner.EventStore` that is open already, and leaves it open; `open` takes a URL.
    The store must have one partition, because the port's feed has one order. Raises InvalidInput otherwise.
    """

    max_append_batch: int | None = MAX_APPEND_EVENTS

    def __init__(self, store: EventStore, event_registry: EventRegistry | None = None) -> None:
        info = store.info
        if info.partitions > 1:
            raise InvalidInput(
                f"store {info.name!r} has {info.partitions} partitions; this interface needs one order of all events",
                hint="Use a store with one partition.",
            )
        #: The `runner.EventStore` that holds the events, for projections and subscriptions of this package.
        self.event_store = store
        self._registry = default_registry if event_registry is None else event_registry
        self._positions = Positions(f"redis:{info.name}:{info.epoch}")
        self._threads = Threads()
        self._owns_store = False

    @classmethod
    def open(cls, url: str, *, event_registry: EventRegistry | None = None, **options: Any) -> Self:
        """Open the store at a URL; the options are those of `runner.EventStore.open`, and so are the errors.

        Connects at once, and blocks until then.
        """
        store = EventStore.open(url, **options)
        try:
            opened = cls(store, event_registry)
        except BaseException:
            store.close()
            raise
        opened._owns_store = True
        return opened

    @property
    def store_id(self) -> str:
        """The store's name and epoch, which its positions carry. After a flush the id is another one."""
        return self._positions.store_id

    @property
    def threads(self) -> Threads:
        """The threads that run blocking calls."""
        return self._threads

    # -- appending ------------------------------------------------------------------------------

    async def append(self, stream: StreamId, events: Sequence[DomainEvent], expected: ExpectedVersion) -> AppendResult:
        """Append events to a stream, all or none of them; the result's position is that of the first one.

        Raises OptimisticLockError, DuplicateEventError, ValueError (InvalidInput is one) or RedisUnavailableError.
        After RedisUnavailableError, or a cancelled call, the events may have been appended: ask `event_exists`.
        """
        if not events:
            raise ValueError(f"cannot append an empty batch of events (to {stream.render()!r})")
        return await self._threads.run(self._append, stream, tuple(events), expected)

    def _append(self, stream: StreamId, events: Sequence[DomainEvent], expected: ExpectedVersion) -> AppendResult:
        store, wanted = self.event_store, _expected_version(expected)
        new, now = [new_event(event) for event in events], now_in_microseconds()
        try:
            result = store.run(append_new(store.info, stream_name(stream), new, wanted, now, store.durability))
        except WrongExpectedVersion as conflict:
            told = _EXPECTED.get(expected.kind, expected.version or 0)
            raise OptimisticLockError(stream.aggregate_id, told, conflict.actual) from conflict
        except EventIdReused as known:
            raise DuplicateEventError(str(known)) from known
        return AppendResult(stream, result.version, self._positions.token(result.first_position))

    # -- reading --------------------------------------------------------------------------------

    def read_stream(self, stream: StreamId, options: StreamReadOptions | None = None) -> AsyncIterator[EventEnvelope]:
        """The events of a stream, a page at a time. Raises LogTrimmed if the first events were trimmed."""
        given = options or StreamReadOptions()
        after = max(0, (given.from_version or 0) - 1)
        to = None if given.to_version is None else max(0, given.to_version)
        which = reading.StreamRange(stream_name(stream), after, to, given.direction is ReadDirection.BACKWARD)
        pages = reading.StreamPages(which, given.limit, self._page_size(None))
        return self._envelopes(pages, None, given.limit)

    async def get_stream_version(self, stream: StreamId) -> int:
        """The number of the stream's last event; 0 when it does not exist."""
        return await self._threads.run(self.event_store.version, stream_name(stream))

    async def event_exists(self, event_id: UUID) -> bool:
        """Whether an event with this id was ever appended, even if it has been trimmed since."""
        info = self.event_store.info
        return await self._threads.run(lambda: self.event_store.run(ids.position_of(info, info.keys[0], event_id)) > 0)

    def read_all(
        self, from_position: Position | None = None, options: FeedReadOptions | None = None
    ) -> AsyncIterator[EventEnvelope]:
        """Every event after a position, in the order of the log. Streams that are not the library's are passed over.

        Raises PositionForeignError, PositionDecodeError, LogTrimmed or LogCorrupt.
        """
        given = options or FeedReadOptions()
        after = 0 if from_position is None else self._positions.number(from_position)
        pages = reading.LogPages(after, None, 0, None, self._page_size(given.limit))
        return self._envelopes(pages, given.tenant_id, given.limit)

    async def current_position(self) -> Position | None:
        """The position of the last event; None in a store without events."""
        last = await self._threads.run(self.event_store.last_position)
        return self._positions.token(last) if last else None

    def read_category(self, category: str, options: CategoryReadOptions | None = None) -> AsyncIterator[EventEnvelope]:
        """The events of a category, in the order of the log, which is that of the writers' clocks if these agree.

        The whole log is read, and events of other categories are passed over.
        """
        given = options or CategoryReadOptions()
        only = reading.in_category(category_name(category))
        pages = reading.LogPages(0, given.from_timestamp, 0, only, self._page_size(None))
        return self._envelopes(pages, given.tenant_id, given.limit)

    def _page_size(self, limit: int | None) -> int:
        size = self.event_store.settings.page_size
        return size if limit is None else max(1, min(limit, size))

    async def _envelopes(
        self, pages: reading.Pages, tenant: UUID | None, limit: int | None
    ) -> AsyncIterator[EventEnvelope]:
        left = None if limit is None else check_number(limit, "limit")
        while left != 0 and (page := await self._threads.run(self._next_page, pages, tenant, left)) is not None:
            envelopes, error = page
            for envelope in envelopes:
                yield envelope
            if left is not None:
                left -= len(envelopes)
            if error is not None and left != 0:
                raise error

    def _next_page(self, pages: reading.Pages, tenant: UUID | None, limit: int | None) -> _Page | None:
        """The next page. If an event cannot be read, the page ends before that event and holds the error."""
        events = self.event_store.run(pages.next(self.event_store.info))
        if events is None:
            return None
        envelopes: list[EventEnvelope] = []
        try:
            for event in events:
                stream = stream_id(event.stream)
                if stream is not None and (tenant is None or has_tenant(event, tenant)):
                    envelopes.append(self._positions.envelope(event, stream, self._registry))
                    if len(envelopes) == limit:
                        break
        except (EventSourceError, RunnerError) as error:
            return envelopes, error
        return envelopes, None

    # -- the end --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Wait for calls under way, and close the store if `open` opened it. May be repeated."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """The same as `close`, for code without an event loop."""
        self._threads.close()
        if self._owns_store:
            self.event_store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<RedisEventStore {self.event_store.info.name!r} at {self.event_store.label}>"


def _expected_version(expected: ExpectedVersion) -> append_plan.ExpectedVersion:
    if expected.kind == "any":
        return append_plan.ANY
    if expected.kind == "stream_exists":
        return append_plan.STREAM_EXISTS
    return expected.version or append_plan.NO_STREAM
