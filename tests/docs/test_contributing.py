"""The page for contributors, and the workflow of the project: the commands in them work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from pages import PAGES, README, ROOT

from runner import EventStore

PAGE = PAGES["docs/contributing.md"]
GATE = (ROOT / ".ci" / "run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())

#: The commands of the page: its shell blocks, and what its tables and texts name.
COMMANDS = sorted(
    {line for block in PAGE.of_language("sh") for line in block.splitlines()}
    | {code for _, code in PAGE.inline_code if code.startswith(".venv/")}
)

#: The commands of the workflow, line by line, with the job that they stand in.
STEPS = [
    (job, line.strip())
    for job, content in WORKFLOW["jobs"].items() for step in content["steps"]
    for line in step.get("run", "").splitlines()
]  # fmt: skip


def collected(*arguments: str) -> int:
    """How many tests pytest would run with these arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.count("::")


def check_pytest(words: list[str]) -> None:
    """The arguments of a pytest command select tests."""
    assert collected(*words) > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_work(command: str) -> None:
    """A command is one of the gate, or a run of pytest that finds tests."""
    program, *words = shlex.split(command)
    if program == ".venv/bin/pytest":
        check_pytest(words)
    else:
        assert command in GATE


def test_the_page_has_the_commands_of_a_first_day() -> None:
    """Set-up, the quick tests, one test, lint and types."""
    for part in ("pip install -e '.[test]'", "pytest -m quick", "pytest -n 0", "ruff check", "ruff format", "mypy"):
        assert any(part in command for command in COMMANDS), part


def test_the_example_of_a_test_passes(store: EventStore) -> None:
    """It is a test of this suite, with a fixture of it."""
    [example] = PAGE.of_language("python")
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE.path), "exec"), names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    test(store)


@pytest.mark.parametrize(
    "path", sorted({code for _, code in PAGE.inline_code if re.fullmatch(r"[\w./-]+/[\w./-]+", code)})
)
def test_the_files_that_the_page_names_exist(path: str) -> None:
    """Files and folders of the repository."""
    assert (ROOT / path).exists()


def locked(name: str) -> dict[str, str]:
    """The versions in a lock of the gate, by package."""
    return dict(re.findall(r"^(\S+)==(\S+) ", (ROOT / ".ci" / name).read_text(), flags=re.MULTILINE))


NAMED = [
    Requirement(text)
    for text in sum(PROJECT["project"]["optional-dependencies"].values(), PROJECT["project"]["dependencies"])
    if not text.startswith(PROJECT["project"]["name"])
]


@pytest.mark.parametrize("needed", NAMED, ids=lambda needed: needed.name)
def test_the_locks_fit_what_the_project_needs(needed: Requirement) -> None:
    """Each package that is named has a lower bound, and the quick tests run with that version, too."""
    [lowest] = [bound.version for bound in needed.specifier if bound.operator in (">=", "==")]
    assert Version(locked("lowest.lock")[needed.name.lower()]) == Version(lowest)
    assert locked("requirements.lock")[needed.name.lower()] in needed.specifier


# -- the workflow -------------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "command"), STEPS)
def test_the_commands_of_the_workflow_exist(job: str, command: str) -> None:
    """Installations, runs of pytest that find tests, the gate, and what fetches a server."""
    program, *words = shlex.split(command)
    if program == "pytest":
        check_pytest(words)
    elif program == "pip":
        assert words == ["install", "-e", ".[test]"]
    elif program == ".ci/run":
        assert (ROOT / program).stat().st_mode & 0o100
    else:
        assert job == "server"
        assert program in ("docker", "sudo", WORKFLOW["jobs"]["server"]["env"]["RUNNER_SERVER_BINARY"])


def test_the_workflow_runs_on_every_python_that_is_promised() -> None:
    """Those of the classifiers, of which the oldest runs the gate."""
    prefix = "Programming Language :: Python :: "
    promised = [each.removeprefix(prefix) for each in PROJECT["project"]["classifiers"] if each.startswith(prefix)]
    jobs = WORKFLOW["jobs"]
    assert jobs["python"]["strategy"]["matrix"]["python"] == promised
    assert [step["with"]["python-version"] for step in jobs["gate"]["steps"] if "with" in step] == promised[:1]


def test_the_workflow_runs_on_the_oldest_servers_that_are_promised_and_on_newer_ones() -> None:
    """The README names the oldest; each image is that of Redis or Valkey, with the binary of its name."""
    [(redis, valkey)] = re.findall(r"Redis (\S+) or Valkey (\S+), or later", README.text)
    found = WORKFLOW["jobs"]["server"]["strategy"]["matrix"]["include"]
    images = [each["image"] for each in found]
    assert images == [
        f"redis:{redis}", "redis:7.4", "redis:8", f"valkey/valkey:{valkey}", "valkey/valkey:8", "valkey/valkey:9",
    ]  # fmt: skip
    assert all(each["binary"] == f"{each['image'].split(':')[0].split('/')[0]}-server" for each in found)


def test_the_workflow_may_only_read() -> None:
    """It has no right to change anything, and every job ends."""
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in WORKFLOW["jobs"].values())
