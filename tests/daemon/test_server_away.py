"""A runner whose server is not there, or does not take its password any more: it waits, and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from accounts import deposited, reached
from servers import free_port, server

from runner import AsyncEventStore, EventStore, InvalidInput, View
from runner.errors import StoreRefused, StoreUnavailable
from runner.testing import TEST_SETTINGS
from runner.wire import address

pytestmark = pytest.mark.real

PLUGIN = """
from runner import Projection
balances = Projection("balances", category="account", initial=lambda: {"balance": 0})

@balances.when("Deposited")
def deposited(state, event):
    state["balance"] += event.data["amount"]
"""

LONG = 30


class Run:
    """A process of `runner run`, and its log."""

    def __init__(self, place: Path, *args: str, **variables: str) -> None:
        (place / "balances.py").write_text(PLUGIN)
        self.log = place / "log"
        command = [sys.executable, "-P", "-m", "runner", "run", "--accept-bad", "--lease", "1", *args]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--projections", str(place / "balances.py")],
                env={**os.environ, **variables}, stdout=out, stderr=out,
            )  # fmt: skip

    def said(self, text: str) -> bool:
        """Whether the log has a text, or will soon; fails if the process ends before."""
        return reached(lambda: text in self.log.read_text() or self.process.poll() is not None, patience=LONG) and (
            text in self.log.read_text()
        )

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)


@contextmanager
def running(place: Path, *args: str, **variables: str) -> Iterator[Run]:
    run = Run(place, *args, **variables)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


class Locked:
    """A server with a password, which can be changed; all connections are cut then."""

    def __init__(self, port: int, password: str) -> None:
        self.port, self.password = port, password

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def change(self, password: str) -> None:
        with redis.Redis(port=self.port, password=self.password, protocol=2) as client:
            client.config_set("requirepass", password)
            self.password = password
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@pytest.fixture
def locked() -> Iterator[Locked]:
    with server("--appendonly", "no") as own:
        own.do("CONFIG", "SET", "requirepass", "one")
        yield Locked(own.port, "one")


def test_a_runner_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    """It says why, and begins when the server is there."""
    # given
    port = free_port()
    with running(tmp_path, "--store", f"redis://127.0.0.1:{port}") as run:
        assert run.said("waiting for the server"), run.log.read_text()
        assert "refused" in run.log.read_text()

        # when
        with server("--appendonly", "no", port=port) as own, EventStore.open(own.url, settings=TEST_SETTINGS) as store:
            result = store.append("account-1", deposited())
            View(store, "balances").wait_for(result, LONG)

            # then
            assert run.said("the server answers")
            assert run.end() == 0


def test_a_runner_that_waits_ends_by_a_signal(tmp_path: Path) -> None:
    """As one that works does: with exit code 0."""
    with running(tmp_path, "--store", f"redis://127.0.0.1:{free_port()}") as run:
        assert run.said("waiting for the server")
        assert run.end() == 0


@pytest.mark.parametrize("option", ["--no-wait-for-server", "--once"])
def test_a_runner_need_not_wait(tmp_path: Path, option: str) -> None:
    """Where it is told not to, or only to catch up: then somebody waits for its end."""
    with running(tmp_path, option, "--store", f"redis://127.0.0.1:{free_port()}") as run:
        assert run.process.wait(LONG) == 3
        assert "no answer from the server" in run.log.read_text()


def test_a_password_file_is_read_again_for_each_connection(tmp_path: Path, locked: Locked) -> None:
    """The password is changed on the server and then in the file: the runner goes on with the new one."""
    # given
    file = tmp_path / "password"
    file.write_text("one\n")
    bare = f"redis://127.0.0.1:{locked.port}"
    with running(tmp_path, RUNNER_STORE=bare, RUNNER_PASSWORD_FILE=str(file)) as run:
        with EventStore.open(locked.url, settings=TEST_SETTINGS) as store:
            View(store, "balances").wait_for(store.append("account-1", deposited()), LONG)

        # when
        locked.change("two")
        assert run.said("does not answer"), run.log.read_text()
        file.write_text("two\n")

        # then
        with EventStore.open(locked.url, settings=TEST_SETTINGS) as store:
            View(store, "balances").wait_for(store.append("account-1", deposited()), LONG)
            assert View(store, "balances")["account-1"] == {"balance": 20}
        assert run.end() == 0


def test_a_runner_whose_password_is_refused_goes_on_when_it_is_right_again(tmp_path: Path, locked: Locked) -> None:
    """It does not end while somebody corrects the server."""
    # given
    with running(tmp_path, RUNNER_STORE=locked.url) as run:
        with EventStore.open(locked.url, settings=TEST_SETTINGS) as store:
            View(store, "balances").wait_for(store.append("account-1", deposited()), LONG)

        # when
        locked.change("two")
        assert run.said("does not answer"), run.log.read_text()
        locked.change("one")

        # then
        with EventStore.open(locked.url, settings=TEST_SETTINGS) as store:
            View(store, "balances").wait_for(store.append("account-1", deposited()), LONG)
        assert run.end() == 0


def test_either_face_takes_the_password_from_a_file(tmp_path: Path, locked: Locked) -> None:
    """The file's line end does not count. What is wrong with the file is said by its name."""
    # given
    file = tmp_path / "password"
    url = f"redis://127.0.0.1:{locked.port}?password_file={file}"
    hasty = type(TEST_SETTINGS)(retry_for=0)

    async def version() -> int:
        async with AsyncEventStore.open(url, settings=hasty) as store:
            return await store.version("account-1")

    def opened() -> int:
        with EventStore.open(url, settings=hasty) as store:
            return store.version("account-1")

    for look in (opened, lambda: asyncio.run(version())):
        # when / then
        file.unlink(missing_ok=True)
        assert str(file) in failing(look, StoreUnavailable)
        file.write_bytes(b"\xff\n")
        assert "UTF-8" in failing(look, StoreUnavailable)
        file.write_text("\n")
        assert "is empty" in failing(look, StoreUnavailable)
        file.write_text("wrong\n")
        assert "refused" in failing(look, StoreRefused)
        file.write_text("one\r\n")
        assert look() == 0


def failing(look: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as failed:
        look()
    return str(failed.value)


def test_a_password_and_a_password_file_are_one_too_many(tmp_path: Path) -> None:
    """Nobody could tell which counts. A user's name goes with either."""
    with pytest.raises(InvalidInput, match="a password and a password_file"):
        address.parse(f"redis://:secret@localhost?password_file={tmp_path}")
    found = address.parse(f"redis://me@localhost?password_file={tmp_path / 'file'}")
    assert "username" not in found.options
