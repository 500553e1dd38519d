"""Store info (format, number of partitions, epoch): read when a store is opened, made the first time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from ..effects import Execute, StoreOperation
from ..errors import InvalidInput, LogCorrupt
from ..format.keys import FORMAT, PartitionKeys
from ..format.names import check_plain_name, partition_of
from ..format.numbers import check_number
from ..format.scripts import load

#: More partitions than this are a mistake: each has its own feed, thread and connection in every process.
MAX_PARTITIONS = 256


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
        return self.keys[partition_of(stream, len(self.keys))]

    def of_partition(self, partition: int) -> PartitionKeys:
        """The keys of a partition. Raises InvalidInput if the store has no partition of that number."""
        return self.keys[check_number(partition, f"a partition of store {self.name!r}", 0, len(self.keys) - 1)]


def open_store(name: str, partitions: int | None) -> StoreOperation[StoreInfo]:
    """Read the store's info, or make it with ``partitions`` (1 unless told). Raises InvalidInput or LogCorrupt."""
    check_plain_name(name, "store")
    if partitions is not None:
        partitions = check_number(partitions, "partitions", 1, MAX_PARTITIONS)
    first = PartitionKeys(name, 0)
    wanted, epoch = partitions or 1, secrets.token_hex(8)
    _, count, epoch = yield from _create(first, wanted, epoch)
    if partitions is not None and partitions != count:
        raise InvalidInput(
            f"store {name!r} has {count} partitions, not {partitions}",
            hint=f"Open it with partitions={count}, or without: the number is fixed when a store is made.",
        )
    keys = tuple(PartitionKeys(name, partition) for partition in range(count))
    for other in keys[1:]:
        yield from _create(other, count, epoch)
    return StoreInfo(name, epoch, keys)


def _create(keys: PartitionKeys, partitions: int, epoch: str) -> StoreOperation[tuple[int, int, str]]:
    [info] = yield Execute([("HMGET", keys.meta, "format", "partitions", "epoch")])
    if None in info:
        command = load("log/create").call([keys.meta, keys.log], FORMAT, partitions, epoch)
        [[verdict, *info]] = yield Execute([command])
        if verdict == b"orphan":
            raise LogCorrupt(
                f"store {keys.name!r} has a log in partition {keys.partition}, but {keys.meta} is gone",
                hint="Restore the database from a backup, or remove the remaining keys of the store.",
            )
    if len(info) < 3 or None in info:
        raise LogCorrupt(
            f"the info of store {keys.name!r} in {keys.meta} is not complete",
            hint="Restore the database from a backup.",
        )
    if int(info[0]) != FORMAT:
        raise LogCorrupt(
            f"store {keys.name!r} has format {int(info[0])}; this version of the runner reads format {FORMAT}",
            hint="Use the version of the runner that wrote it.",
        )
    return int(info[0]), int(info[1]), info[2].decode()
