"""The numbers that docstrings cite are those of the page about behaviour."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pages import PAGES, ROOT

BEHAVIOUR = PAGES["docs/behaviour.md"]

_CASE = re.compile(r"\b([A-D])(\d{1,2})\b")
_CASES = re.compile(r"\b([A-D])(\d{1,2})(?:-| to )\1(\d{1,2})\b")
_ROWS = re.compile(r"\b[Rr]ows? (\d+(?:(?:, | and | to )\d+)*)")


def texts(source: str) -> Iterator[str]:
    """The docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def cases_in(text: str) -> set[str]:
    """The numbers of cases that a text cites; both ends of a range, and all between them."""
    found = {f"{letter}{number}" for letter, number in _CASE.findall(text)}
    for letter, first, last in _CASES.findall(text):
        found |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    return found


def rows_in(text: str) -> set[int]:
    """The rows of the fault matrix that a text cites."""
    found: set[int] = set()
    for listed in _ROWS.findall(text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", listed):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def sources() -> Iterator[Path]:
    for place in ("tests", "runner"):
        yield from (path for path in sorted((ROOT / place).rglob("*.py")) if path.parent != Path(__file__).parent)


def cited() -> tuple[dict[str, list[str]], dict[int, list[str]]]:
    """What is cited, and in which files: cases, and rows of the fault matrix."""
    cases: dict[str, list[str]] = defaultdict(list)
    rows: dict[int, list[str]] = defaultdict(list)
    for path in sources():
        source = path.read_text()
        name = path.relative_to(ROOT).as_posix()
        for text in texts(source):
            for case in cases_in(text):
                cases[case].append(name)
        if "faults" in path.parts:
            for number in {int(number) for number in re.findall(r"def test_row_(\d+)_", source)}.union(
                *(rows_in(text) for text in texts(source))
            ):
                rows[number].append(name)
    return cases, rows


def test_every_case_that_is_cited_is_on_the_page() -> None:
    """A reader of a docstring can look its number up."""
    told = [row[0] for row in BEHAVIOUR.table("number")]
    cases, _ = cited()
    assert len(cases) > 50
    assert {case: files for case, files in cases.items() if case not in told} == {}


def test_every_case_on_the_page_stands_there_once_and_in_order() -> None:
    """A1, A2 … without a gap."""
    told = [row[0] for row in BEHAVIOUR.table("number")]
    ends = {letter: sum(case.startswith(letter) for case in told) for letter in "ABCD"}
    assert told == [f"{letter}{number}" for letter, end in ends.items() for number in range(1, end + 1)]


def test_the_cases_on_the_page_are_shown_by_tests() -> None:
    """Each is cited by a test: a case that none shows would be a wish. Every forwarder's test shows D5."""
    cases, _ = cited()
    assert {row[0] for row in BEHAVIOUR.table("number")} - set(cases) <= {"D5", "D7"}  # D7 is cited beside this file


def test_every_row_of_the_fault_matrix_that_is_cited_is_on_the_page() -> None:
    """And every row on the page is cited by a test."""
    told = [int(row[0]) for row in BEHAVIOUR.table("row")]
    _, rows = cited()
    assert told == sorted(rows)


def test_the_invariants_of_the_matrix_are_those_of_the_page() -> None:
    """A row names letters that the page explains."""
    letters = {row[0] for row in BEHAVIOUR.table("letter")}
    for row in BEHAVIOUR.table("row"):
        assert set(row[3].split(", ")) <= letters, row[0]


def test_ranges_and_lists_are_understood() -> None:
    """Docstrings cite several at a time."""
    assert cases_in("B1-B3, B13 and C2; D1 to D3") == {"B1", "B2", "B3", "B13", "C2", "D1", "D2", "D3"}
    assert rows_in("Rows 1 to 3, 24, 25 and 29 at random") == {1, 2, 3, 24, 25, 29}
    assert rows_in("the fault matrix: rows 10, 11, 12 and 32.") == {10, 11, 12, 32}
    assert rows_in("row 28.") == {28}
