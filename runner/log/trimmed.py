"""What a trim has left: where reading begins if everything that is left is asked for."""

from __future__ import annotations

from ..effects import Execute, StoreOperation
from ..format import fields
from ..format.keys import PartitionKeys
from ..format.names import check_name
from .info import StoreInfo


def floor_of(keys: PartitionKeys) -> StoreOperation[int]:
    """The position of the last event that was trimmed from a partition; 0 if none was."""
    [stored] = yield Execute([("HGET", keys.meta, "floor")])
    return fields.number(keys.meta, "floor", stored)


def before_first(info: StoreInfo, stream: str) -> StoreOperation[int]:
    """The number before the first event of a stream that is left; 0 if none was trimmed, or none is left."""
    key = info.of_stream(stream).stream(check_name(stream))
    [entries] = yield Execute([("XRANGE", key, "-", "+", "COUNT", 1)])
    return int(entries[0][0].partition(b"-")[0]) - 1 if entries else 0
