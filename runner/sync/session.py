"""One connection, with commands under way, over a blocking socket."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..effects import Command, Pending
from ..errors import StoreUnavailable
from ..format.scripts import loading_for
from ..settings import Settings
from ..wire.address import Address
from ..wire.commands import SCRIPT_TRIES, encode
from ..wire.errors import FAULTS, ErrorReply, is_noscript, translate, translate_reply


class Session:
    """One connection, with commands under way: replies come in the order the commands were sent."""

    def __init__(self, address: Address, settings: Settings, timeout: float | None = None) -> None:
        self._address = address
        self._connection = address.connection(settings, timeout)
        self._waiting: deque[Pending] = deque()

    def send(self, commands: list[Command]) -> Pending:
        """Send commands; `receive` gives the replies."""
        pending = Pending(commands)
        self._transmit(pending)
        return pending

    def receive(self, pending: Pending) -> list[Any]:
        """The replies to ``pending``; replies to earlier commands are kept until `receive` asks for them."""
        while not pending.complete:
            if not self._waiting:
                raise StoreUnavailable(f"the connection to {self._address.label} was lost")
            self._read_into(self._waiting[0])
            self._waiting.popleft()
        if any(is_noscript(reply) for reply in pending.replies):
            self._load_and_repeat(pending)
        for command, reply in zip(pending.commands, pending.replies, strict=True):
            if isinstance(reply, Exception):
                raise translate_reply(reply, self._address.label, command) from reply
        return pending.replies

    def call(self, commands: list[Command]) -> list[Any]:
        """Send and receive."""
        return self.receive(self.send(commands))

    @property
    def at_rest(self) -> bool:
        """Whether no reply is outstanding."""
        return not self._waiting

    def close(self) -> None:
        """Drop the connection and the commands under way; the session can be used again."""
        self._waiting.clear()
        self._connection.disconnect()

    def _transmit(self, pending: Pending) -> None:
        packed = self._connection.pack_commands(encode(pending.commands, self._address.fake))
        try:
            self._connection.send_packed_command(packed)
        except FAULTS as fault:
            self.close()
            raise translate(fault, self._address.label) from fault
        except BaseException:  # the server may have the commands, and nobody would read the replies
            self.close()
            raise
        self._waiting.append(pending)

    def _read_into(self, pending: Pending) -> None:
        replies = pending.replies
        read = self._connection.read_response
        for _ in pending.commands:
            try:
                replies.append(read())
            except ErrorReply as answer:
                replies.append(answer)
            except FAULTS as fault:
                self.close()
                raise translate(fault, self._address.label) from fault
            except BaseException:
                self.close()
                raise

    def _load_and_repeat(self, pending: Pending) -> None:
        """Load the scripts, then repeat the failed command *and every command sent after it*, in order.

        The later commands may have run already, out of turn, if another client loaded the script meanwhile. All
        commands are idempotent, so repeating them in order gives the right answers.
        """
        again = [pending, *self._waiting]
        while self._waiting:
            self._read_into(self._waiting.popleft())
        for _ in range(SCRIPT_TRIES):
            self.call(loading_for([command for each in again for command in each.commands], self._address.fake))
            for each in again:
                each.replies.clear()
                self._transmit(each)
            while self._waiting:
                self._read_into(self._waiting.popleft())
            if not any(is_noscript(reply) for each in again for reply in each.replies):
                return
