"""``runner rollback``: go back to the previous build."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..sync.store import EventStore
from .common import json_option, projection_argument, say_keepers, store_options
from .output import print_json, say


@click.command("rollback")
@projection_argument()
@click.option("--to", metavar="BUILD", help="The build that shall be live: the previous one, or one that was left.")
@json_option
@store_options
def command(store: EventStore, projection: str, to: str | None, as_json: bool) -> None:
    """Make the previous build live again, in one step; the two builds change places.

    The build has the position at which it was replaced. A runner with the code of that build catches it up from there.
    A runner with the newer code stands by. A second rollback does nothing; to go forward again, name the build.

    Example: runner rollback balances; runner rollback balances --to 2
    """
    results = operations.rollback(store, projection, to=to)
    if as_json:
        print_json([asdict(result) for result in results])
        return
    for result in results:
        where = f"{projection} (partition {result.partition}): build {result.live}"
        if result.before is None:
            say(f"{where} is live already, at position {result.position}; nothing was done")
        else:
            say(f"{where} is live again, at position {result.position}; build {result.before} is kept")
    say_keepers(store, projection, ((result.live, result.keepers) for result in results))
