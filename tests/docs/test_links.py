"""Links between pages, to headings and to files of the project lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import HOME, PAGES, README, ROOT, Page, read

#: Of every page, the changes included.
READ = {**PAGES, "CHANGELOG.md": read(ROOT / "CHANGELOG.md")}


def inside(page: Page) -> Iterator[tuple[int, Path, str]]:
    """The links of a page that lead into the project: line, file or directory, anchor ("" = none)."""
    for line, target in page.links:
        place, _, anchor = target.partition("#")
        if target.startswith(HOME):
            yield line, ROOT / re.sub(r"^(blob|tree)/main/", "", place.removeprefix(HOME)), anchor
        elif not re.match(r"[a-z]+:", target):
            yield line, (page.path.parent / place).resolve() if place else page.path, anchor


@pytest.mark.parametrize("page", READ.values(), ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Page) -> None:
    """Files, directories and headings that a link names exist."""
    dead = []
    for line, path, anchor in inside(page):
        if not path.exists():
            dead.append(f"line {line}: {path.relative_to(ROOT)} does not exist")
        elif anchor and anchor not in read(path).anchors:
            dead.append(f"line {line}: {path.relative_to(ROOT)} has no heading #{anchor}")
    dead += [f"line {line}: [{name}] is not defined" for line, name in page.undefined]
    assert not dead, f"{page.name}: {'; '.join(dead)}"


@pytest.mark.parametrize("page", READ.values(), ids=lambda page: page.name)
def test_links_can_be_followed_where_the_page_is_shown(page: Page) -> None:
    """A package index shows the README without the files beside it, so its links are whole addresses; in docs/ they
    are relative, so that they lead to the same version."""
    for line, target in page.links:
        if page is README:
            assert target.startswith(("https://", "#")), f"{page.name}:{line}: {target}"
        else:
            assert not target.startswith(HOME), f"{page.name}:{line}: {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    """By links from page to page."""
    reached, todo = {README.path}, [README]
    while todo:
        for _, path, _ in inside(todo.pop()):
            if path.suffix == ".md" and path.exists() and path not in reached:
                reached.add(path)
                todo.append(read(path))
    assert {page.path for page in PAGES.values()} <= reached


@pytest.mark.parametrize("page", READ.values(), ids=lambda page: page.name)
def test_no_two_headings_of_a_page_have_one_name(page: Page) -> None:
    """Else a link to the second would change its name when a heading before it comes or goes."""
    assert len(page.headings) == len(set(page.headings)), page.name
