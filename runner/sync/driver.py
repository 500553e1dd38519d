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
from .listener import Ear, Listener
from .session import Session
from .session_pool import SessionPool

T = TypeVar("T")


class Driver:
    """Runs operations for many threads. They share a bounded number of connections; see `SessionPool`."""

    def __init__(self, address: Address, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.address = address
        self.settings = settings
        self.clock = clock
        self._pool = self._new_pool()
        self._listener = Listener(address, settings)
        self._closed = False
        self._process = Process()

    @property
    def place(self) -> str:
        """The place where this process runs, as text for people."""
        return place()

    def session(self, timeout: float | None = None) -> Session:
        """A connection for one caller, beside the shared ones, for blocked reads and workers; ``timeout`` in seconds.

        Raises StoreClosed, and InvalidInput in a child that was forked with a store in memory.
        """
        if self._closed:
            raise StoreClosed
        self._check_process()
        return Session(self.address, self.settings, timeout)

    def execute(self, commands: list[Command], held: Session | None = None) -> list[Any]:
        """One round trip, repeated for `Settings.retry_for` while the server cannot be reached.

        ``held`` is the session of an operation that has commands under way; without one, a session is borrowed.
        """
        backoff = Backoff(self.settings.retry_for, self.clock)
        while True:
            session = held or self._borrow(commands)
            try:
                replies = session.call(commands)
            except StoreUnavailable as error:
                session.close()
                self._pool.trouble = trouble = error
                self._pool.close()  # idle ones may lead to a server that is the primary no longer
            except BaseException:
                session.close()
                raise
            else:
                self._pool.trouble = None
                return replies
            finally:
                if held is None:
                    self._give_back(session)
            time.sleep(backoff.after(trouble))
            self.address.revive()

    def _new_pool(self) -> SessionPool:
        limit = self.address.max_connections or self.settings.max_connections
        return SessionPool(self.session, limit, self.settings.retry_for)

    def _borrow(self, commands: list[Command]) -> Session:
        self._check_process()
        if self._closed:
            raise StoreClosed
        return self._pool.borrow(commands)

    def _check_process(self) -> None:
        """After a fork, leave the connections to the parent; a store in memory is there, too, so it is refused."""
        if not self._process.is_this:
            if self.address.fake:
                self._process.check(f"the store {self.address.label}")
            self._leave_to_parent()

    def _leave_to_parent(self) -> None:
        """Forget connections, threads, and locks that threads of the parent may have held."""
        self._pool, self._process = self._new_pool(), Process()
        self._listener = Listener(self.address, self.settings)

    def _ear(self, effect: Listen) -> Ear | None:
        self._check_process()
        return self._listener.listen(effect.channel, effect.if_open)

    def _give_back(self, session: Session) -> None:
        self._pool.give_back(session)
        if self._closed:
            self._pool.close()

    def run(self, operation: DriverOperation[T]) -> T:
        """Run an operation to its end and return its result.

        An operation that sends has a session until all its replies are there. Nothing that it does meanwhile borrows
        another one: its round trips take the same session, and it calls no user code.
        """
        session: Session | None = None
        ear: Ear | None = None
        user_code = UserCode()

        def perform(effect: StoreEffect | UserCodeEffect) -> Any:
            nonlocal session, ear
            if isinstance(effect, UserCodeEffect):
                assert session is None, "user code may use the store, so it is not called while a session is held"
                return user_code.perform(effect)
            if isinstance(effect, Listen):
                if ear is not None:
                    self._listener.leave(ear)
                ear = self._ear(effect)
                return ear is not None
            if isinstance(effect, Hear):
                assert ear is not None, "an operation listens before it hears"
                return ear.hear(effect.timeout)
            if isinstance(effect, Execute):
                return self.execute(effect.commands, session)
            if session is None:
                session = self._borrow(effect.commands if isinstance(effect, Send) else [])
            try:
                return self.perform(effect, session)
            finally:
                if session.at_rest:
                    held, session = session, None
                    self._give_back(held)

        try:
            return drive(operation, perform)
        finally:
            user_code.close()
            if ear is not None:
                self._listener.leave(ear)
            if session is not None:
                self._give_back(session)

    def perform(self, effect: StoreEffect, session: Session | None) -> Any:
        """Perform one effect on the server. Effects that send or receive need a ``session``."""
        if isinstance(effect, Execute):
            return self.execute(effect.commands)
        if isinstance(effect, Send) and session is not None:
            return session.send(effect.commands)
        if isinstance(effect, Receive) and session is not None:
            return session.receive(effect.pending)
        raise AssertionError(f"{effect} needs a session")

    def close(self) -> None:
        """Close the idle connections, and refuse new ones."""
        if not self._process.is_this:
            self._leave_to_parent()
        self._closed = True
        self._pool.close()
        self._listener.close()
