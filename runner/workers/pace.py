"""The pace of a projection: whether its handlers are fast enough to share a worker with others.

The projections of a shared worker take turns. So a projection whose turn took long leaves the worker, and goes on in
one of its own. It comes back when its turns have been short for a while. Each time that it has to leave again, it stays
away for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from logging import WARNING
from typing import Any

#: A projection whose turn in one batch takes longer than so many seconds keeps the others waiting for too long.
LONGEST_TURN = 0.25

#: For how long a projection that was slow has a worker of its own, in seconds: the first time, and at most.
APART = 60.0
LONGEST_APART = 3600.0


@dataclass(frozen=True, slots=True)
class SlowTurn:
    """A projection has to leave its worker, because its turn took so many seconds; it is told to people."""

    projection: str
    partition: int
    seconds: float
    #: For how long it has a worker of its own at least, in seconds.
    stay: float

    @property
    def level(self) -> int:
        return WARNING

    @property
    def text(self) -> str:
        """What happened, and what comes next."""
        return (
            f"{self.projection}[{self.partition}] took {self.seconds:.1f} s for a batch while others waited; it has a "
            f"worker of its own for the next {self.stay:.0f} s or longer"
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "projection": self.projection,
            "partition": self.partition,
            "finding": "slow",
            "seconds": round(self.seconds, 3),
            "apart": self.stay,
        }


@dataclass(slots=True)
class Pace:
    """The pace of one assignment. Times are seconds of the monotonic clock."""

    #: Until when the assignment has a worker of its own, and for how long each slow turn sets that anew.
    apart_until: float = float("-inf")
    stay: float = APART

    def is_apart(self, now: float) -> bool:
        """Whether the assignment needs a worker of its own."""
        return now < self.apart_until

    def was_slow(self, now: float, *, shared: bool) -> bool:
        """Note a turn longer than `LONGEST_TURN`; True if the assignment has to leave its worker, which is shared."""
        if shared and self.apart_until > float("-inf"):
            self.stay = min(2 * self.stay, LONGEST_APART)
        if shared or self.is_apart(now):
            self.apart_until = now + self.stay
        return shared
