"""Fuzzing: what was found once is right now, and a search finds what is wrong, makes it small, and says how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from .kind import CORPUS, Fresh, Kind, corpus, fresh_stores
from .kinds import KINDS
from .search import STRIDE, Search

ROOT = Path(__file__).parents[2]
FOUND = [(name, place) for name in KINDS for place in range(len(corpus(name)))]


@pytest.mark.parametrize(("name", "place"), FOUND)
def test_what_was_found_once_is_right(name: str, place: int) -> None:
    """Each input of the corpus, on a store in memory."""
    with fresh_stores("memory:") as fresh:
        KINDS[name].check(corpus(name)[place], fresh)


def test_every_corpus_belongs_to_a_kind_and_says_what_was_wrong() -> None:
    """A line of text above each input."""
    assert {path.stem for path in CORPUS.glob("*.txt")} <= set(KINDS)
    for path in CORPUS.glob("*.txt"):
        lines = path.read_text().splitlines()
        assert [line.startswith("# ") for line in lines] == [True, False] * (len(lines) // 2), path.name


def search(check: Any, seed: int = 7, seconds: float = 60.0) -> Search:
    """A search among lists of numbers that has ended."""
    found = Search(Kind("numbers", "", st.lists(st.integers(0, 999)), check), seconds, seed)
    found.run("memory:")
    return found


def fails(given: list[int], fresh: Fresh) -> None:
    assert not any(number > 500 for number in given)


def test_a_search_ends_with_the_smallest_input_that_fails() -> None:
    """It tells the input, the seed of its portion, and the error."""
    finding = search(fails).finding
    assert finding is not None
    assert finding.given == [501]
    assert finding.seed % STRIDE == 7
    assert "AssertionError" in finding.why


def test_the_same_seed_tries_the_same_inputs() -> None:
    """And another seed tries others."""

    def tried(seed: int) -> list[list[int]]:
        seen: list[list[int]] = []

        def look(given: list[int], fresh: Fresh) -> None:
            seen.append(given)
            assert len(seen) < 300

        search(look, seed)
        return seen[:300]

    assert tried(1) == tried(1) != tried(2)


def test_a_search_ends_when_its_time_is_over() -> None:
    """Nothing was found, and something was tried."""
    ended = search(lambda given, fresh: None, seconds=0.3)
    assert ended.finding is None
    assert ended.count > 0


def test_the_command_prints_how_many_inputs_it_tried() -> None:
    """One line a kind."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "envelopes", "--seconds", "0.5", "--seed", "3"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("envelopes  seed 3: ")
    assert done.stdout.endswith(" a second\n")
