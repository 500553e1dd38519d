"""Store info (format, partitions and their tags, epoch): read when a store is opened, made if that is wanted."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from ..effects import Execute, StoreOperation
from ..errors import InvalidInput, LogCorrupt, counted
from ..format.keys import FORMAT, FORMATS, PartitionKeys
from ..format.names import check_plain_name, partition_of, placed_by
from ..format.numbers import check_number
from ..format.scripts import expect, load
from ..format.tags import suffixes_of
from .stores import no_such_store

#: More partitions than this are a mistake: each has its own feed, thread and connection in every process.
MAX_PARTITIONS = 256

#: What a store may need of the programs that open it. None is known yet; a store that needs more is refused.
KNOWN_NEEDS: frozenset[str] = frozenset()

_FIELDS = ("format", "partitions", "epoch", "tags", "needs")


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """An open store: its name, its epoch (a random id made with the store), and the keys of its partitions."""

    name: str
    epoch: str
    keys: tuple[PartitionKeys, ...]

    @property
    def partitions(self) -> int:
        return len(self.keys)

    def of_stream(self, stream: str) -> PartitionKeys:
        """The keys of the partition that ``stream`` lives in."""
        placed = stream if self.keys[0].format == 1 else placed_by(stream)
        return self.keys[partition_of(placed, len(self.keys))]

    def of_partition(self, partition: int) -> PartitionKeys:
        """The keys of a partition. Raises InvalidInput if the store has no partition of that number."""
        return self.keys[check_number(partition, f"a partition of store {self.name!r}", 0, len(self.keys) - 1)]


def open_store(
    name: str, partitions: int | None, *, create: bool = True, place: str = "this server"
) -> StoreOperation[StoreInfo]:
    """Read the store's info, or make it with ``partitions`` (1 unless told). ``place``: the server, for people.

    Raises InvalidInput or LogCorrupt; StoreNotFound if there is no store and ``create`` is False.
    """
    check_plain_name(name, "store")
    if partitions is not None:
        partitions = check_number(partitions, "partitions", 1, MAX_PARTITIONS)
    wanted = partitions or 1
    new = _Stored(FORMAT, wanted, secrets.token_hex(8), suffixes_of(name, wanted))
    first = PartitionKeys(name, 0)
    stored = yield from (_read_or_make(first, new) if create else _read(first))
    if stored is None:
        raise (yield from no_such_store(name, place))
    there = stored.partitions
    if partitions is not None and partitions != there:
        raise InvalidInput(
            f"store {name!r} has {counted(there, 'partition')}, not {partitions}",
            hint=f"Give partitions={there} (--partitions {there}), or none: the number is fixed.",
        )
    keys = tuple(
        PartitionKeys(name, partition, stored.format, suffix) for partition, suffix in enumerate(stored.suffixes)
    )
    for other in keys[1:]:
        if create:
            yield from _read_or_make(other, stored)
        elif (yield from _read(other)) is None:
            raise InvalidInput(
                f"store {name!r} was made in part only: its partition {other.partition} is missing",
                hint=f"Make the rest with the rights of an administrator: `runner init --name {name}`.",
            )
    return StoreInfo(name, stored.epoch, keys)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the metadata of a partition says about the store."""

    format: int
    partitions: int
    epoch: str
    #: The suffixes of the partitions' tags. Format 1 has none.
    suffixes: list[str]


def _read(keys: PartitionKeys) -> StoreOperation[_Stored | None]:
    """What the metadata says, or None if nothing of the partition is there. Raises LogCorrupt."""
    info, log = yield Execute([("HMGET", keys.meta, *_FIELDS), ("EXISTS", keys.log)])
    if any(info):
        return _decoded(keys, info)
    if log:
        raise _orphan(keys)
    return None


def _read_or_make(keys: PartitionKeys, new: _Stored) -> StoreOperation[_Stored]:
    [info] = yield Execute([("HMGET", keys.meta, *_FIELDS)])
    if None in info[:3]:
        command = load("log/create").call(
            [keys.meta, keys.log], new.format, new.partitions, new.epoch, ",".join(new.suffixes)
        )  # fmt: skip
        [[verdict, *info]] = yield Execute([command])
        if verdict == b"orphan":
            raise _orphan(keys)
        expect("log/create", verdict, b"ok")
    return _decoded(keys, info)


def _orphan(keys: PartitionKeys) -> LogCorrupt:
    return LogCorrupt(
        f"store {keys.name!r} has a log in partition {keys.partition}, but {keys.meta} is gone",
        hint="Restore the database from a backup, or remove the remaining keys of the store.",
    )


def _decoded(keys: PartitionKeys, info: list[bytes | None]) -> _Stored:
    """What the fields of the metadata say. Raises LogCorrupt for what they cannot say."""
    format_, partitions, epoch, tags, needs = (
        None if value is None else value.decode(errors="replace") for value in info
    )
    if format_ is None or partitions is None or epoch is None:
        raise LogCorrupt(
            f"the info of store {keys.name!r} in {keys.meta} is not complete",
            hint="Restore the database from a backup.",
        )
    number, count = (int(value) if value.isdecimal() and len(value) < 10 else 0 for value in (format_, partitions))
    if number not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise LogCorrupt(
            f"store {keys.name!r} has format {format_!r}; this version of the runner reads formats {known}",
            hint="Use the version of the runner that wrote it.",
        )
    unknown = sorted(set((needs or "").split()) - KNOWN_NEEDS)
    if unknown:
        raise LogCorrupt(
            f"store {keys.name!r} needs {unknown[0]!r}, which this version of the runner does not know",
            hint="Use the version of the runner that wrote it, or a later one.",
        )
    suffixes = [""] * count if number == 1 else (tags or "").split(",")
    if not 1 <= count <= MAX_PARTITIONS or len(suffixes) != count:
        what = f"{partitions!r} partitions" + ("" if number == 1 else f" and the tags {tags!r}")
        raise LogCorrupt(
            f"{keys.meta} is damaged: it says that store {keys.name!r} has {what}",
            hint="Restore the database from a backup.",
        )
    return _Stored(number, count, epoch, suffixes)
