"""Running the suites of a library in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

#: How long the suites of one library may take, in seconds; they need a quarter of that on a slow machine.
LONGEST = 240


def run_suites(library: str, *arguments: str) -> int:
    """Run ``<library>/suite_*.py``; how many tests passed. AssertionError says what was printed, if one did not."""
    command = [
        sys.executable, "-m", "pytest", str(HERE / library), "-o", "python_files=suite_*.py",
        "-q", "-n", "0", "--timeout=60", "-p", "no:cacheprovider", *arguments,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"no end after {LONGEST} s: {late.stdout!r}")
    assert done.returncode == 0, done.stdout + done.stderr
    [passed] = re.findall(r"(\d+) passed", done.stdout.splitlines()[-1])
    return int(passed)
