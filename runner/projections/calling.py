"""Calling handlers: what they return, and which of the things that they raise are failures of their event."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from ..effects import Await, CannotWait, Invoke, UserCodeEffect, UserCodeOperation, UserCodeRaised
from ..errors import ProjectionError
from .functions import check_answer
from .handlers import Handlers

#: What user code returned, and None; or None, and what it raised if that is a failure of its event.
Outcome = tuple[Any, BaseException | None]


def check_failure(raised: BaseException) -> BaseException:
    """What user code raised, as the failure of its event. Raises a KeyboardInterrupt, and a group with one."""
    interrupts = raised.subgroup(KeyboardInterrupt) if isinstance(raised, BaseExceptionGroup) else None
    if isinstance(raised, KeyboardInterrupt) or interrupts is not None:
        raise raised
    return raised


def outcome_of(effect: UserCodeEffect) -> UserCodeOperation[Outcome]:
    """Perform an effect on user code. Raises only what ends the operation: an interrupt, or what was no fault of it."""
    try:
        return (yield effect), None
    except UserCodeRaised as raised:
        return None, raised.__cause__
    except (CancelledError, GeneratorExit, CannotWait):  # those of user code come as UserCodeRaised
        raise
    except BaseException as raised:
        return None, check_failure(raised)


def handled(handler: Callable[..., Any], *args: Any) -> UserCodeOperation[BaseException | None]:
    """Call a handler that may take long, and wait for its answer if that is awaitable; returns its failure."""
    answer, failure = yield from outcome_of(Invoke(handler, args))
    if failure is None and isawaitable(answer):
        answer, failure = yield from outcome_of(Await(answer))
    try:
        check_answer(answer, "the handler")
    except ProjectionError as lazy:
        return lazy
    return failure


def check_waiting(one: Handlers) -> UserCodeOperation[None]:
    """Raise CannotWait, before any event is touched, if ``async def`` handlers cannot be waited for here."""
    if one.awaits:
        yield Await(_nothing())


async def _nothing() -> None:
    """Ends at once."""
