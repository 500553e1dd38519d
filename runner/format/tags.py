"""The hash tags of a store's partitions, chosen so that the partitions spread evenly over the nodes of a cluster.

A cluster gives each node a share of the 16,384 hash slots. The slots are divided into as many parts as the store has
partitions, and each partition gets a tag whose slot lies in a part of its own: ``{es.3.bq}``. So an even division of
the slots over nodes is an even division of the partitions, and no two partitions share a slot.

Partition 0 has the tag ``{es.0}``, because the store must be found by its name alone. Its slot decides which part is
partition 0's; the next part is partition 1's, and so on. Suffixes have letters only: ``{es.1.0}`` is partition 0 of a
store named ``es.1``.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase

#: The number of hash slots of a cluster.
SLOTS = 16384


def tag_of(name: str, partition: int, suffix: str = "") -> str:
    """The hash tag of a partition, with its braces."""
    return f"{{{name}.{partition}{'.' if suffix else ''}{suffix}}}"


def slot_of(tag: str) -> int:
    """The hash slot of the keys that begin with a tag: CRC-16 (XMODEM) of what stands in its braces."""
    return crc_hqx(tag[1:-1].encode(), 0) % SLOTS


def suffixes_of(name: str, partitions: int) -> list[str]:
    """The suffixes of a new store's tags, by partition: the first ones whose slots lie in the parts."""

    def part_of(tag: str) -> int:
        return slot_of(tag) * partitions // SLOTS

    first = part_of(tag_of(name, 0))
    return [
        "" if partition == 0 else next(
            suffix for suffix in _suffixes()
            if part_of(tag_of(name, partition, suffix)) == (first + partition) % partitions
        )
        for partition in range(partitions)
    ]  # fmt: skip


def _suffixes() -> Iterator[str]:
    """a, b, … z, aa, ab …"""
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))
