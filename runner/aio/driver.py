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
from .listener import AsyncEar, AsyncListener
from .session import AsyncSession
from .session_pool import AsyncSessionPool

T = TypeVar("T")


class AsyncDriver:
    """Runs operations for many tasks of one event loop. They share a bounded number of connections."""

    def __init__(self, address: Address, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.address = address
        self.settings = settings
        self.clock = clock
        limit = address.max_connections or settings.max_connections
        self._pool = AsyncSessionPool(self.session, limit, settings.retry_for)
        self._listener = AsyncListener(address, settings)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = Process()

    @property
    def place(self) -> str:
        """The place where this process runs, as text for people."""
        return place()

    def session(self, timeout: float | None = None) -> AsyncSession:
        """A connection for one caller, beside the shared ones, for blocked reads and workers; ``timeout`` in seconds.

        Raises StoreClosed.
        """
        self._check_loop()
        return AsyncSession(self.address, self.settings, timeout)

    async def _borrow(self, commands: list[Command]) -> AsyncSession:
        self._check_loop()
        return await self._pool.borrow(commands)

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

    async def execute(self, commands: list[Command], held: AsyncSession | None = None) -> list[Any]:
        """One round trip, repeated for `Settings.retry_for` while the server cannot be reached.

        ``held`` is the session of an operation that has commands under way; without one, a session is borrowed.
        """
        backoff = Backoff(self.settings.retry_for, self.clock)
        while True:
            session = held or await self._borrow(commands)
            try:
                replies = await session.call(commands)
            except StoreUnavailable as error:
                await session.close()
                self._pool.trouble = trouble = error
                await self._pool.close()  # idle ones may lead to a server that is the primary no longer
            except BaseException:
                await session.close()
                raise
            else:
                self._pool.trouble = None
                return replies
            finally:
                if held is None:
                    await self._give_back(session)
            await asyncio.sleep(backoff.after(trouble))
            await asyncio.to_thread(self.address.revive)

    def _ear(self, effect: Listen) -> AsyncEar | None:
        self._check_loop()
        return self._listener.listen(effect.channel, effect.if_open)

    async def _give_back(self, session: AsyncSession) -> None:
        await self._pool.give_back(session)
        if self._closed:
            await self._pool.close()

    async def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation to its end and return its result.

        An operation that sends has a session until all its replies are there. Nothing that it does meanwhile borrows
        another one: its round trips take the same session, and it calls no user code.
        """
        session: AsyncSession | None = None
        ear: AsyncEar | None = None
        user_code = AsyncUserCode()

        async def perform(effect: StoreEffect | UserCodeEffect) -> Any:
            nonlocal session, ear
            if isinstance(effect, UserCodeEffect):
                assert session is None, "user code may use the store, so it is not called while a session is held"
                return await user_code.perform(effect)
            if isinstance(effect, Listen):
                if ear is not None:
                    self._listener.leave(ear)
                ear = self._ear(effect)
                return ear is not None
            if isinstance(effect, Hear):
                assert ear is not None, "an operation listens before it hears"
                return await ear.hear(effect.timeout)
            if isinstance(effect, Execute):
                return await self.execute(effect.commands, session)
            if session is None:
                session = await self._borrow(effect.commands if isinstance(effect, Send) else [])
            try:
                return await self.perform(effect, session)
            finally:
                if session.at_rest:
                    held, session = session, None
                    await self._give_back(held)

        try:
            return await drive_async(operation, perform)
        finally:
            user_code.close()
            if ear is not None:
                self._listener.leave(ear)
            if session is not None:
                await self._give_back(session)

    async def perform(self, effect: StoreEffect, session: AsyncSession | None) -> Any:
        """Perform one effect on the server. Effects that send or receive need a ``session``."""
        if isinstance(effect, Execute):
            return await self.execute(effect.commands)
        if isinstance(effect, Send) and session is not None:
            return await session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return await session.receive(effect.pending)
        raise AssertionError(f"{effect} needs a session")

    async def close(self) -> None:
        """Close the idle connections, and refuse new ones."""
        if self._loop is not None and self._loop.is_closed():
            self._closed = True  # the loop has ended, and its connections with it
            return
        if self._loop is not None and not self._closed:
            self._check_loop()
        self._closed = True
        await self._pool.close()
        await self._listener.close()
