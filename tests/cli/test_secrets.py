"""The password of a store: in no output of any command, in no log, and in no list of arguments."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import shows_a_fault
from servers import server

from runner import EventStore
from runner.bench.live import live_latencies
from runner.embedded import find_binary

pytestmark = pytest.mark.real

SECRET = "s3cr3t-of-the-store"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that asks for the password."""
    with server("--requirepass", "", binary=find_binary()) as started:
        started.do("CONFIG", "SET", "appendonly", "yes")
        started.do("CONFIG", "SET", "requirepass", SECRET)
        yield started.port


def said(url: str, *arguments: str) -> str:
    """Everything that a command prints, with the store in the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        env={**os.environ, "RUNNER_STORE": url}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("append", "account-1", "Opened"), ("read",), ("read", "nobody-1"), ("status", "--json"), ("status", "nobody"),
        ("doctor",), ("doctor", "--json"), ("run", "--once"), ("run", "--once", "--log", "json"), ("verify",),
        ("view", "nobody", "x"), ("export", "/no/such/place"), ("import", "/no/such/file"), ("parked",), ("demo",),
        ("projections",), ("rebuild", "nobody"), ("trim", "--before", "x"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_command_prints_the_password(port: int, arguments: tuple[str, ...]) -> None:
    """Whether it works, or finds a mistake."""
    text = said(f"redis://:{SECRET}@127.0.0.1:{port}", *arguments)
    assert SECRET not in text
    assert not shows_a_fault(text)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:wrong-{SECRET}@127.0.0.1:{{port}}",
        f"redis://:{SECRET}@127.0.0.1:{{port}}/99",
        f"redis://:{SECRET}@127.0.0.1:1",
    ],
)
def test_a_store_that_cannot_be_opened_prints_no_password(port: int, url: str) -> None:
    """A wrong password, a database that is not there, and a server that is not there."""
    text = said(url.format(port=port), "status")
    assert "Error" in text
    assert SECRET not in text


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux shows the arguments of processes here")
def test_no_child_process_has_the_password_among_its_arguments(port: int) -> None:
    """Every user of a machine can read them: the child of the benchmark has the URL in its environment."""
    # given
    url = f"redis://:{SECRET}@127.0.0.1:{port}"
    seen: set[bytes] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    pass  # it has ended

    thread = threading.Thread(target=look)
    thread.start()

    # when
    try:
        with EventStore.open(url, name="bench") as store:
            took = live_latencies(store, url, 3)
    finally:
        done.set()
        thread.join()

    # then
    assert len(took) == 3
    assert any(b"runner.bench.latency" in line for line in seen)
    assert not [line for line in seen if SECRET.encode() in line]
