"""``runner reset``: forget a projection's view, so that the next run makes it again."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..progress.builds import reset, unknown_projection
from ..progress.status import projection_names
from ..store import EventStore
from .common import json_option, print_json, store_options


@click.command("reset")
@click.argument("projection")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
@store_options
def command(store: EventStore, projection: str, dry_run: bool, as_json: bool) -> None:
    """Remove a projection's view and checkpoint. Events are not touched; the next run begins at the first.

    Example: runner reset balances --dry-run
    """
    places = [keys for keys in store.facts.keys if projection in store.run(projection_names(keys))]
    if not places:
        raise unknown_projection(projection)
    results = [store.run(reset(keys, projection, dry_run=dry_run)) for keys in places]
    if as_json:
        print_json([{**asdict(result), "dry_run": dry_run} for result in results])
        return
    verb = "would remove" if dry_run else "removed"
    for result in results:
        click.echo(f"{verb} {result.rows} rows and the checkpoint at position {result.position}")
