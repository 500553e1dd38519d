"""Which stores a server has: looked for when somebody names one that is not there."""

from __future__ import annotations

from ..effects import Execute, StoreOperation
from ..errors import StoreNotFound, StoreRefused
from ..text import nearest

#: The keys that each store has, see `runner.format.keys`.
_BEFORE, _AFTER = "{", ".0}:meta"

#: How many keys are looked at in a round trip, and in how many round trips at most: a million keys.
KEYS_A_TRIP, MOST_TRIPS = 1_000, 1_000


def no_such_store(name: str, place: str) -> StoreOperation[StoreNotFound]:
    """The error for a store that is not there, with the names of those that are there, as far as that can be seen."""
    try:
        there = yield from _stores()
    except StoreRefused:  # this user may not look for keys
        there = []
    likely = nearest(name, there)
    return StoreNotFound(name, place, sorted(there, key=lambda other: (other != likely, other)), likely)


def _stores() -> StoreOperation[list[str]]:
    """The names of the stores that a server has, sorted; of a very large server only some."""
    found: set[str] = set()
    cursor = b"0"
    for _ in range(MOST_TRIPS):
        [[cursor, keys]] = yield Execute([("SCAN", cursor, "MATCH", f"{_BEFORE}*{_AFTER}", "COUNT", KEYS_A_TRIP)])
        found |= {key.decode(errors="replace").removeprefix(_BEFORE).removesuffix(_AFTER) for key in keys}
        if int(cursor) == 0:
            break
    return sorted(found)
