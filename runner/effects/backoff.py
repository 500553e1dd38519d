"""How long to wait before the next attempt: exponential back-off with equal jitter.

Source: "Exponential Backoff And Jitter", M. Brooker, 2015: half of each pause is fixed, the other half is random.
"""

from __future__ import annotations

from ..errors import StoreTrouble
from .clock import Clock

#: First and longest pause between two attempts to reach a server, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0


def pause(attempts: int, first: float, longest: float, random: float) -> float:
    """Seconds to wait after ``attempts`` failures (1 or more): ``first`` doubled each time, at most ``longest``.

    ``random`` is a number from 0 to 1.
    """
    whole = min(longest, first * 2.0 ** min(attempts - 1, 60))
    return whole * (0.5 + random / 2)


class Backoff:
    """The pauses between attempts to reach a server, for ``patience`` seconds in all."""

    def __init__(self, patience: float, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + patience
        self._attempts = 0

    def after(self, error: StoreTrouble) -> float:
        """How long to wait, in seconds; raises ``error`` when patience has run out."""
        now = self._clock.monotonic()
        if now >= self._until:
            raise error
        self._attempts += 1
        return min(pause(self._attempts, FIRST_PAUSE, LONGEST_PAUSE, self._clock.random()), self._until - now)
