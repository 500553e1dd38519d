"""``runner skipped``: events that projections went on without."""

from __future__ import annotations

import click

from .. import operations
from ..sync.store import EventStore
from .common import json_option, store_options
from .output import print_json
from .parked import as_record, describe


@click.command("skipped")
@click.argument("projection", required=False)
@json_option
@store_options
def command(store: EventStore, projection: str | None, as_json: bool) -> None:
    """List the events that projections went on without: skipped by policy, or dropped when they were parked.

    The last 10,000 or so of each build are kept.

    Example: runner skipped balances --json
    """
    found = operations.skipped(store, projection)
    if as_json:
        print_json([
            {"projection": one.projection, "partition": one.partition, **as_record(one.event)} for one in found
        ])  # fmt: skip
        return
    for one in found:
        describe(one.event, f"{one.projection}: ")
