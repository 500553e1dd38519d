"""Arguments that are no UTF-8, and outputs that lack letters: a sentence or an escape, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import EventStore, NewEvent

TEXT = "é ☕ 😀"

#: What a shell hands on of a byte that is no UTF-8.
ODD = "odd-\udcff"


def runner(*arguments: str, **environment: str) -> tuple[int, bytes]:
    """The exit code of a command, and what it prints; a traceback fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--store", f"redis://{ODD}:1/0"), ("status", "--store", f"redis://:{ODD}@127.0.0.1:1"),
        ("status", "--store", ODD), ("status", "--store", f"unix:///{ODD}"), ("status", ODD), (ODD,),
        ("status", "--name", ODD, "--store", "memory:"), ("read", ODD, "--store", "memory:"),
        ("append", ODD, "T", "1", "--store", "memory:"), ("append", "a-1", ODD, "1", "--store", "memory:"),
        ("append", "a-1", "T", f'"{ODD}"', "--store", "memory:"), ("view", ODD, ODD, "--store", "memory:"),
        ("import", f"/{ODD}", "--store", "memory:"), ("export", f"/{ODD}/{ODD}", "--store", "memory:"),
        ("run", "--once", "--projections", ODD, "--store", "memory:"),
        ("run", "--once", "--projections", f"./{ODD}.py", "--store", "memory:"),
        ("rebuild", ODD, "--store", "memory:"), ("trim", "--before", ODD, "--store", "memory:"),
        ("verify", "--since", ODD), ("unregister", ODD, "--yes", "--store", "memory:"),
    ],
    ids=ascii,
)  # fmt: skip
def test_an_argument_that_is_no_utf8_ends_in_a_sentence(arguments: tuple[str, ...]) -> None:
    """A mistake, or a server that is not there."""
    code, said = runner(*arguments)
    assert code in (1, 2, 3)
    assert b"Error: " in said


@pytest.mark.real
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-8:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_any_payload_is_printed_in_any_encoding(tmp_path: Path, environment: dict[str, str]) -> None:
    """Letters that the encoding lacks are escaped as JSON does, so JSON stays JSON."""
    # given
    url = f"embedded:{tmp_path / 'store'}"
    with EventStore.open(url) as store:
        store.append("a-☕", NewEvent("T", {"text": TEXT}))

        # when
        told = [
            runner(*arguments, "--store", url, **environment)
            for arguments in (["read"], ["read", "--json"], ["status"], ["view", "nobody-☕", "x"], ["verify"])
        ]

    # then
    assert [code for code, _ in told] == [0, 0, 0, 2, 0]
    encoding = "latin-1" if "latin-1" in environment.values() else "utf-8"
    assert json.loads(told[1][1].decode(encoding))["data"] == {"text": TEXT}
