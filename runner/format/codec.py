"""The codec: the values of events and rows as MessagePack, so that they come back equal.

Maps, lists, tuples, text, bytes, None, booleans, integers to 64 bits and floats are MessagePack's own (tuples
are an extension). These have extension types of this package, numbered here for other readers of the log:

==  =============================  ==============================================
1   datetime with a zone           ISO 8601 text
2   date                           ISO 8601 text
3   UUID                           its 16 bytes
4   Decimal                        its text
5   tuple                          a MessagePack array
==  =============================  ==============================================

msgpack packs, because it can refuse values of unknown types, which msgspec would silently turn into text. msgspec
unpacks, because it reads the same bytes in half the time. Unknown extension types are refused on reading.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from threading import local
from typing import Any
from uuid import UUID

import msgpack
import msgspec

from ..errors import PayloadError

DATETIME, DATE, UUID_, DECIMAL, TUPLE = 1, 2, 3, 4, 5

_HINTS = {
    set: "store a sorted list",
    frozenset: "store a sorted list",
    float: "store a Decimal or text",
}


#: The most levels inside a tuple. Each tuple takes stack of Python and of C both ways; msgpack bounds the rest at 511.
TUPLE_LEVELS = 64

#: How a value of a subclass is made the plain value, which is stored in its place if the two are equal. The text of a
#: subclass is not to be relied on: ``str(Colour.RED)`` is not "red".
PLAIN: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (dict, dict), (list, list), (tuple, tuple),
    (str, str.__str__), (bytes, bytes), (int, int.__int__), (float, float.__float__),
    (datetime, lambda of: datetime(
        of.year, of.month, of.day, of.hour, of.minute, of.second, of.microsecond, of.tzinfo, fold=of.fold)),
    (date, lambda of: date(of.year, of.month, of.day)), (UUID, lambda of: UUID(int=of.int)), (Decimal, Decimal),
)  # fmt: skip


class NotStorable(TypeError):
    """A value that cannot be stored, with the reason."""


#: What msgpack calls for every value whose exact type it does not know: gives a value that it knows.
Default = Callable[[Any], Any]


def _datetime(value: datetime, _: Default) -> msgpack.ExtType:
    if value.utcoffset() is None:
        raise NotStorable("a datetime without a zone; give it one, for example tzinfo=UTC")
    return msgpack.ExtType(DATETIME, value.isoformat().encode())


def _tuple(value: tuple[Any, ...], default: Default) -> msgpack.ExtType:
    _check_levels(value)
    return msgpack.ExtType(TUPLE, _packer(default).pack(list(value)))  # this thread's packer is at work


_TO_EXTENSION: dict[type[Any], Callable[[Any, Default], msgpack.ExtType]] = {
    datetime: _datetime,
    date: lambda value, _: msgpack.ExtType(DATE, value.isoformat().encode()),
    UUID: lambda value, _: msgpack.ExtType(UUID_, value.bytes),
    Decimal: lambda value, _: msgpack.ExtType(DECIMAL, str(value).encode()),
    tuple: _tuple,
}


def _to_extension(value: Any) -> Any:
    return to_extension(value, _to_extension)


def to_extension(value: Any, default: Default) -> Any:
    """The form in which a value is stored; ``default`` is for what a tuple holds. Raises NotStorable."""
    write = _TO_EXTENSION.get(type(value))
    if write is None:
        value = plain(value)
        write = _TO_EXTENSION.get(type(value))
    return value if write is None else write(value, default)


def plain(value: Any) -> Any:
    """The plain value that a value of a subclass equals. Raises NotStorable if there is none."""
    kind = _name_of(type(value))
    if isinstance(value, (msgpack.ExtType, msgpack.Timestamp)):
        raise NotStorable(f"a {kind} of MessagePack; store what it stands for")
    for base, make in PLAIN:
        if isinstance(value, base):
            try:
                made = make(value)
            except (TypeError, ValueError, AttributeError) as fault:
                raise NotStorable(
                    f"a {kind}, which is no {base.__name__}; store None, or what it stands for"
                ) from fault
            if not (made == value or made != made):  # NaN equals nothing
                raise NotStorable(f"a {kind}, which would come back as {made!r}; store what it stands for")
            return made
    hint = _HINTS.get(type(value), "store maps, lists, text, numbers, bytes, datetimes, dates, UUIDs or Decimals")
    raise NotStorable(f"a {kind}; {hint}")


def _name_of(kind: type[Any]) -> str:
    """The name of a class, with its module if it has the name of a builtin one, as ``numpy.bool``."""
    is_namesake = hasattr(builtins, kind.__name__) and kind.__module__ != "builtins"
    return f"{kind.__module__}.{kind.__name__}" if is_namesake else kind.__name__


def _check_levels(value: tuple[Any, ...]) -> None:
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        outer, level = todo.pop()
        if level > TUPLE_LEVELS:
            raise ValueError(f"more than {TUPLE_LEVELS} levels inside a tuple")
        inside = [*outer, *outer.values()] if isinstance(outer, dict) else outer
        todo += [(inner, level + 1) for inner in inside if isinstance(inner, (dict, list, tuple))]


_FROM_EXTENSION: dict[int, Callable[[bytes], Any]] = {
    DATETIME: lambda raw: datetime.fromisoformat(raw.decode()),
    DATE: lambda raw: date.fromisoformat(raw.decode()),
    UUID_: lambda raw: UUID(bytes=raw),
    DECIMAL: lambda raw: Decimal(raw.decode()),
    TUPLE: lambda raw: tuple(unpack(raw)),
}


def _from_extension(code: int, raw: memoryview) -> Any:
    try:
        read = _FROM_EXTENSION[code]
    except KeyError:
        raise ValueError(f"unknown extension type {code}") from None
    return read(bytes(raw))


def _packer(default: Default) -> msgpack.Packer:
    return msgpack.Packer(default=default, strict_types=True)


class Packers(local):
    """One packer a thread: a packer is not safe to share, and making one costs more than packing a small event."""

    def __init__(self, default: Default) -> None:
        self._default = default
        self.renew()

    def renew(self) -> None:
        """Make a new packer. After an error half a value may be in the old one."""
        self.pack: Pack = _packer(self._default).pack


#: Packs a value, or raises one of `FAULTS`.
Pack = Callable[[Any], bytes]

_packers = Packers(_to_extension)

#: How many bytes of a damaged value are read.
FIRST_BYTES = 4096

#: The exceptions that packing raises.
FAULTS = (TypeError, ValueError, OverflowError, RecursionError)


#: What `unpack` raises for bytes that are not a packed value.
UNPACK_FAULTS = (ValueError, TypeError, ArithmeticError, RecursionError)


def pack(value: Any) -> bytes:
    """Pack ``value``; raises one of `FAULTS`, which `pack_value` turns into a PayloadError."""
    try:
        return _packers.pack(value)
    except FAULTS:
        _packers.renew()
        raise


#: Unpack what `pack` made. Raises ValueError (msgspec.DecodeError is one) or RecursionError for anything else.
unpack: Callable[[bytes | msgspec.Raw], Any] = msgspec.msgpack.Decoder(ext_hook=_from_extension).decode


def first_items(packed: bytes, count: int) -> list[Any]:
    """The first items of a packed array, even if later ones are damaged; fewer if these are damaged, too."""
    reader = msgpack.Unpacker(max_buffer_size=0)
    reader.feed(packed[:FIRST_BYTES])
    found: list[Any] = []
    try:
        for _ in range(min(count, reader.read_array_header())):
            found.append(reader.unpack())
    except (msgpack.exceptions.UnpackException, ValueError, RecursionError):
        pass
    return found


def pack_value(value: Any, what: str, pack: Pack = pack) -> bytes:
    """Pack a payload. Raises PayloadError, with the path of a value that cannot be stored."""
    try:
        return pack(value)
    except FAULTS as fault:
        raise explain(value, what, fault, pack) from None


def explain(value: Any, path: str, fault: BaseException, pack: Pack = pack) -> PayloadError:
    """The error that names the innermost value that cannot be packed."""
    for step, inner in inside(value):
        try:
            pack(inner)
        except RecursionError:
            break
        except FAULTS as deeper:
            if not isinstance(deeper, ValueError) or isinstance(deeper, UnicodeEncodeError):
                return explain(inner, path + step, deeper, pack)
    if isinstance(fault, NotStorable):
        reason = str(fault)
    elif isinstance(fault, OverflowError):
        reason = "an integer of more than 64 bits; store it as text"
    elif isinstance(fault, UnicodeEncodeError):
        reason = "text that is not valid Unicode (a lone surrogate)"
    else:
        reason = f"a value nested too deeply or too large ({fault})"
    return PayloadError(f"{path} cannot be stored: {reason}")


def inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a map, a list or a tuple holds, each with its part of a path."""
    if isinstance(value, dict):
        yield from ((f" (the key {key!r})", key) for key in value)
        yield from ((f".{key}" if isinstance(key, str) else f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{place}]", inner) for place, inner in enumerate(value))
