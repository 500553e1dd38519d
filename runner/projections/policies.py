"""What a projection or reactor does when an event fails: stop, try again, park the stream, or skip the event.

==============  =================================================================================================
`Stop`          stops before the event and records why; other projections go on. The default: no row becomes wrong
`Retry`         tries the event again after a pause, a bounded number of times, then does one of the others
`ParkStream`    sets the event and every later event of the same row aside, in order; all other rows go on
`Skip`          goes on without the event, and keeps a record of it
==============  =================================================================================================

With `Stop` and `ParkStream` every row is the fold of its first events, without a gap. With `Skip` it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..effects.backoff import pause
from ..errors import InvalidInput

#: The most parked events of a projection in a partition; one more stops it. Its owner holds their keys in memory.
MOST_PARKED = 10_000

#: The longest pause between two attempts by default, in seconds.
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop before the failing event. When the cause is corrected, start again: the run goes on with that event."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Go on without the failing event, for ever, and keep a record of it (``runner skipped``)."""


@dataclass(frozen=True, slots=True)
class ParkStream:
    """Set the failing event and every later event of its row aside (``runner parked``).

    ``limit``: how many events may be parked for the projection in a partition; one more stops the projection.
    """

    limit: int = MOST_PARKED

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or not 1 <= self.limit <= MOST_PARKED:
            raise InvalidInput(f"ParkStream: limit must be a number from 1 to {MOST_PARKED}, not {self.limit!r}")


LastResort = Stop | ParkStream | Skip


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again up to ``times`` times, then do what ``then`` says.

    The pause before attempt n is random between half of and all of ``backoff`` * 2ⁿ⁻¹ seconds, at most ``longest``.
    Other projections go on meanwhile. Source: "Exponential Backoff And Jitter", M. Brooker, 2015.
    """

    times: int = 5
    backoff: float = 0.5
    then: LastResort = Stop()
    longest: float = LONGEST_PAUSE

    def __post_init__(self) -> None:
        if not isinstance(self.times, int) or isinstance(self.times, bool) or self.times < 1:
            raise InvalidInput(f"Retry: times must be a number from 1, not {self.times!r}")
        for name in ("backoff", "longest"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
                raise InvalidInput(f"Retry: {name} must be a number of seconds from 0, not {value!r}")
        if not isinstance(self.then, LastResort):
            raise InvalidInput(f"Retry: then must be Stop(), ParkStream() or Skip(), not {self.then!r}")

    def pause(self, attempts: int, random: Callable[[], float]) -> float:
        """Seconds to wait after ``attempts`` failures; ``random`` gives numbers from 0 to 1."""
        return pause(attempts, self.backoff, self.longest, random())


Policy = Stop | Retry | ParkStream | Skip

#: What ``on_error`` takes: a policy, or its class where the policy needs no argument.
OnError = Policy | type[Stop] | type[Retry] | type[ParkStream] | type[Skip]

DEFAULT: Final[Policy] = Stop()


def check_policy(policy: object, owner: str) -> Policy:
    """The policy, if it is one; ``Stop`` may be given for ``Stop()``. Raises InvalidInput."""
    if isinstance(policy, type) and policy in (Stop, Retry, ParkStream, Skip):
        policy = policy()
    if not isinstance(policy, Policy):
        raise InvalidInput(f"{owner}: on_error must be Stop(), Retry(…), ParkStream() or Skip(), not {policy!r}")
    return policy


def retries(policy: Policy) -> int:
    """How often an event is tried again before the last resort."""
    return policy.times if isinstance(policy, Retry) else 0


def last_resort(policy: Policy) -> LastResort:
    """The policy for an event whose last retry has failed."""
    return policy.then if isinstance(policy, Retry) else policy
