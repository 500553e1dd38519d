"""A pool of workers on a store, with a clock of its own, that a test drives effect by effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from workbench import pool_of, relayed

from runner import EventStore, Projection, Settings
from runner.effects import Effect, Operation, Pause, Receive
from runner.effects.clock import Clock
from runner.errors import StoreUnavailable
from runner.sync.interpreter import Interpreter
from runner.workers.outcomes import Outcome
from runner.workers.worker import Worker

T = TypeVar("T")

#: More effects than any test needs: a worker that asks for so many does not end.
TOO_MANY = 500


class Ground:
    """A pool on a store, with a clock of its own; ``before`` is called with each effect and may raise."""

    def __init__(
        self,
        store: EventStore,
        *given: Projection,
        live: bool = True,
        patience: float = 10.0,
        settings: Settings | None = None,
    ) -> None:
        self.time = 0.0
        #: What people should hear of at once.
        self.told: list[object] = []
        self.before: Callable[[Effect], None] = lambda effect: None
        self._effects = 0
        self._interpreter = Interpreter(store.driver, store.feed(0))
        self.clock = Clock(lambda: self.time, lambda: int(self.time * 1e6) + 1, lambda: 1.0)
        self.pool = pool_of(
            store, given, clock=self.clock, settings=settings, live=live, patience=patience, tell=self.told.append
        )
        store.run(self.pool.coordinator.first_round())
        self.claimed = {one.name: one for together in self.pool.coordinator.take_claimed() for one in together}

    def worker(self, *names: str) -> Worker:
        return self.pool.new_worker([self.claimed[name] for name in names or self.claimed])

    def run(self, worker: Worker) -> list[Outcome]:
        """Run a worker until it returns; its pauses pass at once."""
        return self.drive(worker.work(self.pool.live))

    def drive(self, operation: Operation[T]) -> T:
        """Run an operation to its end; its pauses pass at once."""

        def relay(effect: Effect) -> Operation[Any]:
            self._effects += 1
            assert self._effects < TOO_MANY, "the worker does not end"
            self.before(effect)
            if isinstance(effect, Pause):
                self.time += effect.seconds
                return None
            return (yield effect)

        return self._interpreter.run(relayed(operation, relay))

    def lose_the_connection(self) -> None:
        self._interpreter.session.close()
        raise StoreUnavailable("the connection was lost")

    def lose_the_answer(self, awaited: Receive) -> None:
        """The store has answered, and the connection is lost before the answer is read."""
        self._interpreter.session.receive(awaited.pending)
        self.lose_the_connection()

    def close(self) -> None:
        self._interpreter.close()
