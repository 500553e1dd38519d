"""``python -m tests.fuzz KIND --seconds N --seed S``: try inputs of one kind, or of all; print the smallest that fails.

The same seed tries the same inputs in the same order, as far as the time goes. Ends with 1 after a finding.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # as pytest does for the tests

from runner import EventStore

from .kind import Kind
from .kinds import KINDS
from .search import Search


@contextmanager
def url_for(kind: Kind) -> Iterator[str]:
    """Where the stores of a kind are: in memory, or on a server that is gone afterwards."""
    if not kind.real:
        yield "memory:"
        return
    with tempfile.TemporaryDirectory(prefix="runner-fuzz-") as directory:
        url = f"embedded:{directory}"
        with EventStore.open(url, name="keeper") as keeper:
            keeper.driver.execute([("CONFIG", "SET", "appendonly", "no")])  # nothing here is to last
            yield url


def main() -> int:
    what = "; ".join(f"{one.name}: {one.what}" for one in KINDS.values())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, "all"], help=what)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, for each kind (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="which inputs (default: 1)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    findings = 0
    for kind in KINDS.values() if given.kind == "all" else [KINDS[given.kind]]:
        with url_for(kind) as url:
            search, began = Search(kind, given.seconds, given.seed), time.monotonic()
            search.run(url)
        took = time.monotonic() - began
        rate = search.count / took
        counted = f"{search.count:8,} inputs in {took:5.1f} s, {rate:8,.0f} a second"
        print(f"{kind.name:10} seed {given.seed}: {counted}", flush=True)
        if (found := search.finding) is not None:
            findings += 1
            print(f"{found.why}\nseed {found.seed}; the smallest input, for tests/fuzz/corpus/{kind.name}.txt:")
            print(ascii(found.given))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
