"""Projections and reactors on an injected clock: a pause passes at once, and what is waited for can be asserted."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from runner import EventStore, Settings
from runner.effects import Effect, Operation, Pause
from runner.effects.clock import Clock
from runner.progress.lease import RunnerIdentity
from runner.progress.parked import SetAsideEvent, read_parked, read_skipped
from runner.progress.status import ProjectionStatus, status
from runner.sync.interpreter import Interpreter
from runner.wire.clock import SYSTEM_CLOCK
from runner.wire.host import place
from runner.workers.assignment import Assignment
from runner.workers.context import Tell, WorkerContext
from runner.workers.pool import Runnable, WorkerPool
from runner.workers.worker import Worker

T = TypeVar("T")


class Workbench:
    """Catches projections up in this thread. ``time`` is the clock, in seconds; ``random`` is always the same."""

    def __init__(self, store: EventStore, *given: Runnable, random: float = 1.0) -> None:
        self.time = 0.0
        self._store = store
        self._waiting: deque[tuple[float, list[Assignment[Any]]]] = deque()
        #: Called whenever the clock is read.
        self.on_look: Callable[[], None] = lambda: None
        clock = Clock(self._look, lambda: int(self.time * 1e6) + 1, lambda: random)
        self._pool = pool_of(store, given, clock=clock)

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
        claimed = self._pool.coordinator.take_claimed()
        self._waiting += [(0.0, assignments) for assignments in claimed]
        return [assignment for assignments in claimed for assignment in assignments]

    def work(self, *assignments: Assignment[Any]) -> Workbench:
        """Work until everything that was claimed has caught up or stopped; or only these, in one worker."""
        if assignments:
            self._waiting = deque([(0.0, list(assignments))])
        while self._waiting:
            delay, together = self._waiting.popleft()
            interpreter = Interpreter(self._store.driver, self._store.feed(together[0].keys.partition))
            worker = self._pool.new_worker(together, delay)
            try:
                while outcomes := interpreter.run(self._on_the_clock(worker.work(live=False))):
                    self._waiting += [(delay, again) for again, delay in self._pool.conclude(worker, outcomes).start]
            finally:
                interpreter.close()
                self._pool.workers.remove(worker)
        return self

    def _look(self) -> float:
        self.on_look()
        return self.time

    def _on_the_clock(self, operation: Operation[T]) -> Operation[T]:
        """The operation, with its pauses passing at once."""

        def pass_at_once(effect: Effect) -> Operation[Any]:
            if not isinstance(effect, Pause):
                return (yield effect)
            self.time += effect.seconds
            return None

        return relayed(operation, pass_at_once)


def pool_of(
    store: EventStore, given: Sequence[Runnable], *, clock: Clock = SYSTEM_CLOCK, settings: Settings | None = None,
    live: bool = False, patience: float = 1.0, tell: Tell = lambda line: None,
) -> WorkerPool:  # fmt: skip
    """A worker pool on a store."""
    settings = settings or store.settings
    identity = RunnerIdentity(secrets.token_hex(8), store.info, settings.lease, place())
    return WorkerPool(given, WorkerContext(identity, settings, clock, patience, tell=tell), live=live)


def relayed(operation: Operation[T], relay: Callable[[Effect], Operation[Any]]) -> Operation[T]:
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
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        operation.close()


def let_lease_end(store: EventStore, assignment: Assignment[Any]) -> None:
    """The lease of an assignment has ended by the server's clock, before its holder knows: any runner may claim it."""
    key = assignment.keys.build(assignment.name, assignment.claim.build)
    store.driver.execute([("HSET", key, "lease", 0)])


def parked_of(store: EventStore, name: str = "balances", build: str = "1") -> list[SetAsideEvent]:
    """What is parked, in the order of the log."""
    return store.run(read_parked(store.info.keys[0], name, build))


def skipped_of(store: EventStore, name: str = "balances", build: str = "1") -> list[SetAsideEvent]:
    """Records of skipped events."""
    return store.run(read_skipped(store.info.keys[0], name, build))


def status_of(store: EventStore, name: str = "balances") -> ProjectionStatus:
    """The status of the live build."""
    return store.run(status(store.info.keys[0], name))[0]
