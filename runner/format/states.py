"""States: values that come back from the store as they were, equal and of the same types, at any depth.

A handler gets the state of a row as the handler before left it, or as it came back from Redis; where a batch ends
decides which. Both must be the same. An event may hold an enumeration, a defaultdict or a named tuple, which is stored
as the plain value that it equals. In a state such a value is refused. The states of aggregates have the same rule,
because a snapshot decides there.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from . import codec
from .codec import FAULTS, NotStorable, Packers

#: The types of the extensions.
_EXTENSIONS: Final = (datetime, date, UUID, Decimal, tuple)


def _as_it_is(value: Any) -> Any:
    kind = type(value)
    if kind is datetime and value.tzinfo is not None and type(value.tzinfo) is not timezone:
        raise NotStorable(
            f"a datetime with a {type(value.tzinfo).__name__}, which would come back with the fixed offset "
            f"{value.isoformat()[-6:]}; store it in UTC, by .astimezone(UTC)"
        )
    if kind not in _EXTENSIONS:
        for base, _ in codec.PLAIN:
            if isinstance(value, base) and kind is not base:  # an int comes here, too, if it has more than 64 bits
                raise _another(value, base)
    return codec.to_extension(value, _as_it_is)


_packers = Packers(_as_it_is)


def pack_state(value: Any) -> bytes:
    """Pack a state; raises one of `codec.FAULTS`, which `check_state` turns into a PayloadError."""
    try:
        packed = _packers.pack(value)
    except FAULTS:
        _packers.renew()
        raise
    if 0xC4 in packed or 0xC5 in packed or 0xC6 in packed:  # with one of these packed bytes begin
        _refuse_buffers(value)
    return packed


def check_state(value: Any, what: str) -> bytes:
    """Pack a state. Raises PayloadError, with the path of a value that would not come back as it is."""
    return codec.pack_value(value, what, pack_state)


def _refuse_buffers(value: Any) -> None:
    """Raise NotStorable for a bytearray or memoryview, which msgpack packs as bytes without a question."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (bytearray, memoryview)):
            raise _another(one, bytes)
        todo += [inner for _, inner in codec.inside(one)]


def _another(value: Any, plain: type[Any]) -> NotStorable:
    return NotStorable(
        f"a {type(value).__name__}, which would come back as a plain {plain.__name__}; store the plain {plain.__name__}"
    )
