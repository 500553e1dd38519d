"""The sample of mutants: the same each time, and nearly the same after an edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from .mutant import Mutant
from .reach import Map, by_line, digest
from .run import FIRST, stages_of
from .sample import drawn, equivalent, holes, mutants_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def every() -> list[Mutant]:
    """All mutants of the package."""
    return list(mutants_of(ROOT))


def test_each_mutant_has_a_name_of_its_own(every: list[Mutant]) -> None:
    """Two places of a function with the same change are told apart by a number."""
    assert len({one.name for one in every}) == len(every)
    assert any(one.name.endswith(" #2") for one in every)


def test_the_sample_is_the_same_each_time_and_a_sixth_of_it_are_scripts(every: list[Mutant]) -> None:
    """A larger sample holds the smaller one; another seed draws others."""
    sample, smaller, other = drawn(every), drawn(every, 60), drawn(every, seed=1)
    assert len(sample) == 240
    assert sum(one.path.endswith(".lua") for one in sample) == 40
    assert [one.name for one in sample] == [one.name for one in drawn(reversed(every))]
    assert {one.name for one in smaller} < {one.name for one in sample}
    assert len({one.name for one in sample} & {one.name for one in other}) < 60


def test_an_edit_elsewhere_leaves_the_sample_nearly_as_it_was(every: list[Mutant], tmp_path: Path) -> None:
    """A function is added to one file: its mutants may come in, and take the places of as many others."""
    # given
    path = "runner/progress/builds.py"
    others = [one for one in every if one.path != path]
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / "runner" / "following.py").write_text("")

    # when
    added = "def added(a, b):\n    return a < b and a + 1 < b or not a\n\n\n"
    (tmp_path / path).write_text(added + (ROOT / path).read_text())

    # then
    edited = list(mutants_of(tmp_path))
    assert len(others) + len(edited) > len(every)
    before, after = {one.name for one in drawn(every)}, {one.name for one in drawn([*others, *edited])}
    assert len(before - after) <= 3


def test_what_is_listed_has_a_reason_or_a_test() -> None:
    """An equivalent mutant says why nobody could notice it; a former hole names a test that is there."""
    assert all(reason.endswith(".") for reason in equivalent().values())
    for test in holes().values():
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text()


# -- which tests reach a mutant -----------------------------------------------------------------------


class Data:
    """What coverage has measured."""

    def __init__(self, root: Path, lines: dict[str, dict[int, list[str]]]) -> None:
        self._lines = {str(root / path): found for path, found in lines.items()}

    def measured_files(self) -> list[str]:
        return list(self._lines)

    def contexts_by_lineno(self, name: str) -> dict[int, list[str]]:
        return self._lines[name]


def test_the_tests_of_a_mutant_are_those_that_run_its_statement(every: list[Mutant], tmp_path: Path) -> None:
    """Those of its own package come first; lines that only fixtures run are run by no test."""
    # given
    for path in ("tests/log/test_store.py", "tests/workers/test_workers.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("def test_one(): ...\n")
    module = tmp_path / "runner" / "log" / "thing.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "runner" / "following.py").write_text("")
    module.write_text('def thing(a, b):\n    return (\n        a < b\n    )\n\ndef script():\n    load("log/trim")\n')
    contexts = ["test_workers.test_one", "test_store.TestThing.test_two", ""]
    reached = by_line(tmp_path, Data(tmp_path, {"runner/log/thing.py": {2: contexts, 7: ["test_store.test_three"]}}))

    # when
    found = Map(tmp_path, reached)
    edge = next(one for one in mutants_of(tmp_path) if one.change.after == "a <= b")

    # then: and a test of its own package that was written since
    assert found.tests_of(edge) == [
        "tests/log/test_store.py::test_one",
        "tests/log/test_store.py::TestThing::test_two",
        "tests/workers/test_workers.py::test_one",
    ]
    trim = next(one for one in every if one.path == "runner/format/lua/log/trim.lua")
    assert found.tests_of(trim)[1:] == ["tests/log/test_store.py::test_three"]


def test_the_first_tests_of_a_mutant_are_from_many_files(tmp_path: Path) -> None:
    """A line that thousands of tests run is noticed by few of them, in a file that nobody could guess."""
    # given
    files = [f"tests/{name}.py" for name in ("log/test_a", "log/test_b", "wire/test_c", "wire/test_d")]
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("def test_1(): ...\ndef test_2(): ...\n")
    module = tmp_path / "runner" / "log" / "thing.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "runner" / "following.py").write_text("")
    module.write_text("def thing(a, b):\n    return a < b\n")
    tests = [f"{path}::test_{number}" for path in files for number in (1, 2)]

    # when
    found = Map(tmp_path, {"runner/log/thing.py": {2: tests}}).tests_of(next(mutants_of(tmp_path)))

    # then
    assert found == [f"{path}::test_{number}" for part in (files[:2], files[2:]) for number in (1, 2) for path in part]


def test_a_mutant_that_quick_tests_do_not_reach_is_left_to_the_tests_of_its_package(every: list[Mutant]) -> None:
    """The last stage takes those that need a real server, or more time; the first one few of the quick tests."""
    mutant = next(one for one in every if one.package == "lua/progress")
    assert [arguments[1:] for arguments, _ in stages_of(mutant, [])] == [
        ["-m", "not quick", "tests/progress", "tests/workers"]
    ]
    assert [quick for _, quick in stages_of(mutant, ["tests/log/test_store.py::test_three"])] == [True, False]
    many = [f"tests/log/test_store.py::test_{number}" for number in range(FIRST + 2)]
    assert [(len(arguments) - 3, quick) for arguments, quick in stages_of(mutant, many)] == [
        (FIRST, True), (2, True), (2, False)
    ]  # fmt: skip


def test_a_digest_changes_with_each_file(tmp_path: Path) -> None:
    """What was judged with another text is judged again."""
    (tmp_path / "a.py").write_text("1")
    before = digest(tmp_path, "a.py")
    (tmp_path / "a.py").write_text("2")
    assert digest(tmp_path, "a.py") != before
