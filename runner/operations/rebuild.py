"""Making a view again beside the live one, and switching to it, in the calling thread.

The candidate is an ordinary build with a lease of its own, driven by an ordinary worker. It ends with the switch, which
the store refuses as long as the candidate is behind the live build: no reader sees a view go back.

Comparing old and new rows means comparing them at the same position, while the live build goes on. So all rows are
looked through first, with the candidate about where the live build stands. Rows that seem to differ, and those that
the candidate changes on the way to where the live build is by then, are compared page by page: the page is read from
the live view together with its position, the candidate is brought to that position and no further, and its rows are
read. Each row is compared once, at a position that it was asked for after the comparison began.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..effects import Operation
from ..errors import InvalidInput, ProjectionHeld
from ..format.codec import unpack
from ..format.keys import PartitionKeys
from ..format.scripts import load
from ..progress.builds import propose, read_builds, unknown_projection
from ..progress.checkpoint import Claim
from ..progress.lease import HeldByOther, RunnerIdentity, Which, acquire
from ..projections.projection import Projection
from ..sync.interpreter import Interpreter
from ..sync.store import EventStore
from ..views.redis_rows import rows_command
from ..workers.assignment import IDLE, Assignment
from ..workers.context import Notify, WorkerContext
from ..workers.coordinator import refused
from ..workers.lease_keeper import check_claim, lease_time
from ..workers.outcomes import Again
from ..workers.projection_worker import ProjectionWorker

#: Rows compared in one round trip.
PAGE = 500

#: How long to wait for the lease of a rebuild that was killed, between two looks, in seconds.
LOOK = 0.2

#: Differing rows that are kept to be shown.
SHOWN = 10


@dataclass(slots=True)
class Comparison:
    """How a candidate's rows compare with the live build's. ``position``: where the last of them were compared."""

    partition: int
    position: int = 0
    rows_live: int = 0
    rows_candidate: int = 0
    differing: int = 0
    #: The first of them: key, live row, candidate's row; None = there is no such row.
    first: list[tuple[str, Any, Any]] = field(default_factory=list)


@dataclass(slots=True)
class RebuildResult:
    """What a rebuild did in a partition."""

    partition: int
    build: str
    before: str
    position: int
    switched: bool
    comparison: Comparison | None = None


def rebuild(
    store: EventStore,
    projection: Projection,
    *,
    compare: bool = False,
    require_same: bool = False,
    notify: Notify = lambda assignment: None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[RebuildResult]:
    """Make the view again and switch to it, partition by partition. What was begun before is gone on with.

    ``compare``: compare old and new rows before the switch; ``require_same``: do not switch where they differ.
    ``notify`` is told of progress, ``note`` of what people should know. Raises InvalidInput, ProjectionHeld,
    HandlerFailed, DataError or StoreTrouble.
    """
    for keys in store.info.keys:
        yield _Rebuild(store, projection, keys, notify, note).run(compare or require_same, require_same)


class _Rebuild:
    """The rebuild of one partition."""

    def __init__(
        self,
        store: EventStore,
        projection: Projection,
        keys: PartitionKeys,
        notify: Notify,
        note: Callable[[str], None],
    ) -> None:
        if not isinstance(projection, Projection):
            raise InvalidInput(
                f"reactor {projection.name!r} has no view to rebuild, and its effects are not had again by one"
            )
        self._store = store
        self._keys = keys
        self._note = note
        settings = store.settings
        runner = RunnerIdentity(secrets.token_hex(8), store.info, settings.lease)
        self._context = WorkerContext(runner, settings, store.driver.clock, settings.retry_for, notify)
        self._assignment: Assignment[Projection] = Assignment(projection, keys)

    def run(self, compare: bool, require_same: bool) -> RebuildResult:
        name = self._assignment.name
        builds = self._store.run(read_builds(self._keys, name))
        if builds.live is None:
            raise unknown_projection(name)
        comparison = None
        if compare:
            self._begin_not_beyond()
            comparison = self._compare()
            if require_same and comparison.differing:
                found = self._store.run(read_builds(self._keys, name))
                return RebuildResult(
                    self._keys.partition, found.candidate or "", builds.live, comparison.position, False, comparison
                )
        self._work(None)
        found = self._store.run(read_builds(self._keys, name))
        return RebuildResult(
            self._keys.partition, found.live or "", builds.live, self._assignment.committed, True, comparison
        )

    # -- driving the candidate ----------------------------------------------------------------------

    def _work(self, upto: int | None) -> None:
        """Drive the candidate to ``upto``; None: to the end, and switch."""
        assignment = self._assignment
        self._claim()
        interpreter = Interpreter(self._store.driver, self._store.feed(self._keys.partition))
        try:
            interpreter.run(self._drive(upto))
        finally:
            interpreter.close()
        if assignment.failure is not None:
            raise assignment.failure
        if assignment.state != IDLE:
            raise refused(assignment)

    def _drive(self, upto: int | None) -> Operation[None]:
        """Run workers for the candidate, one after the other, until none of them leaves it to another."""
        delays = [0.0]
        while delays:
            worker = ProjectionWorker(
                self._keys, [self._assignment], self._context, delay=delays.pop(), upto=upto
            )  # fmt: skip
            while outcomes := (yield from worker.work(live=False)):
                delays += [outcome.delay for outcome in outcomes if isinstance(outcome, Again)]

    def _claim(self) -> None:
        """Claim the candidate, waiting out the lease of a rebuild that was killed. Raises ProjectionHeld."""
        context, assignment = self._context, self._assignment
        until: float | None = None
        while True:
            asked = context.clock.monotonic()
            found = self._store.run(acquire(context.runner, assignment.request(), Which.ANY, rebuilding=True))
            if not isinstance(found, HeldByOther):
                break
            ends = context.clock.monotonic() + found.left
            until = until or ends
            if ends > until + LOOK / 2:
                raise ProjectionHeld(assignment.name, self._keys.partition, found.where)
            time.sleep(LOOK)
        assert isinstance(found, Claim), "a stopped build was asked for too"
        assignment.take(found, asked + lease_time(context.runner.lease))
        self._store.run(check_claim(self._keys, assignment, assignment.last_known))

    # -- comparing ----------------------------------------------------------------------------------

    def _begin_not_beyond(self) -> None:
        """See that the candidate is not ahead of the live build: rows of the past cannot be compared."""
        builds = self._store.run(read_builds(self._keys, self._assignment.name))
        if builds.candidate is None:
            return
        if self._position(builds.candidate) > self._position(builds.live or ""):
            self._note(f"build {builds.candidate} is ahead of the live build already: it begins anew, to be compared")
            self._store.run(propose(self._keys, self._assignment.name, builds, self._assignment.projection.build))

    def _compare(self) -> Comparison:
        assignment = self._assignment
        self._follow_live()
        builds = self._store.run(read_builds(self._keys, assignment.name))
        live, candidate = builds.live or "", builds.candidate or ""
        suspects = set(self._seem_to_differ(live, candidate, self._all_keys(live, candidate)))
        assignment.touched = set()
        position = self._follow_live()
        suspects |= assignment.touched
        assignment.touched = None
        result = Comparison(self._keys.partition, position)
        remaining = iter(sorted(suspects))
        while page := list(islice(remaining, PAGE)):
            self._compare_page(live, candidate, page, result)
        result.rows_live, result.rows_candidate = self._store.driver.execute(
            [("HLEN", self._keys.view(assignment.name, build)) for build in (live, candidate)]
        )
        return result

    def _compare_page(self, live: str, candidate: str, page: list[str], result: Comparison) -> None:
        """Compare rows at one position, which is the live build's when they are read from it."""
        name = self._assignment.name
        command = load("progress/rows_at").call([self._keys.build(name, live), self._keys.view(name, live)], *page)
        [[position, old_rows]] = self._store.driver.execute([command])
        result.position = int(position)
        self._bring_to(candidate, result.position)
        [new_rows] = self._store.driver.execute([rows_command(self._keys, name, candidate, page)])
        for key, old, new in zip(page, old_rows, new_rows, strict=True):
            if _differ(old, new):
                result.differing += 1
                if len(result.first) < SHOWN:
                    result.first.append((key, _row(old), _row(new)))

    def _follow_live(self) -> int:
        """Bring the candidate to where the live build stands, and no further; where that is."""
        builds = self._store.run(read_builds(self._keys, self._assignment.name))
        goal = self._position(builds.live or "")
        self._bring_to(builds.candidate, goal)
        return goal

    def _bring_to(self, candidate: str | None, goal: int) -> None:
        if candidate is None or self._position(candidate) < goal:
            self._work(goal)

    def _position(self, build: str) -> int:
        [position] = self._store.driver.execute([("HGET", self._keys.build(self._assignment.name, build), "position")])
        return int(position or 0)

    def _all_keys(self, *builds: str) -> Iterator[str]:
        for build in builds:
            view, cursor, more = self._keys.view(self._assignment.name, build), 0, True
            while more:
                [(following, flat)] = self._store.driver.execute([("HSCAN", view, cursor, "COUNT", PAGE)])
                cursor, more = int(following), int(following) != 0
                for key in flat[::2]:
                    yield key.decode()

    def _seem_to_differ(self, live: str, candidate: str, keys: Iterable[str]) -> Iterator[str]:
        """Those rows that differ as they stand now, at whichever positions."""
        given, name = iter(keys), self._assignment.name
        while page := list(islice(given, PAGE)):
            old_rows, new_rows = self._store.driver.execute(
                [rows_command(self._keys, name, build, page) for build in (live, candidate)]
            )
            for key, old, new in zip(page, old_rows, new_rows, strict=True):
                if _differ(old, new):
                    yield key


def _differ(old: bytes | None, new: bytes | None) -> bool:
    return old != new and (old is None or new is None or unpack(old) != unpack(new))


def _row(packed: bytes | None) -> Any:
    return None if packed is None else unpack(packed)
