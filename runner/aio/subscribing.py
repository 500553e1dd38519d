"""The feed as a task, the port, and subscriptions with ``async for``. Compare `runner.feed`, `runner.subscribing`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from ..beside import Tasks
from ..errors import DataError, RunnerError, StoreClosed, StoreRefused, StoreUnavailable, SubscriptionDropped
from ..events import RecordedEvent
from ..facts import StoreFacts
from ..feed import Delivery, FeedCore, Member
from ..log.reading import last_event
from ..pump import Ended, Pump, Source
from ..requests import Begin, Effect, Finish, Join, Leave, Operation, Pause, Take, drive_async
from ..wire.aio import AsyncDriver
from ..wire.encoding import Backoff

T = TypeVar("T")


class AsyncFeed:
    """The feed of one partition, read by a task that lives while there are members."""

    def __init__(self, driver: AsyncDriver, facts: StoreFacts, partition: int) -> None:
        self._driver = driver
        self._keys = facts.of_partition(partition)
        self._core = FeedCore(facts, self._keys, driver.settings)
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def join(self, member: Member) -> None:
        async with self._starting:
            if self._closed:
                raise StoreClosed
            if self._task is None:
                self._core.stand_at(*(await self._driver.run(last_event(self._keys))))
                self._task = asyncio.create_task(self._read())
            self._core.members.append(member)

    def leave(self, member: Member) -> None:
        if member in self._core.members:
            self._core.members.remove(member)

    async def close(self) -> None:
        self._closed = True
        self._core.drop_all("the store was closed")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _read(self) -> None:
        settings = self._driver.settings
        session = self._driver.session(timeout=settings.block + settings.socket_timeout)
        try:
            while True:
                replies = await session.call(self._core.read_commands())
                self._core.advance(replies)
                if not self._core.members:
                    self._task = None
                    return
        except (DataError, StoreRefused) as trouble:
            self._fail(trouble)
        except BaseException as trouble:  # nobody may be left waiting for a feed that has ended
            self._fail(f"the live feed failed: {trouble}")
            if not isinstance(trouble, RunnerError):
                raise
        finally:
            await session.close()

    def _fail(self, trouble: str | RunnerError) -> None:
        self._task = None
        self._core.drop_all(trouble)


class AsyncPort:
    """A session, a place in a feed, and the driver: everything a pump's effects need."""

    def __init__(self, driver: AsyncDriver, feed: AsyncFeed) -> None:
        self._driver = driver
        self._feed = feed
        self._wake = asyncio.Event()
        self._member: Member | None = None
        self._beside = Tasks()
        self.session = driver.session()

    async def run(self, operation: Operation[T]) -> T:
        return await drive_async(operation, self._perform)

    def wake(self) -> None:
        self._wake.set()

    async def close(self) -> None:
        self._leave()
        self._beside.close()
        await self.session.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Take):
            return await self._take(effect.timeout)
        if isinstance(effect, Join):
            self._member = Member(self._driver.settings.buffer_size, self._wake.set)
            return await self._feed.join(self._member)
        if isinstance(effect, Leave):
            return self._leave()
        if isinstance(effect, Pause):
            return await self._wait(effect.seconds)
        if isinstance(effect, Begin):
            return await self._beside.begin(effect)
        if isinstance(effect, Finish):
            return await self._beside.finish(effect.work, effect.timeout)
        return await self._driver.perform(effect, self.session)

    async def _take(self, timeout: float) -> Delivery | None:
        member = self._member
        assert member is not None, "nothing can be taken from a feed before it is joined"
        delivery = member.take()
        if delivery is None and timeout > 0:
            await self._wait(timeout)
        return delivery or member.take()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            pass
        self._wake.clear()

    def _leave(self) -> None:
        if self._member is not None:
            self._feed.leave(self._member)
            self._member = None


class AsyncSubscription:
    """`runner.Subscription` with ``async with`` and ``async for``; it raises the same."""

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
        self._at_work: tuple[AsyncPort, Pump] | None = None
        self._events: deque[RecordedEvent] = deque()
        self._stopping = False
        self._ended = False
        self._lost = False
        self._error: RunnerError | None = None

    @property
    def caught_up(self) -> bool:
        """Whether every event that the store had is delivered: whoever iterates now waits for a new one."""
        return not self._events and self._at_work is not None and self._at_work[1].caught_up

    def unsubscribe(self) -> None:
        """End the subscription: iteration stops, and the feed forgets it."""
        self._stopping = True
        if self._at_work is not None:
            self._at_work[0].wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        while not self._events and (self._error is not None or not self._ended):
            await self._advance(self._settings.block)
        if self._stopping:
            await self._close()
            self._events.clear()
        if not self._events:
            raise StopAsyncIteration
        try:  # the last event of history is handed out only when it is known to be the last
            while len(self._events) == 1 and self._error is None and not self._live and not self._ended:
                await self._advance(0.0)
        except RunnerError as error:
            self._error = error
        return self._events.popleft()  # after the last await: a cancelled call takes nothing with it

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        self._events.clear()

    async def _advance(self, timeout: float) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._stopping:
            await self._close()
            return
        clock = asyncio.get_running_loop().time
        backoff = Backoff(self._settings.retry_for, clock())
        port, pump = await self._begin()
        while True:
            try:
                if self._lost:
                    await port.run(pump.restart())
                    self._lost = False
                batch = await port.run(pump.next(timeout))
                break
            except asyncio.CancelledError:
                self._lost = True  # whatever was under way is asked for again
                await port.session.close()
                raise
            except StoreUnavailable as trouble:
                self._lost = True
                await port.session.close()
                await asyncio.sleep(backoff.after(trouble, clock()))
                await asyncio.to_thread(self._driver.address.revive)
        if isinstance(batch, Ended):
            await self._close()
            if batch.reason is not None:
                raise SubscriptionDropped(batch.reason)
        elif batch is not None:
            since = self._since
            self._events.extend(event for event in batch.events if since is None or event.recorded_us >= since)

    async def _begin(self) -> tuple[AsyncPort, Pump]:
        if self._at_work is None:
            feed, source = await self._locate()
            page_size, resubscribe = self._settings.page_size, self._resubscribe
            pump = Pump(source, after=self._after, page_size=page_size, resubscribe=resubscribe)
            self._at_work = AsyncPort(self._driver, feed), pump
        return self._at_work

    @property
    def _live(self) -> bool:
        return self._at_work is not None and self._at_work[1].live

    async def _close(self) -> None:
        self._ended = True
        if self._at_work is not None:
            await self._at_work[0].close()
