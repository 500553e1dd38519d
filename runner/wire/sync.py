"""The synchronous driver: runs operations (see `runner.requests`) over blocking sockets."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar

import redis.exceptions as theirs

from ..errors import StoreClosed, StoreUnavailable
from ..requests import Await, Command, Effect, Execute, Hear, Invoke, Listen, Operation, Pending, Receive, Send, drive
from ..settings import Settings
from .address import Address
from .encoding import SCRIPT_TRIES, Backoff, encode, missing_scripts
from .trouble import is_noscript, translate

T = TypeVar("T")

#: What the client library or the socket may raise.
FAULTS = (theirs.RedisError, OSError)


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
        """The replies to ``pending``; those of commands sent before it are kept for whoever asks."""
        while not pending.complete:
            if not self._waiting:
                raise StoreUnavailable(f"the connection to {self._address.label} was lost")
            self._read_into(self._waiting[0])
            self._waiting.popleft()
        if any(is_noscript(reply) for reply in pending.replies):
            self._load_and_repeat(pending)
        for reply in pending.replies:
            if isinstance(reply, Exception):
                raise translate(reply, self._address.label) from reply
        return pending.replies

    def call(self, commands: list[Command]) -> list[Any]:
        """Send and receive."""
        return self.receive(self.send(commands))

    @property
    def at_rest(self) -> bool:
        """Whether no reply is outstanding."""
        return not self._waiting

    def listen(self, channel: str) -> None:
        """Subscribe to a channel; from then on only `hear` and `close` are of use."""
        try:
            self._connection.connect()  # fakeredis can wait only on a connection that was made like this
        except FAULTS as fault:
            raise translate(fault, self._address.label) from fault
        self.call([("SUBSCRIBE", channel)])

    def hear(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a message; whether one came."""
        try:
            if not self._connection.can_read(timeout=timeout):
                return False
            self._connection.read_response()
        except FAULTS as fault:
            self.close()
            raise translate(fault, self._address.label) from fault
        return True

    def close(self) -> None:
        """Drop the connection and whatever was under way; the session can be used again."""
        self._waiting.clear()
        self._connection.disconnect()

    def _transmit(self, pending: Pending) -> None:
        packed = self._connection.pack_commands(encode(pending.commands, self._address.fake))
        try:
            self._connection.send_packed_command(packed)
        except FAULTS as fault:
            self.close()
            raise translate(fault, self._address.label) from fault
        self._waiting.append(pending)

    def _read_into(self, pending: Pending) -> None:
        replies = pending.replies
        read = self._connection.read_response
        for _ in pending.commands:
            try:
                replies.append(read())
            except theirs.ResponseError as answer:
                replies.append(answer)
            except FAULTS as fault:
                self.close()
                raise translate(fault, self._address.label) from fault
            except BaseException:
                self.close()
                raise

    def _load_and_repeat(self, pending: Pending) -> None:
        """Load the scripts, then do again what failed *and everything sent after it*, in order.

        What was sent after it may have run already, out of turn, if another client loaded the script meanwhile.
        All commands are idempotent, so doing them again in order gives the right answers.
        """
        again = [pending, *self._waiting]
        while self._waiting:
            self._read_into(self._waiting.popleft())
        for _ in range(SCRIPT_TRIES):
            self.call(missing_scripts([command for each in again for command in each.commands], self._address.fake))
            for each in again:
                each.replies.clear()
                self._transmit(each)
            while self._waiting:
                self._read_into(self._waiting.popleft())
            if not any(is_noscript(reply) for each in again for reply in each.replies):
                return


class Waiter:
    """Waits for what async handlers return, on an event loop of its own; `close` ends that."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_as_coroutine(awaitable))

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None


async def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class Driver:
    """Runs operations for many threads, each round trip on a connection from a pool of its own."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.settings = settings
        self._idle: list[Session] = []
        self._closed = False
        self._process = os.getpid()

    def session(self, timeout: float | None = None) -> Session:
        """A connection of its own, for pipelined or blocking work; ``timeout`` in seconds. Raises StoreClosed."""
        if self._closed:
            raise StoreClosed
        return Session(self.address, self.settings, timeout)

    def execute(self, commands: list[Command]) -> list[Any]:
        """One round trip, repeated for `Settings.retry_for` while the server cannot be reached."""
        backoff = Backoff(self.settings.retry_for, time.monotonic())
        while True:
            session = self._take()
            try:
                replies = session.call(commands)
            except StoreUnavailable as trouble:
                session.close()
                time.sleep(backoff.after(trouble, time.monotonic()))
                self.address.revive()
            except BaseException:
                session.close()
                raise
            else:
                self._give_back(session)
                return replies

    def _take(self) -> Session:
        if os.getpid() != self._process:  # forked: the parent's connections are the parent's
            self._idle, self._process = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self.session()

    def _give_back(self, session: Session) -> None:
        if session.at_rest and not self._closed:
            self._idle.append(session)
        else:
            session.close()

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result; one that sends and receives borrows a session."""
        session: Session | None = None
        listening = False
        waiter = Waiter()

        def perform(effect: Effect) -> Any:
            nonlocal session, listening
            if session is None and isinstance(effect, (Send, Listen)):
                listening = isinstance(effect, Listen)
                session = self.session() if listening else self._take()  # who listens ends its connection afterwards
            return self.perform(effect, session, waiter)

        try:
            return drive(operation, perform)
        finally:
            waiter.close()
            if session is not None and listening:
                session.close()
            elif session is not None:
                self._give_back(session)

    def perform(self, effect: Effect, session: Session | None, waiter: Waiter) -> Any:
        """Do what one effect asks; the feed's effects are not for this driver."""
        if isinstance(effect, Execute):
            return self.execute(effect.commands)
        if isinstance(effect, Await):
            return waiter.wait(effect.awaitable)
        if isinstance(effect, Send) and session is not None:
            return session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return session.receive(effect.pending)
        if isinstance(effect, Invoke):
            return effect.function(*effect.args)
        if isinstance(effect, Listen) and session is not None:
            return session.listen(effect.channel)
        if isinstance(effect, Hear) and session is not None:
            return session.hear(effect.timeout)
        raise AssertionError(f"{effect} is not for this driver")

    def close(self) -> None:
        """Close the idle connections, and let nobody have new ones."""
        self._closed = True
        idle, self._idle = self._idle, []
        for session in idle:
            session.close()
