"""What the store knows about its projections and reactors, over all partitions."""

from __future__ import annotations

from dataclasses import dataclass

from ..effects import DriverOperation, StoreOperation
from ..errors import InvalidInput, RecordDamaged
from ..format.keys import PartitionKeys
from ..log.extent import is_restored_now
from ..log.reading import last_position
from ..progress import status as of_partition
from ..progress.runners import live_runners
from ..progress.status import ProjectionStatus
from .face import StoreContext, for_either_store


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The status of a store's projections, also while no runner is alive."""

    name: str
    #: The position of the last event of each partition, in their order; 0 in an empty one.
    last_positions: tuple[int, ...]
    #: By partition and name; of each projection the live build first, then the candidate and the previous build.
    projections: tuple[ProjectionStatus, ...]
    #: An import with positions has begun and not ended: the log is the beginning of another, and nothing is appended.
    restoring: bool = False


@for_either_store
def status(store: StoreContext, projection: str | None = None) -> DriverOperation[StoreStatus]:
    """The status of all projections and reactors, or of one. One whose record is damaged has the state "damaged".

    Raises InvalidInput for a projection that the store does not know, StoreTrouble.
    """
    partitions = store.info.keys
    if projection is not None:
        partitions = tuple((yield from of_partition.partitions_of(store.info, projection)))
    try:
        runners = yield from live_runners(store.info)
    except RecordDamaged:  # `verify` names it; nobody is known to be alive
        runners = []
    found: list[ProjectionStatus] = []
    for keys in partitions:
        if projection is None:
            for damage in (yield from of_partition.damaged_names(keys)):
                found.append(of_partition.damaged_status(keys, "?", damage))
        for name in (yield from _names(keys, projection)):
            try:
                found += yield from of_partition.status(keys, name, runners)
            except RecordDamaged as damage:
                found.append(of_partition.damaged_status(keys, name, damage))
            except InvalidInput:
                if projection is not None:
                    raise
                continue  # it was reset or unregistered since its name was read
    last_positions, restoring = [], False
    for keys in store.info.keys:
        last_positions.append((yield from last_position(keys)))
        restoring = restoring or (yield from is_restored_now(keys))
    return StoreStatus(store.info.name, tuple(last_positions), tuple(found), restoring)


def _names(keys: PartitionKeys, projection: str | None) -> StoreOperation[list[str]]:
    if projection is not None:
        return [projection]
    try:
        return (yield from of_partition.projection_names(keys))
    except RecordDamaged:  # the set is a row by itself
        return []


@for_either_store
def projection_names(store: StoreContext) -> DriverOperation[list[str]]:
    """The names of all projections and reactors that were run, and not reset or unregistered since, sorted.

    Raises StoreTrouble.
    """
    names: set[str] = set()
    for keys in store.info.keys:
        names.update((yield from of_partition.projection_names(keys)))
    return sorted(names)
