"""Projections and reactors on an injected clock: a pause passes at once, and what is waited for can be asserted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from runner import EventStore
from runner.effects import Effect, Operation, Pause
from runner.effects.clock import Clock
from runner.progress.parked import Aside, read_parked, read_skipped
from runner.progress.status import ProjectionStatus, status
from runner.sync.interpreter import Interpreter
from runner.workers.assignment import Assignment
from runner.workers.pool import Runnable, WorkerPool
from runner.workers.worker import Worker


class Workbench:
    """Catches projections up in this thread. ``time`` is the clock, in seconds; ``random`` is always the same."""

    def __init__(self, store: EventStore, *given: Runnable, random: float = 1.0) -> None:
        self.time = 0.0
        self._store = store
        self._waiting: deque[tuple[float, list[Assignment[Any]]]] = deque()
        clock = Clock(lambda: self.time, lambda: int(self.time * 1e6) + 1, lambda: random)
        self._pool = WorkerPool(
            store.info, given, store.settings, clock,
            live=False, patience=1.0, notify=lambda assignment: None,
            work_on=lambda assignments: self._waiting.append((0.0, assignments)),
        )  # fmt: skip

    @property
    def assignments(self) -> list[Assignment[Any]]:
        return self._pool.assignments

    @property
    def errors(self) -> list[str]:
        """Why projections stopped."""
        return [str(assignment.failure) for assignment in self.assignments if assignment.failure is not None]

    @property
    def workers(self) -> list[Worker]:
        """Those at work."""
        return self._pool.workers

    def run(self) -> Workbench:
        """Claim everything, and work until it has caught up or stopped."""
        self.claim()
        return self.work()

    def claim(self) -> list[Assignment[Any]]:
        """Claim everything; `work` begins with it."""
        self._store.run(self._pool.coordinator.first_round())
        return [assignment for _, assignments in self._waiting for assignment in assignments]

    def work(self, *assignments: Assignment[Any]) -> Workbench:
        """Work until everything that was claimed has caught up or stopped; or only these, in one worker."""
        if assignments:
            self._waiting = deque([(0.0, list(assignments))])
        while self._waiting:
            delay, together = self._waiting.popleft()
            interpreter = Interpreter(self._store.driver, self._store.feed(together[0].keys.partition))
            worker = self._pool.new_worker(together, delay, lambda: None, self._spin_off, lambda: None)
            try:
                interpreter.run(self._on_the_clock(worker.work(live=False)))
            finally:
                interpreter.close()
                self._pool.workers.remove(worker)
        return self

    def _spin_off(self, assignment: Assignment[Any], delay: float) -> None:
        self._waiting.append((delay, [assignment]))

    def _on_the_clock(self, operation: Operation[None]) -> Operation[None]:
        """The operation, with its pauses passing at once."""

        def pass_at_once(effect: Effect) -> Operation[Any]:
            if not isinstance(effect, Pause):
                return (yield effect)
            self.time += effect.seconds
            return None

        return relayed(operation, pass_at_once)


def relayed(operation: Operation[None], relay: Callable[[Effect], Operation[Any]]) -> Operation[None]:
    """The operation, with each of its effects done by way of ``relay``."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = yield from relay(effect)
            except Exception as trouble:
                effect = operation.throw(trouble)
            else:
                effect = operation.send(outcome)
    except StopIteration:
        return
    finally:
        operation.close()


def parked_of(store: EventStore, name: str = "balances", build: str = "1") -> list[Aside]:
    """What is parked, in the order of the log."""
    return store.run(read_parked(store.info.keys[0], name, build))


def skipped_of(store: EventStore, name: str = "balances", build: str = "1") -> list[Aside]:
    """Records of skipped events."""
    return store.run(read_skipped(store.info.keys[0], name, build))


def status_of(store: EventStore, name: str = "balances") -> ProjectionStatus:
    """The status of the live build."""
    return store.run(status(store.info.keys[0], name))[0]
