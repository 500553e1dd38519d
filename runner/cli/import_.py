"""``runner import``: events from JSON lines, each once, however often the import is repeated."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import click

from .. import operations
from ..errors import InvalidInput, counted
from ..sync.store import EventStore
from .common import creating_store_options, json_option
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


@click.command("import")
@click.argument("file")
@click.option("--skip-bad", is_flag=True, help="Go on without lines that cannot be imported, and say which.")
@json_option
@creating_store_options
def command(store: EventStore, file: str, skip_bad: bool, as_json: bool) -> None:
    """Import events from FILE (.jsonl or .jsonl.gz; - for standard input), a JSON object a line.

    Keys: stream, type, and optionally id, time, data, metadata. If the import is repeated, or killed and repeated,
    every event is in the log once, in order.

    Example: runner import events.jsonl.gz
    """
    start = time.perf_counter()
    with _open(file) as lines, progress_bar("importing") as progress:
        result = operations.import_lines(store, lines, skip_bad=skip_bad, progress=progress)
    took = time.perf_counter() - start
    if as_json:
        print_json({**asdict(result), "seconds": round(took, 3)})
        return
    for number, reason in result.bad:
        say(f"skipped line {number}: {reason}", err=True)
    rate = f" ({result.lines / took:,.0f} lines a second)" if took > 0 and result.lines else ""
    say(f"{counted(result.appended, 'event')} appended, {result.known} were there already{rate}")
