"""Appending events whose ids must be new in the whole partition; the index of ids tells which ids are known."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from ..effects import Execute, StoreOperation
from ..errors import NotConfirmed
from ..format.events import NewEvent
from ..format.scripts import load
from .append_plan import AppendResult, ExpectedVersion, check_size, plan_group
from .append_replies import check_log, is_fine, refusal_of, result_of, wrote
from .durability import Durability, acknowledgement, marked, shortfall
from .id_index import index_command
from .info import StoreInfo


def append_new(
    info: StoreInfo, stream: str, events: Iterable[NewEvent], expected: ExpectedVersion, now: int, level: Durability
) -> StoreOperation[AppendResult]:
    """Append to one stream if all ids are new in the partition. A known id raises EventIdReused.

    A repeated append is not recognised: it raises WrongExpectedVersion or EventIdReused. Only a request that this
    operation itself sends again after a lost connection is recognised. The operation keeps the index of ids (see
    `id_index`), and makes it first if there is none.
    """
    group = plan_group(stream, events, expected, now)
    keys = info.of_stream(group.stream)
    check_size([group])
    command = load("log/append_new").call(
        [keys.log, keys.meta, keys.new, keys.stream(group.stream), keys.ids, *keys.recent],
        info.epoch, secrets.token_hex(8), group.wire_expected, *group.envelopes,
    )  # fmt: skip
    [verdict, *acknowledged] = yield Execute([command, *acknowledgement(level)])
    while verdict[0] == b"unindexed":
        # In one round trip, so that a writer that does not keep the index seldom appends between the two commands.
        commands = [index_command(info, keys), command, *acknowledgement(level)]
        [_, verdict, *acknowledged] = yield Execute(commands)
    if is_fine(verdict) and not wrote([verdict]) and (marks := marked(level, keys)):
        # The script again, with the mark: after a lost connection another primary may answer, so both go in one trip.
        [verdict, *acknowledged] = yield Execute([command, *marks])
    check_log(verdict, keys)
    if not is_fine(verdict):
        raise refusal_of(group, verdict)
    missing = shortfall(level, acknowledged)
    result = result_of(group, verdict, keys, None if missing else level)
    if missing:
        raise NotConfirmed([result], *missing)
    return result
