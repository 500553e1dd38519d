"""The machine's clock and random numbers."""

from __future__ import annotations

import random
import time

from ..effects.clock import Clock


def now_in_microseconds() -> int:
    """µs since 1970."""
    return time.time_ns() // 1000


SYSTEM_CLOCK = Clock(time.monotonic, now_in_microseconds, random.random)
