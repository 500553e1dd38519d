"""Judging mutants in a small project: one is noticed, one survives, one hangs, and the tree stays as it is."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from .mutant import Mutant
from .run import KILLED, SURVIVED, Copy, Judgement, Results, judge_all
from .sample import mutants_of

MODULE = """def at_least(a, b):
    while a < b:
        a += 1
    return a > 0
"""

TESTS = """import runpy

def test_at_least():
    at_least = runpy.run_path("runner/following.py")["at_least"]
    assert at_least(1, 3)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project under version control whose tests do not notice everything."""
    root = tmp_path / "project"
    for path, text in {"runner/following.py": MODULE, "tests/test_it.py": TESTS}.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def judged(project: Path, results: Results, chosen: list[Mutant], until: float = float("inf")) -> dict[str, Judgement]:
    """The judgements of mutants, by the change."""
    found: dict[str, Judgement] = {}

    def tell(mutant: Mutant, judgement: Judgement) -> None:
        found[f"{mutant.change.before} → {mutant.change.after}"] = judgement

    stages = [(one, [(["--timeout=2", "tests"], False)]) for one in chosen]
    judge_all(project, project.parent, stages, results, workers=2, until=until, tell=tell)
    return found


def test_each_mutant_is_judged_by_the_tests(project: Path) -> None:
    """The test that noticed it is named; what is judged already is known in the next run; the tree is not touched."""
    # given
    kept = project.parent / "results.json"
    every = list(mutants_of(project))

    # when
    found = judged(project, Results(project, kept), every)

    # then
    assert found["return a > 0 → return None"].verdict == KILLED
    assert found["return a > 0 → return None"].by == "tests/test_it.py::test_at_least"
    assert found["a > 0 → a >= 0"].verdict == SURVIVED
    assert (found["a += 1 → pass"].verdict, "time-out" in found["a += 1 → pass"].by) == (KILLED, True)
    assert (project / "runner" / "following.py").read_text() == MODULE

    # when: a test is added
    again = Results(project, kept)
    assert all(again.of(one) is not None for one in every)
    (project / "tests" / "test_more.py").write_text("")
    later = Results(project, kept)

    # then: a survivor may be noticed by it
    verdicts = {
        later.of(one) is not None
        for one in every
        if found[f"{one.change.before} → {one.change.after}"].verdict == KILLED
    }
    assert verdicts == {True}
    assert {later.of(one) for one in every if one.change.after == "a >= 0"} == {None}


def test_a_test_that_fails_without_the_mutant_too_has_noticed_nothing(project: Path) -> None:
    """It is left out, and the other tests judge the mutant."""
    # given
    (project / "tests" / "test_broken.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('text', ['a b'])\ndef test_broken(text):\n    assert not text\n"
    )
    every = [one for one in mutants_of(project) if one.change.after in ("return None", "a >= 0")]

    # when
    found = judged(project, Results(project, project.parent / "results.json"), every)

    # then
    assert {change: (one.verdict, one.by) for change, one in found.items()} == {
        "return a > 0 → return None": (KILLED, "tests/test_it.py::test_at_least"),
        "a > 0 → a >= 0": (SURVIVED, ""),
    }


def test_no_mutant_is_begun_when_the_time_is_up(project: Path) -> None:
    """What was not judged is left for the next run."""
    assert (
        judged(project, Results(project, project.parent / "results.json"), list(mutants_of(project)), time.monotonic())
        == {}
    )


def test_a_copy_has_what_the_tree_has_now(project: Path) -> None:
    """Files that are not committed yet, too; not what is ignored, and not what is deleted."""
    (project / ".gitignore").write_text("*.log\n")
    (project / "a.log").write_text("")
    (project / "new.py").write_text("")
    Copy(project, project.parent / "copy")
    copied = {path.name for path in (project.parent / "copy").rglob("*") if path.is_file()}
    assert copied == {".gitignore", "new.py", "following.py", "test_it.py"}
