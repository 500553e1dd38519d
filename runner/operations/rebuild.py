"""Making a view again beside the live one, and switching to it.

The candidate is an ordinary build with a lease of its own, driven by an ordinary worker. A rebuild ends with the
switch. The store refuses the switch as long as the candidate lags the live build: no reader sees a view go back.

Old and new rows have to be compared at the same position, while the live build goes on. So a comparison has four steps:

1. Bring the candidate to the position of the live build.
2. Compare all rows as they are, and remember the keys of those that differ.
3. Bring the candidate to the position of the live build again, and remember the keys of the rows that it changes.
4. For each page of remembered keys: read the live rows and their position in one script, bring the candidate to exactly
   that position, and compare.

So each row that may differ is compared once at one position, which the live build had after the comparison began.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from ..effects import Execute, Operation, Pause, StoreOperation
from ..errors import DataError, HistoryDiverged, InvalidInput, LogTruncated, ProjectionHeld
from ..format import fields
from ..format.keys import PartitionKeys
from ..format.scripts import load
from ..log.reading import last_position
from ..progress.builds import Builds, code_of, propose, read_builds, read_position, unknown_projection
from ..progress.checkpoint import Claim
from ..progress.lease import HeldByOther, RunnerIdentity, Which, acquire
from ..progress.runners import keepers, live_runners
from ..projections.calling import check_waiting
from ..projections.projection import Projection, check_projection
from ..projections.reactor import Reactor
from ..views.redis_rows import BuildView, row_state, rows_command
from ..wire.log import write
from ..workers.assignment import IDLE, Assignment
from ..workers.context import WorkerContext
from ..workers.failures import refused
from ..workers.lease_keeper import check_claim, lease_time
from ..workers.outcomes import Again
from ..workers.pool import assign
from ..workers.projection_worker import ProjectionWorker
from .face import OnProgress, StoreContext, counting_from, for_either_store_at_work, ignore

#: Rows that are compared, or looked for, in one round trip.
ROWS_A_PAGE = 500

#: How long to wait between two attempts to claim the candidate of a rebuild that was killed, in seconds.
CLAIM_EVERY = 0.2

#: How many differing rows are kept to be shown.
ROWS_SHOWN = 10


class DifferingRow(NamedTuple):
    """A row that differs: as it is in the live view, and in the candidate's view; None = there is no such row."""

    key: str
    live: Any
    rebuilt: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a candidate's rows compare with the live build's."""

    partition: int
    #: The position at which the last rows were compared.
    position: int
    #: How many rows each build has.
    rows_live: int
    rows_candidate: int
    #: How many rows differ, and the first of these.
    differing: int
    first: tuple[DifferingRow, ...]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What a rebuild did in a partition."""

    partition: int
    #: The build that was made, and the one that was live before.
    build: str
    before: str
    #: The position of the build that was made.
    position: int
    #: Whether the build that was made is live now; if not, it is kept, and a later rebuild goes on with it.
    switched: bool
    #: None if no comparison was asked for.
    comparison: Comparison | None = None
    #: If it is live: the live runners that have code of it, which will keep it up to date: machine and process.
    keepers: tuple[str, ...] = ()


@for_either_store_at_work
def rebuild(
    store: StoreContext,
    projection: Projection,
    *,
    compare: bool = False,
    require_same: bool = False,
    progress: OnProgress = ignore,
    note: Callable[[str], object] = ignore,
) -> Operation[list[RebuildResult]]:
    """Make the view again and switch to it, partition by partition. A rebuild that was interrupted goes on.

    ``compare``: compare old and new rows before the switch. ``require_same``: compare, and do not switch if rows
    differ. ``progress`` is told how many positions the candidate has passed, of how many when it began; ``note`` is
    told sentences for people. Raises InvalidInput, ProjectionHeld, HandlerFailed, DataError or StoreTrouble.
    """
    if isinstance(projection, Reactor):
        raise InvalidInput(f"reactor {projection.name!r} has no view to rebuild, and a rebuild performs no effects")
    yield from check_waiting(check_projection(projection, "a rebuild"))
    ends = []
    for keys in store.info.keys:
        ends.append((yield from last_position(keys)))
    results = []
    for keys in store.info.keys:
        passed = counting_from(sum(ends[: keys.partition]), sum(ends), progress)
        one = _Rebuild(store, projection, keys, passed, note)
        results.append((yield from one.run(compare or require_same, require_same)))
    runners = yield from live_runners(store.info)
    return [
        replace(result, keepers=keepers(runners, projection.name, result.build)) if result.switched else result
        for result in results
    ]


class _Rebuild:
    """The rebuild of one partition."""

    def __init__(
        self,
        store: StoreContext,
        projection: Projection,
        keys: PartitionKeys,
        passed: Callable[[int], object],
        note: Callable[[str], object],
    ) -> None:
        self._keys = keys
        self._note = note
        settings = store.settings
        runner = RunnerIdentity(secrets.token_hex(8), store.info, settings.lease, store.place)

        def notify(assignment: Assignment[Any]) -> None:
            passed(assignment.committed)

        self._assignment: Assignment[Projection]
        self._context = WorkerContext(runner, settings, store.clock, settings.retry_for, notify, write)
        [self._assignment] = assign([projection], [keys])

    def run(self, compare: bool, require_same: bool) -> Operation[RebuildResult]:
        name = self._assignment.name
        builds = yield from read_builds(self._keys, name)
        if builds.live is None:
            raise (yield from unknown_projection(self._keys, name))
        yield from self._check_not_beyond(builds.live)
        comparison = None
        if compare:
            yield from self._begin_not_beyond()
            comparison = yield from self._compare()
            if require_same and comparison.differing:
                found = yield from read_builds(self._keys, name)
                return RebuildResult(
                    self._keys.partition, found.candidate or "", builds.live, comparison.position, False, comparison
                )
        yield from self._bring_up(None)
        found = yield from read_builds(self._keys, name)
        return RebuildResult(
            self._keys.partition, found.live or "", builds.live, self._assignment.committed, True, comparison
        )

    def _check_not_beyond(self, live: str) -> StoreOperation[None]:
        """Raise LogTruncated if the live build stands beyond the end of the log, where no candidate can come."""
        position = yield from self._position(live)
        end = yield from last_position(self._keys)
        if end < position:
            raise LogTruncated(self._assignment.name, self._keys.partition, position, end)

    # -- driving the candidate ----------------------------------------------------------------------

    def _bring_up(self, upto: int | None) -> Operation[None]:
        """Claim the candidate, bring it to ``upto`` (None: to the end, then switch). Raises the candidate's failure."""
        assignment = self._assignment
        yield from self._claim()
        yield from self._drive(upto)
        if assignment.failure is not None:
            raise assignment.failure
        if assignment.state != IDLE:
            raise refused(assignment)

    def _drive(self, upto: int | None) -> Operation[None]:
        """Run workers for the claimed candidate until it is at ``upto``, or is live, stopped or lost."""
        delays = [0.0]
        while delays:
            worker = ProjectionWorker(self._keys, [self._assignment], self._context, delay=delays.pop(), upto=upto)
            while outcomes := (yield from worker.work(live=False)):
                delays += [outcome.delay for outcome in outcomes if isinstance(outcome, Again)]

    def _claim(self) -> Operation[None]:
        """Claim the candidate; wait until the lease of a rebuild that was killed has ended. Raises ProjectionHeld."""
        context, assignment = self._context, self._assignment
        until: float | None = None
        while True:
            asked = context.clock.monotonic()
            found = yield from acquire(context.runner, assignment.request(), Which.ANY, rebuilding=True)
            if isinstance(found, Claim) and found.mixed is not None:
                yield from self._begin_anew(found.build, "has rows of other code of the same build")
                continue
            if not isinstance(found, HeldByOther):
                break
            ends = context.clock.monotonic() + found.left
            until = until or ends
            if ends > until + CLAIM_EVERY / 2:
                raise ProjectionHeld(assignment.name, self._keys.partition, found.where)
            yield Pause(CLAIM_EVERY)
        assert isinstance(found, Claim), "a stopped build may be claimed, too"
        assignment.take(found, asked + lease_time(context.runner.lease))
        try:
            yield from check_claim(self._keys, assignment, assignment.last_known)
        except HistoryDiverged as diverged:
            assignment.lose()
            yield from self._begin_anew(found.build, f"was made from another log ({diverged})")
            yield from self._claim()

    # -- comparing ----------------------------------------------------------------------------------

    def _begin_not_beyond(self) -> StoreOperation[None]:
        """Begin the candidate anew if it is ahead of the live build: its earlier rows could not be compared."""
        name = self._assignment.name
        builds = yield from read_builds(self._keys, name)
        candidate = self._own_candidate(builds)
        if candidate is None:
            return
        if (yield from self._position(candidate)) > (yield from self._position(builds.live or "")):
            yield from self._begin_anew(candidate, "is ahead of the live build, so rows could not be compared")

    def _begin_anew(self, candidate: str, why: str) -> StoreOperation[None]:
        """Throw the candidate away and begin another one."""
        self._note(f"build {candidate} {why}: it is made anew")
        builds = yield from read_builds(self._keys, self._assignment.name)
        if builds.candidate == candidate:
            yield from propose(self._keys, self._assignment.name, builds, self._assignment.projection.build)

    def _compare(self) -> Operation[Comparison]:
        assignment = self._assignment
        yield from self._follow_live()
        builds = yield from read_builds(self._keys, assignment.name)
        live, candidate = builds.live or "", builds.candidate or ""
        suspects = yield from self._seem_to_differ(live, candidate)
        assignment.touched = set()
        position = yield from self._follow_live()
        suspects |= assignment.touched
        assignment.touched = None
        differing: list[DifferingRow] = []
        count = 0
        for page in _pages(sorted(suspects)):
            position, found = yield from self._compare_page(live, candidate, page)
            count += len(found)
            differing += found[: ROWS_SHOWN - len(differing)]
        rows_live, rows_candidate = yield Execute(
            [("HLEN", self._keys.view(assignment.name, build)) for build in (live, candidate)]
        )
        return Comparison(self._keys.partition, position, rows_live, rows_candidate, count, tuple(differing))

    def _compare_page(self, live: str, candidate: str, page: list[str]) -> Operation[tuple[int, list[DifferingRow]]]:
        """Compare rows at the position that the live build has now; returns the position and the rows that differ."""
        name, views = self._assignment.name, self._views(live, candidate)
        command = load("progress/rows_at").call([self._keys.build(name, live), views[0].key], *page)
        [[stored, old_rows]] = yield Execute([command])
        position = fields.number(self._keys.build(name, live), "position", stored)
        yield from self._bring_to(candidate, position)
        [new_rows] = yield Execute([rows_command(self._keys, name, candidate, page)])
        return position, [
            DifferingRow(key, _shown(views[0], key, old), _shown(views[1], key, new))
            for key, old, new in zip(page, old_rows, new_rows, strict=True)
            if _differ(views, key, old, new)
        ]

    def _follow_live(self) -> Operation[int]:
        """Bring the candidate to the live build's position, and no further; returns that position."""
        builds = yield from read_builds(self._keys, self._assignment.name)
        goal = yield from self._position(builds.live or "")
        yield from self._bring_to(self._own_candidate(builds), goal)
        return goal

    def _own_candidate(self, builds: Builds) -> str | None:
        """The candidate, if this code makes it. A candidate of other code is replaced when this one is claimed."""
        candidate = builds.candidate
        return candidate if candidate and code_of(candidate) == self._assignment.projection.build else None

    def _bring_to(self, candidate: str | None, goal: int) -> Operation[None]:
        if candidate is None or (yield from self._position(candidate)) < goal:
            yield from self._bring_up(goal)

    def _position(self, build: str) -> StoreOperation[int]:
        return (yield from read_position(self._keys, self._assignment.name, build))

    def _seem_to_differ(self, live: str, candidate: str) -> StoreOperation[set[str]]:
        """The keys of rows that differ now, even though the two builds may be at different positions."""
        suspects: set[str] = set()
        for build in (live, candidate):
            view, cursor, more = self._keys.view(self._assignment.name, build), 0, True
            while more:
                [(following, flat)] = yield Execute([("HSCAN", view, cursor, "COUNT", ROWS_A_PAGE)])
                cursor, more = int(following), int(following) != 0
                for page in _pages(fields.text(view, "name of a row", key) for key in flat[::2]):
                    suspects |= yield from self._differing_now(live, candidate, page)
        return suspects

    def _differing_now(self, live: str, candidate: str, page: list[str]) -> StoreOperation[set[str]]:
        name, views = self._assignment.name, self._views(live, candidate)
        old_rows, new_rows = yield Execute([rows_command(self._keys, name, build, page) for build in (live, candidate)])
        return {key for key, old, new in zip(page, old_rows, new_rows, strict=True) if _differ(views, key, old, new)}

    def _views(self, live: str, candidate: str) -> tuple[BuildView, BuildView]:
        name = self._assignment.name
        return BuildView(self._keys, name, live), BuildView(self._keys, name, candidate)


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    given = iter(keys)
    while page := list(islice(given, ROWS_A_PAGE)):
        yield page


def _differ(views: tuple[BuildView, BuildView], key: str, old: bytes | None, new: bytes | None) -> bool:
    return old != new and _shown(views[0], key, old) != _shown(views[1], key, new)


def _shown(view: BuildView, key: str, stored: bytes | None) -> Any:
    """The state of a row; of a damaged row, the damage: it differs from every state, and the rebuild mends it."""
    try:
        return row_state(view, key, stored)
    except DataError as damage:
        return f"({damage})"
