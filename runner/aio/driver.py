"""The asynchronous driver: runs operations in an event loop. Compare `runner.sync.driver`; no logic is here."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from ..effects import (
    Command,
    DriverOperation,
    Execute,
    Hear,
    Listen,
    Receive,
    Send,
    StoreEffect,
    UserCodeEffect,
    drive_async,
)
from ..effects.backoff import Backoff
from ..effects.clock import Clock
from ..errors import InvalidInput, StoreClosed, StoreUnavailable
from ..settings import Settings
from ..wire.address import Address
from ..wire.clock import SYSTEM_CLOCK
from ..wire.host import Process, place
from .concurrency import AsyncUserCode
from .session import AsyncSession

T = TypeVar("T")


class AsyncDriver:
    """Runs operations for many tasks of one event loop."""

    def __init__(self, address: Address, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.address = address
        self.settings = settings
        self.clock = clock
        self._idle: list[AsyncSession] = []
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = Process()

    @property
    def place(self) -> str:
        """The place where this process runs, as text for people."""
        return place()

    def session(self, timeout: float | None = None) -> AsyncSession:
        """A connection for one caller, for pipelined or blocking work; ``timeout`` in seconds. Raises StoreClosed."""
        self._check_loop()
        return AsyncSession(self.address, self.settings, timeout)

    def _borrow(self) -> AsyncSession:
        self._check_loop()
        return self._idle.pop() if self._idle else self.session()

    def _check_loop(self) -> None:
        """Raise InvalidInput in another event loop: a connection works only in the loop that opened it."""
        if self._closed:
            raise StoreClosed
        self._process.check(f"the AsyncEventStore at {self.address.label}")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise InvalidInput(
                f"the AsyncEventStore at {self.address.label} belongs to the event loop that it was first used in",
                hint="Open one in each event loop, or share an EventStore.",
            )

    async def execute(self, commands: list[Command]) -> list[Any]:
        """One round trip, repeated for `Settings.retry_for` while the server cannot be reached."""
        backoff = Backoff(self.settings.retry_for, self.clock)
        while True:
            session = self._borrow()
            try:
                replies = await session.call(commands)
            except StoreUnavailable as error:
                await session.close()
                await asyncio.sleep(backoff.after(error))
                await asyncio.to_thread(self.address.revive)
            except BaseException:
                await session.close()
                raise
            else:
                await self._give_back(session)
                return replies

    async def _give_back(self, session: AsyncSession) -> None:
        if session.at_rest and not self._closed:
            self._idle.append(session)
        else:
            await session.close()

    async def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation to its end and return its result. An operation that sends borrows a session."""
        session: AsyncSession | None = None
        listening = False
        user_code = AsyncUserCode()

        async def perform(effect: StoreEffect | UserCodeEffect) -> Any:
            nonlocal session, listening
            if session is None and isinstance(effect, (Send, Listen)):
                listening = isinstance(effect, Listen)
                session = self.session() if listening else self._borrow()  # a session that listened is closed, not kept
            if isinstance(effect, UserCodeEffect):
                return await user_code.perform(effect)
            return await self.perform(effect, session)

        try:
            return await drive_async(operation, perform)
        finally:
            user_code.close()
            if session is not None and listening:
                await session.close()
            elif session is not None:
                await self._give_back(session)

    async def perform(self, effect: StoreEffect, session: AsyncSession | None) -> Any:
        """Perform one effect on the server. Effects that send, receive, listen or hear need a ``session``."""
        if isinstance(effect, Execute):
            return await self.execute(effect.commands)
        if isinstance(effect, Send) and session is not None:
            return await session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return await session.receive(effect.pending)
        if isinstance(effect, Listen) and session is not None:
            return await session.listen(effect.channel)
        if isinstance(effect, Hear) and session is not None:
            return await session.hear(effect.timeout)
        raise AssertionError(f"{effect} needs a session")

    async def close(self) -> None:
        """Close the idle connections, and refuse new ones."""
        if self._loop is not None and self._loop.is_closed():
            self._idle.clear()  # the loop has ended, and its connections with it
        elif self._idle:
            self._check_loop()
        self._closed = True
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()
