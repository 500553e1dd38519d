"""The pages of the documentation, taken apart: blocks of code, headings, links, tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Where the README's links to other files begin: a package index shows the README, and none of those files.
HOME = "https://github.com/redis-streams-runner/redis-streams-runner/"

_FENCE = re.compile(r"^```(.*)$")
_HEADING = re.compile(r"^(#{1,6}) (.+)$")
_INLINE_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_REFERENCE = re.compile(r"\[[^\]]+\]\[([^\]]+)\]")
_DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$")
_INLINE_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line that its text begins at (the first is 1)."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page: where it is, and its text."""

    path: Path
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def blocks(self) -> list[Block]:
        return list(_blocks(self.text.splitlines()))

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """The lines outside of fenced blocks, with their numbers."""
        return list(_prose(self.text.splitlines()))

    def of_language(self, language: str) -> list[str]:
        return [block.text for block in self.blocks if block.language == language]

    def program(self) -> str:
        """The Python blocks as one program in which every line has the number that it has on the page."""
        lines = [""] * len(self.text.splitlines())
        for block in self.blocks:
            if block.language == "python":
                texts = block.text.splitlines()
                lines[block.line - 1 : block.line - 1 + len(texts)] = texts
        return "\n".join(lines) + "\n"

    @cached_property
    def headings(self) -> list[str]:
        found = (_HEADING.match(line) for _, line in self.prose)
        return [match[2] for match in found if match]

    @cached_property
    def anchors(self) -> list[str]:
        """What a link can name a heading by, as GitHub makes it."""
        anchors: list[str] = []
        for heading in self.headings:
            anchor = anchor_of(heading)
            again = sum(known == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", known) is not None
                        for known in anchors)  # fmt: skip
            anchors.append(f"{anchor}-{again}" if again else anchor)
        return anchors

    @cached_property
    def links(self) -> list[tuple[int, str]]:
        """The targets of its links, with their lines."""
        found: list[tuple[int, str]] = []
        for number, line in self.prose:
            definition = _DEFINITION.match(line)
            if definition:
                found.append((number, definition[2]))
            else:
                found += [(number, target) for target in _INLINE_LINK.findall(line)]
        return found

    @cached_property
    def undefined(self) -> list[tuple[int, str]]:
        """Links by reference that no line of the page defines, with their lines."""
        defined = {match[1].lower() for _, line in self.prose if (match := _DEFINITION.match(line))}
        used = [(number, name) for number, line in self.prose for name in _REFERENCE.findall(_without_code(line))]
        return [(number, name) for number, name in used if name.lower() not in defined]

    @cached_property
    def inline_code(self) -> list[tuple[int, str]]:
        """What stands between backticks, with the line that it begins on; it may go on over the end of a line."""
        text = "\n".join(line for _, line in self.prose)
        numbers = [number for number, _ in self.prose]
        return [
            (numbers[text.count("\n", 0, match.start())], " ".join(match[1].split()))
            for match in _INLINE_CODE.finditer(text)
        ]

    def table(self, first_column: str) -> list[list[str]]:
        """The rows of the tables whose first column has this head, cell by cell."""
        rows: list[list[str]] = []
        inside = False
        for _, line in self.prose:
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not cells:
                inside = False
            elif cells[0] == first_column:
                inside = True
            elif inside and set(cells[0]) - set("-: "):
                rows.append(cells)
        return rows


def anchor_of(heading: str) -> str:
    """The anchor of a heading: small letters, without punctuation, `-` for each space."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _blocks(lines: list[str]) -> Iterator[Block]:
    language, begun, inside = "", 0, False
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if fence and not inside:
            language, begun, inside = fence[1], number + 1, True
        elif fence:
            yield Block(language, "".join(f"{text}\n" for text in lines[begun - 1 : number - 1]), begun)
            inside = False
    if inside:
        raise ValueError(f"the block that begins at line {begun} has no end")


def _prose(lines: list[str]) -> Iterator[tuple[int, str]]:
    inside = False
    for number, line in enumerate(lines, 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def _without_code(line: str) -> str:
    return _INLINE_CODE.sub("", line)


def read(path: Path) -> Page:
    return Page(path, path.read_text())


README = read(ROOT / "README.md")
#: All pages, by their names: README.md first, then those of docs/.
PAGES: Mapping[str, Page] = {
    page.name: page for page in [README, *(read(path) for path in sorted((ROOT / "docs").rglob("*.md")))]
}


def shell(script: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a reader would who has the package installed; it ends at the first command that fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd, env={**os.environ, "PATH": path, **env}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
