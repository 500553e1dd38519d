"""``runner reset``: remove a projection's view, so that the next run makes it again."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..errors import counted
from ..operations import ResetResult
from ..sync.store import EventStore
from .asking import confirm, removal_options
from .common import json_option, store_options
from .output import print_json, say


@click.command("reset")
@removal_options
@click.option("--repeat-effects", is_flag=True, help="Reset a reactor: it performs all its effects again.")
@json_option
@store_options
def command(store: EventStore, projection: str, dry_run: bool, yes: bool, repeat_effects: bool, as_json: bool) -> None:
    """Remove a projection's views and checkpoints. The events stay, and the next run begins at the first event.

    Until the projection has caught up again its view is incomplete. `runner rebuild` keeps the old view meanwhile.

    Example: runner reset balances --dry-run
    """

    def ask(planned: list[ResetResult]) -> bool:
        for result in planned:
            say(_sentence("would remove", result), err=True)
        say("Until it has caught up again its view is incomplete; `runner rebuild` keeps the old one.", err=True)
        return confirm(f"Reset {projection}?")

    results = operations.reset(
        store, projection, dry_run=dry_run, repeat_effects=repeat_effects, confirm=None if yes else ask
    )
    if as_json:
        print_json([{**asdict(result), "dry_run": dry_run} for result in results])
        return
    for result in results:
        say(_sentence("would remove" if dry_run else "removed", result))


def _sentence(verb: str, result: ResetResult) -> str:
    return f"{verb} {counted(result.rows, 'row')} and the checkpoint at position {result.position}"
