"""Operations: generators that yield effects, are sent their outcomes, and return a result.

The types say which kinds of effect an operation may yield, so a type checker finds an operation that is given to a
driver which cannot perform it. A narrower operation can stand wherever a wider one is expected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from .feed import FeedEffect
from .scheduling import SchedulingEffect
from .store import StoreEffect
from .user_code import UserCodeEffect

T = TypeVar("T")
E = TypeVar("E")

Effect = StoreEffect | UserCodeEffect | SchedulingEffect | FeedEffect

#: Asks the server only. Any driver runs it.
StoreOperation = Generator[StoreEffect, Any, T]
#: Calls user code only, as a fold does.
UserCodeOperation = Generator[UserCodeEffect, Any, T]
#: Asks the server and calls user code. Any driver runs it.
DriverOperation = Generator[StoreEffect | UserCodeEffect, Any, T]
#: May ask for everything, as workers do. An interpreter runs it.
Operation = Generator[Effect, Any, T]


def drive(operation: Generator[E, Any, T], perform: Callable[[E], Any]) -> T:
    """Run an operation to its end: ``perform`` performs each effect, and its errors are raised inside the operation."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = perform(effect)
            except BaseException as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def drive_async(operation: Generator[E, Any, T], perform: Callable[[E], Awaitable[Any]]) -> T:
    """The same where effects are awaited."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = await perform(effect)
            except BaseException as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
