"""What others wrote into a store is shown as it is: it commands no terminal, is no markup, and makes no lines."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import run, shows_a_fault
from looks import do, keys_of
from rich.console import Console
from trouble import envelope

import runner
from runner import EventStore, NewEvent
from runner.cli import output
from runner.cli.main import VERBS, main
from runner.testing import all_events

#: Markup, an emoji code, a link, and letters that a person cannot see: all that the name of a stream may hold.
NAME = (
    "a-[/][bold]b[/bold][link=http://evil.example/]c :warning: "
    "\u202e\u2066\u200e\u200f\u061c\u200b\u200d\u2060\ufeff\u2028\u2029d "
)
#: The same with what a terminal obeys, and a line that looks like one of the log.
TEXT = f"{NAME}\x1b]0;owned\x07\x1b[2J\x7f\x9b2J\r\n00:00:00 INFO balances[0] live\x00\x85end"

#: Everything else that is printed keeps its markup, so a table that lost it shows less than this.
MARKUP = "[/][bold]b[/bold][link=http://evil.example/]c :warning:"

PLUGIN = f"""
from runner import ParkStream, Projection, Retry, Skip

TEXT = {TEXT!r}

def fail(state, event):
    raise ValueError(TEXT)

rows = Projection("rows", key=lambda event: event.stream)
rows.when("X")(lambda state, event: {{"text": event.data}})
parks = Projection("parks", on_error=ParkStream())
skips = Projection("skips", on_error=Skip())
stops = Projection("stops")
for each in (parks, skips, stops):
    each.when("X")(fail)
"""

#: Arguments for each verb, and what is answered to its question. A new verb needs a line here. (`demo` and `bench` show
#: what they made themselves, so only what they are given is tried.)
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "demo": [("--store", TEXT)],
    "run": [("--once", "--accept-bad", "PLUGIN"), ("--once", "--accept-bad", "--log", "json", "PLUGIN")],
    "append": [
        (NAME, NAME), (NAME, NAME, "--expected", "9"), (NAME, NAME, "--expected", TEXT), (TEXT, "X"),
        (NAME, "X", TEXT), (NAME, "X", "1", TEXT), (NAME, "X", "--json"),
    ],
    "read": [(), (NAME,), ("--category", "a"), ("--json",), ("--since", TEXT), (f"--{TEXT}",)],
    "tail": [("--after", "0", "--limit", "3"), ("--after", "0", "--limit", "3", "--json")],
    "import": [("FILE", "--skip-bad"), ("FILE",), ("FILE", "--skip-bad", "--json"), (f"/{NAME}",)],
    "export": [(), (f"/{NAME}/x",)],
    "view": [
        ("rows",), ("rows", NAME), ("rows", TEXT), ("rows", "--json"), ("rows", NAME, "--json"),
        ("rows", "--as-of", "1", "PLUGIN"), ("rows", "--as-of", TEXT, "PLUGIN"),
    ],
    "projections": [("PLUGIN",), ("PLUGIN", "--json"), ("--projections", f"/{NAME}.py")],
    "status": [(), ("--json",)],
    "why": [("parks",), ("stops",), ("skips",), ("stops", "--json")],
    "rebuild": [("rows", "--diff", "PLUGIN"), ("rows", "--diff", "--json", "PLUGIN"), ("parks", "PLUGIN")],
    "rollback": [("rows",), ("rows",), ("rows", "--json"), ("rows", "--to", TEXT)],
    "parked": [
        (), ("--json",), ("show", "parks"), ("show", "parks", "--json"), ("show", "parks", "--stream", TEXT),
        ("retry", "parks", "--dry-run", "PLUGIN"), ("retry", "parks", "PLUGIN"), ("retry", "parks", "--json", "PLUGIN"),
        ("drop", "parks"), ("drop", "parks", "--json", "--yes"),
    ],
    "skipped": [(), ("--json",), ("parks",)],
    "reset": [("rows", "--dry-run"), (TEXT,)],
    "unregister": [("rows",), (TEXT,), ("rows", "--dry-run", "--json")],
    "trim": [("--before", "2", "--although-nobody-has-read-them"), ("--before", TEXT)],
    "verify": [(), ("--json",)],
    "copy": [("HOSTILE", TEXT), (TEXT, "memory:"), ("HOSTILE", "memory:", "--to-name", TEXT), ("HOSTILE", "memory:")],
    "doctor": [(), ("--json",)],
    "scripts": [()],
    "init": [(), ("--partitions", "3"), ("--name", TEXT)],
    "acl": [("reader",), ("reader", "--user", TEXT), (TEXT,)],
    "bench": [("--compare", f"/{NAME}")],
}  # fmt: skip


def hidden(text: str) -> set[str]:
    """The letters of a text that a person does not see, but for the end of a line."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {letter for letter in text if letter != "\n" and unicodedata.category(letter) in kinds}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """What stands for PLUGIN and FILE: a plug-in, and an import whose second line is bad."""
    plugin, lines = tmp_path / "p[bold]\u202e.py", tmp_path / "f[bold]\u202e.jsonl"
    plugin.write_text(PLUGIN)
    lines.write_text(json.dumps({"stream": "b-1", "type": "Y"}) + "\n" + json.dumps({TEXT: 1}) + "\n")
    return {"PLUGIN": ("--projections", str(plugin)), "FILE": (str(lines),)}


@pytest.fixture
def hostile(fresh_name: str, files: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """The URL of a store whose names, payloads, rows, records and errors are all hostile."""
    url = f"memory:hostile-{fresh_name}"
    with EventStore.open(url) as store:
        store.append(NAME, NewEvent("X", {"text": TEXT, NAME: [TEXT]}))
        store.append(f"{NAME}2", NewEvent("X", TEXT))
        run("run", "--once", "--accept-bad", *files["PLUGIN"], store=url)
        keys = keys_of(store)
        do(store, "HSET", keys.build("rows", "1"), "where", TEXT, "state", TEXT, "error", TEXT, "lease", 2**52)
        do(store, "XADD", keys.log, "3-1", "e", envelope(TEXT, TEXT, b"\x01"))
        do(store, "XADD", keys.log, "4-1", "e", envelope(TEXT, TEXT))
        do(store, "HSET", keys.bookmarks, TEXT, TEXT)
        do(store, "HSET", keys.build("stops", "1"), "where", TEXT, "lease", 2**52)
        yield url


@pytest.mark.parametrize("verb", VERBS)
def test_no_command_prints_what_a_terminal_obeys_or_nobody_sees(
    verb: str, hostile: str, files: dict[str, tuple[str, ...]]
) -> None:
    """Names, payloads, errors and arguments end no line, and each letter that is hidden stands there as its code."""
    for args in COMMANDS[verb]:
        given = [part for arg in args for part in {**files, "HOSTILE": (hostile,)}.get(arg, (arg,))]
        url = [] if verb in ("projections", "bench", "copy") or "--store" in given else ["--store", hostile]
        result = CliRunner().invoke(main, [verb, *given, *url], input="n\n", env={"COLUMNS": "200"})
        if verb == "export" and not args:
            continue  # that is a file, as exact as can be
        printed = result.stdout + result.stderr
        assert not hidden(printed), (args, hidden(printed), printed)
        assert not re.search("^00:00:00", printed, re.MULTILINE), (args, printed)
        assert not shows_a_fault(result.stderr), (args, printed)
        assert result.exception is None or isinstance(result.exception, SystemExit), (args, result.exception)


@pytest.mark.parametrize(
    "args",
    [
        ("status",), ("parked",), ("parked", "show", "parks"), ("skipped",), ("view", "rows"), ("read",),
        ("read", NAME), ("append", NAME, "X"), ("append", NAME, NAME, "--expected", "9"),
    ],
)  # fmt: skip
def test_markup_and_codes_of_emojis_are_plain_text(args: tuple[str, ...], hostile: str) -> None:
    """Brackets and colons that somebody wrote stand in the output as they were written."""
    printed = run(*args, store=hostile).output
    assert MARKUP in re.sub(r"\s*[│┃]\s*\n?.*?[│┃]\s*", "", printed) or MARKUP in printed, printed


def test_json_is_exact(hostile: str) -> None:
    """What is read from the JSON of a command is what is stored."""
    with EventStore.open(hostile) as store:
        do(store, "XTRIM", keys_of(store).log, "MAXLEN", 4)
        do(store, "XDEL", keys_of(store).log, "3-1", "4-1")
        events = all_events(store)
    found = [json.loads(line) for line in run("read", "--json", store=hostile).stdout.splitlines()]
    assert [(one["stream"], one["data"]) for one in found] == [(event.stream, event.data) for event in events]
    [line] = run("view", "rows", NAME, "--json", store=hostile).stdout.splitlines()
    assert json.loads(line) == {"key": NAME, "row": {"text": events[0].data}}


def test_long_texts_are_cut_for_people_and_whole_in_json(fresh_name: str, tmp_path: Path) -> None:
    """A payload, a cell and an error of 900 kB: a mark tells how much is missing."""
    url, long = f"memory:long-{fresh_name}", "x" * 900_000
    (tmp_path / "long.py").write_text(PLUGIN.replace("key=lambda event: event.stream", "").replace(ascii(TEXT), "''"))
    with EventStore.open(url) as store:
        store.append("a-1", NewEvent("X", long))
        run("run", "--once", "--accept-bad", "--projections", str(tmp_path / "long.py"), store=url)
        do(store, "HSET", keys_of(store).build("stops", "1"), "error", long)
        for args in (("read",), ("view", "rows"), ("view", "rows", "a-1"), ("status",), ("parked",)):
            printed = run(*args, store=url).output
            assert len(printed) < 40_000, args
            assert "more characters" in re.sub(r"[\s│]+", " ", printed) or args == ("parked",), args
        for args in (("read", "--json"), ("view", "rows", "--json"), ("status", "--json")):
            assert long in run(*args, store=url).output, args


def test_a_line_of_the_json_log_stays_json(hostile: str, files: dict[str, tuple[str, ...]]) -> None:
    """One object a line, and the error is in it."""
    printed = run("run", "--once", "--accept-bad", "--log", "json", *files["PLUGIN"], store=hostile).stderr
    told = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert any("ValueError" in one.get("error", "") for one in told)


def test_a_fault_of_the_package_is_shown_with_its_traceback(tmp_path: Path) -> None:
    """Its lines are marked, so none of them looks like a line of ours."""
    (tmp_path / "broken.py").write_text(
        "import click\n@click.command()\ndef command():\n    raise ValueError(" + ascii(TEXT) + ")\n"
    )
    program = "from runner.cli.main import VERBS, main; VERBS['broken'] = 'broken'; main(['broken'])"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "  | ValueError: a-[/]" in ended.stderr
    assert not hidden(ended.stderr)
    assert not re.search("^00:00:00", ended.stderr, re.MULTILINE)


def test_bars_and_tables_on_a_terminal_show_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions, the text beside a spinner, and the cells of a table that is drawn again and again."""
    drawn = StringIO()
    for name in ("_out", "_err"):
        monkeypatch.setattr(output, name, Console(file=drawn, force_terminal=True, width=400, highlight=False))
    with output.Bars() as bars:
        bars.add_task(TEXT, total=1)
    with output.spinner("measuring") as show:
        show(TEXT)
    with output.live_table(["stream"]) as show_row:
        show_row([TEXT])
    own = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|\r")  # colours, and moves of the cursor
    assert not hidden(own.sub("", drawn.getvalue()))
    assert drawn.getvalue().count("\\x1b[2J") >= 3
    assert drawn.getvalue().count(MARKUP) >= 3


#: What prints, and the module in which it may stand.
PRINTERS = {"echo", "secho", "echo_via_pager", "progressbar", "confirm", "prompt"}
ONE_PLACE = "output.py"


def test_all_that_people_read_passes_one_function() -> None:
    """Nothing in the command line or the daemon prints, asks, draws or formats a log line by itself."""
    package = Path(runner.__file__).parent
    found = []
    for path in [*package.glob("cli/*.py"), *package.glob("daemon/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.name != ONE_PLACE and prints(node):
                found.append(f"{path.name}, line {node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    assert found == []


def prints(node: ast.AST) -> bool:
    """Whether a piece of code writes to the terminal by itself."""
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return (node.module or "").split(".")[0] == "rich" or (node.module == "click" and bool(names & PRINTERS))
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == "rich" for alias in node.names)
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    if last == "Formatter" or (last in ("write", "writelines") and ("stdout" in name or "stderr" in name)):
        return True
    return name == "print" or (last in PRINTERS and name == f"click.{last}")
