"""``runner skipped``: events that projections went on without."""

from __future__ import annotations

import click

from ..operations.retry_parked import live_build
from ..progress.parked import read_skipped
from ..progress.status import projection_names
from ..sync.store import EventStore
from .common import json_option, print_json, store_options
from .parked import as_record, describe


@click.command("skipped")
@click.argument("projection", required=False)
@json_option
@store_options
def command(store: EventStore, projection: str | None, as_json: bool) -> None:
    """List the events that projections went on without: skipped by policy, or dropped when they were parked.

    The last 10,000 or so of each are kept.

    Example: runner skipped balances --json
    """
    found = [
        (name, keys.partition, one)
        for keys in store.info.keys
        for name in store.run(projection_names(keys))
        if projection in (None, name)
        for one in store.run(read_skipped(keys, name, store.run(live_build(keys, name))))
    ]
    if as_json:
        print_json([
            {"projection": name, "partition": partition, **as_record(one)} for name, partition, one in found
        ])  # fmt: skip
        return
    for name, _, one in found:
        click.echo(f"{name}: {describe(one)}")
