"""Appending: what the caller asks for, as one script run; what the script says, as results and errors."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import (
    AppendTooLarge,
    CheckpointConflict,
    EventIdReused,
    InvalidInput,
    LogCorrupt,
    RunnerError,
    StoreReplaced,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ..events import NewEvent, pack_event
from ..facts import StoreFacts
from ..keys import PartitionKeys
from ..names import check_name
from ..requests import Command, Execute, Operation, Pending, Receive, Send
from ..scripts import load
from ..settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS


class Expected:
    """An expectation that is not a number. Compare by identity."""

    __slots__ = ("name", "wire")

    def __init__(self, name: str, wire: str) -> None:
        self.name = name
        self.wire = wire

    def __repr__(self) -> str:
        return self.name


#: Append whatever the version is.
ANY: Final = Expected("ANY", "any")
#: The stream must have events.
STREAM_EXISTS: Final = Expected("STREAM_EXISTS", "exists")
#: The stream must not exist; the same as expecting version 0.
NO_STREAM: Final = 0

ExpectedVersion = int | Expected
#: What `append_many` and `append_each` take: stream, events, expected version.
Append = tuple[str, Iterable[NewEvent], ExpectedVersion]


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append did. After a repeated append everything is as it was the first time, and ``duplicate`` is true."""

    stream: str
    #: The stream's version after the append.
    version: int
    #: The positions of the first and the last event appended; 0 where there were none.
    first_position: int
    position: int
    partition: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Group:
    stream: str
    expected: ExpectedVersion
    envelopes: list[bytes]


def append_all(
    facts: StoreFacts, appends: Sequence[Append], checkpoint: tuple[str, int] | None, partition: int | None, now: int
) -> Operation[list[AppendResult]]:
    """All or nothing. ``partition`` says where the checkpoint is, when there are no streams to say it."""
    groups = _groups(appends, now)
    keys = _one_partition(facts, groups, partition)
    if len({group.stream for group in groups}) < len(groups):
        raise InvalidInput("one append names a stream twice; put its events into one group")
    _check_size(groups)
    name, position = checkpoint or ("", 0)
    if checkpoint is not None:
        check_name(name, "checkpoint")
        if not isinstance(position, int) or position < 1:
            raise InvalidInput(f"checkpoint {name!r} needs a position of 1 or more, not {position!r}")
    if not groups and checkpoint is None:
        return []
    [reply] = yield Execute([_command(facts, keys, "all", groups, name, position)])
    if reply[0] == b"refused":
        raise _refusal(groups[reply[1] - 1], reply[2])
    if reply[0] == b"checkpoint":
        raise CheckpointConflict(name, position, reply[1])
    _check_log(reply, keys)
    return [_result(group, verdict, keys) for group, verdict in zip(groups, reply[1:], strict=True)]


def append_each(facts: StoreFacts, appends: Sequence[Append], now: int) -> Operation[list[AppendResult | RunnerError]]:
    """Every append for itself, in order, many a round trip; a refused one gives its error in place of a result.

    One script run is under way while the next is packed. After a lost connection what was not answered is sent
    again, which is safe, and answered as it would have been.
    """
    groups = _groups(appends, now)
    for group in groups:
        _check_size([group])
    outcomes: list[AppendResult | RunnerError | None] = [None] * len(groups)
    under_way: deque[tuple[Pending, PartitionKeys, list[int]]] = deque()
    for keys, places in _script_runs(facts, groups):
        command = _command(facts, keys, "each", [groups[place] for place in places])
        under_way.append(((yield from _send(command)), keys, places))
        if len(under_way) > 1:
            yield from _take_outcomes(under_way, groups, outcomes)
    while under_way:
        yield from _take_outcomes(under_way, groups, outcomes)
    return [outcome for outcome in outcomes if outcome is not None]


def _send(command: Command) -> Operation[Pending]:
    try:
        return (yield Send([command]))  # type: ignore[no-any-return]
    except StoreUnavailable:
        return Pending([command])  # never answered, so sent again


def _take_outcomes(
    under_way: deque[tuple[Pending, PartitionKeys, list[int]]],
    groups: Sequence[_Group],
    outcomes: list[AppendResult | RunnerError | None],
) -> Operation[None]:
    pending, keys, places = under_way.popleft()
    try:
        [reply] = yield Receive(pending)
    except StoreUnavailable:
        [reply] = yield Execute(pending.commands)
        for later, _, _ in under_way:  # lost with it, and to run before anything new is sent
            later.replies[:] = yield Execute(later.commands)
    _check_log(reply, keys)
    for place, verdict in zip(places, reply[1:], strict=True):
        fine = verdict[0] in (b"ok", b"duplicate")
        outcomes[place] = _result(groups[place], verdict, keys) if fine else _refusal(groups[place], verdict)


#: Independent appends that go in one script run: a few milliseconds of server time at most.
EACH_RUN = 200


def _script_runs(facts: StoreFacts, groups: Sequence[_Group]) -> Iterator[tuple[PartitionKeys, list[int]]]:
    """Places in ``groups``, by partition, in their order, each list within the limits of one script run."""
    open_runs: dict[PartitionKeys, list[int]] = {}
    sizes: dict[PartitionKeys, tuple[int, int]] = {}
    for place, group in enumerate(groups):
        keys = facts.of_stream(group.stream)
        places = open_runs.setdefault(keys, [])
        size, events = sizes.get(keys, (0, 0))
        size += sum(map(len, group.envelopes))
        events += len(group.envelopes)
        if places and (len(places) >= EACH_RUN or size > MAX_APPEND_BYTES or events > MAX_APPEND_EVENTS):
            yield keys, places
            places = open_runs[keys] = []
            size, events = sum(map(len, group.envelopes)), len(group.envelopes)
        places.append(place)
        sizes[keys] = size, events
    yield from ((keys, places) for keys, places in open_runs.items() if places)


def _groups(appends: Sequence[Append], now: int) -> list[_Group]:
    groups = []
    for stream, events, expected in appends:
        check_name(stream)
        if not isinstance(expected, Expected) and (
            not isinstance(expected, int) or isinstance(expected, bool) or expected < 0
        ):
            raise InvalidInput(
                f"expected version must be a number from 0, ANY, NO_STREAM or STREAM_EXISTS, not {expected!r}"
            )
        envelopes, ids = [], set()
        for event in events:
            if not isinstance(event, NewEvent):
                raise InvalidInput(f"only NewEvent objects can be appended, not {type(event).__name__}: {event!r}")
            if event.id in ids:
                raise EventIdReused(stream, f"the id {event.id} is there twice")
            ids.add(event.id)
            envelopes.append(pack_event(stream, event, now))
        groups.append(_Group(stream, expected, envelopes))
    return groups


def _check_size(groups: Sequence[_Group]) -> None:
    count = sum(len(group.envelopes) for group in groups)
    if count > MAX_APPEND_EVENTS:
        raise AppendTooLarge(f"one append of {count} events is over the limit of {MAX_APPEND_EVENTS}; nothing was sent")
    size = sum(len(envelope) for group in groups for envelope in group.envelopes)
    if size > MAX_APPEND_BYTES:
        raise AppendTooLarge(f"one append of {size} bytes is over the limit of {MAX_APPEND_BYTES}; nothing was sent")


def _one_partition(facts: StoreFacts, groups: Sequence[_Group], partition: int | None) -> PartitionKeys:
    found = {facts.of_stream(group.stream).partition: group.stream for group in groups}
    if partition is not None:
        found.setdefault(facts.of_partition(partition).partition, f"(partition {partition})")
    if len(found) > 1:
        streams = ", ".join(repr(stream) for stream in found.values())
        raise InvalidInput(
            f"one append must stay in one partition; {streams} live in different ones",
            hint="Append to them one after the other, or make the store with one partition.",
        )
    return facts.keys[next(iter(found), 0)]


def _command(
    facts: StoreFacts, keys: PartitionKeys, mode: str, groups: Sequence[_Group], checkpoint: str = "", position: int = 0
) -> Command:
    names = [keys.log, keys.meta, keys.checkpoints, *keys.recent, keys.new]
    names += [keys.stream(group.stream) for group in groups]
    token = secrets.token_hex(8) if checkpoint or mode == "each" else ""
    args: list[Any] = [mode, facts.epoch, checkpoint, position, token, len(groups)]
    for group in groups:
        expected = group.expected.wire if isinstance(group.expected, Expected) else group.expected
        args += (expected, len(group.envelopes), *group.envelopes)
    return load("append").call(names, *args)


def _result(group: _Group, verdict: list[Any], keys: PartitionKeys) -> AppendResult:
    kind, version, first, final = verdict
    return AppendResult(group.stream, version, first, final, keys.partition, kind == b"duplicate")


def _refusal(group: _Group, verdict: list[Any]) -> RunnerError:
    kind, number = verdict
    if kind == b"wrong_version":
        return WrongExpectedVersion(group.stream, group.expected, number)
    return EventIdReused(group.stream, f"{number} of its {len(group.envelopes)} ids are in the stream already")


def _check_log(reply: list[Any], keys: PartitionKeys) -> None:
    if reply[0] == b"replaced":
        raise StoreReplaced(keys.name)
    if reply[0] == b"corrupt":
        _, position, length, floor = reply
        raise LogCorrupt(
            f"the log of partition {keys.partition} of store {keys.name!r} ends at position {position}, "
            f"but holds {length} entries after {floor} trimmed ones; nothing was written"
        )
