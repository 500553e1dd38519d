"""The live feed of a partition, read by a task. Compare `runner.sync.feed`."""

from __future__ import annotations

import asyncio

from ..errors import DataError, RunnerError, StoreClosed, StoreRefused
from ..log.info import StoreInfo
from ..log.reading import last_event
from ..subscriptions.feed import FeedCore, Member
from .driver import AsyncDriver
from .session import AsyncSession


class AsyncFeed:
    """The feed of one partition, read by a task that lives while there are members."""

    def __init__(self, driver: AsyncDriver, info: StoreInfo, partition: int) -> None:
        self._driver = driver
        self._keys = info.of_partition(partition)
        self._core = FeedCore(info, self._keys, driver.settings)
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def join(self, member: Member) -> None:
        """Take a member in. From then on the member gets every event that is appended. Raises StoreTrouble."""
        async with self._starting:
            if self._closed:
                raise StoreClosed
            if self._task is None:
                self._core.stand_at(*(await self._driver.run(last_event(self._keys))))
                self._task = asyncio.create_task(self._read())
            self._core.members.append(member)

    def leave(self, member: Member) -> None:
        """Take a member out. Nothing happens if the member has left already."""
        if member in self._core.members:
            self._core.members.remove(member)

    async def close(self) -> None:
        """Drop all members, refuse new ones, and end the task."""
        self._closed = True
        self._core.drop_all("the store was closed")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _read(self) -> None:
        settings = self._driver.settings
        try:
            session = self._driver.session(timeout=settings.block + settings.socket_timeout)
            try:
                await self._read_on(session)
            finally:
                await session.close()
        except (DataError, StoreRefused) as reason:
            self._fail(reason)
        except BaseException as reason:  # members must not wait for a feed that has ended
            self._fail(f"the live feed failed: {reason}")
            if not isinstance(reason, RunnerError):
                raise

    async def _read_on(self, session: AsyncSession) -> None:
        """Read for as long as there are members."""
        while True:
            replies = await session.call(self._core.read_commands())
            self._core.advance(replies)
            if not self._core.members:
                self._task = None
                return

    def _fail(self, reason: str | RunnerError) -> None:
        self._task = None
        self._core.drop_all(reason)
