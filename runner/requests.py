"""Commands and effects as data: what the core asks for, and a driver does.

Everything that talks to Redis is written once, as a generator that yields an effect and is sent its outcome::

    def version(self, stream):
        [reply] = yield Execute([("XREVRANGE", ...)])
        return ...

The synchronous and the asynchronous driver (`runner.wire`) both run such generators, so neither holds logic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: One command: ``("XADD", key, …)``, or what `Script.call` makes.
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
class Await:
    """Wait for an awaitable that user code returned; the outcome is its result."""

    awaitable: Awaitable[Any]


@dataclass(frozen=True, slots=True)
class Join:
    """Join the live feed; the outcome is None once the feed has confirmed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the live feed and throw away what it brought; the outcome is None."""


@dataclass(frozen=True, slots=True)
class Take:
    """Take what the feed has brought, waiting up to ``timeout`` seconds; the outcome is a `runner.feed.Delivery`."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``, or until someone wakes the port; the outcome is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a function of the user's that may take long; the outcome is what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Run operations beside this one, ``limit`` at a time; the outcome is what `Finish` takes.

    They may yield `Invoke` and `Await`, and must not raise.
    """

    operations: list[Operation[None]]
    limit: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Wait up to ``timeout`` seconds for what was begun; the outcome is whether all of it has ended."""

    work: Any
    timeout: float


@dataclass(frozen=True, slots=True)
class Listen:
    """Subscribe to a channel on a connection of one's own; the outcome is None."""

    channel: str


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait up to ``timeout`` seconds for a message on the channel; the outcome is whether one came."""

    timeout: float


Effect = Execute | Send | Receive | Await | Join | Leave | Take | Pause | Invoke | Begin | Finish | Listen | Hear

#: A piece of work: yields effects, is sent their outcomes, returns a T.
Operation = Generator[Effect, Any, T]


def drive(operation: Operation[T], perform: Callable[[Effect], Any]) -> T:
    """Run an operation to its end: ``perform`` does each effect, and what it raises is raised inside the operation."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = perform(effect)
            except BaseException as trouble:
                effect = operation.throw(trouble)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def drive_async(operation: Operation[T], perform: Callable[[Effect], Awaitable[Any]]) -> T:
    """The same where effects are awaited."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = await perform(effect)
            except BaseException as trouble:
                effect = operation.throw(trouble)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
