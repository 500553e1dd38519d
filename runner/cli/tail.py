"""``runner tail``: events as they are appended."""

from __future__ import annotations

from itertools import islice

import click

from ..subscriptions.sources import ALL, All, Category
from ..sync.store import EventStore
from .common import COUNT, store_options
from .read import show


@click.command("tail")
@click.argument("what", required=False, metavar="[STREAM|CATEGORY]")
@click.option("--after", type=click.IntRange(0), help="Begin after this number or position, instead of at the end.")
@click.option("--limit", type=COUNT, help="End after so many events.")
@click.option("--partition", type=click.IntRange(0), help="The partition to follow, where there are several.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@store_options
def command(
    store: EventStore, what: str | None, after: int | None, limit: int | None, partition: int | None, as_json: bool
) -> None:
    """Print events as they are appended, until the command is interrupted.

    A name with a '-' is a stream, a name without '-' is a category. Without a name, all events are printed.

    Example: runner tail account
    """
    to: str | Category | All = ALL if what is None else what if "-" in what else Category(what)
    if after is None:
        after = store.version(to) if isinstance(to, str) else store.last_position(partition=partition or 0)
    try:
        with store.subscribe(to, after, partition=partition, resubscribe=True) as subscription:
            for event in islice(subscription, limit):
                show(event, as_json)
    except KeyboardInterrupt:
        pass  # the usual end
