"""``runner trim``: remove the first events of the log, as far as no projection needs them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from .. import operations
from ..errors import counted
from ..operations import TrimResult
from ..sync.store import EventStore
from .asking import confirm, dry_run_option, yes_option
from .common import json_option, parse_number, parse_time, store_options
from .output import print_json, progress_bar, say

#: What is not possible any more after a trim.
AFTERWARDS = (
    "Afterwards these events cannot be read or exported, and no view can be made from the first event: no rebuild, no "
    "reset, no new projection, no view as it was. Export the events first."
)


@click.command("trim")
@click.option("--before", "text", required=True, metavar="POSITION|TIME", help="Remove events before it (ISO 8601).")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@dry_run_option
@click.option(
    "--although-nobody-has-read-them",
    is_flag=True,
    help="Remove events also if the store knows no projection or reactor.",
)
@yes_option
@json_option
@store_options
def command(
    store: EventStore, text: str, partition: int | None, dry_run: bool, although_nobody_has_read_them: bool, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Remove the first events of the log for good, except those that a projection or reactor still needs.

    Events that a projection has not applied, or has parked, stay. Without the removed events no view can be made again,
    or be shown as it was: export them first. With a TIME, events are removed up to the first that was recorded then or
    later. A trim can be stopped at any moment and be done again.

    Example: runner trim --before 2026-01-31T12:00:00+00:00 --dry-run
    """
    with progress_bar("trimming") as progress:
        results = operations.trim(
            store, _before(text), partition=partition, dry_run=dry_run,
            although_nobody_has_read_them=although_nobody_has_read_them, confirm=None if yes else _ask,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json([{**asdict(result), "dry_run": dry_run} for result in results])
        return
    for result in results:
        say(_sentence("would remove" if dry_run else "removed", result))
    advice = [result.advice for result in results if result.advice]
    if dry_run and any(result.removed and not result.asked for result in results):
        advice.append("Nobody was asked, so without --dry-run it takes --although-nobody-has-read-them.")
    for text in dict.fromkeys(advice):
        say(f"Hint: {text}", err=True)


def _ask(results: list[TrimResult]) -> bool:
    for result in results:
        say(_sentence("would remove", result), err=True)
    say(_asked(results), err=True)
    say(AFTERWARDS, err=True)
    return confirm("Remove them for good?")


def _asked(results: list[TrimResult]) -> str:
    names = sorted({name for result in results for name in result.asked})
    if not names:
        return "Nobody was asked: the store knows no projection or reactor."
    return f"Asked: {', '.join(names)}. Not asked: subscriptions, and readers that keep their place elsewhere."


def _before(text: str) -> int | datetime:
    number = parse_number(text, "--before")
    return parse_time(text, "--before", or_position=True) if number is None else number


def _sentence(verb: str, result: TrimResult) -> str:
    what = (
        f"{counted(result.removed, 'event')} of partition {result.partition}, up to position {result.floor}"
        if result.removed
        else "nothing"
    )
    where = "" if result.removed else f" of partition {result.partition}"
    return f"{verb} {what}{where}: {result.limit}"
