"""All that the command line prints. What people read passes `visible`; JSON is exact, and always JSON."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeRemainingColumn,
)
from rich.progress import Progress as BarsOfRich
from rich.table import Table
from rich.text import Text

from ..daemon.logs import JsonFormatter, TextFormatter
from ..operations import Progress
from ..operations.face import OnProgress
from ..text import visible, visible_json, visible_traceback, without_passwords
from ..wire.log import log

#: A text in a table may be broken into lines of so many letters, or more.
LEAST_TEXT = 40

#: A longer cell of a table is cut.
LONGEST_CELL = 1_000

#: What a bar of `Bars` is known by.
BarId = TaskID

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


# -- lines ----------------------------------------------------------------------------------------


def say(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Print one line for people. ``style``: as `click.style` takes it."""
    shown = visible(text)
    click.echo(click.style(shown, **style) if style else shown, err=err)


def show_log(form: str, level: int, runner: str = "") -> None:
    """Show the lines of the log on standard error, as "text" or "json"; then errors and warnings are JSON, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(runner) if form == "json" else TextFormatter())
    log.handlers[:] = [handler]
    log.setLevel(level)


def _logs_json() -> bool:
    return any(isinstance(handler.formatter, JsonFormatter) for handler in log.handlers)


def say_error(text: str, hint: str = "", what: str = "Error") -> None:
    text, hint = without_passwords(text), without_passwords(hint)
    if _logs_json():
        level = logging.WARNING if what == "Warning" else logging.ERROR
        log.log(level, "%s", text, extra={"fields": {"error": text, "next": hint}})
        return
    say(f"{what}: {text}", err=True)
    if hint:
        say(f"Hint: {hint}", err=True)


def say_warning(text: str, hint: str) -> None:
    say_error(text, hint, "Warning")


def say_traceback(text: str) -> None:
    """Print the lines of a traceback."""
    for line in visible_traceback(text):
        click.echo(line)


def say_fault(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody expected: what Python calls before it exits."""
    text, hint = f"{kind.__name__}, which is a fault of the package", "Please report it with its traceback."
    if _logs_json():
        log.critical("%s", text, exc_info=(kind, fault, trace), extra={"fields": {"error": text, "next": hint}})
        return
    say_error(text, hint)
    for line in visible_traceback("".join(traceback.format_exception(kind, fault, trace))):
        click.echo(line, err=True)


def ask(question: str) -> bool:
    """Ask, and tell whether the answer is yes. Raises click.Abort where there is none."""
    return click.confirm(visible(question), err=True)


def prompt_password() -> str:
    """Ask twice for a password, which is not shown."""
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def print_command(text: str) -> None:
    """Print a command for a server, which is to be used as it stands: in one line, and never cut."""
    click.echo(visible(text, len(text)))


# -- JSON -----------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    indent = 2 if sys.stdout.isatty() else None
    print_json_text(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))


def print_json_text(text: str) -> None:
    click.echo(visible_json(text))


def one_line(value: Any) -> str:
    """A stored value in one line, for people: values that JSON does not have are shown as text."""
    return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)


# -- tables ---------------------------------------------------------------------------------------


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people; into a pipe it is printed 200 characters wide.

    Where the terminal is too narrow for it, each row is printed as a paragraph, so that no name is broken.
    """
    console = _out if sys.stdout.isatty() else Console(highlight=False, width=200)
    cells = [[visible(str(cell), LONGEST_CELL) for cell in row] for row in rows]
    if sum(_room(column, place, cells) + 3 for place, column in enumerate(columns)) < console.width:
        console.print(_table(title, columns, cells))
        return
    console.print(_text(title))
    for row in cells:
        told = ", ".join(f"{column} {cell}" for column, cell in zip(columns, row, strict=True) if cell not in ("", "-"))
        lines = wrap(told, console.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        console.print(Text("\n".join(lines)), soft_wrap=True)


def _room(column: str, place: int, rows: Sequence[Sequence[str]]) -> int:
    """The width that a column needs: of texts that may be broken at blanks, only a part of theirs."""
    longest = max((row[place] for row in rows), key=len, default="")
    return max(len(column), LEAST_TEXT if _is_text(longest) else len(longest))


def _is_text(cell: str) -> bool:
    return len(cell) > LEAST_TEXT and " " in cell


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=_text(title) if title else None, title_justify="left")
    for place, column in enumerate(columns):
        numeric = column in ("position", "lag", "rows", "events", "number")
        whole = not any(_is_text(str(row[place])) for row in rows)
        table.add_column(_text(column), justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(_text, row))
    return table


@contextmanager
def live_table(columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], None]]:
    """A table of one row, which is drawn anew whenever the function is called."""
    with Live(console=_out, refresh_per_second=10) as screen:
        yield lambda row: screen.update(_table("", columns, [row]))


def _text(cell: object) -> Text:
    return Text(visible(str(cell), LONGEST_CELL))


# -- progress -------------------------------------------------------------------------------------


@contextmanager
def progress_bar(what: str) -> Iterator[OnProgress]:
    """A bar that shows the progress of an operation, from the first time it is told; nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda told: None
        return
    shown, tasks = Bars(), list[BarId]()

    def show(told: Progress) -> None:
        if not tasks:
            tasks.append(shown.add_task(what, total=told.total))
            shown.start()
        shown.update(tasks[0], completed=told.done, total=told.total)

    try:
        yield show
    finally:
        if tasks:
            shown.stop()


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return _text(task.description)


class Bars(BarsOfRich):
    """Bars on a terminal, which vanish at the end."""

    def __init__(self) -> None:
        columns = SpinnerColumn(), _Description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(*columns, console=_err, transient=True)


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """A line with a spinner on a terminal; the function changes its text."""
    with _err.status(_text(what)) as status:
        yield lambda text: status.update(_text(text))
