"""The replies of the scripts that append, as results and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from ..errors import EventIdReused, LogCorrupt, RunnerError, StoreRefused, StoreReplaced, WrongExpectedVersion
from ..format.events import EVENT_ID
from ..format.keys import ID_MAX, PartitionKeys
from .append_plan import AppendResult, Group
from .durability import Durability

#: Lua counts exactly below this number only. A position from here on was put into the log by hand.
BEYOND_COUNTING = 2**53

#: A script's reply about one group: its kind, then numbers. The heads of the scripts list them.
Verdict = Sequence[Any]


def is_fine(verdict: Verdict) -> bool:
    """Whether the events of a group are in the log, by this run or an earlier one."""
    return verdict[0] in (b"ok", b"duplicate")


def wrote(verdicts: Iterable[Verdict]) -> bool:
    """Whether a script run wrote an event: a repetition does not, nor does an append without events."""
    return any(verdict[0] == b"ok" and verdict[3] > 0 for verdict in verdicts)


def result_of(group: Group, verdict: Verdict, keys: PartitionKeys, level: Durability) -> AppendResult:
    """The result of a verdict that is fine, confirmed at ``level``."""
    kind, version, first, final = verdict
    durability = None if level is None else str(level)
    return AppendResult(group.stream, version, first, final, keys.partition, kind == b"duplicate", durability)


def refusal_of(group: Group, verdict: Verdict) -> RunnerError:
    """The error of a verdict that is not fine."""
    kind, number = verdict[:2]
    if kind == b"wrong_version":
        return WrongExpectedVersion(group.stream, group.expected, number)
    if kind == b"known":
        event_id = UUID(bytes=group.envelopes[number - 1][EVENT_ID])
        return EventIdReused(group.stream, f"the id {event_id} is in the store already, at position {verdict[2]}")
    if kind == b"scattered":
        return EventIdReused(
            group.stream, f"its {number} ids are in the stream already, but not next to each other in this order"
        )
    return EventIdReused(group.stream, f"{number} of its {len(group.envelopes)} ids are in the stream already")


def being_restored(store: str) -> StoreRefused:
    """The error of a store into which events are put from elsewhere."""
    return StoreRefused(
        f"store {store!r} is being restored, and is not whole yet",
        code="RESTORING",
        hint="Give the command that restores it again, with the same source: it goes on where it was.",
    )


def check_log(reply: Sequence[Any], keys: PartitionKeys) -> None:
    """Raise StoreReplaced, StoreRefused or LogCorrupt if a script replied so."""
    if reply[0] == b"replaced":
        raise StoreReplaced(keys.name)
    if reply[0] == b"restoring":
        raise being_restored(keys.name)
    if reply[0] == b"corrupt":
        _, position, length, floor = reply
        if not 0 <= position < BEYOND_COUNTING:
            raise LogCorrupt(
                f"the log of partition {keys.partition} of store {keys.name!r} has had an entry at a position that no "
                "event reaches, so no position is left; nothing was written",
                hint=f"As an administrator, copy the entries before it ({ID_MAX}-1, if it is the highest) with XADD "
                f"to {keys.tag}:copy, each with its ID, then RENAME {keys.tag}:copy {keys.log}.",
            )
        raise LogCorrupt(
            f"the log of partition {keys.partition} of store {keys.name!r} ends at position {position}, "
            f"but holds {length} entries after {floor} trimmed ones; nothing was written"
        )
