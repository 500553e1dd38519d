"""The differences between two values, one line for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Stands for a missing value.
ABSENT = "nothing"

#: More lines than this would not be read.
MOST_LINES = 20


def differences(expected: Any, found: Any, path: str) -> list[str]:
    """One line for each place where ``found`` differs from ``expected``; no lines when both are equal."""
    lines = list(_walk(expected, found, path))
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"… and {more} more"]


def _walk(expected: Any, found: Any, path: str) -> Iterator[str]:
    if expected == found:
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            here = f"{path}[{key!r}]"
            if key not in found:
                yield f"{here}: expected {expected[key]!r}, is {ABSENT}"
            elif key not in expected:
                yield f"{here}: expected {ABSENT}, is {found[key]!r}"
            else:
                yield from _walk(expected[key], found[key], here)
    elif isinstance(expected, (list, tuple)) and type(expected) is type(found) and len(expected) == len(found):
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _walk(one, other, f"{path}[{place}]")
    else:
        yield f"{path}: expected {expected!r}, is {found!r}"
