"""An assignment: a projection or reactor in one partition, for as long as a process lives; what it holds and knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import HandlerFailed, RunnerError
from ..format.keys import FIRST_BUILD, PartitionKeys
from ..progress.checkpoint import Claim
from ..progress.lease import ClaimRequest
from ..progress.parked import Aside
from ..projections.handlers import Handlers
from ..projections.projection import Projection
from ..projections.reactor import Reactor

#: What an assignment is doing. Standing by: another runner has it.
CATCHING_UP, REBUILDING, LIVE, RETRYING = "catching up", "rebuilding", "live", "retrying"
STANDING_BY, STOPPED, IDLE, WAITING = "standing by", "stopped", "idle", "waiting for the server"

P = TypeVar("P", bound=Handlers)

#: A build, how often it was reset, and a position that was committed to it.
Stood = tuple[str, str, int]


@dataclass(slots=True)
class Attempts:
    """How often an event was tried in vain, and when first and last (µs since 1970)."""

    count: int
    first_us: int
    last_us: int


@dataclass(eq=False)
class Assignment(Generic[P]):
    """See the head of this module. Between `take` and `lose` it holds a claim, and a worker works for it."""

    projection: P
    keys: PartitionKeys
    _claim: Claim | None = None
    _known: tuple[str, str] = ("", "")
    state: str = STANDING_BY
    failure: RunnerError | None = None
    #: What its state is about, for people: why it tries again.
    trouble: str = ""
    #: When the lease ends, by the monotonic clock.
    expires: float = 0.0
    #: When it would end if nobody but its worker had renewed it.
    tended: float = 0.0
    #: Who has it instead, if the store said so, and for how long by the lease, in seconds.
    holder: str = ""
    held_for: float = 0.0
    #: Somebody else is to have it: its worker gives it back.
    leaving: bool = False
    handled: int = 0
    #: The position that is known to be committed.
    committed: int = 0
    #: Commits without an answer yet: the position after each, and how many events it handled.
    unanswered: list[tuple[int, int]] = field(default_factory=list)
    #: Packed rows, None = known to be absent. With ``whole``, what is not here is absent.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    whole: bool = False
    #: Rows that have parked events, and how many events are parked.
    parked: set[str] = field(default_factory=set)
    parked_events: int = 0
    #: Events behind the checkpoint whose effects were had under this claim: position and id.
    effects: set[tuple[int, bytes]] = field(default_factory=set)
    #: Rows that were changed, for whoever asks; None: nobody does.
    touched: set[str] | None = None
    #: Events that were tried in vain and are not behind it yet, by position.
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
        """The claim it works under, if it does; any thread may ask."""
        return self._claim if self.failure is None else None

    @property
    def claim(self) -> Claim:
        """The claim it holds."""
        assert self._claim is not None, f"{self.name} is not held"
        return self._claim

    @property
    def stood(self) -> Stood:
        """What is known of its last claim, the present one included: build, resets, and the committed position."""
        return (*self._known, self.committed)

    @property
    def position(self) -> int:
        """Where its checkpoint will be when every commit under way is taken."""
        return self._claim.checkpoint.position if self._claim is not None else self.committed

    @property
    def alone(self) -> bool:
        """Whether it shares a worker with nobody: effects take their time."""
        return isinstance(self.projection, Reactor)

    @property
    def candidate(self) -> bool:
        """Whether it makes a build beside the live one."""
        return self._claim is not None and self._claim.candidate

    def request(self) -> ClaimRequest:
        """What it would like to hold."""
        one: Handlers = self.projection
        from_end = isinstance(one, Reactor) and one.start == "end"
        code = one.build if isinstance(one, Projection) else FIRST_BUILD
        return ClaimRequest(self.keys, self.name, code, one.kind, from_end)

    def take(self, claim: Claim, expires: float) -> None:
        """Hold a claim, and forget what was known under the one before."""
        if self._claim is not None and claim.token == self._claim.token + 1:  # nobody else had it meanwhile
            self.handled += sum(handled for after, handled in self.unanswered if after <= claim.checkpoint.position)
        else:
            self.attempts.clear()
            self.effects.clear()
        self._claim, self.holder, self.leaving = claim, "", False
        self.expires = self.tended = expires
        self._known = claim.build, claim.resets.replace("new", "0")
        self.unanswered.clear()
        self.committed = claim.checkpoint.position
        self.rows.clear()
        self.whole = claim.checkpoint.position == 0

    def know_parked(self, parked: Sequence[Aside]) -> None:
        """Which events are parked, as the store says."""
        self.parked, self.parked_events = {one.key for one in parked}, len(parked)

    def lose(self, holder: str = "") -> None:
        """Hold it no more."""
        self._claim, self.holder, self.state = None, holder, STANDING_BY
        self.unanswered.clear()
        self.rows.clear()

    def stand_by(self, holder: str, held_for: float) -> None:
        """Another runner has it."""
        self.holder, self.held_for, self.state = holder, held_for, STANDING_BY

    def has_applied(self, partition: int, position: int) -> bool:
        """Whether there is no more to wait for: the position is committed, in another partition, or never will be."""
        return self.keys.partition != partition or self.committed >= position or self.failure is not None

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The rows of these keys that the cache does not hold."""
        if self.whole:
            return []
        rows = self.rows
        return list({key: None for key in keys if key not in rows})

    def remember(self, changed: dict[str, bytes | None], limit: int) -> None:
        self.rows.update(changed)
        if self.touched is not None:
            self.touched.update(changed)
        while len(self.rows) > limit:
            self.rows.pop(next(iter(self.rows)))
            self.whole = False

    def failed_at(self, failure: HandlerFailed, now_us: int) -> Attempts:
        """Count one more attempt in vain."""
        known = self.attempts.setdefault(failure.position, Attempts(0, now_us, now_us))
        known.count += 1
        known.last_us = now_us
        return known
