"""What an operation may ask of the server: a round trip, commands under way, a channel to listen to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: One command: ``("XADD", key, …)``, or what `runner.format.scripts.Script.call` makes.
Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Execute:
    """Send commands in one round trip and wait; the outcome is the list of replies. Repeated on lost connections."""

    commands: list[Command]


@dataclass(eq=False, slots=True)
class Pending:
    """Commands that were sent on a session and whose replies are not read yet."""

    commands: list[Command]
    replies: list[Any] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.replies) == len(self.commands)


@dataclass(frozen=True, slots=True)
class Send:
    """Send commands on the session and go on; the outcome is a `Pending`. Never repeated."""

    commands: list[Command]


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the replies to a `Pending`; the outcome is the list of replies."""

    pending: Pending


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen to a channel, on a connection that all who listen share; a channel from before is left.

    `Hear` then gives an empty message as soon as the channel is open: look then at what the messages tell of. With
    ``if_open`` nothing is opened, and no message is given for that. The outcome is whether this operation listens now.
    """

    channel: str
    if_open: bool = False


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait up to ``timeout`` seconds for a message on the channel; the outcome is the message, or None."""

    timeout: float


StoreEffect = Execute | Send | Receive | Listen | Hear
