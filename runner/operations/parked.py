"""Events that projections set aside: parked ones, which wait for another attempt, and skipped ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..effects import DriverOperation, StoreOperation
from ..errors import InvalidInput, RecordDamaged
from ..format.keys import PartitionKeys
from ..format.names import check_plain_name
from ..progress.builds import read_builds, unknown_projection
from ..progress.parked import SetAsideEvent, in_place_of, look_at_parked, look_at_skipped, read_parked
from ..progress.status import partitions_of, projection_names
from .face import StoreContext, for_either_store

#: Reads what a build has set aside.
Look = Callable[[PartitionKeys, str, str], StoreOperation[list[SetAsideEvent | RecordDamaged]]]


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A row of a projection's live build that has parked events."""

    projection: str
    partition: int
    key: str
    #: The parked events in the order of the log: the first one failed, others may only wait for it.
    events: tuple[SetAsideEvent, ...]

    @property
    def error(self) -> str:
        """The first error that is known of these events."""
        return next((one.error for one in self.events if one.error), "")


@dataclass(frozen=True, slots=True)
class SkippedEvent:
    """An event that a projection's live build skipped."""

    projection: str
    partition: int
    event: SetAsideEvent


@for_either_store
def parked(
    store: StoreContext,
    projection: str | None = None,
    *,
    row: str | None = None,
    limit: int | None = None,
    brief: bool = False,
) -> DriverOperation[list[ParkedRow]]:
    """The rows that have parked events: of all projections and reactors, or of one, or one row of one.

    ``row`` is the name of a stream, unless the projection has a key of its own. ``limit``: only the first so many
    events of each projection in each partition. ``brief``: without tracebacks, which take most of the memory. The
    records are read in pages. Raises InvalidInput for a projection that the store does not know, StoreTrouble.
    """
    found = []
    for keys, name in (yield from _places(store, projection)):
        look = partial(look_at_parked, row=row, limit=limit, brief=brief)
        rows = _by_row((yield from _all_or_error(keys, name, look)))
        found += [ParkedRow(name, keys.partition, key, tuple(events)) for key, events in rows.items()]
    return found


@for_either_store
def skipped(
    store: StoreContext, projection: str | None = None, *, limit: int | None = None
) -> DriverOperation[list[SkippedEvent]]:
    """The events that all projections and reactors skipped, or one of them did, oldest first.

    They were skipped by policy, or dropped after they were parked. The last 10,000 or so of each build and partition
    are kept; ``limit`` asks for the last so many of each. Raises InvalidInput for a projection that the store does not
    know, StoreTrouble.
    """
    if projection is not None:
        check_plain_name(projection, "projection")
    found = []
    for keys, name in (yield from _places(store, projection)):
        events = yield from _all_or_error(keys, name, partial(look_at_skipped, limit=limit))
        found += [SkippedEvent(name, keys.partition, event) for event in events]
    return found


def live_build(keys: PartitionKeys, name: str) -> StoreOperation[str]:
    """The live build of a projection. Raises InvalidInput if there is none."""
    builds = yield from read_builds(keys, name)
    if builds.live is None:
        raise (yield from unknown_projection(keys, name))
    return builds.live


def parked_rows(keys: PartitionKeys, name: str, row: str | None) -> StoreOperation[dict[str, list[SetAsideEvent]]]:
    """The parked events of the live build by row, or those of one row."""
    build = yield from live_build(keys, name)
    return _by_row(one for one in (yield from read_parked(keys, name, build)) if row in (None, one.key))


def _by_row(events: Iterable[SetAsideEvent]) -> dict[str, list[SetAsideEvent]]:
    rows: dict[str, list[SetAsideEvent]] = {}
    for one in events:
        rows.setdefault(one.key, []).append(one)
    return rows


def _all_or_error(keys: PartitionKeys, name: str, look: Look) -> StoreOperation[list[SetAsideEvent]]:
    """The events that the live build has set aside; what stands for an error, in the place of what is damaged."""
    try:
        found = yield from look(keys, name, (yield from live_build(keys, name)))
    except RecordDamaged as damage:
        return [in_place_of(damage)]
    except InvalidInput:
        return []  # it was reset or unregistered since its name was read
    return [in_place_of(one) if isinstance(one, RecordDamaged) else one for one in found]


def _places(store: StoreContext, projection: str | None) -> StoreOperation[list[tuple[PartitionKeys, str]]]:
    """The partitions of a projection, or of all. Raises InvalidInput if the store does not know it."""
    if projection is not None:
        return [(keys, projection) for keys in (yield from partitions_of(store.info, projection))]
    places = []
    for keys in store.info.keys:
        places += [(keys, name) for name in (yield from projection_names(keys))]
    return places
