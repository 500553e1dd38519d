"""Which commands make a store, and what the others say where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from runner import EventStore

#: A call of each command that looks at a store or changes what is there.
LOOKING = {
    "read": (), "tail": ("--limit", "1"), "export": (), "view": ("balances",), "status": (), "rebuild": ("balances",),
    "rollback": ("balances",), "parked": (), "skipped": (), "reset": ("balances",), "unregister": ("balances", "--yes"),
    "trim": ("--before", "2", "--yes"), "verify": (), "doctor": (), "scripts": (), "acl": ("reader",),
}  # fmt: skip


@pytest.mark.parametrize("verb", LOOKING)
def test_looking_makes_no_store(verb: str, url: str) -> None:
    """The command says that there is none and which there are, with exit code 2; the store is not there afterwards."""
    # given
    with EventStore.open(url, name="tickets"):
        # when
        results = [run(verb, *LOOKING[verb], "--name", "tikets", store=url) for _ in range(2)]

    # then
    for result in results:
        assert result.exit_code == 2
        assert f"Error: there is no store 'tikets' at {url}; there are: tickets" in result.stderr
        assert "Did you mean 'tickets'?" in result.stderr
        assert result.stdout == ""


@pytest.mark.parametrize("verb", LOOKING)
def test_looking_starts_no_server(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it make a directory; the default store is told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNNER_STORE", raising=False)
    result = run(verb, *LOOKING[verb])
    assert result.exit_code == 2
    assert "The store is embedded:.runner, in this directory: RUNNER_STORE is not set." in result.stderr
    assert "there is no store at embedded:.runner" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_makes_a_store(fresh_name: str) -> None:
    """With as many partitions as it is told. Once more, it only says that the store is there."""
    url = f"memory:init-{fresh_name}"
    assert run("init", "--partitions", "3", store=url).stdout == f"store 'es' at {url} is made, with 3 partitions\n"
    assert run("init", store=url).stdout == f"store 'es' at {url} is there already, with 3 partitions\n"
    assert json.loads(run("init", "--json", store=url).stdout) == {
        "name": "es", "store": url, "partitions": 3, "made": False
    }  # fmt: skip
    with EventStore.open(url, create=False) as store:
        assert store.info.partitions == 3
    refused = run("init", "--partitions", "4", store=url)
    assert (refused.exit_code, "has 3 partitions, not 4" in refused.stderr) == (2, True)


@pytest.mark.parametrize("args", [("append", "a-1", "X"), ("import", "-"), ("run", "--once", "--accept-bad")])
def test_commands_that_write_events_or_views_make_a_store(args: tuple[str, ...], fresh_name: str) -> None:
    """So that nothing has to be done first."""
    url = f"memory:made-{fresh_name}"
    result = run(*args, store=url, text='{"stream": "a-1", "type": "X"}')
    assert result.exit_code == 0, result.output
    assert run("status", store=url).exit_code == 0
