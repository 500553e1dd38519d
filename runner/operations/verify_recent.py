"""Verifying the ids of the last events, by which a repeated append is recognised, against a log that is walked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ..effects import Execute, StoreOperation
from ..errors import RecordDamaged
from ..format import fields
from ..format.keys import PartitionKeys

#: How many ids are read at a time.
IDS_A_PAGE = 1000

#: The place of an id. Earlier versions of the script kept the position only.
_PLACE = re.compile(rb"(\d{1,19})(?:-(\d{1,19}))?")

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Recent:
    """An id that an append has left, and where it says that the event is."""

    key: str
    stream_key: bytes
    event_id: bytes
    position: int
    #: None: not known.
    number: int | None


class RecentIds:
    """The ids of the last events: at most 20,000. ``tell`` gets a place and what is wrong there."""

    def __init__(self, keys: PartitionKeys, tell: Callable[[str, str], object]) -> None:
        self._keys = keys
        self._tell = tell
        self._left: defaultdict[int, list[_Recent]] = defaultdict(list)

    def read(self) -> StoreOperation[None]:
        """Read them, before the log: so the log has all of their events."""
        for key in self._keys.recent:
            try:
                yield from self._read(key)
            except RecordDamaged as damage:
                self._tell(key, str(damage))

    def _read(self, key: str) -> StoreOperation[None]:
        prefix, cursor, seen = self._keys.stream("").encode(), b"0", set[bytes]()
        while True:
            [(cursor, flat)] = yield Execute([("HSCAN", key, cursor, "COUNT", IDS_A_PAGE)])
            for member, place in zip(flat[::2], flat[1::2], strict=True):
                if member in seen:  # a scan may give a field twice
                    continue
                seen.add(member)
                stream_key, event_id, found = member[:-_ID_BYTES], member[-_ID_BYTES:], _PLACE.fullmatch(place)
                if found is None:
                    field = f"{stream_key.decode(errors='replace')} {event_id.hex()}"
                    self._tell(key, str(fields.damaged(key, field, place, "no place of an event")))
                elif len(event_id) != _ID_BYTES or not stream_key.startswith(prefix):
                    self._tell(key, str(fields.damaged(key, "member", member, "no stream and id")))
                else:
                    number = int(found[2]) if found[2] else None
                    recent = _Recent(key, stream_key, event_id, int(found[1]), number)
                    self._left[recent.position].append(recent)
            if int(cursor) == 0:
                return

    def walked(self, position: int, number: int, event_id: bytes, stream: str | None) -> None:
        """The log has this event; ``stream`` is None if it cannot be decoded."""
        if position in self._left:
            key = None if stream is None else self._keys.stream(stream).encode()
            left = [each for each in self._left.pop(position) if not _is_of(each, number, event_id, key)]
            if left:
                self._left[position] = left

    def tell_left(self, floor: int) -> None:
        """Tell those whose events were not met. Events up to ``floor`` were trimmed."""
        for position in sorted(self._left):
            for recent in self._left[position] if position > floor else []:
                shown = f"{recent.stream_key.decode(errors='replace')} {UUID(bytes=recent.event_id)}"
                what = f"{shown} points to position {position}, where the log has another event, or none"
                self._tell(recent.key, what)


def _is_of(recent: _Recent, number: int, event_id: bytes, stream_key: bytes | None) -> bool:
    """Whether an id is that of an event."""
    return (
        recent.event_id == event_id
        and recent.number in (None, number)
        and (stream_key is None or recent.stream_key == stream_key)
    )
