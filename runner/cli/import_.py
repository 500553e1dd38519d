"""``runner import``: events from JSON lines, each once, however often the import is repeated."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO

import click

from .. import operations
from ..errors import InvalidInput, RunnerError, counted
from ..operations import Progress
from ..operations.import_lines import LONGEST_LINE
from ..operations.import_placed import partitions_of_export
from ..sync.store import EventStore
from .common import FOUND, chosen, json_option, place_options
from .output import print_json, progress_bar, say


@contextmanager
def _open(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = gzip.open(file, "rb") if Path(file).suffix == ".gz" else open(file, "rb")
    except OSError as fault:
        raise InvalidInput(f"{file} cannot be read: {fault.strerror}") from None
    with opened:
        yield opened  # type: ignore[misc]


def _looked_at(file: IO[bytes]) -> tuple[int, Iterable[bytes]]:
    """The partitions of the store whose export with positions a file holds, and all lines of the file."""
    first = file.readline(LONGEST_LINE + 1)
    return partitions_of_export(first), chain([first], iter(partial(file.readline, LONGEST_LINE + 1), b""))


@click.command("import")
@click.argument("file")
@click.option("--skip-bad", is_flag=True, help="Go on without lines that cannot be imported, and say which.")
@click.option("--after-line", type=click.IntRange(0), default=0, help="The lines up to this one were imported before.")
@click.option("--keep-positions", is_flag=True, help="Every event into its place: restore an export with positions.")
@json_option
@place_options
def command(
    url: str | None, name: str, file: str, skip_bad: bool, after_line: int, keep_positions: bool, as_json: bool
) -> None:
    """Import events from FILE (.jsonl or .jsonl.gz; - for standard input), a JSON object a line.

    Keys: stream, type, and optionally id, time, data, metadata. If the import is repeated, or killed and repeated,
    every event is in the log once, in order. The exit code is 1 if lines were skipped.

    With --keep-positions the store must be empty; it is made, with the partitions of the one that was exported. Nothing
    can be appended to it before the import has ended.

    Example: runner import events.jsonl.gz
    """
    start, total, done = time.perf_counter(), _lines_of(file), after_line
    try:
        with _open(file) as opened:
            partitions, lines = _looked_at(opened) if keep_positions else (None, opened)
            with (
                EventStore.open(chosen(url), name=name, partitions=partitions) as store,
                progress_bar("importing") as bar,
            ):

                def progress(told: Progress) -> None:
                    nonlocal done
                    done = max(done, told.done)
                    bar(Progress(done, total))

                result = operations.import_lines(
                    store, lines, skip_bad=skip_bad, keep_positions=keep_positions, after_line=after_line,
                    progress=progress,
                )  # fmt: skip
    except (RunnerError, KeyboardInterrupt) as ended:
        if file != "-" and done and not keep_positions:
            say(f"{file} is imported up to line {done}. To go on: --after-line {done}", err=True)
        if isinstance(ended, InvalidInput) and file != "-" and str(ended).startswith(("line ", "the input ")):
            raise InvalidInput(f"{file}: {ended}", hint=ended.hint) from None
        raise
    took = time.perf_counter() - start
    if as_json:
        print_json({**asdict(result), "seconds": round(took, 3)})
    else:
        for number, reason in result.bad:
            say(f"{'' if file == '-' else f'{file}: '}skipped line {number}: {reason}", err=True)
        rate = f" ({result.lines / took:,.0f} lines a second)" if took > 0 and result.lines else ""
        say(f"{counted(result.appended, 'event')} appended, {result.known} were there already{rate}")
    if result.bad:
        sys.exit(FOUND)


def _lines_of(file: str) -> int | None:
    """How many lines a file has, for the bar; None if that is not known, or no bar is shown."""
    if Path(file).suffix == ".gz" or not Path(file).is_file() or not _shows_a_bar():
        return None
    with _open(file) as opened:
        return sum(piece.count(b"\n") for piece in iter(lambda: opened.read(2**20), b""))


def _shows_a_bar() -> bool:
    return sys.stderr.isatty()
