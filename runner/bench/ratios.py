"""Kept ratios: the ratios of a run in a file, and which ratios of a later run are worse.

A file of ratios holds the options of its run, because figures of other options cannot be compared. Values and baselines
are not kept: they depend on the machine, while ratios depend on the package (as far as machines are alike).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput
from .figures import Figure

#: A ratio is reported if it has lost more than this share of the kept ratio.
TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class Fall:
    """A ratio that is worse than the kept one. ``share``: how much of the kept ratio is lost; 0.5 is half as good."""

    name: str
    kept: float
    ratio: float
    share: float

    def __str__(self) -> str:
        return f"{self.name}: ratio {self.ratio:.2f}, and {self.kept:.2f} when it was kept ({self.share:.0%} worse)"


def keep(file: Path, figures: Iterable[Figure], options: Mapping[str, int]) -> None:
    """Write the ratios of a run with these options to a file, in place of its content."""
    ratios = {figure.name: round(figure.ratio, 3) for figure in figures}
    file.write_text(json.dumps({"options": dict(options), "ratios": ratios}, indent=2, ensure_ascii=False) + "\n")


def read(file: Path, options: Mapping[str, int]) -> dict[str, float]:
    """The kept ratios by the names of their figures.

    Raises InvalidInput for a file that holds none, and for ratios of a run with other options.
    """
    again = "Keep the ratios of a run anew: `runner bench --keep FILE`."
    try:
        kept = json.loads(file.read_text())
        theirs, ratios = dict(kept["options"]), {str(name): float(ratio) for name, ratio in kept["ratios"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} holds no ratios of a benchmark: {error}", hint=again)
    if theirs != dict(options):
        raise InvalidInput(f"{file} holds ratios of another run: its options are {theirs}", hint=again)
    return ratios


def falls(figures: Iterable[Figure], kept: Mapping[str, float], tolerance: float = TOLERANCE) -> list[Fall]:
    """The figures whose ratio has lost more than ``tolerance`` of the kept one. A new figure has lost nothing."""
    found = []
    for figure in figures:
        before = kept.get(figure.name, figure.ratio)
        share = 1 - (figure.ratio / before if figure.more_is_better else before / figure.ratio)
        if share > tolerance:
            found.append(Fall(figure.name, before, figure.ratio, share))
    return found
