"""Who uses the servers of the lab: writers that keep a record, projections that follow, and what errors say."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import history
from accounts import PATIENCE, balances, deposited, plain_fold, reached, rows_of
from history import Acknowledged, check

from runner import AppendResult, EventStore, NotConfirmed, Projection, RunnerError
from runner.sync.engine import Engine, Following
from runner.workers.assignment import Assignment

#: A place in the log that no event will reach.
NEVER = AppendResult("account-1", 0, 2**62, 2**62, 0, False, None)


class Writer:
    """The writer of one stream: each append expects the version that the one before it gave."""

    def __init__(self, store: EventStore, stream: str = "account-1", record: Acknowledged | None = None) -> None:
        self.store = store
        self.record = record or Acknowledged()
        #: What ended `run`, if an error did.
        self.told: RunnerError | None = None
        #: How often replicas had not confirmed in time.
        self.unconfirmed = 0
        self._stream = stream
        self._writer = history.Writer(store, self.record)
        self._version = store.version(stream)

    @property
    def acknowledged(self) -> int:
        """How many events were."""
        return sum(len(events) for events, _ in self.record.told)

    def append(self, count: int = 1) -> AppendResult:
        """Append a batch. One that is not confirmed is appended again, for a bounded time, until it is."""
        batch = [deposited() for _ in range(count)]
        results: list[AppendResult] = []

        def confirmed() -> bool:
            try:
                results.append(self._writer.append(self._stream, batch, self._version))
            except NotConfirmed:
                self.unconfirmed += 1
            return bool(results)

        assert reached(confirmed)
        self._version = results[0].version
        return results[0]

    def run(self, end: threading.Event) -> None:
        """Append one event after the other until ``end`` is set, or an error comes that is not an outage."""
        try:
            while not end.is_set():
                self.append()
        except RunnerError as told:
            self.told = told

    def findings(self, *, upto: int | None = None, views: bool = False) -> list[str]:
        """What is wrong with the history, where what was acknowledged behind position ``upto`` may be lost."""
        told = [(events, result) for events, result in self.record.told if upto is None or result.position <= upto]
        record = Acknowledged(self.record.tried, told)
        folds = [("balances", plain_fold)] if views else []
        return [str(finding) for finding in check(self.store, record, folds)]


class Follower:
    """A projection that follows a store, and the view it keeps."""

    def __init__(self, store: EventStore, projection: Projection) -> None:
        self.store = store
        self.ended = False
        #: What it says that it is doing.
        self.state = ""
        self._engine = Engine(store, [projection], notify=self._changed)
        self._work = Following(self._engine)
        self._work.__enter__()

    def _changed(self, assignment: Assignment) -> None:
        self.state = assignment.state

    def is_live(self) -> bool:
        """Whether it comes to be live within a bounded time."""
        return self._engine.wait_live(PATIENCE)

    def sees(self, result: AppendResult) -> bool:
        """Whether an append is applied within a bounded time."""
        return self._engine.wait_for(result.partition, result.position, PATIENCE) and self.goes_on(0)

    def is_right(self) -> bool:
        """Whether the view comes to equal the fold of the log."""
        return reached(lambda: rows_of(self.store) == plain_fold(self.store.read_all()))

    def goes_on(self, patience: float) -> bool:
        """Whether it works on for ``patience`` seconds."""
        return not self._engine.wait_for(NEVER.partition, NEVER.position, patience)

    def stops(self, patience: float = PATIENCE) -> RunnerError:
        """Why it stopped; that it goes on fails the test."""
        assert not self.goes_on(patience), "it goes on as if nothing had happened"
        failure = self.end()
        assert failure is not None, "it stopped and did not say why"
        return failure

    def end(self) -> RunnerError | None:
        """End it, and return what went wrong before, if anything did."""
        self.ended = True
        try:
            self._work.__exit__(None, None, None)
        except RunnerError as failure:
            return failure
        return None


@contextmanager
def following(store: EventStore, projection: Projection | None = None) -> Iterator[Follower]:
    """A projection at work; the end of the block ends it, and raises what went wrong unless the test asked for it."""
    follower = Follower(store, projection or balances())
    try:
        assert follower.is_live()
        yield follower
    except BaseException:
        if not follower.ended:
            follower.end()
        raise
    if not follower.ended and (failure := follower.end()) is not None:
        raise failure


def everything_said(error: BaseException) -> str:
    """Every text of an error that could end up in a log, its causes' too."""
    return "".join([*traceback.format_exception(error), repr(error), str(error), getattr(error, "hint", "")])
