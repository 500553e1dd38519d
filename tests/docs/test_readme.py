"""The README is the front door: every code block in it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def shell(*lines: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=cwd, env={**os.environ, "PATH": path, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.real
def test_the_python_blocks_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D7. The README's Python blocks are one program, and each assertion in it holds."""
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks("python"))
    assert program.count("assert") >= 15
    exec(compile(program, "README.md", "exec"), namespace := {"__name__": "readme"})
    namespace["store"].close()


@pytest.mark.real
def test_the_command_reference_runs(tmp_path: Path) -> None:
    """D7. The commands under the reference run on a new embedded store."""
    [reference] = [block for block in blocks("sh") if "runner append" in block]
    done = shell(reference, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing wrong" in done.stdout


def test_a_server_of_ones_own_is_reached_by_the_environment(tmp_path: Path) -> None:
    """D7. The block about your Redis names commands and options that exist; the address is the only thing changed."""
    [block] = [block for block in blocks("sh") if "RUNNER_STORE" in block]
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "projections").symlink_to(ROOT / "projections")
    lines = block.replace("redis://localhost:6379/0", "embedded:own").replace("runner run", "runner run --once")
    done = shell(lines, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "durability" in done.stdout


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    """The two set-up commands are in the README, and the gate uses the one for the tests as it stands."""
    demo, tests = (block.strip() for block in blocks("sh")[:2])
    assert demo.endswith("runner demo")
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_command_is_in_the_reference() -> None:
    """Every verb of the command line has its row in the README."""
    from runner.cli.main import VERBS

    for verb in VERBS:
        assert f"`runner {verb}" in README or f"/ `{verb}" in README, verb


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    """The table of settings is complete and its defaults are those of the code."""
    from dataclasses import fields

    from runner import Settings

    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.,]+)", README, flags=re.MULTILINE))
    assert {name: float(value.replace(",", "")) for name, value in rows.items()} == {
        field.name: field.default for field in fields(Settings)
    }
