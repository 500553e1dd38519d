"""Subscriptions with ``async for``. Compare `runner.sync.subscription`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from ..effects.backoff import Backoff
from ..errors import RunnerError, StoreUnavailable, SubscriptionDropped
from ..format.events import RecordedEvent
from ..subscriptions.reader import Ended, SubscriptionReader
from ..subscriptions.sources import Source
from ..wire.blocks import TakesAsyncWith
from .driver import AsyncDriver
from .feed import AsyncFeed
from .interpreter import AsyncInterpreter


class AsyncSubscription(TakesAsyncWith):
    """The events of a stream, a category or a partition: history, then each event as it is appended, for ever.

    `AsyncEventStore.subscribe` makes it. Iterate over it with ``async for`` inside ``async with``, which releases its
    connection. Iteration ends after `unsubscribe`.

    Its beginning raises InvalidInput or InvalidName for the arguments of `subscribe`. Iteration raises
    SubscriptionDropped when the live feed drops it (it was too slow, or the connection was lost; with ``resubscribe``
    it reads on instead), StoreUnavailable when the server stays unreachable, DataError when the log is damaged. Every
    event before the error was delivered.
    """

    def __init__(
        self,
        driver: AsyncDriver,
        locate: Callable[[], Awaitable[tuple[AsyncFeed, Source]]],
        after: int,
        since: int | None,
        resubscribe: bool,
    ) -> None:
        self._resubscribe = resubscribe
        self._driver = driver
        self._locate = locate
        self._after = after
        self._settings = driver.settings
        self._since = since
        self._at_work: tuple[AsyncInterpreter, SubscriptionReader] | None = None
        self._events: deque[RecordedEvent] = deque()
        self._stopping = False
        self._ended = False
        self._lost = False
        self._error: RunnerError | None = None

    @property
    def caught_up(self) -> bool:
        """Whether all history is delivered: the next iteration waits for a new event."""
        return not self._events and self._at_work is not None and self._at_work[1].caught_up

    async def poll(self, timeout: float = 0.0) -> RecordedEvent | None:
        """The next event; None where none came within ``timeout`` seconds, or where the subscription has ended.

        Raises what iteration raises.
        """
        deadline = time.monotonic() + timeout
        while not self._events and not self._ended:
            left = deadline - time.monotonic()
            was_live = self._live
            await self._advance(max(0.0, left))
            if left <= 0 and was_live:
                break
        return await self._pop()

    def unsubscribe(self) -> None:
        """End the subscription. Iteration stops, even while it waits. Events read ahead are dropped."""
        self._stopping = True
        if self._at_work is not None:
            self._at_work[0].wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        while not self._events and not self._ended:
            await self._advance(self._settings.block)
        event = await self._pop()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        self._events.clear()

    async def _pop(self) -> RecordedEvent | None:
        if self._stopping:
            await self._close()
            self._events.clear()
        if not self._events:
            return None
        try:  # read ahead, so that `caught_up` is right at the last event of history
            while len(self._events) == 1 and self._error is None and not self._live and not self._ended:
                await self._advance(0.0)
        except RunnerError as error:
            self._error = error
        return self._events.popleft()  # after the last await, so a cancelled call loses no event

    async def _advance(self, timeout: float) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._stopping:
            await self._close()
            return
        backoff = Backoff(self._settings.retry_for, self._driver.clock)
        interpreter, reader = await self._begin()
        while True:
            try:
                if self._lost:
                    await interpreter.run(reader.restart())
                    self._lost = False
                batch = await interpreter.run(reader.next(timeout))
                break
            except asyncio.CancelledError:
                self._lost = True  # the next call repeats the requests under way
                await interpreter.session.close()
                raise
            except StoreUnavailable as error:
                self._lost = True
                await interpreter.session.close()
                await asyncio.sleep(backoff.after(error))
                await asyncio.to_thread(self._driver.address.revive)
        if isinstance(batch, Ended):
            await self._close()
            if batch.reason is not None:
                raise SubscriptionDropped(batch.reason)
        elif batch is not None:
            since = self._since
            self._events.extend(event for event in batch.events if since is None or event.recorded_us >= since)

    async def _begin(self) -> tuple[AsyncInterpreter, SubscriptionReader]:
        if self._at_work is None:
            feed, source = await self._locate()
            page_size, resubscribe = self._settings.page_size, self._resubscribe
            reader = SubscriptionReader(source, after=self._after, page_size=page_size, resubscribe=resubscribe)
            self._at_work = AsyncInterpreter(self._driver, feed), reader
        return self._at_work

    @property
    def _live(self) -> bool:
        return self._at_work is not None and self._at_work[1].live

    async def _close(self) -> None:
        self._ended = True
        if self._at_work is not None:
            await self._at_work[0].close()
