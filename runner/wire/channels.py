"""Which channels are open on a connection, and who listens to each. No I/O, and no clock: ``now`` is in seconds."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from ..errors import RunnerError

#: Seconds for which a channel stays open after the last one who waited, so that the next one finds it open. Not for
#: ever: commits send messages all the time, and reading them costs the process a little.
LINGER = 5.0

#: Seconds of silence after which the connection is made anew when somebody wants to wait: it may be dead.
SILENCE = 5.0

#: What an ear hears when its channel opens. Its owner looks then, because earlier messages were not heard.
NOW = b""


class Ear(Protocol):
    """What one waiting caller hears on a channel."""

    channel: str

    def tell(self, what: bytes | RunnerError) -> None:
        """Give it a message, or the error that ended the connection."""


E = TypeVar("E", bound=Ear)


class Channels(Generic[E]):
    """The channels of one connection, and of the connection that takes its place."""

    def __init__(self) -> None:
        self._ears: dict[str, set[E]] = {}
        self._left: dict[str, float] = {}
        self._asked: set[str] = set()
        self._open: set[str] = set()
        self._heard_at = 0.0
        self._suspect = False

    def is_open(self, channel: str, now: float) -> bool:
        """Whether messages of the channel are heard. After a long silence nobody knows: then no channel is open."""
        if self._open and now - self._heard_at > SILENCE:
            self._suspect = True
            self._open.clear()
        return channel in self._open

    def join(self, ear: E) -> None:
        """Take an ear in."""
        self._ears.setdefault(ear.channel, set()).add(ear)
        self._left.pop(ear.channel, None)

    def leave(self, ear: E, now: float) -> None:
        """Take an ear out. Nothing happens if the connection has ended since it came."""
        ears = self._ears.get(ear.channel)
        if ears is not None:
            ears.discard(ear)
            if not ears:
                del self._ears[ear.channel]
                self._left[ear.channel] = now

    def begin(self, now: float) -> None:
        """A connection was made: on it no channel is open."""
        self._asked, self._open, self._heard_at, self._suspect = set(), set(), now, False

    def commands(self, now: float) -> list[tuple[str, ...]] | None:
        """What to send so that the needed channels are open; None where the connection should end.

        If channels are `needed` then, another connection is to be made. It takes the place of one that may be dead, and
        of one with channels that nobody needs any more: to close them one by one is a right of its own.
        """
        for channel in [channel for channel, since in self._left.items() if now - since > LINGER]:
            del self._left[channel]
        needed = self.needed
        if self._suspect or not needed or self._asked - needed:
            self._open.clear()
            return None
        new, self._asked = needed - self._asked, needed
        return [("SUBSCRIBE", *new)] if new else []

    @property
    def needed(self) -> set[str]:
        """The channels that somebody listens to, or did a moment ago."""
        return {*self._ears, *self._left}

    def take(self, reply: Any, now: float) -> None:
        """Tell the ears what the connection has brought."""
        kind, channel, message = reply[0], reply[1].decode(), reply[2]
        self._heard_at = now
        if kind == b"subscribe":
            self._open.add(channel)
            message = NOW
        elif kind != b"message":
            return
        for ear in self._ears.get(channel, ()):
            ear.tell(message)

    def end(self, reason: RunnerError) -> None:
        """The connection has ended, and all ears hear why."""
        ears, self._ears = self._ears, {}
        self._left.clear()
        self._open.clear()
        for each in ears.values():
            for ear in each:
                ear.tell(reason)
