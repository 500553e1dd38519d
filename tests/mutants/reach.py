"""Which quick tests run which line: one run of the quick tests under coverage, with a context for each test.

A script is reached by the tests that run a line of the package which names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path

from .mutant import Mutant

#: The module of the package that has tests in it.
CONTRACT = "contract"

#: The folders of tests that belong to a package of another name: the faces, and what is tested through others.
BELONGING = {
    "effects": ("wire", "workers"), "sync": ("sync", "wire", "subscriptions", "views"), "aio": ("aio", "views"),
    "following.py": ("projections", "subscriptions"), "lua/log": ("log",), "lua/progress": ("progress", "workers"),
    "lua": ("log", "progress"), "lua/adapters": ("adapters",),
}  # fmt: skip

_SCRIPT = re.compile(r"^runner/format/lua/(.+)\.lua$")

#: By file and line, the tests that run the line, as pytest names them.
Reached = dict[str, dict[int, list[str]]]


def folders_of(package: str) -> list[str]:
    """The folders of the tests that are nearest to a package."""
    return [f"tests/{name}" for name in BELONGING.get(package, (package,))]


def digest(root: Path, *parts: str) -> str:
    """A hash of files and folders."""
    found = hashlib.sha256()
    for part in parts:
        place = root / part
        for path in [place] if place.is_file() else sorted((*place.rglob("*.py"), *place.rglob("*.lua"))):
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


class Map:
    """Finds the tests of a mutant. Made by `measured`, which keeps what it has measured as long as the code is that."""

    def __init__(self, root: Path, reached: Reached) -> None:
        self._reached = reached
        self._lines = {path: sorted(lines) for path, lines in reached.items()}
        known = {test for lines in reached.values() for tests in lines.values() for test in tests}
        #: Tests that were written after the measurement, or that run nothing of the package in this process.
        self._new = sorted(_tests_in(root) - known)
        self._callers: defaultdict[str, set[str]] = defaultdict(set)
        for path in reached:
            for number, line in enumerate((root / path).read_text().splitlines(), 1):
                for script in re.findall(r'"((?:log|progress|adapters)/\w+)"', line):
                    self._callers[script].update(self._at(path, number))

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that reach it: those of its own folders first, then the others, and of each file in turn.

        So the first of them are of many kinds. A test of its own folders that was not measured comes before them all.
        """
        script = _SCRIPT.match(mutant.path)
        if script is None:
            found = set(self._at(mutant.path, mutant.change.line))
        elif script[1] in self._callers:
            found = self._callers[script[1]]
        else:
            found = set().union(*self._callers.values())  # the prelude is part of every script
        own = tuple(f"{folder}/" for folder in folders_of(mutant.package))
        before: Counter[str] = Counter()
        ranks: dict[str, tuple[bool, bool, int, str]] = {}
        for test in sorted(found):
            file = test.partition("::")[0]
            ranks[test] = not test.startswith(own), test.startswith("tests/adapters/"), before[file], test
            before[file] += 1
        return [*(test for test in self._new if test.startswith(own)), *sorted(found, key=ranks.__getitem__)]

    def _at(self, path: str, line: int) -> list[str]:
        """The tests that run a line, or the line on which its statement begins."""
        lines = self._lines.get(path, [])
        place = bisect_right(lines, line)
        return self._reached[path][lines[place - 1]] if place else []


def _tests_in(root: Path) -> set[str]:
    """The tests of a tree, as pytest names them, without those in classes."""
    return {
        f"{path.relative_to(root).as_posix()}::{name}"
        for path in (root / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def measured(root: Path, scratch: Path) -> Map:
    """The map of a tree; measured once, and again when the package has changed."""
    kept, code = scratch / "reached.json", digest(root, "runner")
    if kept.exists():
        known = json.loads(kept.read_text())
        if known["code"] == code:
            return Map(
                root,
                {path: {int(line): tests for line, tests in lines.items()} for path, lines in known["lines"].items()},
            )
    reached = _measure(root, scratch)
    kept.write_text(json.dumps({"code": code, "lines": reached}))
    return Map(root, reached)


def _measure(root: Path, scratch: Path) -> Reached:
    from coverage import Coverage

    options, data = scratch / "options.ini", scratch / "coverage"
    options.write_text(
        "[run]\nsource = runner\nparallel = true\npatch = subprocess\ndynamic_context = test_function\n"
        f"data_file = {data}\n"
    )
    for old in scratch.glob("coverage*"):
        old.unlink()
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--rcfile={options}",
        "-m",
        "pytest",
        "-q",
        "-m",
        "quick",
        "-n",
        "2",
    ]
    subprocess.run(command, cwd=root, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": str(root)})
    measured = Coverage(config_file=str(options))
    measured.combine()
    return by_line(root, measured.get_data())


def by_line(root: Path, data: object) -> Reached:
    """What was measured, with the names of pytest in the place of contexts."""
    files = {path.stem: path.relative_to(root).as_posix() for path in (root / "tests").rglob("test_*.py")}
    files |= {CONTRACT: files.get(f"test_{CONTRACT}", "")}
    reached: Reached = {}
    for name in data.measured_files():  # type: ignore[attr-defined]
        lines: dict[int, list[str]] = {}
        for line, contexts in data.contexts_by_lineno(name).items():  # type: ignore[attr-defined]
            tests = sorted(filter(None, (_named(files, context) for context in contexts)))
            if tests:
                lines[line] = tests
        reached[Path(name).relative_to(root).as_posix()] = lines
    return reached


def _named(files: dict[str, str], context: str) -> str:
    """The name of a test; empty for a context that is none."""
    *module, name = context.split(".")
    if CONTRACT in module:
        return files[CONTRACT]  # the whole file: its classes are made of those of the contract
    for place, part in enumerate(module):
        if part in files:
            return "::".join([files[part], *module[place + 1 :], name])
    return ""
