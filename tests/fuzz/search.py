"""Looking for an input that fails, and making it small: by Hypothesis, from a seed, until the time is over."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings

from .kind import Fresh, Kind, fresh_stores

#: How many inputs come from one seed; then the next one is taken. Each seed begins with small inputs.
PORTION = 200

#: How far the seeds of a search are apart, so that searches with neighbouring seeds do not try the same.
STRIDE = 1_000_003


@dataclass(frozen=True)
class Finding:
    """The smallest input that fails, why, and the seed of its portion."""

    given: Any
    seed: int
    why: str


class Search:
    """Inputs of one kind, in an order that the seed decides."""

    def __init__(self, kind: Kind, seconds: float, seed: int) -> None:
        self._kind = kind
        self._until = time.monotonic() + seconds
        self._seed = seed
        self.count = 0
        self.finding: Finding | None = None

    def run(self, url: str) -> None:
        """Try inputs until one fails or the time is over."""
        with fresh_stores(url) as fresh:
            while time.monotonic() < self._until and self.finding is None:
                self._portion(self._seed, fresh)
                self._seed += STRIDE

    def _portion(self, seed: int, fresh: Fresh) -> None:
        failed: list[Finding] = []

        def once(given: Any) -> None:
            if not failed and time.monotonic() > self._until:
                return
            try:
                made = self._kind.check(given, fresh)
                self.count += made if isinstance(made, int) else 1
            except Exception:
                failed.append(Finding(given, seed, traceback.format_exc()))
                raise

        try:
            _search_of(seed)(hypothesis.given(self._kind.inputs)(once))()
        except Exception:
            if not failed:
                raise
            self.finding = failed[-1]  # the smallest is tried once more, as the last one


def _search_of(seed: int) -> Any:
    chosen = settings(
        max_examples=PORTION,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    return lambda test: hypothesis.seed(seed)(chosen(test))
