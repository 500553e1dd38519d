"""The plan of an append: its arguments, checked and packed before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from uuid import UUID

import msgspec

from ..errors import AppendTooLarge, EventIdReused, InvalidInput
from ..format.events import EVENT_ID, NewEvent, pack_event
from ..format.keys import PartitionKeys
from ..format.names import check_name
from ..format.numbers import check_number
from ..settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from .info import StoreInfo


class Expected:
    """An expected version that is not a number: `ANY` or `STREAM_EXISTS`. Compare by identity."""

    __slots__ = ("name", "wire")

    def __init__(self, name: str, wire: str) -> None:
        self.name = name
        self.wire = wire

    def __repr__(self) -> str:
        return self.name


#: Append at any version.
ANY: Final = Expected("ANY", "any")


#: The stream must have events.
STREAM_EXISTS: Final = Expected("STREAM_EXISTS", "exists")


#: The stream must not exist; the same as expecting version 0.
NO_STREAM: Final = 0


ExpectedVersion = int | Expected


#: What `append_many` and `append_each` take: stream, events, expected version.
Append = tuple[str, Iterable[NewEvent], ExpectedVersion]


class AppendResult(msgspec.Struct, frozen=True):
    """What an append did. A repeated append gives the numbers of the first one, and ``duplicate`` is true."""

    stream: str
    #: The stream's version after the append.
    version: int
    #: The positions of the first and the last event appended; 0 if the append had no events.
    first_position: int
    position: int
    partition: int
    duplicate: bool
    #: The durability level of the confirmed append, as text; None if the store declares none, and in a NotConfirmed.
    durability: str | None = None


class Group(msgspec.Struct, frozen=True, gc=False):
    """The events of one stream in an append, packed. ``size``: the envelopes together, in bytes."""

    stream: str
    expected: ExpectedVersion
    envelopes: list[bytes]
    size: int

    @property
    def wire_expected(self) -> int | str:
        """The expected version as scripts take it."""
        return self.expected.wire if isinstance(self.expected, Expected) else self.expected


#: How many independent appends go in one script run: a few milliseconds of server time at most.
EACH_RUN = 200


def script_runs(
    info: StoreInfo, groups: Iterable[tuple[int, Group]]
) -> Iterator[tuple[PartitionKeys, dict[int, Group]]]:
    """The groups by partition, in their order, in portions within the limits of one script run."""
    portions: dict[PartitionKeys, dict[int, Group]] = {}
    sizes: dict[PartitionKeys, tuple[int, int]] = {}
    for place, group in groups:
        keys = info.of_stream(group.stream)
        portion = portions.setdefault(keys, {})
        size, events = sizes.get(keys, (0, 0))
        size += group.size
        events += len(group.envelopes)
        if portion and (len(portion) >= EACH_RUN or size > MAX_APPEND_BYTES or events > MAX_APPEND_EVENTS):
            yield keys, portion
            portion = portions[keys] = {}
            size, events = group.size, len(group.envelopes)
        portion[place] = group
        sizes[keys] = size, events
    yield from ((keys, portion) for keys, portion in portions.items() if portion)


def plan_group(stream: str, events: Iterable[NewEvent], expected: ExpectedVersion, now: int) -> Group:
    """The packed events of one stream. Raises InvalidInput, or a kind of it, for arguments that are not valid."""
    stream = check_name(stream)
    if not isinstance(expected, Expected):
        expected = check_number(expected, "expected version, if it is not ANY or STREAM_EXISTS,")
    envelopes: list[bytes] = []
    ids: set[UUID] = set()
    size = 0
    for event in events:
        if not isinstance(event, NewEvent):
            raise InvalidInput(f"only NewEvent objects can be appended, not {type(event).__name__}: {event!r}")
        if event.id in ids:
            raise EventIdReused(stream, f"the id {event.id} is given twice")
        ids.add(event.id)
        envelope = pack_event(stream, event, now)
        envelopes.append(envelope)
        size += len(envelope)
    return Group(stream, expected, envelopes, size)


def check_sequence(groups: Sequence[Group]) -> None:
    """Raise InvalidInput or EventIdReused unless groups of the same stream continue each other and share no id."""
    if len({group.stream for group in groups}) == len(groups):
        return
    before: dict[str, tuple[ExpectedVersion, set[bytes]]] = {}
    for group in groups:
        expected, ids = before.get(group.stream, (group.expected, set()))
        given = {envelope[EVENT_ID] for envelope in group.envelopes}
        twice = group.stream in before
        if twice and (isinstance(expected, Expected) or group.expected != expected or not ids or not given):
            raise _does_not_continue(group, expected if ids else None)
        if ids & given:
            raise EventIdReused(group.stream, "an id is given twice")
        end = group.expected if isinstance(group.expected, Expected) else group.expected + len(given)
        before[group.stream] = end, ids | given


def _does_not_continue(group: Group, left: ExpectedVersion | None) -> InvalidInput:
    """The error for a stream that comes again. ``left``: the version after its append before; None = it had no events.

    `Expected` in that place is what that append expects: nobody knows what version it leaves.
    """
    if left is None or not group.envelopes:
        why = "and one of the two appends has no events"
    elif isinstance(left, Expected):
        why = f"after an append that expects {left.name}, so the version that it leaves is not known"
    else:
        here = group.expected.name if isinstance(group.expected, Expected) else f"version {group.expected}"
        why = f"and expects {here} where the append before it leaves version {left}"
    return InvalidInput(
        f"stream {group.stream!r} comes twice in one append_many, {why}; nothing was sent",
        hint="Give a stream's events in one append, or let each append expect the version that the one before leaves.",
    )


def check_size(groups: Sequence[Group]) -> None:
    """Raise AppendTooLarge for groups that are too much for one script run."""
    count = sum(len(group.envelopes) for group in groups)
    if count > MAX_APPEND_EVENTS:
        raise AppendTooLarge(f"one append of {count} events is over the limit of {MAX_APPEND_EVENTS}; nothing was sent")
    size = sum(group.size for group in groups)
    if size > MAX_APPEND_BYTES:
        raise AppendTooLarge(f"one append of {size} bytes is over the limit of {MAX_APPEND_BYTES}; nothing was sent")


def partition_of_groups(info: StoreInfo, groups: Sequence[Group], partition: int | None) -> PartitionKeys:
    """The one partition of all these streams, and of ``partition`` if it is given. Raises InvalidInput for several."""
    found = {info.of_stream(group.stream).partition: group.stream for group in groups}
    if partition is not None:
        found.setdefault(info.of_partition(partition).partition, f"(partition {partition})")
    if len(found) > 1:
        streams = ", ".join(repr(stream) for stream in found.values())
        raise InvalidInput(
            f"one append must stay in one partition; {streams} live in different ones",
            hint="Append to them one after the other, or make the store with one partition.",
        )
    return info.keys[next(iter(found), 0)]
