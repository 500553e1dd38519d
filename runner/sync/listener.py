"""The messages of channels, heard on one connection for all threads that wait for some.

A thread reads the connection while somebody waits, and a little longer. No other thread touches the connection: reading
and writing at the same time breaks TLS. So a further channel is opened between two looks for messages.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import RunnerError, StoreClosed, StoreUnavailable
from ..settings import Settings
from ..wire.address import Address
from ..wire.channels import NOW, Channels
from ..wire.errors import FAULTS, translate

#: How long one look for messages takes at most, in seconds.
LOOK = 0.02

#: How long those who wait are kept waiting when no connection could be made, in seconds: they try again at once.
PAUSE = 0.1


class Ear:
    """What one thread hears on a channel."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._heard: SimpleQueue[bytes | RunnerError] = SimpleQueue()

    def tell(self, what: bytes | RunnerError) -> None:
        """Give it a message, or the error that ended the connection."""
        self._heard.put(what)

    def hear(self, timeout: float) -> bytes | None:
        """The next message; None if there is none within ``timeout`` seconds. Raises StoreTrouble."""
        try:
            heard = self._heard.get(timeout=max(0.0, timeout))
        except Empty:
            return None
        if isinstance(heard, RunnerError):
            raise heard
        return heard


class Listener:
    """One connection for all who wait. The lock guards which channels are open, and who listens to each."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._lock = threading.RLock()  # reentrant, because the garbage collector may close a store at any moment
        self._channels: Channels[Ear] = Channels()
        self._thread: threading.Thread | None = None
        self._closed = False

    def listen(self, channel: str, if_open: bool = False) -> Ear | None:
        """An ear for a channel, which hears `NOW` as soon as the channel is open. `leave` it. Raises StoreClosed.

        ``if_open``: only if the channel is open already; else None. Then the caller looks by itself.
        """
        with self._lock:
            if self._closed:
                raise StoreClosed
            is_open = self._channels.is_open(channel, time.monotonic())
            if if_open and not is_open:
                return None
            ear = Ear(channel)
            self._channels.join(ear)
            if is_open and not if_open:
                ear.tell(NOW)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runner-listener", daemon=True)
                self._thread.start()
            return ear

    def leave(self, ear: Ear) -> None:
        """Hear no more. Nothing happens if the connection has ended already."""
        with self._lock:
            self._channels.leave(ear, time.monotonic())

    def close(self) -> None:
        """Refuse new ears; the others hear that the store was closed. The thread ends after its look."""
        self._closed = True
        self._end(StoreClosed())

    def _work(self) -> None:
        try:
            while self._hear():
                pass
        except FAULTS as fault:
            self._end(translate(fault, self._address.label))
        except RunnerError as error:
            self._end(error)
        except BaseException as crash:  # nobody must wait for a thread that has ended
            self._end(StoreUnavailable(f"listening to the server at {self._address.label} failed: {crash}"))
            raise

    def _hear(self) -> bool:
        """Hear on a new connection, until it ends. Returns whether another one is needed."""
        connection = self._connected()
        try:
            with self._lock:
                self._channels.begin(time.monotonic())
            while True:
                with self._lock:
                    commands = self._channels.commands(time.monotonic())
                    if commands is None:
                        if self._channels.needed:
                            return True
                        self._thread = None
                        return False
                for command in commands:
                    connection.send_command(*command)
                if connection.can_read(timeout=LOOK):
                    reply = connection.read_response()
                    with self._lock:
                        self._channels.take(reply, time.monotonic())
        finally:
            connection.disconnect()

    def _connected(self) -> Any:
        """A new connection, open. If there is none now, the error comes after a pause."""
        try:
            connection = self._address.connection(self._settings)
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
        except (*FAULTS, RunnerError):
            time.sleep(PAUSE)
            raise
        return connection

    def _end(self, reason: RunnerError) -> None:
        with self._lock:
            self._thread = None
            self._channels.end(reason)
