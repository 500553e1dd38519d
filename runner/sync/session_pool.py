"""The connections of a driver: a bounded number, each lent to one caller at a time. Who finds none free waits for one.

The client library has such pools. They are not used, because a call that is cancelled or interrupted at a bad moment
takes its place in them along for good. Here the places are counted by a queue whose calls cannot be interrupted midway,
so signal handlers and finalizers may use the store, too.

A caller that holds a session asks for no second one: else callers could wait for each other for ever. See `Driver.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue

from ..effects import Command
from ..errors import StoreUnavailable
from ..wire.commands import LEAST_PATIENCE, room_for_waits, waits
from .session import Session


class SessionPool:
    """At most ``limit`` sessions. ``patience``: how long a caller waits while the server does not answer, in seconds.

    While the server answers, callers wait without end: it is slow, and a failure would help nobody.
    """

    def __init__(self, open_session: Callable[[], Session], limit: int, patience: float) -> None:
        self._open = open_session
        self._patience = None if patience == float("inf") else max(patience, LEAST_PATIENCE)
        self._places = _places(limit)
        self._places_to_wait = _places(room_for_waits(limit))
        self._waiting: set[Session] = set()
        self._idle: list[Session] = []
        #: Why the last call failed; None if the server answered it.
        self.trouble: StoreUnavailable | None = None

    def borrow(self, commands: list[Command]) -> Session:
        """A session for ``commands``; it must be given back. Raises StoreUnavailable."""
        if not waits(commands):
            return self._borrow()
        self._take(self._places_to_wait)
        try:
            session = self._borrow()
        except BaseException:
            self._places_to_wait.put(None)
            raise
        self._waiting.add(session)
        return session

    def give_back(self, session: Session) -> None:
        """Take a session back. One that waits for replies is closed."""
        try:
            if not session.at_rest:
                session.close()
        finally:
            if session in self._waiting:
                self._waiting.remove(session)
                self._places_to_wait.put(None)
            self._idle.append(session)
            self._places.put(None)

    def close(self) -> None:
        """Close the sessions that are not lent."""
        idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _borrow(self) -> Session:
        self._take(self._places)
        try:
            try:
                return self._idle.pop()
            except IndexError:
                return self._open()
        except BaseException:
            self._places.put(None)
            raise

    def _take(self, places: SimpleQueue[None]) -> None:
        while True:
            try:
                return places.get(timeout=self._patience)
            except Empty:
                if self.trouble is not None:
                    raise StoreUnavailable(str(self.trouble), hint=self.trouble.hint) from None


def _places(count: int) -> SimpleQueue[None]:
    places: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        places.put(None)
    return places
