"""The asynchronous driver: runs the same operations with ``await``. Compare `runner.wire.sync`; no logic is here."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

import redis.exceptions as theirs

from ..errors import InvalidInput, StoreClosed, StoreUnavailable
from ..requests import Await, Command, Effect, Execute, Hear, Listen, Operation, Pending, Receive, Send, drive_async
from ..settings import Settings
from .address import Address
from .encoding import SCRIPT_TRIES, Backoff, encode, missing_scripts
from .trouble import is_noscript, translate

T = TypeVar("T")

FAULTS = (theirs.RedisError, OSError)


class AsyncSession:
    """One connection, with commands under way: replies come in the order the commands were sent."""

    def __init__(self, address: Address, settings: Settings, timeout: float | None = None) -> None:
        self._address = address
        self._connection = address.async_connection(settings, timeout)
        self._waiting: deque[Pending] = deque()

    async def send(self, commands: list[Command]) -> Pending:
        pending = Pending(commands)
        await self._transmit(pending)
        return pending

    async def receive(self, pending: Pending) -> list[Any]:
        while not pending.complete:
            if not self._waiting:
                raise StoreUnavailable(f"the connection to {self._address.label} was lost")
            await self._read_into(self._waiting[0])
            self._waiting.popleft()
        if any(is_noscript(reply) for reply in pending.replies):
            await self._load_and_repeat(pending)
        for reply in pending.replies:
            if isinstance(reply, Exception):
                raise translate(reply, self._address.label) from reply
        return pending.replies

    async def call(self, commands: list[Command]) -> list[Any]:
        return await self.receive(await self.send(commands))

    @property
    def at_rest(self) -> bool:
        return not self._waiting

    async def listen(self, channel: str) -> None:
        await self.call([("SUBSCRIBE", channel)])

    async def hear(self, timeout: float) -> bool:
        """As in the other driver; but a wait in vain costs the connection, so listen again after it."""
        try:
            async with asyncio.timeout(timeout):
                await self._connection.read_response(disconnect_on_error=False)
        except TimeoutError:
            await self.close()
            return False
        except FAULTS as fault:
            await self.close()
            raise translate(fault, self._address.label) from fault
        return True

    async def close(self) -> None:
        self._waiting.clear()
        await self._connection.disconnect()

    async def _transmit(self, pending: Pending) -> None:
        packed = self._connection.pack_commands(encode(pending.commands, self._address.fake))
        try:
            await self._connection.send_packed_command(packed)
        except FAULTS as fault:
            await self.close()
            raise translate(fault, self._address.label) from fault
        self._waiting.append(pending)

    async def _load_and_repeat(self, pending: Pending) -> None:
        again = [pending, *self._waiting]
        while self._waiting:
            await self._read_into(self._waiting.popleft())
        for _ in range(SCRIPT_TRIES):
            await self.call(
                missing_scripts([command for each in again for command in each.commands], self._address.fake)
            )
            for each in again:
                each.replies.clear()
                await self._transmit(each)
            while self._waiting:
                await self._read_into(self._waiting.popleft())
            if not any(is_noscript(reply) for each in again for reply in each.replies):
                return

    async def _read_into(self, pending: Pending) -> None:
        for _ in pending.commands:
            try:
                pending.replies.append(await self._connection.read_response())
            except theirs.ResponseError as answer:
                pending.replies.append(answer)
            except FAULTS as fault:
                await self.close()
                raise translate(fault, self._address.label) from fault
            except BaseException:
                await self.close()
                raise


class AsyncDriver:
    """Runs operations for many tasks of one event loop."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.settings = settings
        self._idle: list[AsyncSession] = []
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def session(self, timeout: float | None = None) -> AsyncSession:
        self._check_loop()
        return AsyncSession(self.address, self.settings, timeout)

    def _borrow(self) -> AsyncSession:
        self._check_loop()
        return self._idle.pop() if self._idle else self.session()

    def _check_loop(self) -> None:
        """Connections belong to the loop they were opened in: in another one they would fail after the fact."""
        if self._closed:
            raise StoreClosed
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise InvalidInput(
                f"the AsyncEventStore at {self.address.label} belongs to the event loop that it was first used in",
                hint="Open one in each event loop, or share an EventStore.",
            )

    async def execute(self, commands: list[Command]) -> list[Any]:
        clock = asyncio.get_running_loop().time
        backoff = Backoff(self.settings.retry_for, clock())
        while True:
            session = self._borrow()
            try:
                replies = await session.call(commands)
            except StoreUnavailable as trouble:
                await session.close()
                await asyncio.sleep(backoff.after(trouble, clock()))
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

    async def run(self, operation: Operation[T]) -> T:
        session: AsyncSession | None = None
        listening = False

        async def perform(effect: Effect) -> Any:
            nonlocal session, listening
            if session is None and isinstance(effect, (Send, Listen)):
                listening = isinstance(effect, Listen)
                session = self.session() if listening else self._borrow()  # who listens ends its connection afterwards
            return await self.perform(effect, session)

        try:
            return await drive_async(operation, perform)
        finally:
            if session is not None and listening:
                await session.close()
            elif session is not None:
                await self._give_back(session)

    async def perform(self, effect: Effect, session: AsyncSession | None) -> Any:
        if isinstance(effect, Execute):
            return await self.execute(effect.commands)
        if isinstance(effect, Await):
            return await effect.awaitable
        if isinstance(effect, Send) and session is not None:
            return await session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return await session.receive(effect.pending)
        if isinstance(effect, Listen) and session is not None:
            return await session.listen(effect.channel)
        if isinstance(effect, Hear) and session is not None:
            return await session.hear(effect.timeout)
        raise AssertionError(f"{effect} is not for this driver")

    async def close(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            self._idle.clear()  # the loop has ended, and they with it
        elif self._idle:
            self._check_loop()
        self._closed = True
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()
