"""``runner reset``: forget a projection's view, so that the next run makes it again."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..sync.store import EventStore
from .common import json_option, print_json, store_options


@click.command("reset")
@click.argument("projection")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--repeat-effects", is_flag=True, help="Reset a reactor: it will have all its effects once more.")
@json_option
@store_options
def command(store: EventStore, projection: str, dry_run: bool, repeat_effects: bool, as_json: bool) -> None:
    """Remove a projection's views and checkpoints. Events are not touched; its runner begins at the first.

    Until it has caught up again there is no view: `runner rebuild` makes one beside the old.

    Example: runner reset balances --dry-run
    """
    results = operations.reset(store, projection, dry_run=dry_run, repeat_effects=repeat_effects)
    if as_json:
        print_json([{**asdict(result), "dry_run": dry_run} for result in results])
        return
    verb = "would remove" if dry_run else "removed"
    for result in results:
        click.echo(f"{verb} {result.rows} rows and the checkpoint at position {result.position}")
