"""Events as JSON lines, one object a line, so that exported events can be imported as they were.

::

    {"stream": "account-1", "type": "Deposited", "id": "…", "time": "2026-01-31T12:00:00+00:00",
     "data": {"amount": 5}, "metadata": null}

Stream and type are needed; the rest may be left out. Values that JSON does not have are objects with one key, which
begins with ``$runner:`` and names their type: ``{"$runner:decimal": "1.50"}``, ``{"$runner:float": "NaN"}``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf, isfinite, isnan, nan
from typing import Any
from uuid import UUID

from ..errors import DataError, InvalidInput
from ..text import cut
from .events import NewEvent, RecordedEvent
from .json_text import read_json, read_time
from .names import check_name

_TAG = "$runner:"
_KEYS = frozenset({"stream", "type", "id", "time", "data", "metadata"})
#: Further keys that an export writes. An import that does not keep positions ignores them.
_PLACE = ("partition", "position", "number")
_TOO_DEEP = "nested too deeply"


@dataclass(frozen=True, slots=True)
class Line:
    """An event of a JSON line. ``id`` is None if the line has none; ``content``: the bytes that an id is made from."""

    stream: str
    type: str
    id: UUID | None
    recorded_at: datetime | None
    data: Any
    metadata: Any
    content: bytes
    #: Partition, position and number, as they stand in the line; None where they do not.
    place: tuple[Any, ...]

    def event(self, event_id: UUID) -> NewEvent:
        return NewEvent(self.type, self.data, self.metadata, event_id, self.recorded_at)


def parse(text: bytes) -> Line:
    """Read one line. Raises InvalidInput with the reason."""
    try:
        found = read_json(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise InvalidInput(f"not JSON: {fault}") from None
    except ValueError as fault:
        raise InvalidInput(str(fault)) from None
    if not isinstance(found, dict):
        raise InvalidInput(f"not a JSON object but {type(found).__name__}")
    unknown = sorted(found.keys() - _KEYS - {*_PLACE})
    if unknown:
        raise InvalidInput(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    for key in ("stream", "type"):
        if key not in found:
            raise InvalidInput(f"the key {key!r} is missing")
    try:
        content = json.dumps([found.get(key) for key in ("type", "time", "data", "metadata")], sort_keys=True)
    except RecursionError:
        raise InvalidInput(_TOO_DEEP) from None
    return Line(
        check_name(found["stream"]),
        check_name(found["type"], "event type"),
        _uuid(found.get("id")),
        _time(found.get("time")),
        from_json(found.get("data")),
        from_json(found.get("metadata")),
        content.encode(),
        tuple(map(found.get, _PLACE)),
    )


def dump(event: RecordedEvent) -> str:
    """Write one line, without its end. Raises DataError for an event that is nested too deeply."""
    try:
        return json.dumps(as_dict(event), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise DataError(f"the event at position {event.position} cannot be written as JSON: {_TOO_DEEP}") from None


def as_dict(event: RecordedEvent) -> dict[str, Any]:
    """An event as JSON can hold it; ``number``, ``position`` and ``partition`` tell its place."""
    return {
        "stream": event.stream,
        "type": event.type,
        "id": str(event.id),
        "time": event.recorded_at.isoformat(),
        "data": _write(event.data),
        "metadata": _write(event.metadata),
        "number": event.number,
        "position": event.position,
        "partition": event.partition,
    }


def to_json(value: Any) -> Any:
    """A stored value in a form that `json.dumps` can write and `from_json` reads back. Raises DataError if too deep."""
    try:
        return _write(value)
    except RecursionError:
        raise DataError(f"a value cannot be written as JSON: {_TOO_DEEP}") from None


def _write(value: Any) -> Any:
    if isinstance(value, dict):
        plain = all(isinstance(key, str) for key in value)
        if plain and not (len(value) == 1 and next(iter(value)).startswith(_TAG)):
            return {key: _write(inner) for key, inner in value.items()}
        return {f"{_TAG}map": [[_write(key), _write(inner)] for key, inner in value.items()]}
    if isinstance(value, list):
        return [_write(inner) for inner in value]
    if isinstance(value, float) and isfinite(value):
        return value
    for kind, name, write, _ in _SPECIAL:
        if isinstance(value, kind):
            return {f"{_TAG}{name}": write(value)}
    return value


def from_json(value: Any) -> Any:
    """The value that `to_json` was given. Raises InvalidInput for a tag that is unknown or does not fit its value, or
    a value that is too deep."""
    try:
        return _read(value)
    except RecursionError:
        raise InvalidInput(_TOO_DEEP) from None


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(key, inner)] = value.items()
        if key.startswith(_TAG):
            return _from_tag(key.removeprefix(_TAG), inner)
    return {key: _read(inner) for key, inner in value.items()}


def _from_tag(name: str, inner: Any) -> Any:
    read = _READERS.get(name)
    if read is None:
        raise InvalidInput(f"unknown tag {_TAG}{name}; known are {', '.join(sorted(_READERS))}")
    is_list = name in ("map", "tuple")
    try:
        if isinstance(inner, list if is_list else str):
            return read(inner)
    except InvalidInput:  # a value inside does not fit
        raise
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise InvalidInput(f"the value of {_TAG}{name} must be {_FITS[name]}, not {cut(repr(inner), 100)}")


def _map(pairs: list[Any]) -> dict[Any, Any]:
    found = {_read(key): _read(item) for key, item in pairs}
    if len(found) < len(pairs):
        raise InvalidInput(f"the value of {_TAG}map has a key twice")
    return found


_NOT_FINITE = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}


def _name_of(number: float) -> str:
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _not_finite(name: str) -> float:
    if name not in _NOT_FINITE:
        raise ValueError(f"{name!r} is none of {', '.join(_NOT_FINITE)}")
    return _NOT_FINITE[name]


_SPECIAL: tuple[tuple[type[Any], str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (float, "float", _name_of, _not_finite),
    (datetime, "datetime", datetime.isoformat, read_time),
    (date, "date", date.isoformat, date.fromisoformat),
    (UUID, "uuid", str, UUID),
    (Decimal, "decimal", str, Decimal),
    (
        bytes,
        "bytes",
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
    (tuple, "tuple", lambda value: [_write(inner) for inner in value], lambda items: tuple(map(_read, items))),
)

#: What a tag takes.
_FITS = {
    "float": f"one of {', '.join(_NOT_FINITE)}",
    "datetime": "an ISO 8601 time of microseconds at most, such as 2026-01-31T12:00:00+00:00",
    "date": "an ISO 8601 date such as 2026-01-31",
    "uuid": "a UUID",
    "decimal": "a decimal number as text, such as 1.50",
    "bytes": "bytes in base64",
    "tuple": "a list",
    "map": "a list of pairs, [key, value], and no key may be a list or a map",
}

_READERS: dict[str, Callable[[Any], Any]] = {"map": _map, **{name: read for _, name, _, read in _SPECIAL}}


def _uuid(value: Any) -> UUID | None:
    if value is None:
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidInput(f"id {value!r} is not a UUID") from None


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        time = read_time(value)
    except (ValueError, TypeError):
        raise InvalidInput(f"time {value!r} is not an ISO 8601 time of microseconds at most") from None
    return time if time.utcoffset() is not None else time.replace(tzinfo=UTC)
