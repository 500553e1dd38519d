"""Reading and exporting what a trim has left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from command_line import run

from runner import EventStore, NewEvent, operations
from runner.errors import LogTrimmed

#: Streams of the partitions 0 and 1.
STREAMS = ("a-1", "a-4")


@pytest.fixture
def trimmed(url: str, fresh_name: str) -> str:
    """The name of a store of two partitions with five events in each, of which two were trimmed from partition 1."""
    with EventStore.open(url, name=fresh_name, partitions=2) as store:
        for stream in STREAMS:
            store.append(stream, [NewEvent(f"T{number}") for number in range(1, 6)])
        assert [store.info.of_stream(stream).partition for stream in STREAMS] == [0, 1]
        operations.trim(store, 3, partition=1, although_nobody_has_read_them=True)
    return fresh_name


def read(result: Result) -> list[tuple[str, str]]:
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    return [(one["stream"], one["type"]) for one in found]


LEFT = [("a-1", f"T{number}") for number in range(1, 6)] + [("a-4", f"T{number}") for number in range(3, 6)]
SAID = "The log of partition 1 is trimmed up to position 2: this begins at position 3.\n"


@pytest.mark.parametrize("args", [("read", "--json"), ("read", "--category", "a", "--json"), ("export", "-")])
def test_what_is_left_is_read_and_told(url: str, trimmed: str, args: tuple[str, ...]) -> None:
    """Of all partitions, or of one."""
    # when
    whole = run(*args, "--name", trimmed, store=url)
    first, second = (run(*args, "--partition", place, "--name", trimmed, store=url) for place in "01")

    # then
    assert (read(whole), whole.stderr) == (LEFT, SAID)
    assert (read(first), first.stderr) == (LEFT[:5], "")
    assert (read(second), second.stderr) == (LEFT[5:], SAID)


def test_backwards_it_ends_with_the_first_event_that_is_left(url: str, trimmed: str) -> None:
    """Without an error."""
    result = run("read", "--backwards", "--partition", "1", "--json", "--name", trimmed, store=url)
    assert (read(result), result.stderr) == (LEFT[:4:-1], SAID)


@pytest.mark.parametrize("args", [(), ("--backwards",)])
def test_a_stream_is_read_from_its_first_event_that_is_left(url: str, trimmed: str, args: tuple[str, ...]) -> None:
    """The line tells its number."""
    result = run("read", "a-4", *args, "--json", "--name", trimmed, store=url)
    assert read(result) == (LEFT[:4:-1] if args else LEFT[5:])
    assert result.stderr == "In the log the first 2 events of the stream are trimmed: this begins at event 3.\n"


@pytest.mark.parametrize("args", [("read",), ("export", "-")])
def test_what_is_gone_can_still_not_be_asked_for(url: str, trimmed: str, args: tuple[str, ...]) -> None:
    """An --after before what is left is an error, also for a program."""
    result = run(*args, "--after", "1", "--partition", "1", "--name", trimmed, store=url)
    assert (result.exit_code, "trimmed up to position 2" in result.stderr) == (1, True)
    with EventStore.open(url, name=trimmed) as store:
        with pytest.raises(LogTrimmed):
            list(store.read_all(partition=1))
        with pytest.raises(LogTrimmed):
            operations.export_lines(store, lambda lines: None)
