"""``runner trim``: remove the first events of the log, as far as no projection needs them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from .. import operations
from ..errors import counted
from ..operations import TrimResult
from ..sync.store import EventStore
from .common import json_option, parse_number, parse_time, print_json, progress_bar, store_options


@click.command("trim")
@click.option("--before", "text", required=True, metavar="POSITION|TIME", help="Remove events before it (ISO 8601).")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_options
def command(store: EventStore, text: str, partition: int | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the first events of the log for good, except those that a projection or reactor still needs.

    Events that a projection has not applied, or has parked, stay. Without the removed events no view can be made again,
    or be shown as it was: export them first. With a TIME, events are removed up to the first that was recorded then or
    later. A trim can be stopped at any moment and be done again.

    Example: runner trim --before 2026-01-31T12:00:00+00:00 --dry-run
    """
    with progress_bar("trimming") as progress:
        results = operations.trim(
            store, _before(text), partition=partition, dry_run=dry_run, confirm=None if yes else _ask, progress=progress
        )
    if as_json:
        print_json([{**asdict(result), "dry_run": dry_run} for result in results])
        return
    for result in results:
        click.echo(_sentence("would remove" if dry_run else "removed", result))
    for advice in dict.fromkeys(result.advice for result in results if result.advice):
        click.echo(f"Hint: {advice}", err=True)


def _ask(results: list[TrimResult]) -> bool:
    for result in results:
        click.echo(_sentence("would remove", result), err=True)
    return click.confirm("Remove them for good?", abort=True, err=True)


def _before(text: str) -> int | datetime:
    number = parse_number(text, "--before")
    return parse_time(text, "--before") if number is None else number


def _sentence(verb: str, result: TrimResult) -> str:
    what = (
        f"{counted(result.removed, 'event')} of partition {result.partition}, up to position {result.floor}"
        if result.removed
        else "nothing"
    )
    where = "" if result.removed else f" of partition {result.partition}"
    return f"{verb} {what}{where}: {result.limit}"
