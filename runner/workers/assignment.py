"""An assignment: this process's state for one projection or reactor in one partition.

It lasts as long as the process. It knows the claim that it is worked on under, what is committed, what is cached, which
rows are parked and which events failed. The coordinator claims it, one worker at a time works on it, and the store has
the last word about what is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from ..errors import HandlerFailed, RunnerError
from ..format.keys import FIRST_BUILD, PartitionKeys
from ..progress.checkpoint import Claim
from ..progress.lease import ClaimRequest
from ..progress.parked import SetAsideEvent
from ..projections.handlers import Handlers
from ..projections.projection import Projection
from ..projections.reactor import Reactor

#: What is done with an assignment. Standing by: another runner holds it.
CATCHING_UP, REBUILDING, LIVE, RETRYING = "catching up", "rebuilding", "live", "retrying"
STANDING_BY, STOPPED, IDLE, WAITING = "standing by", "stopped", "idle", "waiting for the server"

P = TypeVar("P", bound=Handlers)


class LastKnown(NamedTuple):
    """What was known of an assignment under its last claim: build, how often that was reset, committed position."""

    build: str
    resets: str
    committed: int


@dataclass(slots=True)
class Attempts:
    """How often an event was tried in vain, when first and last, and when it may be tried again."""

    count: int
    #: µs since 1970.
    first_us: int
    last_us: int
    #: Seconds of the monotonic clock.
    due: float = 0.0


@dataclass(eq=False)
class Assignment(Generic[P]):
    """See the head of this module. From `take` to `lose` it is held: this process may commit to it."""

    projection: P
    keys: PartitionKeys
    _claim: Claim | None = None
    _known: tuple[str, str] = ("", "")
    state: str = STANDING_BY
    failure: RunnerError | None = None
    #: Why it is in this state, for people: the error that it tries again after.
    reason: str = ""
    #: When its lease ends, in seconds of the monotonic clock.
    expires: float = 0.0
    #: When its lease would end if only its worker had renewed it, not the coordinator.
    expires_by_worker: float = 0.0
    #: Who holds it instead, as the store said, and for how many seconds by the lease.
    holder: str = ""
    held_for: float = 0.0
    #: Another runner is to have it: its worker releases it.
    leaving: bool = False
    handled: int = 0
    #: The position that is known to be committed.
    committed: int = 0
    #: Commits without an answer: the position after each, and how many events it handled.
    unanswered: list[tuple[int, int]] = field(default_factory=list)
    #: Packed rows, None = known to be absent. With ``whole``, a row that is not here is absent.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    whole: bool = False
    #: Rows that have parked events, and how many events are parked.
    parked: set[str] = field(default_factory=set)
    parked_events: int = 0
    #: Events after the checkpoint whose effects this process has performed under this claim: position and event id.
    effects: set[tuple[int, bytes]] = field(default_factory=set)
    #: Keys of rows that were changed, where a rebuild collects them.
    touched: set[str] | None = None
    #: Events after the checkpoint that were tried in vain, by position.
    attempts: dict[int, Attempts] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def held(self) -> bool:
        """Whether this process may commit to it."""
        return self._claim is not None

    @property
    def busy_with(self) -> Claim | None:
        """The claim it is worked on under, or None; any thread may ask."""
        return self._claim if self.failure is None else None

    @property
    def claim(self) -> Claim:
        """The claim it is held under."""
        assert self._claim is not None, f"{self.name} is not held"
        return self._claim

    @property
    def last_known(self) -> LastKnown:
        """What is known from its last claim, the present one included."""
        return LastKnown(*self._known, self.committed)

    @property
    def position(self) -> int:
        """Where its checkpoint will be when every commit under way is taken."""
        return self._claim.checkpoint.position if self._claim is not None else self.committed

    @property
    def alone(self) -> bool:
        """Whether it has a worker of its own, as reactors do: effects take their time."""
        return isinstance(self.projection, Reactor)

    @property
    def candidate(self) -> bool:
        """Whether it makes a build beside the live one."""
        return self._claim is not None and self._claim.candidate

    def request(self) -> ClaimRequest:
        """What is to be claimed for it."""
        one: Handlers = self.projection
        from_end = isinstance(one, Reactor) and one.start == "end"
        code = one.build if isinstance(one, Projection) else FIRST_BUILD
        return ClaimRequest(self.keys, self.name, code, one.kind, from_end)

    def take(self, claim: Claim, expires: float) -> None:
        """Hold it under a claim, and forget what was cached under the claim before."""
        if self._claim is not None and claim.token == self._claim.token + 1:  # no other runner held it in between
            self.handled += sum(handled for after, handled in self.unanswered if after <= claim.checkpoint.position)
        else:
            self.attempts.clear()
            self.effects.clear()
        self._claim, self.holder, self.leaving = claim, "", False
        self.expires = self.expires_by_worker = expires
        self._known = claim.build, claim.resets.replace("new", "0")
        self.unanswered.clear()
        self.committed = claim.checkpoint.position
        self.rows.clear()
        self.whole = claim.checkpoint.position == 0

    def know_parked(self, parked: Sequence[SetAsideEvent]) -> None:
        """Remember which events the store has parked."""
        self.parked, self.parked_events = {one.key for one in parked}, len(parked)

    def lose(self, holder: str = "") -> None:
        """Hold it no more."""
        self._claim, self.holder, self.state = None, holder, STANDING_BY
        self.unanswered.clear()
        self.rows.clear()

    def stand_by(self, holder: str, held_for: float) -> None:
        """Remember that another runner holds it, for so many seconds by its lease."""
        self.holder, self.held_for, self.state = holder, held_for, STANDING_BY

    def has_applied(self, partition: int, position: int) -> bool:
        """Whether a wait for this position is over: it is committed, of another partition, or will never be."""
        return self.keys.partition != partition or self.committed >= position or self.failure is not None

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
        """Count one more attempt in vain at an event."""
        known = self.attempts.setdefault(failure.position, Attempts(0, now_us, now_us))
        known.count += 1
        known.last_us = now_us
        return known
