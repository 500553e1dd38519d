"""JSON text and times as text: what Python's readers take beyond the standard, or change without a word, is refused."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, NoReturn

#: More digits than an integer of 64 bits has.
_LONGEST_INTEGER = 20

#: A digit after those of the microseconds, which `datetime.fromisoformat` drops.
_FINER_THAN_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for what is not JSON, and for what would be changed by reading."""
    try:
        return _decode(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_time(text: str) -> datetime:
    """The time of an ISO 8601 text. Raises ValueError, also for one that is finer than a microsecond."""
    time = datetime.fromisoformat(text)
    if _FINER_THAN_MICROSECONDS.search(text):
        raise ValueError(f"{text!r} is finer than a microsecond")
    return time


def _constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is no number of JSON; write {{"$runner:float": "{name}"}}')


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f'{text} is more than a float can hold; write {{"$runner:decimal": "{text}"}}')
    return number


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"{text[:_LONGEST_INTEGER]}… is an integer of more than 64 bits; write it as text")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
).decode
