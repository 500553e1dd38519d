"""The runner process: runs projections until a signal comes, and writes a log line for each change of state."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ..errors import HandlerFailed, RunnerError, StoreTrouble, counted
from ..operations.check import Check
from ..operations.doctor import alarms, fitness
from ..operations.status import status
from ..progress.builds import mixed_rows
from ..progress.parked import traceback_of
from ..sync.engine import Engine
from ..sync.store import EventStore
from ..wire.log import log
from ..workers.assignment import (
    CATCHING_UP,
    IDLE,
    LIVE,
    REBUILDING,
    RETRYING,
    STANDING_BY,
    STOPPED,
    WAITING,
    Assignment,
)
from ..workers.pool import Runnable, as_runner_error

#: How often the main thread checks signals and progress, in seconds.
TICK = 0.1

#: How often catching up writes a line when no progress bar is shown, in seconds.
PROGRESS_EVERY = 10.0

#: How often a line reminds of parked events, in seconds.
REMIND_EVERY = 300.0

#: The exit code of a process that was told to stop a second time.
STOPPED_AT_ONCE = 130

_NEXT = {
    CATCHING_UP: "reading history",
    LIVE: "following the log",
    IDLE: "ended after a committed batch; the next start goes on from here",
    STOPPED: "it stays stopped, the others go on; correct the cause and start again to go on from here",
    REBUILDING: "making the view of this code beside the live one, which readers get until the switch",
    STANDING_BY: "taking over when the runner that holds it ends or goes silent",
    WAITING: "the server does not answer; trying again, then going on from the last commit",
}

#: What comes next where other code has replaced the code of this process.
_NEXT_REPLACED = "taking over when its build is live again"

_LEVELS = {STOPPED: logging.ERROR, WAITING: logging.WARNING}


class Daemon:
    """Runs projections. ``once``: catch up and end. ``show`` is told about progress every tick."""

    def __init__(
        self,
        store: EventStore,
        projections: Sequence[Runnable],
        *,
        once: bool = False,
        show: Callable[[Sequence[Assignment[Any]]], None] | None = None,
        remind_every: float = REMIND_EVERY,
    ) -> None:
        self._store = store
        self._once = once
        self._show = show
        self._stopping = threading.Event()
        self._said: dict[tuple[str, int], tuple[str, str]] = {}
        self._engine = Engine(store, projections, live=not once, patience=math.inf, notify=self._state_changed)
        self._told = self._looked = time.monotonic()
        self._alarms: set[str] = set()
        self._remind_every = remind_every
        self._taken_over: set[int] = set()
        self._reminded: dict[Assignment[Any], float] = {}
        self._warned: set[tuple[Assignment[Any], str]] = set()

    def run(self) -> list[RunnerError]:
        """Work until all is done or a signal comes; returns why projections stopped, or the runner itself.

        The first SIGTERM or SIGINT ends the process after the batch at hand is committed, the second at once.
        """
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._engine.start()
            while not self._engine.join(TICK):
                self._progress()
                self._watch()
            self._progress()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        crash = self._engine.crash
        if crash is not None and not isinstance(crash, RunnerError):
            log.critical("the runner failed; please report this", exc_info=crash)
        failures = self._engine.failures
        if crash is not None and str(ended_by := as_runner_error(crash)) not in map(str, failures):
            failures.append(ended_by)
        return failures

    @property
    def runner_id(self) -> str:
        """The random id of this runner in the store."""
        return self._engine.runner_id

    @property
    def handled(self) -> int:
        """Events applied since the start, over all projections."""
        return sum(assignment.handled for assignment in self._engine.assignments)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(STOPPED_AT_ONCE)
        self._stopping.set()
        log.info(
            "%s: finishing the batch at hand, then stopping; a second signal stops at once", signal.Signals(number).name
        )
        self._engine.stop()

    def _progress(self) -> None:
        if self._show is not None:
            self._show(self._engine.assignments)
        elif time.monotonic() - self._told >= PROGRESS_EVERY:
            self._told = time.monotonic()
            for assignment in self._engine.assignments:
                if assignment.state in (CATCHING_UP, REBUILDING):
                    self._say(assignment, logging.INFO)

    def _watch(self) -> None:
        """With every heartbeat, check for dangers to the log; write a line when one comes and when it goes."""
        if time.monotonic() - self._looked < self._store.settings.heartbeat or self._stopping.is_set():
            return
        self._looked = time.monotonic()
        try:
            found = {check.name: check for check in alarms(self._store)}
        except StoreTrouble:
            return  # the workers report that the server does not answer
        for check in (found[name] for name in found.keys() - self._alarms):
            fields = {"alarm": check.name, "finding": check.finding, "next": check.advice}
            log.error("ALARM %s: %s. %s", check.name, check.finding, check.advice, extra={"fields": fields})
        for name in self._alarms - found.keys():
            log.info("%s: all clear", name, extra={"fields": {"alarm": name, "finding": "all clear"}})
        self._alarms = set(found)
        self._remind()

    def _remind(self) -> None:
        """Write a line for each projection of this process that has parked events: at once, then now and then."""
        now = time.monotonic()
        for one in self._engine.assignments:
            if not one.parked_events:
                self._reminded.pop(one, None)
            elif one.held and now - self._reminded.get(one, -math.inf) >= self._remind_every:
                self._reminded[one] = now
                self._say_parked(one)

    def _say_parked(self, one: Assignment[Any]) -> None:
        """Say how many events are parked, as the store knows it: an operator may have set some free meanwhile."""
        try:
            found = [
                now.parked for now in status(self._store, one.name).projections
                if now.partition == one.keys.partition and now.role == "live"
            ]  # fmt: skip
        except RunnerError:
            return  # there is another chance
        for parked in found:
            if parked:
                text, what = f"{counted(parked, 'event')} parked", f"see `runner why {one.name}`"
                fields = {
                    "projection": one.name, "partition": one.keys.partition, "parked": parked, "next": what
                }  # fmt: skip
                log.warning("%s[%s] %s; %s", one.name, one.keys.partition, text, what, extra={"fields": fields})

    def _state_changed(self, assignment: Assignment[Any]) -> None:
        place = (assignment.name, assignment.keys.partition)
        self._warn_if_mixed(assignment)
        now = assignment.state, assignment.replaced.live if assignment.replaced else ""
        if self._said.get(place) == now:
            return
        self._said[place] = now
        if assignment.state == RETRYING:
            return  # the event that is tried again was told
        self._say(assignment, _LEVELS.get(assignment.state, logging.INFO))

    def _warn_if_mixed(self, assignment: Assignment[Any]) -> None:
        """Say once that code was changed without its build."""
        if assignment.mixed is None or (warned := (assignment, assignment.claim.build)) in self._warned:
            return
        self._warned.add(warned)
        text, advice = mixed_rows(assignment.name, assignment.claim.build, assignment.mixed)
        fields = {
            "projection": assignment.name, "partition": assignment.keys.partition, "finding": text, "next": advice
        }  # fmt: skip
        log.warning("%s[%s] %s. %s", assignment.name, assignment.keys.partition, text, advice, extra={"fields": fields})

    def _say(self, assignment: Assignment[Any], level: int) -> None:
        fields: dict[str, Any] = {
            "projection": assignment.name,
            "partition": assignment.keys.partition,
            "state": assignment.state,
            "next": _NEXT[assignment.state],
        }
        text = f"{assignment.name}[{assignment.keys.partition}] {assignment.state}"
        if assignment.state == STANDING_BY:
            text += self._why_standing_by(assignment, fields)
        else:
            fields["position"] = assignment.position
            fields["lag"] = None if assignment.state == WAITING else self._lag(assignment)
            text += f" at position {assignment.position}"
            text += "" if fields["lag"] is None else f", lag {fields['lag']}"
            text += self._whom_it_took_over_from(assignment, fields)
        failure = assignment.failure
        error = str(failure) if failure is not None else assignment.reason if assignment.state == WAITING else ""
        if error:
            fields["error"] = error
            text += f": {error}"
        if isinstance(failure, HandlerFailed):
            made = assignment.attempts.get(failure.position)
            fields.update(
                failed_position=failure.position, type=failure.type, stream=failure.stream, number=failure.number,
                attempt=made.count if made is not None else 1, traceback=traceback_of(failure),
            )  # fmt: skip
        log.log(level, "%s; %s", text, fields["next"], extra={"fields": fields})

    @staticmethod
    def _why_standing_by(assignment: Assignment[Any], fields: dict[str, Any]) -> str:
        """Why it stands by, for the text of a line; also put into its fields."""
        replaced = assignment.replaced
        if replaced is not None:
            fields.update(build=replaced.build, live=replaced.live, next=_NEXT_REPLACED)
            return f": build {replaced.live} is live; this process has build {replaced.build}"
        if assignment.holder:
            fields["holder"] = assignment.holder
            return f", held by {assignment.holder}"
        return ""

    def _whom_it_took_over_from(self, assignment: Assignment[Any], fields: dict[str, Any]) -> str:
        """Which runner went silent before this claim, for the text of its first line; also put into its fields."""
        claim = assignment.busy_with
        if claim is None or not claim.taken_from or claim.token in self._taken_over:
            return ""
        self._taken_over.add(claim.token)
        fields.update(taken_over_from=claim.taken_from, silent=round(claim.silent, 1))
        return f", taken over from {claim.taken_from}, which was silent for {claim.silent:.1f} s"

    def _lag(self, assignment: Assignment[Any]) -> int | None:
        try:
            return max(0, self._store.last_position(partition=assignment.keys.partition) - assignment.position)
        except StoreTrouble:
            return None


def unfit(store: EventStore) -> list[Check]:
    """The bad checks: reasons not to run on this server."""
    return list(fitness(store).bad)
