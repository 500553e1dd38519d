"""Appending, as script runs that are confirmed at the durability level that the store declares."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..effects import Command, Execute, Pending, Receive, Send, StoreOperation
from ..errors import BookmarkConflict, InvalidInput, NotConfirmed, RunnerError, StoreUnavailable
from ..format.keys import PartitionKeys
from ..format.names import check_name
from ..format.numbers import check_number
from ..format.scripts import load
from .append_plan import (
    Append,
    AppendResult,
    Group,
    check_sequence,
    check_size,
    partition_of_groups,
    plan_group,
    script_runs,
)
from .append_replies import Verdict, check_log, is_fine, refusal_of, result_of, wrote
from .durability import Durability, acknowledgement, marked, shortfall
from .info import StoreInfo


def append_all(
    info: StoreInfo,
    appends: Sequence[Append],
    bookmark: tuple[str, int] | None,
    partition: int | None,
    now: int,
    level: Durability,
) -> StoreOperation[list[AppendResult]]:
    """Append to several streams of one partition, and move a bookmark: all or nothing.

    ``partition``: where the bookmark is, if no streams are given. Positions are in the order of the groups. A stream's
    events may be in several groups; each of these expects the version that the group before it leaves.
    """
    groups = [plan_group(stream, events, expected, now) for stream, events, expected in appends]
    keys = partition_of_groups(info, groups, partition)
    check_sequence(groups)
    check_size(groups)
    name, position = bookmark or ("", 0)
    if bookmark is not None:
        name = check_name(name, "bookmark")
        position = check_number(position, f"the position of bookmark {name!r}", 1)
    if not groups and bookmark is None:
        return []
    command = _command(info, keys, "all", groups, name, position)
    [reply, *acknowledged] = yield Execute([command, *acknowledgement(level)])
    if reply[0] == b"ok" and not wrote(reply[1:]) and (marks := marked(level, keys)):
        # The script again, with the mark: after a lost connection another primary may answer, so both go in one trip.
        [reply, *acknowledged] = yield Execute([command, *marks])
    if reply[0] == b"refused":
        raise refusal_of(groups[reply[1] - 1], reply[2])
    if reply[0] == b"bookmark":
        raise BookmarkConflict(name, position, int(reply[1]))
    check_log(reply, keys)
    missing = shortfall(level, acknowledged)
    reached = None if missing else level
    results = [result_of(group, verdict, keys, reached) for group, verdict in zip(groups, reply[1:], strict=True)]
    if missing:
        raise NotConfirmed(results, *missing)
    return results


def append_each(
    info: StoreInfo, appends: Sequence[Append], now: int, level: Durability
) -> StoreOperation[list[AppendResult | RunnerError]]:
    """Make independent appends, in order, many in one round trip.

    An append that is refused or not valid gives its error in place of a result; the others go on. One script run is
    under way while the next is packed. After a lost connection, script runs without an answer are sent again: that is
    safe, and gives the same answers. A script run that was not confirmed gives NotConfirmed in place of its results.
    """
    outcomes: list[AppendResult | RunnerError | None] = [None] * len(appends)
    under_way: deque[_Run] = deque()
    for keys, groups in script_runs(info, _packed(appends, now, outcomes)):
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
    """A script run under way, and its groups by their place among the appends."""

    pending: Pending
    keys: PartitionKeys
    groups: dict[int, Group]


def _packed(
    appends: Sequence[Append], now: int, outcomes: list[AppendResult | RunnerError | None]
) -> Iterator[tuple[int, Group]]:
    """The appends, packed, with their places. The error of an append that is not valid goes to the outcomes."""
    for place, (stream, events, expected) in enumerate(appends):
        try:
            group = plan_group(stream, events, expected, now)
            check_size([group])
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
    check_log(reply, run.keys)
    verdicts = _verdicts(reply)
    if not wrote(verdicts) and any(map(is_fine, verdicts)) and (marks := marked(level, run.keys)):
        [reply, *acknowledged] = yield Execute([run.pending.commands[0], *marks])
        check_log(reply, run.keys)
        verdicts = _verdicts(reply)
    missing = shortfall(level, acknowledged) if any(map(is_fine, verdicts)) else None
    for (place, group), verdict in zip(run.groups.items(), verdicts, strict=True):
        if not is_fine(verdict):
            outcomes[place] = refusal_of(group, verdict)
        elif missing:
            outcomes[place] = NotConfirmed([result_of(group, verdict, run.keys, None)], *missing)
        else:
            outcomes[place] = result_of(group, verdict, run.keys, level)


def _verdicts(reply: Sequence[Any]) -> list[Verdict]:
    """The verdicts in a reply of mode "each", which is one flat list."""
    flat = iter(reply[1:])
    return list(zip(flat, flat, flat, flat, strict=True))


def _repeat(under_way: Iterable[_Run]) -> StoreOperation[None]:
    """Repeat the script runs whose connection was lost, in order and before anything new is sent."""
    for run in under_way:
        run.pending.replies[:] = yield Execute(run.pending.commands)


def _command(
    info: StoreInfo, keys: PartitionKeys, mode: str, groups: Sequence[Group], bookmark: str = "", position: int = 0
) -> Command:
    run_id = secrets.token_hex(8) if bookmark or mode == "each" else ""
    names = [keys.log, keys.meta, keys.bookmarks, *keys.recent, keys.new, keys.run(run_id)]
    names += [keys.stream(group.stream) for group in groups]
    args: list[Any] = [mode, info.epoch, bookmark, position, run_id, len(groups)]
    for group in groups:
        args += (group.wire_expected, len(group.envelopes), *group.envelopes)
    return load("log/append").call(names, *args)
