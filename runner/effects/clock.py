"""Time and random numbers as arguments: the core reads neither by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The source of time and random numbers. `runner.wire.clock.SYSTEM_CLOCK` is the machine's."""

    #: Seconds from an arbitrary beginning; never goes back.
    monotonic: Callable[[], float]
    #: µs since 1970.
    now: Callable[[], int]
    #: A number from 0 to 1.
    random: Callable[[], float]
