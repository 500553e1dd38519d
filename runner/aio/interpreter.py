"""The interpreter: performs every effect of an operation in an event loop. Compare `runner.sync.interpreter`."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from ..effects import (
    Begin,
    Effect,
    Finish,
    Join,
    Leave,
    Operation,
    Pause,
    Receive,
    Send,
    Take,
    UserCodeEffect,
    drive_async,
)
from ..subscriptions.feed import Delivery, Member
from .concurrency import AsyncUserCode, Tasks
from .driver import AsyncDriver
from .feed import AsyncFeed

T = TypeVar("T")


class AsyncInterpreter:
    """A session, a member of a feed, and the driver: all that the effects of an operation need."""

    def __init__(self, driver: AsyncDriver, feed: AsyncFeed) -> None:
        self._driver = driver
        self._feed = feed
        self._wake = asyncio.Event()
        self._member: Member | None = None
        self._user_code = AsyncUserCode()
        self._beside = Tasks()
        self.session = driver.session()

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return await drive_async(operation, self._perform)

    def wake(self) -> None:
        """End a wait for the feed at once."""
        self._wake.set()

    async def close(self) -> None:
        """Leave the feed, and close the connection and the threads of user code."""
        self._leave()
        self._user_code.close()
        self._beside.close()
        await self.session.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Take):
            return await self._take(effect.timeout)
        if isinstance(effect, Join):
            self._leave()  # who begins anew may have a place already
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
        if isinstance(effect, Send):
            return await self.session.send(effect.commands)
        if isinstance(effect, Receive):
            return await self.session.receive(effect.pending)
        if isinstance(effect, UserCodeEffect):
            return await self._user_code.perform(effect)
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
