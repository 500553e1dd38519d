"""``runner skipped``: events that projections went on without."""

from __future__ import annotations

import click

from .. import operations
from ..sync.store import EventStore
from .common import COUNT, json_option, projection_argument, store_options
from .output import print_json
from .parked import as_record, describe

#: How many records of each projection are shown to people who do not say.
MOST_SHOWN = 100


@click.command("skipped")
@projection_argument(required=False)
@click.option("--limit", type=COUNT, help="Of each projection the last so many; 100 unless --json is given.")
@json_option
@store_options
def command(store: EventStore, projection: str | None, limit: int | None, as_json: bool) -> None:
    """List the events that projections went on without: skipped by policy, or dropped when they were parked.

    The last 10,000 or so of each build are kept.

    Example: runner skipped balances --json
    """
    found = operations.skipped(store, projection, limit=limit or (None if as_json else MOST_SHOWN))
    if as_json:
        print_json([
            {"projection": one.projection, "partition": one.partition, **as_record(one.event)} for one in found
        ])  # fmt: skip
        return
    for one in found:
        describe(one.event, f"{one.projection}: ")
