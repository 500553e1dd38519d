"""The live worker of each partition: it takes over the projections of workers that have caught up.

So in the end one worker serves all projections of a partition, with one read, one decode and one round trip of commits
a batch.
"""

from __future__ import annotations

from threading import Lock

from .worker import Worker


class LiveWorkers:
    """The live worker of each partition. Several threads may use this object at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._live: dict[int, Worker] = {}

    def hand_over(self, worker: Worker) -> Worker | None:
        """Make a worker the live one of its partition.

        If the partition has a live worker already, move the assignments to that worker, and return it.
        """
        with self._lock:
            live = self._live.setdefault(worker.keys.partition, worker)
            if live is worker:
                return None
            live.take_in(worker.hand_over())
            return live

    def end(self, worker: Worker) -> bool:
        """Let a worker be the live one no longer; False if assignments have joined, which it must serve first."""
        with self._lock:
            if worker.take_newcomers():
                return False
            self._forget(worker)
            return True

    def forget(self, worker: Worker) -> None:
        """Forget a worker that crashed. Assignments that were about to join it fail with it."""
        with self._lock:
            worker.take_newcomers()
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        if self._live.get(worker.keys.partition) is worker:
            del self._live[worker.keys.partition]
