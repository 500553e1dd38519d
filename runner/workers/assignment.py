"""An assignment: this process's state for one projection or reactor in one partition.

An assignment lasts as long as the process. It holds the claim, the committed position, the cached rows, the keys of
parked rows and the failed attempts. The coordinator claims it, and one worker at a time works on it. Only the store
decides what is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import BuildReplaced, HandlerFailed, RunnerError
from ..format.keys import FIRST_BUILD, PartitionKeys
from ..progress.checkpoint import Claim
from ..progress.lease import ClaimRequest
from ..progress.parked import SetAsideEvent
from ..projections.handlers import Handlers
from ..projections.projection import Projection
from ..projections.reactor import Reactor
from ..views.redis_rows import Changes
from .pace import Pace

#: The states of an assignment. Standing by: another runner holds it, or the live build is of other code. Idle: its
#: worker has finished and released it.
CATCHING_UP, REBUILDING, LIVE, RETRYING = "catching up", "rebuilding", "live", "retrying"
STANDING_BY, STOPPED, IDLE, WAITING = "standing by", "stopped", "idle", "waiting for the server"

P = TypeVar("P", bound=Handlers)


class LastKnown(NamedTuple):
    """What this process knows from an assignment's last claim: build, count of resets, committed position."""

    build: str
    resets: str
    committed: int


@dataclass(slots=True)
class Attempts:
    """The failed attempts at an event: how many, when the first and the last were, when the next is due."""

    count: int
    #: µs since 1970.
    first_us: int
    last_us: int
    #: Seconds of the monotonic clock.
    due: float = 0.0


@dataclass(eq=False)
class Assignment(Generic[P]):
    """See the head of this module. From `take` to `lose` an assignment is held: this process may commit to it."""

    projection: P
    keys: PartitionKeys
    #: The Python and the fingerprint of the code; empty for a reactor, which has no rows that code could mix.
    fingerprint: tuple[str, str] = ("", "")
    _claim: Claim | None = None
    _known: tuple[str, str] = ("", "")
    state: str = STANDING_BY
    failure: RunnerError | None = None
    #: The live build is of other code, which has replaced this code; None if it has not.
    replaced: BuildReplaced | None = None
    #: Why the assignment is in this state, for people: for example the error after which it is tried again.
    reason: str = ""
    #: When the lease ends, in seconds of the monotonic clock.
    expires: float = 0.0
    #: When the lease would end if only the worker had renewed it, not the coordinator.
    expires_by_worker: float = 0.0
    #: The runner that holds the assignment instead, as the store said, and the seconds left of that runner's lease.
    holder: str = ""
    held_for: float = 0.0
    #: The coordinator gives the assignment up to another runner: its worker releases it.
    leaving: bool = False
    handled: int = 0
    #: The position that is known to be committed.
    committed: int = 0
    #: Commits without an answer: the position after each, and what it writes.
    unanswered: list[tuple[int, Changes]] = field(default_factory=list)
    #: Cached rows, packed; None = the view has no such row. With ``whole``, neither has it a row that is not cached.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    whole: bool = False
    #: Keys of rows that have parked events, and how many events are parked.
    parked: set[str] = field(default_factory=set)
    parked_events: int = 0
    #: Events after the checkpoint whose effects this process has performed under this claim: position and event id.
    effects: set[tuple[int, bytes]] = field(default_factory=set)
    #: Keys of changed rows, collected for a rebuild; None where no rebuild collects them.
    touched: set[str] | None = None
    #: The failed attempts at events after the checkpoint, by position.
    attempts: dict[int, Attempts] = field(default_factory=dict)
    #: Whether it is fast enough to share a worker.
    pace: Pace = field(default_factory=Pace)

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def held(self) -> bool:
        """Whether this process may commit to it."""
        return self._claim is not None

    @property
    def busy_with(self) -> Claim | None:
        """The claim under which a worker works on the assignment, or None. Any thread may read it."""
        return self._claim if self.failure is None else None

    @property
    def obstacle(self) -> RunnerError | None:
        """Why nobody need wait for the assignment: it has stopped, or its code was replaced."""
        return self.failure or self.replaced

    @property
    def claim(self) -> Claim:
        """The claim under which the assignment is held."""
        assert self._claim is not None, f"{self.name} is not held"
        return self._claim

    @property
    def last_known(self) -> LastKnown:
        """What this process knows from the last claim, which may be the present one."""
        return LastKnown(*self._known, self.committed)

    @property
    def position(self) -> int:
        """The checkpoint's position when every commit under way is accepted."""
        return self._claim.checkpoint.position if self._claim is not None else self.committed

    @property
    def is_reactor(self) -> bool:
        """Whether it is a reactor's, which always has a worker of its own: effects can be slow."""
        return isinstance(self.projection, Reactor)

    def is_alone(self, now: float) -> bool:
        """Whether it needs a worker of its own. ``now``: seconds of the monotonic clock."""
        return self.is_reactor or self.pace.is_apart(now)

    @property
    def mixed(self) -> int | None:
        """The position from which other code of the same build has gone on with the rows; None = none has."""
        return self._claim.mixed if self._claim is not None else None

    @property
    def candidate(self) -> bool:
        """Whether the assignment makes a build beside the live one."""
        return self._claim is not None and self._claim.candidate

    def request(self) -> ClaimRequest:
        """The request by which the assignment is claimed."""
        one: Handlers = self.projection
        from_end = isinstance(one, Reactor) and one.start == "end"
        code = one.build if isinstance(one, Projection) else FIRST_BUILD
        return ClaimRequest(self.keys, self.name, code, one.kind, from_end, self.fingerprint)

    def take(self, claim: Claim, expires: float) -> list[Changes]:
        """Hold the assignment under a new claim, and forget what was cached under an earlier one.

        Returns what commits have written whose answers did not come.
        """
        taken: list[Changes] = []
        if self._claim is not None and claim.token_before == self._claim.token:  # no other runner held it in between
            taken = [changes for after, changes in self.unanswered if after <= claim.checkpoint.position]
            self.handled += sum(changes.handled for changes in taken)
        else:
            self.attempts.clear()
            self.effects.clear()
        self._claim, self.holder, self.leaving, self.replaced = claim, "", False, None
        self.expires = self.expires_by_worker = expires
        self._known = claim.build, claim.resets.replace("new", "0")
        self.unanswered.clear()
        self.committed = claim.checkpoint.position
        self.rows.clear()
        self.whole = claim.checkpoint.position == 0
        return taken

    def know_parked(self, parked: Sequence[SetAsideEvent]) -> None:
        """Remember which events the store has parked."""
        self.parked, self.parked_events = {one.key for one in parked}, len(parked)

    def lose(self, holder: str = "") -> None:
        """Hold the assignment no longer. ``holder``: the runner that holds it now, if that is known."""
        self._claim, self.holder, self.state = None, holder, STANDING_BY
        self.unanswered.clear()
        self.rows.clear()

    def stand_by(self, holder: str, held_for: float) -> None:
        """Remember that another runner holds the assignment, and how many seconds of that runner's lease are left."""
        self.holder, self.held_for, self.state = holder, held_for, STANDING_BY

    def stand_aside(self, replaced: BuildReplaced) -> None:
        """Remember that other code has replaced this code."""
        self.replaced, self.holder, self.state = replaced, "", STANDING_BY

    def has_key(self, keys: Sequence[str]) -> bool:
        """Whether one of these keys holds a record of the projection, or of the build that is held."""
        mine = {self.keys.projection(self.name)}
        if self._claim is not None:
            mine.update(self.keys.of_build(self.name, self._claim.build))
        return not mine.isdisjoint(keys)

    def has_applied(self, partition: int, position: int) -> bool:
        """Whether a wait for a position is over: committed here, not of this partition, or there is an obstacle."""
        return self.keys.partition != partition or self.committed >= position or self.obstacle is not None

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The rows of these keys that the cache does not hold."""
        if self.whole:
            return []
        rows = self.rows
        return list({key: None for key in keys if key not in rows})

    def remember(self, changed: dict[str, bytes | None], limit: int) -> None:
        """Cache changed rows, ``limit`` rows at most."""
        self.rows.update(changed)
        if self.touched is not None:
            self.touched.update(changed)
        while len(self.rows) > limit:
            self.rows.pop(next(iter(self.rows)))
            self.whole = False

    def failed_at(self, failure: HandlerFailed, now_us: int) -> Attempts:
        """Count one more failed attempt at an event."""
        known = self.attempts.setdefault(failure.position, Attempts(0, now_us, now_us))
        known.count += 1
        known.last_us = now_us
        return known


#: Several assignments.
Assignments = Sequence[Assignment[Any]]
