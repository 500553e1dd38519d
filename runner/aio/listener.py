"""The messages of channels, heard on one connection for all tasks that wait for some. Compare `runner.sync.listener`.

One task uses the connection. Those who wait may be cancelled at any moment, and none of these is one in which they use
the connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ..errors import RunnerError, StoreClosed, StoreUnavailable
from ..settings import Settings
from ..wire.address import Address
from ..wire.channels import NOW, Channels
from ..wire.closing import drop
from ..wire.errors import FAULTS, translate

#: How long one look for messages takes at most, in seconds. It ends early for a channel that is not open.
LOOK = 1.0

#: How long those who wait are kept waiting when no connection could be made, in seconds: they try again at once.
PAUSE = 0.1


class AsyncEar:
    """What one task hears on a channel."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._heard: asyncio.Queue[bytes | RunnerError] = asyncio.Queue()

    def tell(self, what: bytes | RunnerError) -> None:
        """Give it a message, or the error that ended the connection."""
        self._heard.put_nowait(what)

    async def hear(self, timeout: float) -> bytes | None:
        """The next message; None if there is none within ``timeout`` seconds. Raises StoreTrouble."""
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                heard = await self._heard.get()
        except TimeoutError:
            return None
        if isinstance(heard, RunnerError):
            raise heard
        return heard


class AsyncListener:
    """One connection for all who wait."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._channels: Channels[AsyncEar] = Channels()
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Timeout | None = None
        self._closed = False

    def listen(self, channel: str, if_open: bool = False) -> AsyncEar | None:
        """An ear for a channel, which hears `NOW` as soon as the channel is open. `leave` it. Raises StoreClosed.

        ``if_open``: only if the channel is open already; else None. Then the caller looks by itself.
        """
        if self._closed:
            raise StoreClosed
        is_open = self._channels.is_open(channel, time.monotonic())
        if if_open and not is_open:
            return None
        ear = AsyncEar(channel)
        self._channels.join(ear)
        if is_open and not if_open:
            ear.tell(NOW)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        elif not is_open and self._looking is not None and not self._looking.expired():
            self._looking.reschedule(asyncio.get_running_loop().time())
        return ear

    def leave(self, ear: AsyncEar) -> None:
        """Hear no more. Nothing happens if the connection has ended already."""
        self._channels.leave(ear, time.monotonic())

    async def close(self) -> None:
        """Refuse new ears; the others hear that the store was closed. Ends the task."""
        self._closed = True
        task = self._task
        self._end(StoreClosed())
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while await self._hear():
                pass
        except FAULTS as fault:
            self._end(translate(fault, self._address.label))
        except RunnerError as error:
            self._end(error)
        except BaseException as crash:  # nobody must wait for a task that has ended
            self._end(StoreUnavailable(f"listening to the server at {self._address.label} failed: {crash}"))
            raise

    async def _hear(self) -> bool:
        """Hear on a new connection, until it ends. Returns whether another one is needed."""
        connection = await self._connected()
        try:
            self._channels.begin(time.monotonic())
            while True:
                commands = self._channels.commands(time.monotonic())
                if commands is None:
                    if self._channels.needed:
                        return True
                    self._task = None
                    return False
                for command in commands:
                    await connection.send_command(*command)
                try:
                    async with asyncio.timeout(LOOK) as self._looking:
                        reply = await connection.read_response(disconnect_on_error=False)
                except TimeoutError:
                    continue
                finally:
                    self._looking = None
                self._channels.take(reply, time.monotonic())
        finally:
            await drop(connection)

    async def _connected(self) -> Any:
        """A new connection, open. If there is none now, the error comes after a pause."""
        patience = self._settings.socket_timeout + 2 * LOOK  # else the client library might end a look
        try:
            connection = self._address.async_connection(self._settings, patience)
            try:
                await connection.connect()
            except BaseException:
                await drop(connection)
                raise
        except (*FAULTS, RunnerError):
            await asyncio.sleep(PAUSE)
            raise
        return connection

    def _end(self, reason: RunnerError) -> None:
        self._task = None
        self._channels.end(reason)
