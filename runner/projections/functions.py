"""What users may give as a function: refused when it is declared, if its answer could not mean anything."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache, partial
from typing import Any, Final

from ..errors import ProjectionError

#: The type of a function with `functools.lru_cache`.
_CACHED: Final = type(lru_cache(lambda: None))


def is_async(function: object) -> bool:
    """Whether a function is an ``async def``, also inside a partial or an object that can be called."""
    return _is(inspect.iscoroutinefunction, function)


def third_parameter(function: object) -> str:
    """The name of a function's third parameter; empty if it has none, or cannot be asked."""
    try:
        parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    return parameters[2].name if len(parameters) > 2 else ""


def check_function(function: object, what: str, signature: str) -> None:
    """Raise ProjectionError if ``what`` is no function of these parameters, or one whose body a call does not run.

    ``signature`` is as ``(state, event)``.
    """
    if not callable(function):
        raise ProjectionError(f"{what} must be a function, not {function!r}")
    named = f"{what} {getattr(function, '__name__', function)!r}"
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise ProjectionError(f"{named} holds a yield, so that a call does not run it; make it a function that returns")
    try:
        inspect.signature(function).bind(*filter(None, signature.strip("()").split(", ")))
    except TypeError:
        raise ProjectionError(f"{named} must take {signature}") from None
    except ValueError:
        pass  # a builtin without a signature


def check_handler(handler: object, owner: str, signature: str) -> None:
    """`check_function` for a handler, which is no class, because its answer would be an object of the class."""
    called = _called(handler)
    if inspect.isclass(called):
        raise ProjectionError(f"{owner}: handler {called.__name__!r} is a class; give a function")
    check_function(handler, f"{owner}: a handler", signature)
    try:
        inspect.signature(handler)  # type: ignore[arg-type]
    except ValueError:
        name = getattr(handler, "__name__", handler)
        raise ProjectionError(
            f"{owner}: handler {name!r} does not tell which arguments it takes; give a function of {signature}"
        ) from None


def check_plain(function: object, what: str, signature: str) -> None:
    """`check_function` for a function that is not awaited."""
    check_function(function, what, signature)
    if is_async(function):
        name = getattr(function, "__name__", function)
        raise ProjectionError(f"{what} {name!r} is an async def, and is not awaited; make it a plain function")


def check_answer(answer: object, what: str) -> None:
    """Raise ProjectionError for an answer that does its work when it is iterated over, as a generator does."""
    if isinstance(answer, (Iterator, AsyncIterator)):
        raise ProjectionError(f"{what} returned a {type(answer).__name__}, which nobody runs; do the work at the call")


def _is(test: Callable[[Any], bool], function: object) -> bool:
    function = _called(function)
    return callable(function) and (test(function) or test(type(function).__call__))


def _called(function: object) -> object:
    """What is called in the end, inside partials and caches."""
    while isinstance(function, (partial, _CACHED)):
        function = function.func if isinstance(function, partial) else function.__wrapped__
    return function
