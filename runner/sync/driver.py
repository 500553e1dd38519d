"""The synchronous driver: runs operations over blocking sockets, for many threads."""

from __future__ import annotations

import time
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
    drive,
)
from ..effects.backoff import Backoff
from ..effects.clock import Clock
from ..errors import StoreClosed, StoreUnavailable
from ..settings import Settings
from ..wire.address import Address
from ..wire.clock import SYSTEM_CLOCK
from ..wire.host import Process, place
from .concurrency import UserCode
from .session import Session

T = TypeVar("T")


class Driver:
    """Runs operations for many threads. Each operation borrows a connection from the driver's pool."""

    def __init__(self, address: Address, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.address = address
        self.settings = settings
        self.clock = clock
        self._idle: list[Session] = []
        self._closed = False
        self._process = Process()

    @property
    def place(self) -> str:
        """The place where this process runs, as text for people."""
        return place()

    def session(self, timeout: float | None = None) -> Session:
        """A connection for one caller, for pipelined or blocking work; ``timeout`` in seconds.

        Raises StoreClosed, and InvalidInput in a child that was forked with a store in memory.
        """
        if self._closed:
            raise StoreClosed
        self._check_process()
        return Session(self.address, self.settings, timeout)

    def execute(self, commands: list[Command]) -> list[Any]:
        """One round trip, repeated for `Settings.retry_for` while the server cannot be reached."""
        backoff = Backoff(self.settings.retry_for, self.clock)
        while True:
            session = self._borrow()
            try:
                replies = session.call(commands)
            except StoreUnavailable as error:
                session.close()
                time.sleep(backoff.after(error))
                self.address.revive()
            except BaseException:
                session.close()
                raise
            else:
                self._give_back(session)
                return replies

    def _borrow(self) -> Session:
        self._check_process()
        try:
            return self._idle.pop()
        except IndexError:
            return self.session()

    def _check_process(self) -> None:
        """After a fork, leave the connections to the parent; a store in memory is there, too, so it is refused."""
        if not self._process.is_this:
            if self.address.fake:
                self._process.check(f"the store {self.address.label}")
            self._idle, self._process = [], Process()

    def _give_back(self, session: Session) -> None:
        if session.at_rest and not self._closed:
            self._idle.append(session)
        else:
            session.close()

    def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation to its end and return its result. An operation that sends borrows a session."""
        session: Session | None = None
        listening = False
        user_code = UserCode()

        def perform(effect: StoreEffect | UserCodeEffect) -> Any:
            nonlocal session, listening
            if session is None and isinstance(effect, (Send, Listen)):
                listening = isinstance(effect, Listen)
                session = self.session() if listening else self._borrow()  # a session that listened is closed, not kept
            return user_code.perform(effect) if isinstance(effect, UserCodeEffect) else self.perform(effect, session)

        try:
            return drive(operation, perform)
        finally:
            user_code.close()
            if session is not None and listening:
                session.close()
            elif session is not None:
                self._give_back(session)

    def perform(self, effect: StoreEffect, session: Session | None) -> Any:
        """Perform one effect on the server. Effects that send, receive, listen or hear need a ``session``."""
        if isinstance(effect, Execute):
            return self.execute(effect.commands)
        if isinstance(effect, Send) and session is not None:
            return session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return session.receive(effect.pending)
        if isinstance(effect, Listen) and session is not None:
            return session.listen(effect.channel)
        if isinstance(effect, Hear) and session is not None:
            return session.hear(effect.timeout)
        raise AssertionError(f"{effect} needs a session")

    def close(self) -> None:
        """Close the idle connections, and refuse new ones."""
        self._closed = True
        idle, self._idle = self._idle, []
        for session in idle:
            session.close()
