"""The check of memory: how much is used and left, and when the log will have filled it."""

from __future__ import annotations

from collections.abc import Mapping

from ..effects import Execute, StoreOperation
from ..errors import DataError
from ..format.events import decode_entry
from ..format.keys import PartitionKeys
from ..log.info import StoreInfo
from ..log.server_info import info
from .check import BAD, GOOD, WARNING, Check, unseen

#: More than this part of the memory in use is a warning: a rewrite of the append-only file may take a part, too.
MOST_USED = 0.75

#: Memory that is full sooner than this is a warning, in days: a week and a weekend.
SOON = 9.0

#: The last events tell how fast a partition grows: this many of them, or a quarter of all.
LAST_EVENTS = 1000

#: Events of a shorter time are a burst, which tells nothing, in microseconds.
LONG_ENOUGH = 3600 * 1_000_000

ADVICE = "Raise maxmemory, or make room: `runner trim` removes the first events."

_DAY = 86_400 * 1_000_000


def memory(store: StoreInfo) -> StoreOperation[Check]:
    """How much memory the server has left, and for how long at the rate of the last events."""
    told = yield from info("memory")
    used, room = _number(told, "used_memory"), _number(told, "maxmemory") or _number(told, "total_system_memory")
    if not used or not room:
        return unseen("memory", "INFO", "Watch how much memory the server uses.")
    events, a_day = 0, 0.0
    for keys in store.keys:
        count, rate = yield from _growth(keys)
        events, a_day = events + count, a_day + rate
    what = "of maxmemory" if _number(told, "maxmemory") else "of the machine"
    finding = f"{_size(used)} {what}, {_size(room)}, used: {used / room:.0%}"
    days = None
    if events and a_day:
        each = max(1.0, (_number(told, "used_memory_dataset") or used) / events)
        days = max(0, room - used) / each / a_day
        finding += f"; at the rate of the last events it is full in {_days(days)}"
    if used >= room:
        return Check("memory", BAD, f"{finding}: nothing can be appended", ADVICE)
    scarce = used > MOST_USED * room or (days is not None and days < SOON)
    return Check("memory", WARNING, finding, ADVICE) if scarce else Check("memory", GOOD, finding)


def _growth(keys: PartitionKeys) -> StoreOperation[tuple[int, float]]:
    """How many events a partition has, and how many came a day of late; no rate where that cannot be told."""
    ends = yield Execute([("XRANGE", keys.log, "-", "+", "COUNT", 1), ("XREVRANGE", keys.log, "+", "-", "COUNT", 1)])
    if not all(ends):
        return 0, 0.0
    first, last = (int(end[0][0].partition(b"-")[0]) for end in ends)
    begin = max(first, last - max(LAST_EVENTS, (last - first) // 4))
    [earlier] = yield Execute([("XRANGE", keys.log, begin, "+", "COUNT", 1)])
    try:
        before, after = (decode_entry(entry, keys.partition) for entry in (earlier[0], ends[1][0]))
    except (DataError, IndexError):
        return last - first + 1, 0.0
    passed = after.recorded_us - before.recorded_us
    return last - first + 1, (last - begin) * _DAY / passed if passed >= LONG_ENOUGH else 0.0


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "")
    return int(text) if text.isdecimal() else 0


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _days(days: float) -> str:
    if days > 3650:
        return "more than ten years"
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
