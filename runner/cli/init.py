"""``runner init``: make a store."""

from __future__ import annotations

import click

from ..errors import StoreNotFound, counted
from ..log.info import MAX_PARTITIONS
from ..sync.store import EventStore
from .common import chosen, json_option, place_options
from .output import print_json, say


@click.command("init")
@click.option("--partitions", type=click.IntRange(1, MAX_PARTITIONS), help="How many; 1 unless told. Fixed for ever.")
@json_option
@place_options
def command(url: str | None, name: str, partitions: int | None, as_json: bool) -> None:
    """Make a store. Of a store that is there already, only say that it is.

    append, import and run make a store of one partition, too, and copy makes its target; no other command makes one.

    Example: runner init --partitions 4 --store redis://localhost:6379/0
    """
    made, url = False, chosen(url)
    try:
        store = EventStore.open(url, name=name, partitions=partitions, create=False)
    except StoreNotFound:
        store, made = EventStore.open(url, name=name, partitions=partitions), True
    with store:
        there = store.info.partitions
        if as_json:
            print_json({"name": name, "store": store.label, "partitions": there, "made": made})
        else:
            what = "is made" if made else "is there already"
            say(f"store {name!r} at {store.label} {what}, with {counted(there, 'partition')}")
