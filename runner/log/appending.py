"""Appending: what the caller asks for, as one script run; what the script says, as results and errors."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..effects import Command, Execute, Pending, Receive, Send, StoreOperation
from ..errors import (
    BookmarkConflict,
    EventIdReused,
    InvalidInput,
    LogCorrupt,
    NotConfirmed,
    RunnerError,
    StoreReplaced,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ..format.events import EVENT_ID, NewEvent
from ..format.keys import PartitionKeys
from ..format.names import check_name
from ..format.scripts import load
from .append_plan import (
    Append,
    AppendResult,
    Expected,
    ExpectedVersion,
    _check_sequence,
    _check_size,
    _Group,
    _group,
    _one_partition,
    _script_runs,
)
from .durability import Durability, acknowledgement, marked, shortfall
from .id_index import index_command
from .info import StoreInfo


def append_all(
    info: StoreInfo,
    appends: Sequence[Append],
    bookmark: tuple[str, int] | None,
    partition: int | None,
    now: int,
    level: Durability,
) -> StoreOperation[list[AppendResult]]:
    """All or nothing. ``partition`` says where the bookmark is, when there are no streams to say it.

    Positions are in the order of the groups. A stream's events may be in several of them, each of which expects the
    version that the one before it leaves.
    """
    groups = [_group(stream, events, expected, now) for stream, events, expected in appends]
    keys = _one_partition(info, groups, partition)
    _check_sequence(groups)
    _check_size(groups)
    name, position = bookmark or ("", 0)
    if bookmark is not None:
        check_name(name, "bookmark")
        if not isinstance(position, int) or position < 1:
            raise InvalidInput(f"bookmark {name!r} needs a position of 1 or more, not {position!r}")
    if not groups and bookmark is None:
        return []
    command = _command(info, keys, "all", groups, name, position)
    [reply, *acknowledged] = yield Execute([command, *acknowledgement(level)])
    return (yield from _conclude(groups, command, reply, acknowledged, keys, level, bookmark))


def append_new(
    info: StoreInfo, stream: str, events: Iterable[NewEvent], expected: ExpectedVersion, now: int, level: Durability
) -> StoreOperation[AppendResult]:
    """Append events whose ids are new in the whole partition: a known one raises EventIdReused, in a repetition, too.

    Whoever repeats it is told WrongExpectedVersion or EventIdReused; only what is sent again after a lost connection,
    in here, is recognised. Keeps the index of ids (see `ids`), and makes it first where there is none.
    """
    groups = [_group(stream, events, expected, now)]
    keys = info.of_stream(stream)
    _check_size(groups)
    command = _command(info, keys, "all", groups, new_ids=True)
    [reply, *acknowledged] = yield Execute([command, *acknowledgement(level)])
    while reply[0] == b"unindexed":
        # In one round trip, so that a busy writer that knows nothing of the index seldom comes between the two.
        commands = [index_command(info, keys), command, *acknowledgement(level)]
        [_, reply, *acknowledged] = yield Execute(commands)
    [result] = yield from _conclude(groups, command, reply, acknowledged, keys, level)
    return result


def _conclude(
    groups: Sequence[_Group],
    command: Command,
    reply: list[Any],
    acknowledged: list[Any],
    keys: PartitionKeys,
    level: Durability,
    bookmark: tuple[str, int] | None = None,
) -> StoreOperation[list[AppendResult]]:
    """What the reply of a script run means; one that wrote nothing is confirmed by a mark."""
    if reply[0] == b"ok" and not _wrote(reply[1:]) and (marks := marked(level, keys)):
        # Once more and in one round trip: a lost connection may lead to another primary, which must say so itself.
        [reply, *acknowledged] = yield Execute([command, *marks])
    if reply[0] == b"refused":
        raise _refusal(groups[reply[1] - 1], reply[2])
    if reply[0] == b"bookmark" and bookmark is not None:
        raise BookmarkConflict(*bookmark, reply[1])
    _check_log(reply, keys)
    missing = shortfall(level, acknowledged)
    reached = None if missing else level
    results = [_result(group, verdict, keys, reached) for group, verdict in zip(groups, reply[1:], strict=True)]
    if missing:
        raise NotConfirmed(results, *missing)
    return results


def append_each(
    info: StoreInfo, appends: Sequence[Append], now: int, level: Durability
) -> StoreOperation[list[AppendResult | RunnerError]]:
    """Every append for itself, in order, many a round trip; a refused one gives its error in place of a result.

    So does one that cannot be appended: an error of the caller's is not the others' fault. One script run is under
    way while the next is packed. After a lost connection what was not answered is sent again, which is safe, and
    answered as it would have been. A script run that was not confirmed gives NotConfirmed in place of its results.
    """
    outcomes: list[AppendResult | RunnerError | None] = [None] * len(appends)
    under_way: deque[_Run] = deque()
    for keys, groups in _script_runs(info, _packed(appends, now, outcomes)):
        command = _command(info, keys, "each", list(groups.values()))
        run = _Run(Pending([command, *acknowledgement(level)]), keys, groups)
        under_way.append(run)
        try:
            run.pending = yield Send(run.pending.commands)
        except StoreUnavailable:
            yield from _repeat(under_way)
        if len(under_way) > 1:
            yield from _take_outcomes(under_way, outcomes, level)
    while under_way:
        yield from _take_outcomes(under_way, outcomes, level)
    return [outcome for outcome in outcomes if outcome is not None]


@dataclass(slots=True)
class _Run:
    """A script run under way: what it does, by place among the appends."""

    pending: Pending
    keys: PartitionKeys
    groups: dict[int, _Group]


def _packed(
    appends: Sequence[Append], now: int, outcomes: list[AppendResult | RunnerError | None]
) -> Iterator[tuple[int, _Group]]:
    """The appends with their places; what cannot be appended is put among the outcomes."""
    for place, (stream, events, expected) in enumerate(appends):
        try:
            group = _group(stream, events, expected, now)
            _check_size([group])
        except InvalidInput as refused:
            outcomes[place] = refused
        else:
            yield place, group


def _take_outcomes(
    under_way: deque[_Run], outcomes: list[AppendResult | RunnerError | None], level: Durability
) -> StoreOperation[None]:
    try:
        [reply, *acknowledged] = yield Receive(under_way[0].pending)
    except StoreUnavailable:
        yield from _repeat(under_way)
        [reply, *acknowledged] = under_way[0].pending.replies
    run = under_way.popleft()
    _check_log(reply, run.keys)
    verdicts = _verdicts(reply)
    if not _wrote(verdicts) and any(map(_is_fine, verdicts)) and (marks := marked(level, run.keys)):
        [reply, *acknowledged] = yield Execute([run.pending.commands[0], *marks])
        _check_log(reply, run.keys)
        verdicts = _verdicts(reply)
    missing = shortfall(level, acknowledged) if any(map(_is_fine, verdicts)) else None
    for (place, group), verdict in zip(run.groups.items(), verdicts, strict=True):
        if not _is_fine(verdict):
            outcomes[place] = _refusal(group, verdict)
        elif missing:
            outcomes[place] = NotConfirmed([_result(group, verdict, run.keys, None)], *missing)
        else:
            outcomes[place] = _result(group, verdict, run.keys, level)


def _verdicts(reply: Sequence[Any]) -> list[Any]:
    flat = iter(reply[1:])
    return list(zip(flat, flat, flat, flat, strict=True))


def _repeat(under_way: Iterable[_Run]) -> StoreOperation[None]:
    """Do again, in order and before anything new is sent, what was lost with its connection."""
    for run in under_way:
        run.pending.replies[:] = yield Execute(run.pending.commands)


def _command(
    info: StoreInfo,
    keys: PartitionKeys,
    mode: str,
    groups: Sequence[_Group],
    bookmark: str = "",
    position: int = 0,
    new_ids: bool = False,
) -> Command:
    token = secrets.token_hex(8) if bookmark or mode == "each" or new_ids else ""
    names = [keys.log, keys.meta, keys.bookmarks, *keys.recent, keys.new, keys.run(token)]
    names += [keys.stream(group.stream) for group in groups]
    if new_ids:
        names.append(keys.ids)
    args: list[Any] = [mode, info.epoch, bookmark, position, token, len(groups)]
    for group in groups:
        expected = group.expected.wire if isinstance(group.expected, Expected) else group.expected
        args += (expected, len(group.envelopes), *group.envelopes)
    return load("log/append").call(names, *args)


def _is_fine(verdict: Sequence[Any]) -> bool:
    return verdict[0] in (b"ok", b"duplicate")


def _wrote(verdicts: Iterable[Sequence[Any]]) -> bool:
    """Whether a script run wrote an event: a repetition does not, nor does an append without events."""
    return any(verdict[0] == b"ok" and verdict[3] > 0 for verdict in verdicts)


def _result(group: _Group, verdict: Sequence[Any], keys: PartitionKeys, level: Durability) -> AppendResult:
    kind, version, first, final = verdict
    durability = None if level is None else str(level)
    return AppendResult(group.stream, version, first, final, keys.partition, kind == b"duplicate", durability)


def _refusal(group: _Group, verdict: Sequence[Any]) -> RunnerError:
    kind, number = verdict[:2]
    if kind == b"wrong_version":
        return WrongExpectedVersion(group.stream, group.expected, number)
    if kind == b"known":
        event_id = UUID(bytes=group.envelopes[number - 1][EVENT_ID])
        return EventIdReused(group.stream, f"the id {event_id} is in the store already, at position {verdict[2]}")
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
