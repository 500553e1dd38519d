"""Small records beside the log: snapshots, and how far somebody has come. What is read, is decided upon, and written.

A record is a list of values at a `Place`: under a key of its own, under a name in a hash, or under a number in a sorted
set. It is stored sealed (see `runner.format.checksum`), with a random number of 8 bytes before the values, which is new
with each write: so its first bytes tell it from every other record, even from one of equal values.

`replace_records.lua` is the one compare-and-set: it writes records if those that their writer has read still stand, all
or none. A request that is sent again finds its own records, and is answered as the first time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..effects import Command, Execute, StoreOperation
from ..errors import StoreReplaced
from ..format.checksum import Damaged, seal, unseal
from ..format.keys import PartitionKeys
from ..format.scripts import load
from .info import StoreInfo

#: The random number of a record, in bytes.
RANDOM = 8

#: So many first bytes of a record hold its random number: before it are a checksum and the heads of array and bytes.
FIRST_BYTES = 4 + 1 + 2 + RANDOM


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: a string, or a field ``name`` of a hash, or the score ``number`` in a sorted set."""

    key: str
    name: str | None = None
    number: int | None = None

    @property
    def type_of_key(self) -> str:
        """As `replace_records.lua` names it."""
        return "hash" if self.name is not None else "zset" if self.number is not None else "string"


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies at a place; false where that is nothing."""

    data: bytes

    def __bool__(self) -> bool:
        return bool(self.data)

    @property
    def content(self) -> list[Any]:
        """The values. Raises Damaged."""
        content = unseal(self.data)
        if not content:
            raise Damaged("it holds nothing")
        return content[1:]


#: What lies where nothing does.
NOTHING = Stored(b"")


@dataclass(frozen=True, slots=True)
class Change:
    """Write ``record`` (see `record_of`) in place of what was ``before``; remove that where ``record`` is empty."""

    place: Place
    before: Stored
    record: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: at the place of a change, counted from 0, something else is ``stored`` by now."""

    change: int
    stored: Stored


#: What to store in place of a record; None leaves that.
Decision = Callable[[Stored], StoreOperation[bytes | None]]


def record_of(content: list[Any], what: str) -> bytes:
    """A record as it is stored. Raises PayloadError, naming ``what``, for values that cannot be."""
    return seal([secrets.token_bytes(RANDOM), *content], what)


def read(place: Place) -> StoreOperation[Stored]:
    """What lies at a place of a string or a hash."""
    [data] = yield Execute([("GET", place.key) if place.name is None else ("HGET", place.key, place.name)])
    return Stored(data) if data else NOTHING


def put(key: str, record: bytes) -> StoreOperation[None]:
    """Write a record to a string, whatever it holds."""
    yield Execute([("SET", key, record)])


def remove(place: Place) -> StoreOperation[None]:
    """Remove what lies at a place of a string or a hash, whatever it is."""
    yield Execute([("UNLINK", place.key) if place.name is None else ("HDEL", place.key, place.name)])


def update(
    info: StoreInfo, keys: PartitionKeys, place: Place, decide: Decision, guess: Stored | None = None
) -> StoreOperation[Stored]:
    """Write what ``decide`` makes of what is stored, which it is asked again as often as another writer was faster.

    ``guess`` saves reading where the caller knows what is stored; a wrong one costs a round trip. Returns what is
    stored then. Raises StoreReplaced.
    """
    stored = (yield from read(place)) if guess is None else guess
    while True:
        record = yield from decide(stored)
        if record is None:
            return stored
        moved = yield from replace(info, keys, [Change(place, stored, record)])
        if moved is None:
            return Stored(record)
        stored = moved.stored


def replace(info: StoreInfo, keys: PartitionKeys, changes: Sequence[Change]) -> StoreOperation[Moved | None]:
    """Make all changes, whose places are of one type, or none. Raises StoreReplaced."""
    [reply] = yield Execute([_command(info, keys, changes)])
    _check(info, reply)
    return Moved(reply[1] - 1, Stored(reply[2])) if reply[0] == b"moved" else None


def remove_each(info: StoreInfo, keys: PartitionKeys, records: Iterable[tuple[Place, Stored]]) -> StoreOperation[int]:
    """Remove, in one round trip, those records that are as they were read; how many that is. Raises StoreReplaced."""
    replies = yield Execute([_command(info, keys, [Change(place, stored, b"")]) for place, stored in records])
    for reply in replies:
        _check(info, reply)
    return sum(reply[1] for reply in replies if reply[0] == b"ok")


def _command(info: StoreInfo, keys: PartitionKeys, changes: Sequence[Change]) -> Command:
    args: list[Any] = [info.epoch, changes[0].place.type_of_key]
    for change in changes:
        name, number = change.place.name, change.place.number
        where = name if name is not None else "" if number is None else number
        args += (where, change.before.data[:FIRST_BYTES], change.record)
    return load("log/replace_records").call([keys.meta, *(change.place.key for change in changes)], *args)


def _check(info: StoreInfo, reply: list[Any]) -> None:
    if reply[0] == b"replaced":
        raise StoreReplaced(info.name)
