"""``runner rollback``: go back to the previous build."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..sync.store import EventStore
from .common import json_option, print_json, say_keepers, store_options


@click.command("rollback")
@click.argument("projection")
@json_option
@store_options
def command(store: EventStore, projection: str, as_json: bool) -> None:
    """Make the previous build live again, in one step; the two builds change places.

    The build has the position at which it was replaced. A runner with the code of that build catches it up from there.
    A runner with the newer code does not make its build live again by itself.

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
    say_keepers(projection, ((result.live, result.keepers) for result in results))
