"""The live feed of a partition, read by a thread."""

from __future__ import annotations

import threading

from ..errors import DataError, RunnerError, StoreClosed, StoreRefused
from ..log.info import StoreInfo
from ..log.reading import last_event
from ..subscriptions.feed import FeedCore, Member
from .driver import Driver
from .session import Session


class Feed:
    """The feed of one partition, read by a thread that lives while there are members."""

    def __init__(self, driver: Driver, info: StoreInfo, partition: int) -> None:
        self._driver = driver
        self._keys = info.of_partition(partition)
        self._core = FeedCore(info, self._keys, driver.settings)
        self._lock = threading.RLock()  # reentrant, because the garbage collector may close a store at any moment
        self._thread: threading.Thread | None = None
        self._closed = False

    def join(self, member: Member) -> None:
        """Take a member in. From then on the member gets every event that is appended. Raises StoreTrouble."""
        with self._lock:
            if self._closed:
                raise StoreClosed
            if self._thread is None:
                self._core.stand_at(*self._driver.run(last_event(self._keys)))
                name = f"runner-feed-{self._keys.partition}"
                self._thread = threading.Thread(target=self._read, name=name, daemon=True)
                self._core.members.append(member)
                self._thread.start()
            else:
                self._core.members.append(member)

    def leave(self, member: Member) -> None:
        """Take a member out. Nothing happens if the member has left already."""
        with self._lock:
            if member in self._core.members:
                self._core.members.remove(member)

    def close(self) -> None:
        """Drop all members, and refuse new ones; the thread ends when its blocked read returns."""
        self._closed = True
        with self._lock:
            self._core.drop_all("the store was closed")

    def _read(self) -> None:
        settings = self._driver.settings
        try:
            session = self._driver.session(timeout=settings.block + settings.socket_timeout)
            try:
                self._read_on(session)
            finally:
                session.close()
        except (DataError, StoreRefused) as reason:
            self._fail(reason)
        except BaseException as reason:  # members must not wait for a feed that has ended
            self._fail(f"the live feed failed: {reason}")
            if not isinstance(reason, RunnerError):
                raise

    def _read_on(self, session: Session) -> None:
        """Read for as long as there are members."""
        while True:
            with self._lock:
                if not self._core.members or self._closed:
                    self._thread = None
                    return
            replies = session.call(self._core.read_commands())
            with self._lock:
                self._core.advance(replies)

    def _fail(self, reason: str | RunnerError) -> None:
        with self._lock:
            self._thread = None
            self._core.drop_all(reason)
