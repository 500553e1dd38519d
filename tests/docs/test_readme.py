"""The README is the front door: short, the two set-up commands first, every page within reach."""

from __future__ import annotations

import re

import pytest
from pages import PAGES, README, ROOT, Page

#: A front door is read in five minutes.
MOST_LINES = 200

#: What fits beside an editor's margin. A definition of a link cannot be broken.
MOST_LETTERS = 120


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    """The two set-up commands are the first in the README, and the gate uses the one for the tests as it stands."""
    demo, tests = (block.strip() for block in README.of_language("sh")[:2])
    assert demo.endswith("runner demo")
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_is_short() -> None:
    """Whatever needs more room is a page of docs/."""
    assert len(README.text.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_lines_are_of_one_length(page: Page) -> None:
    """In the README all of them; elsewhere code and rows of tables, which cannot be broken, may be longer."""
    if page is README:
        lines = list(enumerate(page.text.splitlines(), 1))
    else:
        lines = [(number, line) for number, line in page.prose if not line.startswith("|")]
    long = [
        number for number, line in lines if len(line) > MOST_LETTERS and not re.match(r"\[[^]]+\]: ", line)
    ]  # fmt: skip
    assert not long, f"{page.name}: lines of more than {MOST_LETTERS} letters: {long}"


def test_the_readme_names_every_page() -> None:
    """The table of pages has each page of docs/ once, and nothing else; of a folder it has the index."""
    defined = dict(re.findall(r"^\[([^\]]+)\]: \S+/blob/main/(\S+)$", README.text, flags=re.MULTILINE))
    rows = [re.fullmatch(r"\[[^\]]+\]\[([^\]]+)\]", row[0]) for row in README.table("page")]
    named = [defined[row[1]] for row in rows if row]
    assert len(named) == len(rows)
    in_folders = {name for name in PAGES if re.match(r"docs/\w+/(?!README\.md)", name)}
    assert sorted(named) == sorted(PAGES.keys() - {"README.md"} - in_folders)


def test_the_readme_has_what_a_stranger_looks_for() -> None:
    """What it is, when not to use it, what is promised and what is not, how to begin, where to read on."""
    for heading in (
        "What is promised", "What is **not** promised", "When not to use it", "Two commands", "A first projection",
        "Works with", "Where to read on",
    ):  # fmt: skip
        assert heading in README.headings, heading
    assert README.of_language("text"), "a picture of the flow"
    assert len(README.table("promise")) >= 8
    assert len(README.table("not promised")) >= 5
