"""Verifying the index of event ids (see `runner.log.id_index`) against a log that was walked."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable
from uuid import UUID

from ..effects import Execute, StoreOperation
from ..format import fields
from ..format.keys import PartitionKeys

#: How many ids are read at a time.
IDS_A_PAGE = 1000

#: The place of an id, and the run id after that of the first event of an append.
_PLACE = re.compile(rb"(\d{1,19})-(\d{1,19})( .+)?", re.DOTALL)

#: The fields that are no ids.
_OTHERS = frozenset({b"epoch", b"upto"})


class WalkedIds:
    """The ids of a log and their places, about 33 bytes an event."""

    def __init__(self) -> None:
        self._positions, self._numbers, self._ids = array("Q"), array("Q"), bytearray()
        self._seen = bytearray()

    def add(self, position: int, number: int, event_id: bytes) -> None:
        """Remember the next event. One that is not in order, or has no id, is a finding by itself."""
        if len(event_id) == 16 and (not self._positions or position > self._positions[-1]):
            self._positions.append(position)
            self._numbers.append(number)
            self._ids += event_id
            self._seen.append(0)

    def is_at(self, event_id: bytes, position: int, number: int) -> bool:
        """Whether the log has an event with this id at this place."""
        at = bisect_left(self._positions, position)
        found = at < len(self._positions) and (self._positions[at], self._numbers[at]) == (position, number)
        return found and self._ids[16 * at : 16 * at + 16] == event_id

    def mark(self, position: int) -> None:
        """The index has the event of a position."""
        self._seen[bisect_left(self._positions, position)] = 1

    def unmarked(self, after: int, upto: int) -> list[tuple[int, bytes]]:
        """The positions and ids of events that were not marked, in a range of positions."""
        return [
            (position, bytes(self._ids[16 * at : 16 * at + 16]))
            for at, position in enumerate(self._positions)
            if not self._seen[at] and after < position <= upto
        ]


def complete_upto(keys: PartitionKeys) -> StoreOperation[int]:
    """The position up to which there is an index of ids; 0 without one, or with one that is of another log."""
    [kind] = yield Execute([("TYPE", keys.ids)])
    if kind != b"hash":
        return 0
    [[epoch, upto], ours] = yield Execute([("HMGET", keys.ids, "epoch", "upto"), ("HGET", keys.meta, "epoch")])
    return fields.number(keys.ids, "upto", upto) if epoch == ours else 0


def check_ids(
    keys: PartitionKeys,
    log: WalkedIds,
    upto: int,
    floor: Callable[[], StoreOperation[int]],
    is_in_log: Callable[[int, int], StoreOperation[bool]],
    tell: Callable[[str, str], None],
) -> StoreOperation[None]:
    """Compare the index, complete up to ``upto``, with the log: what points elsewhere or to nothing, what is missing.

    Ids of trimmed events stay in the index. An id that the log has in two streams has its first place.
    """
    told: set[bytes] = set()
    cursor, trimmed = b"0", (yield from floor())
    while True:
        [(cursor, flat)] = yield Execute([("HSCAN", keys.ids, cursor, "COUNT", IDS_A_PAGE)])
        for event_id, place in zip(flat[::2], flat[1::2], strict=True):
            if event_id in _OTHERS or event_id in told:
                continue
            fault = yield from _fault_of(event_id, place, log, trimmed, floor, is_in_log)
            if fault is not None:
                told.add(event_id)
                tell(_where(keys, event_id), fault)
        if int(cursor) == 0:
            break
    missing = log.unmarked((yield from floor()), upto)
    for at in range(0, len(missing), IDS_A_PAGE):
        page = missing[at : at + IDS_A_PAGE]
        [places] = yield Execute([("HMGET", keys.ids, *(event_id for _, event_id in page))])
        for (position, event_id), place in zip(page, places, strict=True):
            if place is None and position > (yield from floor()):
                tell(_where(keys, event_id), f"is missing; the log has its event at position {position}")


def _fault_of(
    event_id: bytes,
    place: bytes,
    log: WalkedIds,
    trimmed: int,
    floor: Callable[[], StoreOperation[int]],
    is_in_log: Callable[[int, int], StoreOperation[bool]],
) -> StoreOperation[str | None]:
    """What is wrong with an entry of the index. The floor was at ``trimmed``, and is asked for again only if needed."""
    read = _PLACE.fullmatch(place)
    if read is None or len(event_id) != 16:
        return f"holds {place!r}, which is no place of an event"
    position, number = int(read[1]), int(read[2])
    if log.is_at(event_id, position, number):
        log.mark(position)
        return None
    if position <= trimmed or (yield from is_in_log(number, position)) or position <= (yield from floor()):
        return None
    return f"points to event {number} at position {position}, where the log has another event, or none"


def _where(keys: PartitionKeys, event_id: bytes) -> str:
    shown = str(UUID(bytes=event_id)) if len(event_id) == 16 else repr(event_id)
    return f"{keys.ids} {shown}"
