"""Trimming: removing the first events of a log for good, but none that a projection may still need.

`trim.lua` decides: in one step it reads every checkpoint, every parked event and the last event of the log, and removes
a portion only below all of these. So events can be appended and projected meanwhile, and a trim can be stopped at any
moment. The floor records which events are gone, and the next trim goes on from there.

This module makes the portions: it reads which events were recorded before a time, and which streams they are in,
because the entries of the streams' indexes are removed with them. A stream that has lost all its entries keeps its key,
and with the key its version.

The store does not know readers without a checkpoint: subscriptions, reads under way, and views that other programs
make. They get LogTrimmed when they ask for events that are gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..effects import DriverOperation, Execute, StoreOperation, invoke
from ..errors import InvalidInput, LogCorrupt, LogTrimmed, StoreReplaced, UndecodableEvent
from ..format import fields
from ..format.events import to_microseconds
from ..format.keys import PartitionKeys
from ..format.numbers import check_number
from ..format.scripts import expect, load
from ..log.append_replies import being_restored
from ..log.info import StoreInfo
from ..log.page_size import PageSize
from ..log.reading import read_log
from ..progress.status import damaged_names, projection_names
from .face import OnProgress, StoreContext, counting_from, for_either_store, ignore

#: How many events one run of the script removes, and how many streams it touches, give or take a page. The streams take
#: most of the server's time: 10 to 20 ms for so many.
EVENTS_A_PORTION, STREAMS_A_PORTION = 10_000, 1_000

#: How many events are read at a time, for their streams and times.
EVENTS_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class TrimResult:
    """What a trim removed from a partition, or would remove."""

    partition: int
    #: Events removed by this trim; all events up to position ``floor`` are gone now, also those of earlier trims.
    removed: int
    floor: int
    #: Why no more events were removed, in words.
    limit: str
    #: What to do so that more can be removed; empty if nothing holds them.
    advice: str = ""
    #: The projections and reactors whose checkpoints were looked at, sorted.
    asked: tuple[str, ...] = ()


@for_either_store
def trim(
    store: StoreContext,
    before: int | datetime,
    *,
    partition: int | None = None,
    dry_run: bool = False,
    although_nobody_has_read_them: bool = False,
    confirm: Callable[[list[TrimResult]], Awaitable[bool] | bool] | None = None,
    progress: OnProgress = ignore,
) -> DriverOperation[list[TrimResult]]:
    """Remove the first events of the log for good, as far as no projection needs them, partition by partition.

    ``before`` is a position, which needs its ``partition`` where there are several, or a time: up to the first event
    that was recorded then or later. ``dry_run``: only say what would be removed. ``confirm`` is called with these
    results if there is anything to remove, and nothing is removed if it returns False; it may be a coroutine function.
    ``progress`` is told how many events are gone. A trim can be stopped at any moment and be done again.

    Where the store knows no projection or reactor, nothing tells which events are still needed: then events are removed
    only with ``although_nobody_has_read_them``. Raises InvalidInput, LogCorrupt if the log has gaps, StoreReplaced,
    StoreTrouble.
    """
    parts = trims(store.info, before, partition)
    results = []
    for part in parts:
        results.append((yield from part.plan()))
    total = sum(result.removed for result in results)
    if dry_run or not total:
        return results
    if not although_nobody_has_read_them:
        for result in results:
            _check_asked(store.info, result)
    if confirm is not None and not (yield from invoke(confirm, results)):
        return [
            replace(plan, removed=0, floor=plan.floor - plan.removed, limit="it was not confirmed") for plan in results
        ]
    removed = 0
    for place, part in enumerate(parts):
        results[place] = yield from part.run(progress=counting_from(removed, total, progress))
        removed += results[place].removed
    return results


@dataclass(frozen=True, slots=True)
class _Look:
    """The floor and the last position of the log, how high the floor may rise, why, and what to do about it."""

    floor: int
    limit: int
    reason: str
    last: int
    advice: str = ""
    #: The projections and reactors that were asked.
    asked: tuple[str, ...] = ()


@dataclass(slots=True)
class _Portion:
    """Events that may be removed: all up to ``upto``, with the last number of each of their streams."""

    upto: int
    numbers: dict[str, int] = field(default_factory=dict)
    #: Whether the next event was recorded at the time that was given, or later.
    complete: bool = False


class Trim:
    """One trim of a partition: of the events with positions below ``before``, or those recorded before that time.

    The log is not sorted by time: a time means up to the first event that was recorded then or later, by its writer's
    clock. `plan` says what `run` would do. If a projection is reset between the two, `run` removes nothing: the
    projection may begin again.
    """

    def __init__(self, info: StoreInfo, partition: int, before: int | datetime) -> None:
        self._epoch = info.epoch
        self._keys = info.of_partition(partition)
        self._position = None if isinstance(before, datetime) else check_number(before, "before")
        self._time = to_microseconds(before, "before") if isinstance(before, datetime) else None
        self._known: set[str] = set()
        self._size = PageSize(EVENTS_A_PAGE)

    def plan(self) -> StoreOperation[TrimResult]:
        """What `run` would remove now. Reads events only if a time was given. Raises what `run` raises."""
        look = yield from self._step()
        if self._position is not None:
            upto = max(look.floor, min(look.limit, self._position - 1))
            return self._result(look.floor, upto, look, complete=False)
        upto = look.floor
        try:
            while (portion := (yield from self._portion(upto, look.limit, EVENTS_A_PORTION))).upto > upto:
                upto = portion.upto
        except LogTrimmed:  # another process trims, too
            return (yield from self.plan())
        return self._result(look.floor, upto, look, portion.complete)

    def run(
        self, portion: int = EVENTS_A_PORTION, progress: Callable[[int], object] = ignore
    ) -> StoreOperation[TrimResult]:
        """Remove the events, ``portion`` of them a step; ``progress`` is told how many are gone.

        Raises LogCorrupt if the log has gaps, StoreReplaced, StoreTrouble.
        """
        look = yield from self._step()
        first = look.floor
        while True:
            try:
                part = yield from self._portion(look.floor, look.limit, portion)
            except LogTrimmed:  # another process trims, too
                look = yield from self._step()
                continue
            if part.upto == look.floor:
                return self._result(first, look.floor, look, part.complete)
            look = yield from self._step(look.floor, part)
            progress(look.floor - first)

    def _result(self, first: int, floor: int, look: _Look, complete: bool) -> TrimResult:
        if complete or (self._position is not None and floor >= self._position - 1):
            reason, advice = "that is all that was asked for", ""
        else:
            reason, advice = look.reason, look.advice
        return TrimResult(self._keys.partition, floor - first, floor, reason, advice, look.asked)

    def _portion(self, after: int, limit: int, size: int) -> StoreOperation[_Portion]:
        """The next events that may be removed, about ``size`` of them.

        An event that cannot be decoded is removed with the events around it, because its time is not known. Neither is
        its stream, so the index of the stream keeps an entry that points to nothing.
        """
        if self._position is not None:
            limit = min(limit, self._position - 1)
        portion, passed = _Portion(after), after
        while passed < limit and (passed < after + size or portion.upto == after):
            if len(portion.numbers) >= STREAMS_A_PORTION:
                break
            count = max(1, min(limit - passed, after + size - passed))
            page = yield from read_log(self._keys, passed, self._size, count)
            for event in page.events:
                if self._time is not None and event.recorded_us >= self._time:
                    portion.complete = True
                    return portion
                portion.numbers[event.stream] = event.number
                portion.upto = passed = event.position
            if isinstance(page.damage, UndecodableEvent):
                passed = page.damage.position
                if self._position is not None:
                    portion.upto = passed
            elif page.damage is not None:
                raise page.damage
            elif not page.events:
                break
        return portion

    def _step(self, floor: int = 0, portion: _Portion | None = None) -> StoreOperation[_Look]:
        """Run the script: remove a portion if that is allowed; without a portion, only read the limits."""
        part = portion or _Portion(0)
        keys = self._keys
        while True:
            units = yield from _read_units(keys)
            forgotten = sorted(self._known - {unit.name for unit in units})
            self._known |= {unit.name for unit in units}
            indexes = {keys.stream(stream): number for stream, number in part.numbers.items()}
            upto = 0 if forgotten else part.upto
            command = load("log/trim").call(
                [keys.log, keys.meta, keys.projections, *(key for unit in units for key in unit.keys(keys)), *indexes],
                self._epoch, floor, upto, len(units), *(arg for unit in units for arg in unit.args), *indexes.values(),
            )  # fmt: skip
            [[verdict, *what]] = yield Execute([command])
            if verdict == b"changed":
                continue
            if verdict == b"replaced":
                raise StoreReplaced(keys.name)
            if verdict == b"restoring":
                raise being_restored(keys.name)
            if verdict == b"corrupt":
                raise _corrupt(keys, *what)
            expect("log/trim", verdict, b"ok")
            found, limit, reason, name, build, position, last = what
            if forgotten:
                text = f"projection {forgotten[0]!r} was reset or unregistered meanwhile, and may begin again"
                return _Look(found, found, text, last)
            asked = tuple(unit.name for unit in units)
            if reason == b"end" or not last:  # at the beginning of an empty log nobody holds anything
                text = "the last event of a log stays" if last else "the log is empty"
                return _Look(found, limit, text, last, asked=asked)
            holder = next(unit for unit in units if unit.name == name.decode())
            text, advice = _holder(holder, build.decode(), reason == b"parked", position)
            return _Look(found, limit, text, last, advice, asked)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A projection or reactor, and its builds that hold the log."""

    name: str
    live: str
    candidate: str
    kind: str = "projection"

    @property
    def args(self) -> tuple[str, str, str]:
        return self.name, self.live, self.candidate

    def keys(self, keys: PartitionKeys) -> Iterator[str]:
        yield keys.projection(self.name)
        for build in (self.live, self.candidate):
            if build:
                yield keys.build(self.name, build)
                yield keys.parked(self.name, build)


def _read_units(keys: PartitionKeys) -> StoreOperation[list[_Unit]]:
    for damage in (yield from damaged_names(keys)):
        raise damage  # nobody knows what that projection still needs
    names = yield from projection_names(keys)
    if not names:
        return []
    found: list[Any] = yield Execute([("HMGET", keys.projection(name), "build", "candidate") for name in names])
    units = [
        _Unit(
            name,
            fields.plain_name(keys.projection(name), "build", live) or "",
            fields.plain_name(keys.projection(name), "candidate", candidate) or "",
        )
        for name, (live, candidate) in zip(names, found, strict=True)
    ]
    kinds = yield Execute([("HGET", keys.build(unit.name, unit.live), "kind") for unit in units])
    return [
        replace(unit, kind=fields.text(keys.build(unit.name, unit.live), "kind", kind, "projection"))
        for unit, kind in zip(units, kinds, strict=True)
    ]


def _holder(unit: _Unit, build: str, parked: bool, position: int) -> tuple[str, str]:
    """Which build holds the log back, and what to do so that it does not any more."""
    who, name = f"{unit.kind} {unit.name!r} (build {build!r})", unit.name
    if parked:
        text = f"{who} has parked the event at position {position}"
        return text, f"Run `runner parked retry {name}`, or give the event up: `runner parked drop {name}`."
    if not build:
        text = f"{unit.kind} {name!r} has no live build: its record is gone"
        return text, f"Start its runner. If nobody runs it any more, forget it: `runner unregister {name}`."
    text = f"{who} stands at position {position}"
    if build == unit.candidate:
        return text, f"Finish the candidate: `runner rebuild {name}`."
    return text, f"Let a runner catch {name} up. If nobody runs it any more, forget it: `runner unregister {name}`."


def _check_asked(info: StoreInfo, plan: TrimResult) -> None:
    """Raise InvalidInput if events would be removed that no projection was asked about."""
    if plan.removed and not plan.asked:
        raise InvalidInput(
            f"store {info.name!r} knows no projection or reactor in partition {plan.partition}: none was run, or all "
            f"were unregistered; so nothing tells whether the events up to position {plan.floor} are still needed",
            hint="Run your projections first: each that is run after the trim stops with LogTrimmed. Or give "
            "--although-nobody-has-read-them (although_nobody_has_read_them=True).",
        )


def _corrupt(keys: PartitionKeys, last: int, length: int, floor: int) -> LogCorrupt:
    return LogCorrupt(
        f"the log of partition {keys.partition} of store {keys.name!r} ends at position {last}, "
        f"but holds {length} entries after {floor} trimmed ones; nothing was removed"
    )


def trims(info: StoreInfo, before: int | datetime, partition: int | None = None) -> list[Trim]:
    """The trims of a partition, or of all. A position needs its partition if there are several."""
    if partition is None and info.partitions > 1 and not isinstance(before, datetime):
        raise InvalidInput(
            f"store {info.name!r} has {info.partitions} partitions; position {before} needs its partition",
            hint="Give the position with partition= (--partition).",
        )
    which = range(info.partitions) if partition is None else [partition]
    return [Trim(info, each, before) for each in which]
