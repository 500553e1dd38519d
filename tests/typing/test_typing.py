"""The types as users meet them: a plug-in and applications under ``mypy --strict``, and wrong uses that it finds."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.projections.plugins import load

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
USERS = sorted(HERE.glob("users_*.py"))
SHIPPED = sorted((PROJECT / "projections").glob("*.py"))
WRONG = HERE / "wrong_uses.py"

#: Matches ``name.py:12: error: What is wrong  [code]``.
ERROR = re.compile(r"^(.+?):(\d+): error: (.+)  \[([a-z-]+)\]$")


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[int, list[tuple[str, str]]]]:
    """What mypy says of each file, checked as users check theirs: by file and line, the code and the text."""
    files = [*USERS, *SHIPPED, WRONG]
    assert len({path.name for path in files}) == len(files)
    config = ["--config-file", "", "--python-version", "3.11", "--cache-dir", str(PROJECT / ".mypy_cache" / "users")]
    command = [sys.executable, "-m", "mypy", "--strict", "--show-error-codes", "--no-pretty", *config]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False, cwd=HERE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, dict[int, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        if match := ERROR.match(line):
            found[Path(match[1]).name][int(match[2])].append((match[4], match[3]))
    assert found or "Success" in done.stdout, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("path", [*USERS, *SHIPPED], ids=lambda path: path.stem)
def test_a_users_module_has_no_complaint(path: Path, errors: dict[str, dict[int, list[tuple[str, str]]]]) -> None:
    """Under ``mypy --strict``, with no annotation but those of the functions."""
    assert dict(errors[path.name]) == {}


def expected() -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(WRONG.read_text(encoding="utf-8").splitlines(), 1):
        _, _, codes = line.partition("# expect: ")
        if codes:
            yield number, sorted(codes.split())


def test_wrong_uses_are_found(errors: dict[str, dict[int, list[tuple[str, str]]]]) -> None:
    """Each line with an ``# expect:`` has exactly those errors, and no other line has one."""
    found = {line: sorted(code for code, _ in told) for line, told in errors[WRONG.name].items()}
    assert found == dict(expected()), dict(errors[WRONG.name])


def test_the_users_plugin_is_one(url: str, fresh_name: str) -> None:
    """What was checked for its types is loaded as the runner loads plug-ins, and works for both applications."""
    assert {"accounts", "mails", "to-queue"} <= {
        plugin.projection.name for plugin in load([str(HERE / "users_plugin.py")])
    }
    importlib.import_module("users_application").main(url, fresh_name)
    asyncio.run(importlib.import_module("users_async_application").main(url, f"{fresh_name}-async"))
