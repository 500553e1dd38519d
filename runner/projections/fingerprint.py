"""The fingerprint of a projection's code: it differs if the rows that the code makes may differ.

It is made of the instructions of the handlers, of ``key`` and of ``initial``, with the constants and names that these
use, and of the functions and plain values that they reach: closures, defaults, globals of the same module. It is the
same in every process. Comments, docstrings, line numbers and the order of the handlers do not change it.

Python compiles each version in its own way. So a fingerprint names the Python that made it, and is compared with one of
the same Python only.

Not seen: what other modules do, attributes of objects, and what a handler looks up at run time.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import sys
from bisect import bisect_left
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any, NamedTuple
from uuid import UUID

from .projection import Projection
from .reach import globals_of

#: Instructions that depend on the layout of the source, not on what the code does.
_LAYOUT = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME"})

#: The kind of a function: one that yields, or is awaited, or takes any arguments.
_KIND = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)

#: Values that are compared as they are.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Decimal, date, timedelta, UUID, type(...))


#: Values of globals that are described; what else a module holds is made at run time, or is code of others.
_VALUES = frozenset({*_PLAIN, datetime, list, tuple, dict, set, frozenset})


class Fingerprint(NamedTuple):
    """The fingerprint of some code, and the Python that compiled it."""

    python: str
    digest: str


#: The Python that compiles the code of this process; without asserts it is another one.
PYTHON = f"{sys.implementation.cache_tag}-{sys.flags.optimize}"


def fingerprint(projection: Projection) -> Fingerprint:
    """The fingerprint of a projection's code."""
    describe = _Describer()
    parts: list[object] = [projection.category, describe(projection.key), describe(projection.initial)]
    parts += [(name, describe(projection.handler(name))) for name in projection.types]
    return Fingerprint(PYTHON, _digest(parts))


class _Describer:
    """Describes values by texts that are the same in every process: a plain value by its repr, others by a digest."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, object]] = {}
        #: The ids of the values that are being described; a value may contain itself.
        self._within: list[int] = []

    def __call__(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if id(value) in self._known:
            return self._known[id(value)][0]
        if id(value) in self._within:
            return f"<{self._within.index(id(value))}>"
        self._within.append(id(value))
        text = _digest((type(value).__qualname__, *self._inside(value)))
        self._within.pop()
        self._known[id(value)] = text, value  # the value is kept, so that no other one gets its id
        return text

    def _inside(self, value: Any) -> Iterator[object]:
        if isinstance(value, (set, frozenset)):
            yield from sorted(map(self, value))
        elif isinstance(value, (list, tuple)):
            yield from map(self, value)
        elif isinstance(value, dict):
            yield from ((self(key), self(inner)) for key, inner in value.items())
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, MethodType):
            yield from map(self, (value.__func__, value.__self__))
        elif isinstance(value, functools.partial):
            yield from map(self, (value.func, value.args, value.keywords))
        elif isinstance(value, (type, BuiltinFunctionType)):
            yield f"{value.__module__}.{value.__qualname__}"
        elif isinstance(called := inspect.getattr_static(type(value), "__call__", None), FunctionType):
            yield self(called)

    def _function(self, function: FunctionType) -> Iterator[object]:
        yield self(function.__code__)
        yield self(function.__defaults__)
        yield self(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield self(cell.cell_contents)
            except ValueError:  # the variable has no value yet
                yield "empty"
        for name in sorted(globals_of(function.__code__)):
            found = function.__globals__.get(name)
            if type(found) in _VALUES or (type(found) is FunctionType and found.__module__ == function.__module__):
                yield name, self(found)

    def _code(self, code: CodeType) -> Iterator[object]:
        yield code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _KIND
        kept = [each for each in dis.get_instructions(code) if each.opname not in _LAYOUT]
        places = [each.offset for each in kept]
        for each in kept:
            jumps = each.opcode in dis.hasjrel or each.opcode in dis.hasjabs
            yield each.opname, bisect_left(places, each.argval) if jumps else self(each.argval)
        yield code.co_exceptiontable


def _digest(parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()
