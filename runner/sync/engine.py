"""Running projections and reactors in this process: seats, the steward, groups and their threads.

The steward claims seats. Seats that were claimed together and stand at the same position form a group and catch up
together; a group of projections that has caught up hands them to the group of its partition that is live already, so
that in the end one thread a partition does everything, with one read, one decode and one round trip of commits a
batch. A reactor keeps a group of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from ..errors import RunnerError
from ..log.append_plan import AppendResult
from ..workers.assignment import LIVE, Seat
from ..workers.context import Notify
from ..workers.pool import Crew, Runnable
from ..workers.worker import Group
from .interpreter import Port
from .store import EventStore


class Engine:
    """Projections at work in threads of this process. ``live=False``: they end when they have caught up."""

    def __init__(
        self,
        store: EventStore,
        given: Sequence[Runnable],
        *,
        live: bool = True,
        patience: float | None = None,
        notify: Notify = lambda seat: None,
    ) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._notify_outside = notify
        self._crew = Crew(
            store.facts,
            given,
            store.settings,
            store.driver.clock,
            live=live,
            patience=store.settings.retry_for if patience is None else patience,
            notify=self._notify,
            seat_them=self._start_group,
        )
        #: What ended a thread that should not have ended, if anything did.
        self.crash: BaseException | None = None
        self._port = Port(store.driver, store.feed(0))
        self._lock = threading.RLock()  # a signal may call `stop` in the midst of anything
        self._workers: list[tuple[Port, threading.Thread | None, Group]] = []
        self._threads: list[threading.Thread] = []
        self._in_threads = True

    @property
    def seats(self) -> list[Seat[Any]]:
        """Everything to run in every partition."""
        return self._crew.seats

    @property
    def failures(self) -> list[RunnerError]:
        """Why projections stopped."""
        return self._crew.failures

    def start(self) -> None:
        """Claim what can be had, and start the threads."""
        steward = self._crew.steward
        if self._crew.live:
            try:
                self._port.run(steward.first_round())
            except BaseException:
                self.stop()
                self.join()
                self._port.close()
                raise
        work = steward.work if self._crew.live else steward.seat_all
        thread = threading.Thread(target=self._keep_house, args=(work,), name="runner-steward", daemon=True)
        with self._lock:
            self._threads.append(thread)
            thread.start()

    def run_here(self) -> None:
        """Work in the calling thread, one group after the other; for history only."""
        self._in_threads = False
        try:
            self._port.run(self._crew.steward.seat_all())
            while self._workers and self.crash is None:
                port, _, group = self._workers.pop(0)
                self._run(group, port)
        finally:
            self._port.close()
        self.check()

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection is live or has stopped; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    self.crash is not None or all(seat.state == LIVE or seat.failure is not None for seat in self.seats)
                ),
                timeout,
            )

    def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        """Wait until every projection has applied a position or stopped; False when ``timeout`` was not enough."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.crash is not None or all(seat.has_applied(partition, position) for seat in self.seats),
                timeout,
            )

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended; False when ``timeout`` seconds were not enough."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                waiting = self._threads[:1]
            if not waiting:
                return True
            waiting[0].join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def stop(self) -> None:
        """Let every group finish and commit the batch it is at, and end."""
        self._crew.stop()
        self._wake_all()

    def check(self) -> None:
        """Raise the first failure there was, if any."""
        if self.crash is not None:
            raise self.crash
        for failure in self.failures:
            raise failure

    def _wake_all(self) -> None:
        self._port.wake()
        with self._lock:
            ports = [port for port, _, _ in self._workers]
        for port in ports:
            port.wake()

    def _start_group(self, seats: list[Seat[Any]], delay: float = 0.0) -> None:
        port = Port(self._store.driver, self._store.feed(seats[0].keys.partition))
        group = self._crew.new_group(seats, delay, port.wake, self._spin_off, self._port.wake)
        with self._lock:
            if not self._in_threads:
                self._workers.append((port, None, group))
                return
            name = f"runner-{seats[0].keys.partition}"
            thread = threading.Thread(target=self._run, args=(group, port), name=name, daemon=True)
            self._workers.append((port, thread, group))
            self._threads.append(thread)
            thread.start()  # inside the lock: `join` takes what is not alive for ended

    def _spin_off(self, seat: Seat[Any], delay: float) -> None:
        self._start_group([seat], delay)

    def _run(self, group: Group, port: Port) -> None:
        try:
            while True:
                port.run(group.work(self._crew.live))
                if self._crew.ended(group):
                    return
        except BaseException as crash:
            self._crew.crashed(group, crash)
            self.crash = self.crash or crash
        finally:
            port.close()
            with self._lock:
                self._workers = [worker for worker in self._workers if worker[0] is not port]
            with self._changed:
                self._changed.notify_all()

    def _keep_house(self, work: Callable[[], Any]) -> None:
        try:
            self._port.run(work())
        except BaseException as crash:
            self.crash = self.crash or crash
            self.stop()
        finally:
            self._port.close()
            with self._changed:
                self._changed.notify_all()

    def _notify(self, seat: Seat[Any]) -> None:
        self._notify_outside(seat)
        with self._changed:
            self._changed.notify_all()


class Following:
    """Projections that follow the log in the background, for as long as the ``with`` block lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection has caught up or stopped; False when ``timeout`` seconds were not enough."""
        return self._engine.wait_live(timeout)

    def wait_for(self, result: AppendResult, timeout: float | None = None) -> bool:
        """Wait until every projection has applied an append, or stopped; False when ``timeout`` was not enough."""
        return self._engine.wait_for(result.partition, result.position, timeout)

    def __enter__(self) -> Self:
        self._engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.stop()
        self._engine.join()
        if error is None:
            self._engine.check()
