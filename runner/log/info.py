"""Store info (format, partitions and their tags, epoch): read when a store is opened, made the first time."""

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


def open_store(name: str, partitions: int | None) -> StoreOperation[StoreInfo]:
    """Read the store's info, or make it with ``partitions`` (1 unless told). Raises InvalidInput or LogCorrupt."""
    check_plain_name(name, "store")
    if partitions is not None:
        partitions = check_number(partitions, "partitions", 1, MAX_PARTITIONS)
    wanted = partitions or 1
    new = _Stored(FORMAT, wanted, secrets.token_hex(8), suffixes_of(name, wanted))
    stored = yield from _read_or_make(PartitionKeys(name, 0), new)
    if partitions is not None and partitions != stored.partitions:
        raise InvalidInput(
            f"store {name!r} has {counted(stored.partitions, 'partition')}, not {partitions}",
            hint=f"Open it with partitions={stored.partitions}, or without: the number is fixed when a store is made.",
        )
    keys = tuple(
        PartitionKeys(name, partition, stored.format, suffix) for partition, suffix in enumerate(stored.suffixes)
    )
    for other in keys[1:]:
        yield from _read_or_make(other, stored)
    return StoreInfo(name, stored.epoch, keys)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the metadata of a partition says about the store."""

    format: int
    partitions: int
    epoch: str
    #: The suffixes of the partitions' tags. Format 1 has none.
    suffixes: list[str]


def _read_or_make(keys: PartitionKeys, new: _Stored) -> StoreOperation[_Stored]:
    [info] = yield Execute([("HMGET", keys.meta, *_FIELDS)])
    if None in info[:3]:
        command = load("log/create").call(
            [keys.meta, keys.log], new.format, new.partitions, new.epoch, ",".join(new.suffixes)
        )  # fmt: skip
        [[verdict, *info]] = yield Execute([command])
        if verdict == b"orphan":
            raise LogCorrupt(
                f"store {keys.name!r} has a log in partition {keys.partition}, but {keys.meta} is gone",
                hint="Restore the database from a backup, or remove the remaining keys of the store.",
            )
        expect("log/create", verdict, b"ok")
    return _decoded(keys, [None if value is None else value.decode(errors="replace") for value in info])


def _decoded(keys: PartitionKeys, info: list[str | None]) -> _Stored:
    """What the fields of the metadata say. Raises LogCorrupt for what they cannot say."""
    format_, partitions, epoch, tags, needs = info
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
