"""``python -m tests.simulation --seeds N --first S [--until SECONDS]``: run schedules, and say which fail."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from .schedule import Schedule
from .world import Violation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Run seeded schedules.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--until", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--failures", type=int, default=5, help="stop after so many failures")
    given = parser.parse_args()
    began, counts, failures, seconds, seed = time.monotonic(), Counter[str](), 0, 0.0, given.first
    while seed < given.first + given.seeds and time.monotonic() - began < given.until and failures < given.failures:
        schedule = Schedule(seed)
        try:
            schedule.run()
        except Violation as violation:
            failures += 1
            print(violation, "\n")
        counts.update(schedule.world.counts)
        seconds += schedule.world.now
        seed += 1
    took = time.monotonic() - began
    done = seed - given.first
    print(
        f"{done} schedules, {seconds:.0f} simulated seconds, in {took:.1f} s ({1000 * took / max(1, done):.1f} ms each)"
    )
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    print(f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
