"""``runner rollback``: go back to the build before a rebuild."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..sync.store import EventStore
from .common import json_option, print_json, store_options


@click.command("rollback")
@click.argument("projection")
@json_option
@store_options
def command(store: EventStore, projection: str, as_json: bool) -> None:
    """Make the build before the live one live again, in one step; the two change places.

    It stands where it was when it was replaced, and its runner catches it up from there: that must be a runner with the
    code of that build. A runner with the newer code stands by, and does not make its build live again by itself.

    Example: runner rollback balances
    """
    results = operations.rollback(store, projection)
    if as_json:
        print_json([asdict(result) for result in results])
        return
    for result in results:
        click.echo(
            f"{projection} (partition {result.partition}): build {result.live} is live again, at position "
            f"{result.position}; build {result.before} is kept"
        )
