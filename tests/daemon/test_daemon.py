"""The runner process, as a process: signals, crashes, a server that comes and goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import ANY, EventStore, NewEvent, View
from runner.progress.status import status

pytestmark = pytest.mark.real

COUNTS = """
from runner import Projection
counts = Projection("counts", initial=lambda: {"events": 0, "sum": 0})
@counts.when("Added")
def added(state, event):
    state["events"] += 1
    state["sum"] += event.data["amount"]
"""

FAILS = """
from runner import Projection
fails = Projection("fails")
@fails.when("Added")
def added(state, event):
    if event.position == 5:
        raise ValueError("five is right out")
    state["seen"] = event.position
"""


class Runner:
    """A runner process, and what it says."""

    def __init__(self, url: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runner", "run", "--store", url, "--log", "json", "--lease", "1", *args],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said: list[dict[str, object]] = []

    def wait_for(self, **wanted: object) -> dict[str, object]:
        """Read its log until a line has these fields. A process that ends without it fails the test."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                self.said.append(json.loads(text))
                if all(self.said[-1].get(name) == value for name, value in wanted.items()):
                    return self.said[-1]
        raise AssertionError(f"ended without {wanted}: {self.said}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit code and the rest of what it said."""
        output, _ = self._process.communicate(timeout=30)
        return self._process.returncode, output

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Start a runner with the given plug-in texts; whatever is left of it is killed."""
    runners: list[Runner] = []

    def go(url: str, *texts: str, options: tuple[str, ...] = ()) -> Runner:
        args = list(options)
        for place, text in enumerate(texts):
            file = tmp_path / f"plugin{place}.py"
            file.write_text(text)
            args += ["--projections", str(file)]
        runners.append(Runner(url, *args))
        return runners[-1]

    yield go
    for runner in runners:
        runner.kill()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A server of the test's own."""
    return f"embedded:{tmp_path}/s"


def add(store: EventStore, count: int, *, streams: int = 7) -> None:
    store.append_each(
        [(f"thing-{place % streams}", [NewEvent("Added", {"amount": place})], ANY) for place in range(count)]
    )


def by_hand(store: EventStore) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for event in store.read_all():
        row = rows.setdefault(event.stream, {"events": 0, "sum": 0})
        row["events"] += 1
        row["sum"] += event.data["amount"]
    return rows


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a state of the store, which only another process can bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0)


def test_it_catches_up_goes_live_and_stops_on_the_first_signal(url: str, start: Callable[..., Runner]) -> None:
    """C2. History, then an append while it runs; SIGTERM commits the batch at hand and exits with 0."""
    with EventStore.open(url) as store:
        add(store, 100)
        runner = start(url, COUNTS)
        live = runner.wait_for(projection="counts", state="live")
        assert (live["position"], live["lag"], live["partition"]) == (100, 0, 0)
        assert live["next"] == "following the log"
        add(store, 50)
        view = View(store, "counts")
        until(lambda: dict(view.items()) == by_hand(store))
        runner.signal(signal.SIGTERM)
        code, output = runner.end()
        assert code == 0, output
        now = store.run(status(store.info.keys[0], "counts"))[0]
        assert (now.state, now.position, now.lag) == ("idle", 150, 0)


def test_a_second_signal_stops_it_at_once(url: str, start: Callable[..., Runner]) -> None:
    """A handler that never returns holds up the first signal, not the second: exit code 130."""
    stuck = "from runner import Projection\nimport threading\np = Projection('stuck')\n"
    stuck += "@p.when('Added')\ndef added(state, event):\n    threading.Event().wait()\n"
    with EventStore.open(url) as store:
        add(store, 1)
        runner = start(url, stuck)
        runner.wait_for(projection="stuck", state="catching up")
        runner.signal(signal.SIGINT)
        runner.wait_for(
            level="info", message="SIGINT: finishing the batch at hand, then stopping; a second signal stops at once"
        )
        runner.signal(signal.SIGINT)
        code, _ = runner.end()
        assert code == 130


def test_a_projection_that_fails_stops_and_the_others_go_on(url: str, start: Callable[..., Runner]) -> None:
    """The error and its position are in the log and in status; the exit code is 1 in the end."""
    with EventStore.open(url) as store:
        add(store, 20)
        runner = start(url, COUNTS, FAILS)
        stopped = runner.wait_for(projection="fails", state="stopped")
        assert stopped["position"] == 4
        assert "ValueError: five is right out" in str(stopped["error"])
        add(store, 20)
        view = View(store, "counts")
        until(lambda: dict(view.items()) == by_hand(store))
        now = store.run(status(store.info.keys[0], "fails"))[0]
        assert (now.state, now.position) == ("stopped", 4)
        assert "position 5" in now.error
        runner.signal(signal.SIGTERM)
        code, output = runner.end()
        assert code == 1
        assert "five is right out" in output
        assert "Traceback" not in output


def test_a_runner_whose_build_is_replaced_says_so_without_alarm(url: str, start: Callable[..., Runner]) -> None:
    """A rolling deploy that goes well: a line of level info, nothing worse, no advice, and exit code 0 at the end."""
    with EventStore.open(url) as store:
        # given
        add(store, 20)
        old = start(url, COUNTS)
        old.wait_for(projection="counts", state="live")

        # when
        new = start(url, COUNTS.replace('"counts",', '"counts", build="2",'))
        said = old.wait_for(projection="counts", live="2")
        old.signal(signal.SIGTERM)
        code, output = old.end()
        new.signal(signal.SIGTERM)
        new.end()

    # then
    assert said["message"] == (
        "counts[0] standing by: build 2 is live; this process has build 1; taking over when its build is live again"
    )
    assert (said["level"], said["build"]) == ("info", "1")
    assert [line["message"] for line in old.said if line.get("state") == "standing by"] == [said["message"]]
    assert code == 0
    assert {line["level"] for line in old.said} == {"info"}
    assert not any(word in output for word in ("Error", "Hint", "rebuild"))


def test_a_runner_warns_of_code_that_changed_without_its_build(url: str, start: Callable[..., Runner]) -> None:
    """Once, with the projection and what to do; it runs all the same."""
    with EventStore.open(url) as store:
        add(store, 20)
        assert start(url, COUNTS, options=("--once",)).end()[0] == 0
        add(store, 1)
        runner = start(url, COUNTS.replace("+= 1", "+= 100"))
        warning = runner.wait_for(level="warning", projection="counts")
        runner.wait_for(projection="counts", state="live")
        runner.signal(signal.SIGTERM)
        code, output = runner.end()

    assert "the code of projection 'counts' changed at position 20, its build '1' did not" in str(warning["message"])
    assert "runner rebuild counts --diff" in str(warning["next"])
    assert sum(line["level"] == "warning" for line in runner.said) == 1
    assert (code, "its build" in output) == (0, False)


def test_a_runner_that_stands_by_does_not_tell_a_position(url: str, start: Callable[..., Runner]) -> None:
    """Its own position is that of its last claim, so it would look as if it lagged; it tells who holds the rest."""
    with EventStore.open(url) as store:
        add(store, 20)
        start(url, COUNTS).wait_for(projection="counts", state="live")
        said = start(url, COUNTS).wait_for(projection="counts", state="standing by")
    assert "holder" in said
    assert not {"position", "lag"} & said.keys()
    assert "position" not in str(said["message"])


def test_a_plugin_that_does_not_load_is_exit_code_two(url: str, start: Callable[..., Runner]) -> None:
    """One line with the file and the reason; nothing has run."""
    code, output = start(url, COUNTS, "import nowhere_to_be_found").end()
    assert code == 2
    [line] = [json.loads(line) for line in output.splitlines()]
    assert (line["level"], "plugin1.py:1: ModuleNotFoundError" in line["error"]) == ("error", True)


def test_once_catches_up_and_ends(url: str, start: Callable[..., Runner]) -> None:
    """--once is for cron and for tests."""
    with EventStore.open(url) as store:
        add(store, 1234)
        code, output = start(url, COUNTS, options=("--once",)).end()
        assert code == 0, output
        assert dict(View(store, "counts").items()) == by_hand(store)


def test_a_killed_runner_goes_on_where_it_was(url: str, start: Callable[..., Runner]) -> None:
    """C10. kill -9 in the middle of the work, again and again; the view equals a loop over the log in the end."""
    with EventStore.open(url) as store:
        add(store, 30_000, streams=500)
        for share in (3_000, 9_000, 20_000):
            runner = start(url, COUNTS)
            until(lambda least=share: position(store) >= least)  # type: ignore[misc]
            runner.kill()
        assert position(store) < 30_000 or dict(View(store, "counts").items()) == by_hand(store)
        assert start(url, COUNTS, options=("--once",)).end()[0] == 0
        assert dict(View(store, "counts").items()) == by_hand(store)


def position(store: EventStore) -> int:
    [value] = store.driver.execute([("HGET", store.info.keys[0].build("counts", "1"), "position")])
    return int(value or 0)


def test_a_server_that_is_killed_and_comes_back_is_waited_for(url: str, start: Callable[..., Runner]) -> None:
    """The runner backs off, reconnects, checks its checkpoint and goes on; nothing acknowledged is lost."""
    with EventStore.open(url) as store:
        add(store, 500)
        runner = start(url, COUNTS)
        runner.wait_for(projection="counts", state="live")
        server = store.driver.address.server
        assert server is not None
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        runner.wait_for(projection="counts", state="waiting for the server")
        with EventStore.open(url) as again:  # opening it starts it
            add(again, 500)
            view = View(again, "counts")
            until(lambda: dict(view.items()) == by_hand(again))
            assert again.last_position() == 1000
            runner.wait_for(projection="counts", state="live")
            runner.signal(signal.SIGTERM)
            assert runner.end()[0] == 0


def test_flushed_scripts_are_loaded_again(url: str, start: Callable[..., Runner]) -> None:
    """SCRIPT FLUSH costs a round trip and nothing else."""
    with EventStore.open(url) as store:
        runner = start(url, COUNTS)
        runner.wait_for(projection="counts", state="live")
        for _ in range(5):
            store.driver.execute([("SCRIPT", "FLUSH")])
            add(store, 20)
        view = View(store, "counts")
        until(lambda: dict(view.items()) == by_hand(store))
        runner.signal(signal.SIGTERM)
        assert runner.end()[0] == 0


def test_a_flushed_store_is_noticed_and_said(url: str, start: Callable[..., Runner]) -> None:
    """Invariant E: the projection stops and says what it stood on and what is there now."""
    with EventStore.open(url) as store:
        add(store, 10)
        runner = start(url, COUNTS)
        runner.wait_for(projection="counts", state="live")
        store.driver.execute([("FLUSHALL",)])
        stopped = runner.wait_for(projection="counts", state="stopped")
        assert "stands at position 10" in str(stopped["error"])
        assert runner.end()[0] == 1
