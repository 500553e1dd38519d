"""The runner process: projections at work until a signal comes, with a log line for each change of state."""

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

from ..errors import RunnerError, StoreTrouble
from ..operations.doctor import BAD, Check, alarms, examine
from ..sync.engine import Engine
from ..sync.store import EventStore
from ..workers.assignment import (
    CATCHING_UP,
    IDLE,
    LIVE,
    REBUILDING,
    RETRYING,
    STANDING_BY,
    STOPPED,
    WAITING,
    Seat,
)
from ..workers.pool import Runnable

log = logging.getLogger("runner")

#: How often the main thread looks at signals and progress, in seconds.
TICK = 0.1

#: How often catching up writes a line when no progress bar is shown, in seconds.
PROGRESS_EVERY = 10.0

#: The exit code of a process that was told to stop a second time.
STOPPED_AT_ONCE = 130

_NEXT = {
    CATCHING_UP: "reading history",
    LIVE: "following what is appended",
    IDLE: "stopped after a committed batch; it goes on from here when it is started again",
    STOPPED: "it stays stopped, the others go on; correct the cause and start again, and it goes on from here",
    REBUILDING: "making the view of this code beside the live one, which answers until the switch",
    RETRYING: "an event failed; trying it again after a pause, the others go on",
    STANDING_BY: "taking over when its runner ends or goes silent",
    WAITING: "the server is away; trying again, then going on from the last commit",
}


_LEVELS = {STOPPED: logging.ERROR, WAITING: logging.WARNING, RETRYING: logging.WARNING}


class Daemon:
    """Runs projections. ``once``: catch up and end. ``show`` is told about progress every tick."""

    def __init__(
        self,
        store: EventStore,
        projections: Sequence[Runnable],
        *,
        once: bool = False,
        show: Callable[[Sequence[Seat[Any]]], None] | None = None,
    ) -> None:
        self._store = store
        self._once = once
        self._show = show
        self._stopping = threading.Event()
        self._said: dict[tuple[str, int], str] = {}
        self._engine = Engine(store, projections, live=not once, patience=math.inf, notify=self._state_changed)
        self._told = self._looked = time.monotonic()
        self._alarms: set[str] = set()

    def run(self) -> list[RunnerError]:
        """Work until all is done or a signal comes; returns why projections stopped, if any did.

        The first SIGTERM or SIGINT ends it after the batch at hand is committed, the second at once.
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
        return self._engine.failures

    @property
    def handled(self) -> int:
        """Events applied since the start, over all projections."""
        return sum(seat.handled for seat in self._engine.seats)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(STOPPED_AT_ONCE)
        self._stopping.set()
        log.info(
            "%s: finishing the batch at hand, then stopping; a second one stops at once", signal.Signals(number).name
        )
        self._engine.stop()

    def _progress(self) -> None:
        if self._show is not None:
            self._show(self._engine.seats)
        elif time.monotonic() - self._told >= PROGRESS_EVERY:
            self._told = time.monotonic()
            for seat in self._engine.seats:
                if seat.state in (CATCHING_UP, REBUILDING):
                    self._say(seat, logging.INFO)

    def _watch(self) -> None:
        """With every heartbeat, look at what may take the log away; say it when it comes and when it goes."""
        if time.monotonic() - self._looked < self._store.settings.heartbeat or self._stopping.is_set():
            return
        self._looked = time.monotonic()
        try:
            found = {check.name: check for check in alarms(self._store)}
        except StoreTrouble:
            return  # the groups say that the server is away
        for check in (found[name] for name in found.keys() - self._alarms):
            fields = {"alarm": check.name, "finding": check.finding, "next": check.advice}
            log.error("ALARM %s: %s. %s", check.name, check.finding, check.advice, extra={"fields": fields})
        for name in self._alarms - found.keys():
            log.info("%s: all clear", name, extra={"fields": {"alarm": name, "finding": "all clear"}})
        self._alarms = set(found)

    def _state_changed(self, seat: Seat[Any]) -> None:
        place = (seat.name, seat.keys.partition)
        if self._said.get(place) == seat.state:
            return
        self._said[place] = seat.state
        self._say(seat, _LEVELS.get(seat.state, logging.INFO))

    def _say(self, seat: Seat[Any], level: int) -> None:
        lag = None if seat.state == WAITING else self._lag(seat)
        fields: dict[str, Any] = {
            "projection": seat.name,
            "partition": seat.keys.partition,
            "state": seat.state,
            "position": seat.position,
            "lag": lag,
            "next": _NEXT[seat.state],
        }
        text = f"{seat.name}[{seat.keys.partition}] {seat.state} at position {seat.position}"
        if lag is not None:
            text += f", lag {lag}"
        if seat.state == STANDING_BY and seat.holder:
            fields["holder"] = seat.holder
            text += f", held by {seat.holder}"
        if seat.failure is not None:
            fields["error"] = str(seat.failure)
            text += f": {seat.failure}"
        log.log(level, "%s; %s", text, fields["next"], extra={"fields": fields})

    def _lag(self, seat: Seat[Any]) -> int | None:
        try:
            return max(0, self._store.last_position(partition=seat.keys.partition) - seat.position)
        except StoreTrouble:
            return None


def unfit(store: EventStore) -> list[Check]:
    """What `doctor` finds bad about the server: reasons not to run."""
    return [check for check in examine(store) if check.verdict == BAD]
