"""``runner tail``: events as they are appended."""

from __future__ import annotations

from itertools import islice

import click

from ..errors import InvalidInput
from ..subscriptions.sources import ALL, All, Category
from ..sync.store import EventStore
from .common import COUNT, store_options
from .read import say_no_stream, show


@click.command("tail")
@click.argument("stream", required=False)
@click.option("--category", help="All streams of a category instead of one stream.")
@click.option("--after", type=click.IntRange(0), help="Begin after this number or position, instead of at the end.")
@click.option("--limit", type=COUNT, help="End after so many events.")
@click.option("--partition", type=click.IntRange(0), help="The partition to follow, where there are several.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@store_options
def command(
    store: EventStore,
    stream: str | None,
    category: str | None,
    after: int | None,
    limit: int | None,
    partition: int | None,
    as_json: bool,
) -> None:
    """Print events as they are appended, until the command is interrupted.

    Of a stream, of a category, or all events.

    Example: runner tail --category account
    """
    if stream is not None and category is not None:
        raise InvalidInput("give a stream or --category, not both")
    to: str | Category | All = stream if stream is not None else ALL if category is None else Category(category)
    if stream is not None and not store.version(stream):
        say_no_stream(stream)
    if after is None:
        after = store.version(to) if isinstance(to, str) else store.last_position(partition=partition or 0)
    try:
        with store.subscribe(to, after, partition=partition, resubscribe=True) as subscription:
            for event in islice(subscription, limit):
                show(event, as_json)
    except KeyboardInterrupt:
        pass  # the usual end
