"""Running projections in this process: groups, their threads, and how groups become one.

Projections that stand at the same position form a group and catch up together. A group that has caught up hands
its projections to the group of its partition that is live already, so that in the end one thread a partition does
everything, with one read, one decode and one round trip of commits a batch.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from .errors import InvalidInput, RunnerError
from .facts import StoreFacts
from .group import LIVE, Group, Notify, Seat
from .keys import PartitionKeys
from .log.appending import AppendResult
from .progress import claim
from .projection import Projection, by_stream
from .requests import Operation
from .store import EventStore
from .subscribing import Port


def check_projections(facts: StoreFacts, projections: Sequence[Projection]) -> None:
    """Raise InvalidInput for projections that cannot run together on a store."""
    names: set[str] = set()
    for projection in projections:
        if not isinstance(projection, Projection):
            raise InvalidInput(f"only Projection objects can be run, not {type(projection).__name__}: {projection!r}")
        if projection.name in names:
            raise InvalidInput(f"two projections are named {projection.name!r}; each needs a name of its own")
        names.add(projection.name)
        if facts.partitions > 1 and projection.key is not by_stream:
            raise InvalidInput(
                f"projection {projection.name!r} has a key of its own, and the store {facts.partitions} partitions: "
                "each partition would hold a part of every row",
                hint="Key it by stream, or use a store with one partition.",
            )
    if not projections:
        raise InvalidInput("there is no projection to run")


def take_seats(facts: StoreFacts, projections: Sequence[Projection]) -> Operation[list[list[Seat]]]:
    """Claim the projections in every partition; those of one partition and position come in one list."""
    check_projections(facts, projections)
    owner = secrets.token_hex(8)
    together: dict[tuple[PartitionKeys, int], list[Seat]] = {}
    for keys in facts.keys:
        for projection in projections:
            held = yield from claim(keys, projection.name, owner)
            seat = Seat(projection, keys, held)
            together.setdefault((keys, seat.position), []).append(seat)
    return list(together.values())


class LiveGroups:
    """Which group is the live one of each partition. Groups ask it where to hand their projections over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, tuple[Group, Callable[[], None]]] = {}

    def hand_over(self, group: Group, wake: Callable[[], None]) -> bool:
        """Become the live group, or move into the one there is: then True, and ``group`` has no projections left."""
        with self._lock:
            found = self._live.setdefault(group.keys.partition, (group, wake))
            if found[0] is group:
                return False
            seats, group.seats = group.seats, []
            found[0].take_in(seats)
            found[1]()
            return True

    def end(self, group: Group) -> bool:
        """Stop being the live group; False when projections have come in meanwhile and must be served first."""
        with self._lock:
            if group.seat_newcomers() and not group.stopping:
                return False
            if self._live.get(group.keys.partition, (None,))[0] is group:
                del self._live[group.keys.partition]
            return True

    def forget(self, group: Group) -> None:
        """A group that failed takes nobody in any more; whoever is on the way in fails with it."""
        with self._lock:
            group.seat_newcomers()
            for partition, (live, _) in list(self._live.items()):
                if live is group:
                    del self._live[partition]


class Engine:
    """Projections at work in threads of this process. ``live=False``: they end when they have caught up."""

    def __init__(
        self,
        store: EventStore,
        projections: Sequence[Projection],
        *,
        live: bool = True,
        patience: float | None = None,
        notify: Notify = lambda seat: None,
    ) -> None:
        self._store = store
        self._live = live
        self._groups_live = LiveGroups()
        self._changed = threading.Condition()
        self._notify_outside = notify
        together = store.run(take_seats(store.facts, projections))
        #: Every projection in every partition, whatever became of it.
        self.seats: list[Seat] = [seat for seats in together for seat in seats]
        #: What ended a thread that should not have ended, if anything did.
        self.crash: BaseException | None = None
        self._workers: list[tuple[Group, Port, threading.Thread]] = []
        for seats in together:
            port = Port(store.driver, store.feed(seats[0].keys.partition))
            group = Group(
                seats[0].keys,
                seats,
                store.settings,
                clock=time.monotonic,
                notify=self._notify,
                patience=store.settings.retry_for if patience is None else patience,
                hand_over=lambda group, port=port: self._groups_live.hand_over(group, port.wake),  # type: ignore[misc]
            )
            thread = threading.Thread(
                target=self._run, args=(group, port), name=f"runner-{seats[0].keys.partition}", daemon=True
            )
            self._workers.append((group, port, thread))

    @property
    def failures(self) -> list[RunnerError]:
        """Why projections stopped."""
        return [seat.failure for seat in self.seats if seat.failure is not None]

    def start(self) -> None:
        """Start the threads."""
        for _, _, thread in self._workers:
            thread.start()

    def run_here(self) -> None:
        """Work in the calling thread, one group after the other; for history only."""
        for group, port, _ in self._workers:
            self._run(group, port)
            if self.crash is not None:
                break
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
        for _, _, thread in self._workers:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for _, _, thread in self._workers)

    def stop(self) -> None:
        """Let every group finish and commit the batch it is at, and end."""
        for group, port, _ in self._workers:
            group.stopping = True
            port.wake()

    def check(self) -> None:
        """Raise the first failure there was, if any."""
        if self.crash is not None:
            raise self.crash
        for failure in self.failures:
            raise failure

    def _run(self, group: Group, port: Port) -> None:
        try:
            while True:
                port.run(group.work(self._live))
                if self._groups_live.end(group):
                    return
        except BaseException as crash:
            self._groups_live.forget(group)
            for seat in group.seats:
                seat.failure = seat.failure or as_runner_error(crash)
            self.crash = self.crash or crash
        finally:
            port.close()
            with self._changed:
                self._changed.notify_all()

    def _notify(self, seat: Seat) -> None:
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


def as_runner_error(crash: BaseException) -> RunnerError:
    """What ended a group, as an error of this package."""
    return crash if isinstance(crash, RunnerError) else RunnerError(f"the runner failed: {crash!r}")
