"""What functions reach without a call: the globals of their module, their closures, their defaults."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from ..format.codec import inside
from ..format.sharing import Held

#: So many lists and maps of the code are known at most: a table that a handler looks values up in may hold many more.
MOST_HELD: Final = 10_000


def globals_of(code: CodeType) -> set[str]:
    """The names of the globals that a code, or a function inside it, reads."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    read = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return read.union(*map(globals_of, inner))


def held_by(functions: Iterable[Callable[..., Any] | None], more: Iterable[tuple[str, Any]] = ()) -> Held:
    """The lists and maps that functions hold from call to call, and those in ``more``, which has names and values."""
    held: dict[int, tuple[Any, str]] = {}
    todo: list[tuple[str, Any]] = [*more, *(("", function) for function in functions)]
    seen: dict[int, Any] = {}  # the values are kept, so that no other one gets an id of theirs
    for name, value in todo:
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, (dict, list, tuple)):
            if not isinstance(value, tuple):
                held[id(value)] = value, name
                if len(held) == MOST_HELD:
                    break
            containers = ((step, inner) for step, inner in inside(value) if isinstance(inner, (dict, list, tuple)))
            todo += ((name + step, inner) for step, inner in islice(containers, MOST_HELD))
        else:
            todo += _reached(value)
    return held


def _reached(function: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(function, partial):
        yield "", function.func
        yield from (("given to a partial", value) for value in (*function.args, *function.keywords.values()))
    elif isinstance(function, MethodType):
        yield "", function.__func__
    elif isinstance(function, FunctionType):
        parameters = function.__code__.co_varnames
        defaults = function.__defaults__ or ()
        yield from zip(parameters[function.__code__.co_argcount - len(defaults) :], defaults, strict=False)
        yield from (function.__kwdefaults__ or {}).items()
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # the variable has no value yet
                continue
        for name in globals_of(function.__code__):
            found = function.__globals__.get(name)
            if not isinstance(found, FunctionType) or found.__module__ == function.__module__:
                yield name, found
