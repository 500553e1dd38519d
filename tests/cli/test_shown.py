"""What a person meets at a terminal: narrow ones, imports that end early, commands to paste, completion."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from command_line import run
from rich.console import Console

from runner import EventStore
from runner.cli import import_, output
from runner.cli.demo import program
from runner.cli.main import main
from runner.operations import Progress
from runner.testing import all_events

COLUMNS = ("projection", "partition", "build", "state", "position", "lag", "rows", "set aside", "holder", "error")
ROW = ("availability-by-show", 0, "2.3 (candidate)", "catching up", 1234567, 12, 99, "-", "machine-7:12345", "")
FAILED = (*ROW[:-1], "projection 'availability-by-show' failed at position 7 ('SeatReserved', event 3 of 'show-1')")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, *rows: tuple[object, ...]) -> list[str]:
    """The lines of a table on a terminal so wide."""
    screen = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        patched.setattr(output, "_out", Console(file=screen, width=width, highlight=False, color_system=None))
        output.print_table("store 'es', last position 7", COLUMNS, rows)
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_that_is_too_wide_is_printed_as_paragraphs(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Each line fits, and no name is broken; empty cells are left out."""
    found = drawn(monkeypatch, width, ROW, FAILED)
    assert max(map(len, found)) <= width
    for word in ("availability-by-show,", "machine-7:12345", "1234567,", "'SeatReserved',"):
        assert any(word in line for line in found), found
    assert sum(line.startswith("projection availability-by-show, partition 0, build ") for line in found) == 2
    assert not any("set aside" in line for line in found)
    assert " ".join(" ".join(found).split()).count("error projection") == 1


def test_a_table_that_fits_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its long texts are broken, at blanks."""
    found = drawn(monkeypatch, 200, ROW, FAILED)
    assert any("│ availability-by-show │" in line for line in found)
    assert max(map(len, found)) <= 200


def event(stream: str, number: int) -> str:
    return json.dumps({"stream": stream, "type": "X", "data": number}) + "\n"


def test_an_import_that_ends_at_a_bad_line_says_where_to_go_on(fresh_name: str, tmp_path: Path) -> None:
    """With the file and the line; going on there is as going on from the beginning, also for lines without an id."""
    # given
    url, other = f"memory:{fresh_name}", f"memory:{fresh_name}-whole"
    file = tmp_path / "events.jsonl"
    good = [event(f"a-{number % 3}", number // 5) for number in range(20)]
    file.write_text("".join([*good[:12], "\n", "{bad\n", *good[12:]]))

    # when
    ended = run("import", str(file), store=url)
    file.write_text("".join([*good[:12], "\n", "\n", *good[12:]]))
    done = run("import", str(file), "--after-line", "12", store=url)
    run("import", str(file), store=other)

    # then
    assert ended.exit_code == 2
    assert f"Error: {file}: line 14: " in ended.stderr
    assert f"{file} is imported up to line 12. To go on: --after-line 12\n" in ended.stderr
    assert done.stdout.startswith("8 events appended, 0 were there already")
    with EventStore.open(url) as store, EventStore.open(other) as whole:
        assert [one.id for one in all_events(store)] == [one.id for one in all_events(whole)]
    assert run("import", str(file), store=url).stdout.startswith("0 events appended, 20 were there already")


def test_an_import_that_skips_lines_ends_with_exit_code_one(fresh_name: str, tmp_path: Path) -> None:
    """Something was found; the file is named, also if it is compressed."""
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(f"{event('a-1', 1)}{{bad\n{event('a-1', 2)}".encode()))
    for args in ((), ("--json",)):
        result = run("import", str(file), "--skip-bad", *args, store=f"memory:{fresh_name}{len(args)}")
        assert result.exit_code == 1
    assert f"{file}: skipped line 2: " in run("import", str(file), "--skip-bad", store=f"memory:{fresh_name}2").stderr


def test_the_bar_of_an_import_has_a_total(fresh_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that can be counted."""
    told: list[Progress] = []

    @contextmanager
    def bar(what: str) -> Iterator[Callable[[Progress], None]]:
        yield told.append

    file = tmp_path / "events.jsonl"
    file.write_text("".join(event("a-1", number) for number in range(7)))
    monkeypatch.setattr(import_, "progress_bar", bar)
    monkeypatch.setattr(import_, "_shows_a_bar", lambda: True)
    run("import", str(file), store=f"memory:{fresh_name}")
    assert (told[-1].done, {one.total for one in told}) == (7, {7})


def test_the_demo_names_the_program_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PATH it is "runner"; elsewhere it is its path, and as a module its Python."""
    (tmp_path / "bin dir").mkdir()
    script = tmp_path / "bin dir" / "runner"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent) + os.pathsep + "/bin")
    assert program() == "runner"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "__main__.py"), "demo"])
    assert program().endswith(" -m runner")


@pytest.mark.parametrize("words", [["view"], ["why"], ["rebuild"], ["parked", "show"], ["skipped"], ["unregister"]])
def test_shells_complete_the_names_of_projections(words: list[str], fresh_name: str) -> None:
    """Those of the store that the options name; none, and no error, where there is no such store."""
    url = f"memory:{fresh_name}"
    run("run", "--once", "--accept-bad", store=url)
    complete = BashComplete(main, {}, "runner", "_RUNNER_COMPLETE")
    found = complete.get_completions([*words, "--store", url], "b")
    assert [one.value for one in found] == ["balances"]
    assert complete.get_completions([*words, "--store", f"{url}-other"], "b") == []


@pytest.mark.parametrize("option", ["--only", "--except"])
def test_shells_complete_the_names_that_a_run_chooses(option: str, fresh_name: str) -> None:
    """Those that the store knows already."""
    url = f"memory:{fresh_name}"
    run("run", "--once", "--accept-bad", store=url)
    complete = BashComplete(main, {}, "runner", "_RUNNER_COMPLETE")
    assert [one.value for one in complete.get_completions(["run", "--store", url, option], "b")] == ["balances"]


def test_the_dry_run_of_a_reactor_is_no_failure(fresh_name: str, tmp_path: Path) -> None:
    """It says that there is none, and how many events are parked."""
    plugin = tmp_path / "mails.py"
    plugin.write_text(
        "from runner import ParkStream, Reactor\nmails = Reactor('mails', on_error=ParkStream())\n"
        "mails.when('X')(lambda event, key: event.data['no'])\n"
    )
    url, projections = f"memory:{fresh_name}", ("--projections", str(plugin))
    run("append", "a-1", "X", '{"yes": 1}', store=url)
    run("run", "--once", "--accept-bad", *projections, store=url)
    result = run("parked", "retry", "mails", "--dry-run", *projections, store=url)
    assert result.exit_code == 0
    assert result.stdout == "mails is a reactor and has no dry run: its effects cannot be tried. 1 event parked.\n"
    as_json = run("parked", "retry", "mails", "--dry-run", "--json", *projections, store=url)
    assert (as_json.exit_code, json.loads(as_json.stdout)[0]["left"]) == (0, 1)
    assert run("parked", "retry", "mails", *projections, store=url).exit_code == 1
