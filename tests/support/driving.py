"""Driving a worker by hand: its process dies, or its connection is lost, at any request to the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from workbench import pool_of, relayed

from runner import EventStore, Projection
from runner.effects import Await, Effect, Leave, Operation, Pause
from runner.errors import StoreUnavailable
from runner.progress.lease import RunnerIdentity
from runner.sync.interpreter import Interpreter
from runner.wire.clock import SYSTEM_CLOCK
from runner.workers.assignment import Assignment
from runner.workers.context import WorkerContext
from runner.workers.projection_worker import ProjectionWorker
from runner.workers.worker import Worker

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone."""


#: What becomes of the k-th effect of a run, and of the run.
KILLED_BEFORE, KILLED_AFTER, LOST_BEFORE, LOST_AFTER = "killed before", "killed after", "lost before", "lost after"


def with_a_hand_on_the_wire(
    operation: Operation[T],
    before: Callable[[Effect], None] = lambda effect: None,
    after: Callable[[Effect], None] = lambda effect: None,
) -> Operation[T]:
    """The operation, with ``before`` and ``after`` called around each request to the store; they may raise.

    It does not pause: nobody has to wait for a server that is there.
    """

    def touched(effect: Effect) -> Operation[Any]:
        on_the_way = not isinstance(effect, Await | Pause | Leave)
        if on_the_way:
            before(effect)
        outcome = None if isinstance(effect, Pause) else (yield effect)
        if on_the_way:
            after(effect)
        return outcome

    return relayed(operation, touched)


@contextmanager
def interpreter_of(store: EventStore) -> Iterator[Interpreter]:
    """What runs the operations of a worker in this thread."""
    port = Interpreter(store.driver, store.feed(0))
    try:
        yield port
    finally:
        port.close()


def drive(store: EventStore, worker: Worker, at: int = 0, what: str = KILLED_BEFORE) -> int:
    """Run a worker's work; its request number ``at`` (from 1) is where the process or the connection dies.

    Returns how many requests to the store the work took.
    """
    taken = 0
    with interpreter_of(store) as port:

        def die(moment: str) -> None:
            if taken == at and what == f"killed {moment}":
                raise Killed
            if taken == at and what == f"lost {moment}":
                port.session.close()
                raise StoreUnavailable("the connection was lost")

        def before(effect: Effect) -> None:
            nonlocal taken
            taken += 1
            die("before")

        port.run(with_a_hand_on_the_wire(worked_off(worker), before, lambda effect: die("after")))
    return taken


def a_worker(store: EventStore, projections: list[Projection]) -> Worker:
    """The worker of projections that stand at one position, on a clock that does not go."""
    [assignments] = take_assignments(store, projections)
    return worker_of(store, assignments)


def take_assignments(store: EventStore, projections: list[Projection]) -> list[list[Assignment[Any]]]:
    """Claim projections; those that stand at the same position come together."""
    pool = pool_of(store, projections)
    store.run(pool.coordinator.first_round())
    return pool.coordinator.take_claimed()


def worker_of(store: EventStore, assignments: list[Assignment[Any]]) -> Worker:
    """A worker whose clock does not go, and whose assignments do not come back when they leave for a while."""
    runner = RunnerIdentity(assignments[0].claim.owner, store.info, store.settings.lease)
    context = WorkerContext(runner, store.settings, replace(SYSTEM_CLOCK, monotonic=lambda: 0.0), patience=1.0)
    return ProjectionWorker(assignments[0].keys, assignments, context)


def worked_off(worker: Worker) -> Operation[None]:
    """A worker's work to its end; assignments that leave it are left."""
    while (yield from worker.work(live=False)):
        pass
