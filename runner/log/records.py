"""Small records beside the log, such as snapshots and positions: each is read, decided upon, and written.

A record is a list of values at a `Place`: under a key of its own, under a name in a hash, or under a number in a sorted
set. It is stored sealed (see `runner.format.checksum`), with a random number of 8 bytes before the values. Each write
has a new random number. So the first bytes tell a record from every other record, even from one of equal values.

`replace_records.lua` is the one compare-and-set: it writes all records of a request, or none if one that their writer
has read is stored no longer. A request that is sent again finds its own records, and gets the answer of the first time.
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
from ..format.scripts import expect, load
from .info import StoreInfo

#: The random number of a record, in bytes.
RANDOM = 8

#: How many first bytes tell records apart: a checksum, the heads of the array and of the bytes, the random number.
FIRST_BYTES = 4 + 1 + 2 + RANDOM


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a record: a string, or the field ``name`` of a hash, or the score ``number`` in a sorted set."""

    key: str
    name: str | None = None
    number: int | None = None

    @property
    def type_of_key(self) -> str:
        """The type as `replace_records.lua` names it."""
        return "hash" if self.name is not None else "zset" if self.number is not None else "string"


@dataclass(frozen=True, slots=True)
class Stored:
    """The record at a place, as it is stored; false if there is none."""

    data: bytes

    def __bool__(self) -> bool:
        return bool(self.data)

    @property
    def content(self) -> list[Any]:
        """The values. Raises Damaged."""
        content = unseal(self.data)
        if not content:
            raise Damaged("it holds no values")
        return content[1:]

    def values(self, *kinds: Any) -> list[Any]:
        """The values, each of its type: a class, or several joined by ``|``. Raises Damaged."""
        content = self.content
        if len(content) != len(kinds):
            raise Damaged(f"it holds {len(content)} values in the place of {len(kinds)}")
        for at, (value, kind) in enumerate(zip(content, kinds, strict=True), 1):
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
                raise Damaged(f"its value {at} is {value!r:.40}, which is no {getattr(kind, '__name__', kind)}")
        return content


#: Stands for no record.
NOTHING = Stored(b"")


@dataclass(frozen=True, slots=True)
class Change:
    """Write ``record`` (see `record_of`) in place of the record ``before``; an empty ``record`` removes that one."""

    place: Place
    before: Stored
    record: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: at the place of change number ``change``, from 0, another record is ``stored`` by now."""

    change: int
    stored: Stored


#: Gets the stored record, and gives the record to write in its place, or None to leave it.
Decision = Callable[[Stored], StoreOperation[bytes | None]]


def record_of(content: list[Any], what: str) -> bytes:
    """A record as it is stored. Raises PayloadError, naming ``what``, for values that cannot be stored."""
    return seal([secrets.token_bytes(RANDOM), *content], what)


def read(place: Place) -> StoreOperation[Stored]:
    """The record at a place of a string or a hash."""
    [data] = yield Execute([("GET", place.key) if place.name is None else ("HGET", place.key, place.name)])
    return Stored(data) if data else NOTHING


def put(key: str, record: bytes) -> StoreOperation[None]:
    """Write a record to a string, without a look at the record before."""
    yield Execute([("SET", key, record)])


def remove(place: Place) -> StoreOperation[None]:
    """Remove the record at a place of a string or a hash, without a look at it."""
    yield Execute([("UNLINK", place.key) if place.name is None else ("HDEL", place.key, place.name)])


def update(
    info: StoreInfo, keys: PartitionKeys, place: Place, decide: Decision, guess: Stored | None = None
) -> StoreOperation[Stored]:
    """Write the record that ``decide`` makes of the stored one; ask it again each time another writer was faster.

    ``guess``: the stored record, if the caller knows it. A right guess saves reading, a wrong one costs a round trip.
    Returns the record that is stored afterwards. Raises StoreReplaced.
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
    """Make all changes or none. Their places must be of one type. Raises StoreReplaced."""
    [reply] = yield Execute([_command(info, keys, changes)])
    _check(info, reply)
    return Moved(reply[1] - 1, Stored(reply[2])) if reply[0] == b"moved" else None


def remove_each(info: StoreInfo, keys: PartitionKeys, records: Iterable[tuple[Place, Stored]]) -> StoreOperation[int]:
    """Remove those records that are as they were read, in one round trip; returns how many. Raises StoreReplaced."""
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
    expect("log/replace_records", reply[0], b"ok", b"moved")
