"""``runner export``: events as JSON lines that ``runner import`` reads."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import IO

import click

from .. import operations
from ..errors import InvalidInput, counted
from ..sync.store import EventStore
from .common import left_after, store_options
from .output import progress_bar, say


@click.command("export")
@click.argument("file", default="-")
@click.option("--category", help="Only the streams of a category.")
@click.option("--after", type=click.IntRange(0), help="Only events after this position; of one partition.")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@click.option("--with-positions", is_flag=True, help="All that is needed to put every event into its place again.")
@store_options
def command(
    store: EventStore, file: str, category: str | None, after: int | None, partition: int | None, with_positions: bool
) -> None:
    """Write all events to FILE (.jsonl or .jsonl.gz; - for standard output), a JSON object a line.

    After a trim that is all that is left, which is said. With --with-positions the file is a backup, also of a store
    that was trimmed: runner import --keep-positions.

    Example: runner export backup.jsonl.gz
    """
    if after is None:
        for keys in store.info.keys if partition is None else [store.info.of_partition(partition)]:
            left_after(store, keys)
    target, whole = _target(file)
    try:
        with _open(file, target) as lines, progress_bar("exporting") as progress:
            result = operations.export_lines(
                store,
                lines.write,
                category=category,
                after=after,
                partition=partition,
                with_positions=with_positions,
                progress=progress,
            )
        if whole is not None:
            os.replace(target, whole)
        if file != "-":
            say(f"{counted(result.events, 'event')} exported to {file}")
    except BaseException as fault:
        if whole is not None:
            Path(target).unlink(missing_ok=True)
        if isinstance(fault, OSError) and file != "-":
            raise InvalidInput(f"{file} cannot be written: {fault.strerror}") from None
        raise


def _target(file: str) -> tuple[str, Path | None]:
    """The file to write to, and the file that it is renamed to at the end, so that FILE is never half an export."""
    path = Path(file).resolve()
    if file == "-" or (path.exists() and not path.is_file()):  # a pipe or a device is written to directly
        return file, None
    return f"{path}.unfinished", path


def _open(file: str, target: str) -> IO[bytes]:
    if file == "-":
        return click.open_file("-", "wb")
    return gzip.open(target, "wb") if Path(file).suffix == ".gz" else open(target, "wb")  # type: ignore[return-value]
