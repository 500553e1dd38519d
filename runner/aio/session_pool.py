"""The connections of a driver: each lent to one task at a time. Compare `runner.sync.session_pool`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..effects import Command
from ..errors import StoreUnavailable
from ..wire.commands import LEAST_PATIENCE, room_for_waits, waits
from .session import AsyncSession


class AsyncSessionPool:
    """At most ``limit`` sessions. ``patience``: how long a task waits while the server does not answer, in seconds.

    While the server answers, tasks wait without end: it is slow, and a failure would help nobody.
    """

    def __init__(self, open_session: Callable[[], AsyncSession], limit: int, patience: float) -> None:
        self._open = open_session
        self._patience = None if patience == float("inf") else max(patience, LEAST_PATIENCE)
        self._places = asyncio.Semaphore(limit)
        self._places_to_wait = asyncio.Semaphore(room_for_waits(limit))
        self._waiting: set[AsyncSession] = set()
        self._idle: list[AsyncSession] = []
        #: Why the last call failed; None if the server answered it.
        self.trouble: StoreUnavailable | None = None

    async def borrow(self, commands: list[Command]) -> AsyncSession:
        """A session for ``commands``; it must be given back. Raises StoreUnavailable."""
        if not waits(commands):
            return await self._borrow()
        await self._take(self._places_to_wait)
        try:
            session = await self._borrow()
        except BaseException:
            self._places_to_wait.release()
            raise
        self._waiting.add(session)
        return session

    async def give_back(self, session: AsyncSession) -> None:
        """Take a session back. One that waits for replies is closed."""
        try:
            if not session.at_rest:
                await session.close()
        finally:
            if session in self._waiting:
                self._waiting.remove(session)
                self._places_to_wait.release()
            self._idle.append(session)
            self._places.release()

    async def close(self) -> None:
        """Close the sessions that are not lent."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()

    async def _borrow(self) -> AsyncSession:
        await self._take(self._places)
        try:
            return self._idle.pop() if self._idle else self._open()
        except BaseException:
            self._places.release()
            raise

    async def _take(self, places: asyncio.Semaphore) -> None:
        if not places.locked():
            await places.acquire()  # does not wait
            return
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    await places.acquire()
                    return
            except TimeoutError:
                if self.trouble is not None:
                    raise StoreUnavailable(str(self.trouble), hint=self.trouble.hint) from None
