"""The live worker of each partition: it takes over the projections of workers that have caught up.

In the end one worker in a partition does everything, with one read, one decode and one round trip of commits a batch.
"""

from __future__ import annotations

from threading import Lock

from .worker import Worker


class LiveWorkers:
    """Which worker is the live one of each partition. Workers in several threads ask at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._live: dict[int, Worker] = {}

    def hand_over(self, worker: Worker) -> Worker | None:
        """Make a worker the live one, or move its assignments into the one there is, which is returned then."""
        with self._lock:
            live = self._live.setdefault(worker.keys.partition, worker)
            if live is worker:
                return None
            live.take_in(worker.hand_over())
            return live

    def end(self, worker: Worker) -> bool:
        """Let a worker be the live one no more; False where assignments have come in and must be served first."""
        with self._lock:
            if worker.take_newcomers():
                return False
            self._forget(worker)
            return True

    def forget(self, worker: Worker) -> None:
        """A worker that crashed takes no assignments in any more; those on their way in fail with it."""
        with self._lock:
            worker.take_newcomers()
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        if self._live.get(worker.keys.partition) is worker:
            del self._live[worker.keys.partition]
