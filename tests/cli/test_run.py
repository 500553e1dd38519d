"""`runner run` on the command line: its first line, errors in its log, and variables in the place of options."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import run

from runner import EventStore, NewEvent, Projection, __version__, catch_up
from runner.cli.main import main
from runner.daemon.process import Daemon
from runner.progress.lease import RunnerIdentity, acquire

PLUGIN = "from runner import Projection\np = Projection('counts')\n@p.when('X')\ndef x(state, event):\n    pass\n"


def logged(stderr: str) -> list[dict[str, Any]]:
    """The lines of a JSON log; each line is one."""
    return [json.loads(line) for line in stderr.splitlines()]


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "counts.py"
    file.write_text(PLUGIN)
    return str(file)


def test_the_first_line_says_what_runs(plugin: str, fresh_name: str) -> None:
    """Version, store, projections and where they come from, lease; runner, process and machine are in each line."""
    args = ("run", "--once", "--accept-bad", "--projections", plugin, "--lease", "7", "--name", "shop")
    url = f"memory:{fresh_name}"
    first, *more = logged(run(*args, "--log", "json", store=url).stderr)
    assert first.items() >= {
        "version": __version__, "store": url, "name": "shop", "partitions": 1, "lease": 7.0,
        "projections": {"counts": plugin}, "host": socket.gethostname(), "pid": os.getpid(),
    }.items()  # fmt: skip
    assert len(more) >= 2
    assert {(line["host"], line["pid"], line["runner"]) for line in more} == {
        (first["host"], first["pid"], first["runner"])
    }  # fmt: skip
    text = run(*args, store=url).stderr.splitlines()[0]
    assert f"INFO runner {__version__}, id " in text
    assert f": store 'shop' at {url}, 1 partition, lease 7 s; counts ({plugin})" in text


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (("--no-wait-for-server", "--store", "redis://127.0.0.1:1"), 3, "no answer from the server"),
        (("--store", "redis:/x"), 2, "lacks '//'"),
        (("--store", "memory:", "--projections", "/no/such.py"), 2, "there is no such file"),
    ],
)
def test_fatal_errors_are_lines_of_the_json_log(args: tuple[str, ...], code: int, error: str) -> None:
    """Also those before the first line, and their hint is beside them."""
    result = run("run", "--log", "json", *args)
    [line] = logged(result.stderr)
    assert (result.exit_code, line["level"], line["pid"]) == (code, "error", os.getpid())
    assert error in line["error"]


def test_a_failure_at_the_end_is_a_line_of_the_json_log(tmp_path: Path, fresh_name: str) -> None:
    """The last one, with what to do."""
    (tmp_path / "fails.py").write_text(PLUGIN.replace("pass", "raise KeyError('customer')"))
    url = f"memory:{fresh_name}"
    run("append", "a-1", "X", store=url)
    result = run(
        "run", "--once", "--accept-bad", "--log", "json", "--projections", str(tmp_path / "fails.py"), store=url
    )
    last = logged(result.stderr)[-1]
    assert (result.exit_code, last["level"]) == (1, "error")
    assert "KeyError: 'customer'" in last["error"]
    assert "Correct the handler" in last["next"]


def test_the_runner_that_went_silent_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Its machine and process, and for how long it was silent; once, and not where it had given its lease back."""
    counts = Projection[Any]("counts")
    with EventStore.open("memory:") as store:
        # given
        store.append("a-1", NewEvent("X"))
        catch_up(store, counts)
        silent = RunnerIdentity("other", store.info, 0.001, "vm:23850")
        [assignment] = Daemon(store, [counts], once=True)._engine.assignments
        store.run(acquire(silent, assignment.request()))
        store.driver.execute([("HINCRBY", store.info.keys[0].build("counts", "1"), "seen", -3_000_000)])

        # when
        with caplog.at_level(logging.INFO, "runner"):
            Daemon(store, [counts], once=True).run()
            Daemon(store, [counts], once=True).run()

    # then
    [record] = [one for one in caplog.records if "taken over" in one.getMessage()]
    fields = record.__dict__["fields"]
    assert fields["taken_over_from"] == "vm:23850"
    assert 3.0 <= fields["silent"] < 60.0
    assert f"taken over from vm:23850, which was silent for {fields['silent']} s" in record.getMessage()


def test_variables_stand_for_the_options_of_run(plugin: str, fresh_name: str) -> None:
    """With the name of the option alone; an option that is given counts more."""
    given = {
        "RUNNER_LOG": "json", "RUNNER_ONCE": "1", "RUNNER_ACCEPT_BAD": "1", "RUNNER_LEASE": "3",
        "RUNNER_STORE": f"memory:{fresh_name}", "RUNNER_PROJECTIONS": plugin,
    }  # fmt: skip
    result = CliRunner().invoke(main, ["run", "--lease", "4"], env=given)
    assert (result.exit_code, logged(result.stderr)[0]["lease"]) == (0, 4.0)


def test_variables_stand_for_the_options_of_every_command(fresh_name: str) -> None:
    """RUNNER_, the command, the option."""
    url = f"memory:{fresh_name}"
    run("append", "a-1", "X", store=url)
    result = CliRunner().invoke(main, ["read", "--store", url], env={"RUNNER_READ_JSON": "1"})
    assert json.loads(result.stdout)["type"] == "X"
