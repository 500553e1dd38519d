"""``runner read``: events that are in the log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import click

from ..errors import InvalidInput
from ..format.events import RecordedEvent
from ..format.json_lines import dump
from ..sync.store import EventStore
from .common import COUNT, parse_time, store_options
from .output import one_line, print_json_text, say


def show(event: RecordedEvent, as_json: bool) -> None:
    """Print an event in one line."""
    if as_json:
        print_json_text(dump(event))
    else:
        place = f"{event.position:>8}  {event.recorded_at:%Y-%m-%d %H:%M:%S}  {event.stream} {event.number}"
        say(f"{place}  {event.type}  {one_line(event.data)}")


@click.command("read")
@click.argument("stream", required=False)
@click.option("--category", help="All streams of a category instead of one stream.")
@click.option(
    "--after", type=click.IntRange(0), default=0, help="Begin after this number of the stream, else position."
)
@click.option("--to", type=click.IntRange(0), help="End with this number of the stream, or position.")
@click.option("--since", help="Only events recorded at this time or later (ISO 8601); not with a stream.")
@click.option("--backwards", is_flag=True, help="The last event first.")
@click.option("--limit", type=COUNT, help="At most so many events.")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@store_options
def command(
    store: EventStore,
    stream: str | None,
    category: str | None,
    after: int,
    to: int | None,
    since: str | None,
    backwards: bool,
    limit: int | None,
    partition: int | None,
    as_json: bool,
) -> None:
    """Print the events of a stream, of a category, or all of them.

    Example: runner read account-1 --backwards --limit 3
    """
    moment = None if since is None else parse_time(since, "--since")
    if stream is not None and category is not None:
        raise InvalidInput("give a stream or --category, not both")
    if stream is not None and (moment is not None or partition is not None):
        raise InvalidInput("--since and --partition go with --category or without a stream")
    events: Iterator[RecordedEvent]
    if stream is not None:
        events = store.read_stream(stream, after, to, backwards, limit)
    elif backwards:
        if category is not None or after or to is not None or moment is not None:
            raise InvalidInput("--backwards goes with a stream, or alone with --limit and --partition")
        events = store.read_all(partition=partition or 0, backwards=True)
    elif category is not None:
        events = store.read_category(category, after, since=moment, partition=partition)
    else:
        events = store.read_all(after, since=moment, partition=partition)
    if stream is None and to is not None:
        events = (event for event in events if event.position <= to)
    for event in islice(events, limit):
        show(event, as_json)
