"""What an operation may ask of the user's code, and how it hears what that code raised.

An exception of user code that has a meaning for whatever passes it on (a generator, a coroutine, a future) would be
taken for something else on its way: StopIteration would never leave a future, a CancelledError would look as if the
runner were cancelled. A driver raises `UserCodeRaised` in its place.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import InvalidInput

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for an awaitable that user code returned; the outcome is its result."""

    awaitable: Awaitable[Any]


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a function of the user's that may take long; the outcome is what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


UserCodeEffect = Await | Invoke

#: The exceptions in whose place a driver raises `UserCodeRaised`, if user code raised them.
CONTROL: Final = (StopIteration, GeneratorExit, CancelledError)


class UserCodeRaised(RuntimeError):
    """User code raised an exception of `CONTROL`, which is chained as the cause."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.__cause__ = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__cause__,), vars(self)


class CannotWait(InvalidInput):
    """Asynchronous user code, in a thread whose event loop is running: a synchronous store cannot wait for it there."""

    def __init__(self) -> None:
        super().__init__(
            "the event loop of this thread is running, so asynchronous functions cannot be waited for here",
            hint="Use an AsyncEventStore and await the call, or make it in a thread: await asyncio.to_thread(…).",
        )


def call(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Call user code: raises what it raises, or UserCodeRaised."""
    try:
        return function(*args, **more)
    except CONTROL as raised:
        raise UserCodeRaised(raised) from raised


def invoke(function: Callable[..., Any], *args: Any) -> Generator[UserCodeEffect, Any, Any]:
    """Call user code that may take long, and wait for its answer if that is awaitable; returns the result."""
    answer = yield Invoke(function, args)
    return (yield Await(answer)) if isawaitable(answer) else answer
