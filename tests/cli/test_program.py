"""How the command line is started: what lies in the working directory is not taken for the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "program",
    [(str(Path(sys.executable).with_name("runner")),), (sys.executable, "-P", "-m", "runner")],
    ids=["runner", "python -P -m runner"],
)
def test_a_module_of_the_packages_name_in_the_working_directory_is_not_run(
    tmp_path: Path, program: tuple[str, ...]
) -> None:
    """A project with a ``runner.py``, or one that was downloaded, has no part in the command."""
    # given
    for name in ("runner", "click", "redis"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')\n")

    # when
    done = subprocess.run(
        [*program, "append", "s-1", "Opened", "{}", "--store", "memory:"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    # then
    assert (done.returncode, "position 1" in done.stdout, done.stderr) == (0, True, "")
