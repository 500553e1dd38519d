"""One connection, with commands under way, in an event loop. Compare `runner.sync.session`."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..effects import Command, Pending
from ..errors import StoreUnavailable
from ..format.scripts import loading_for
from ..settings import Settings
from ..wire.address import Address
from ..wire.closing import drop
from ..wire.commands import SCRIPT_TRIES, encode
from ..wire.errors import FAULTS, ErrorReply, is_noscript, translate, translate_reply


class AsyncSession:
    """One connection, with commands under way: replies come in the order the commands were sent."""

    def __init__(self, address: Address, settings: Settings, timeout: float | None = None) -> None:
        self._address = address
        self._connection = address.async_connection(settings, timeout)
        self._waiting: deque[Pending] = deque()

    async def send(self, commands: list[Command]) -> Pending:
        """Send commands; `receive` gives the replies."""
        pending = Pending(commands)
        await self._transmit(pending)
        return pending

    async def receive(self, pending: Pending) -> list[Any]:
        """The replies to ``pending``; replies to earlier commands are kept until `receive` asks for them."""
        while not pending.complete:
            if not self._waiting:
                raise StoreUnavailable(f"the connection to {self._address.label} was lost")
            await self._read_into(self._waiting[0])
            self._waiting.popleft()
        if any(is_noscript(reply) for reply in pending.replies):
            await self._load_and_repeat(pending)
        for command, reply in zip(pending.commands, pending.replies, strict=True):
            if isinstance(reply, Exception):
                raise translate_reply(reply, self._address.label, command) from reply
        return pending.replies

    async def call(self, commands: list[Command]) -> list[Any]:
        """Send and receive."""
        return await self.receive(await self.send(commands))

    @property
    def at_rest(self) -> bool:
        """Whether no reply is outstanding."""
        return not self._waiting

    async def close(self) -> None:
        """Drop the connection and the commands under way; the session can be used again."""
        self._waiting.clear()
        await drop(self._connection)

    async def _transmit(self, pending: Pending) -> None:
        packed = self._connection.pack_commands(encode(pending.commands, self._address.fake))
        try:
            await self._connection.send_packed_command(packed)
        except FAULTS as fault:
            await self.close()
            raise translate(fault, self._address.label) from fault
        except BaseException:  # the server may have the commands, and nobody would read the replies
            await self.close()
            raise
        self._waiting.append(pending)

    async def _load_and_repeat(self, pending: Pending) -> None:
        again = [pending, *self._waiting]
        while self._waiting:
            await self._read_into(self._waiting.popleft())
        for _ in range(SCRIPT_TRIES):
            await self.call(loading_for([command for each in again for command in each.commands], self._address.fake))
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
                pending.replies.append(await self._connection.read_response(disconnect_on_error=False))
            except ErrorReply as answer:
                pending.replies.append(answer)
            except FAULTS as fault:
                await self.close()
                raise translate(fault, self._address.label) from fault
            except BaseException:
                await self.close()
                raise
