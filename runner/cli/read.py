"""``runner read``: events that are in the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, islice

import click

from ..errors import InvalidInput
from ..format.events import RecordedEvent
from ..format.json_lines import dump
from ..log.trimmed import before_first
from ..sync.store import EventStore
from .common import COUNT, left_after, parse_time, store_options
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
@click.option("--after", type=click.IntRange(0), help="Begin after this number of the stream, else position.")
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
    after: int | None,
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
    if stream is None and backwards and (category is not None or after or to is not None or moment is not None):
        raise InvalidInput("--backwards goes with a stream, or alone with --limit and --partition")
    if stream is not None:
        begin = _first_of(store, stream) if after is None else after
        if not store.version(stream):
            say_no_stream(stream)
        events: Iterator[RecordedEvent] = store.read_stream(stream, begin, to, backwards, limit)
    else:
        events = chain.from_iterable(
            _events(store, category, begin, moment, place, backwards)
            for begin, place in _begins(store, after, partition, backwards)
        )
        if to is not None:
            events = (event for event in events if event.position <= to)
    shown = 0
    for event in islice(events, limit):
        show(event, as_json)
        shown += 1
    if category is not None and not shown:
        say(f"There is no such event in category {category!r}.", err=True)


def say_no_stream(stream: str) -> None:
    """Say that a stream has no events: its name may be that of a category."""
    hint = "" if "-" in stream else f"; for all streams of a category: --category {stream}"
    say(f"There is no stream {stream!r}{hint}.", err=True)


def _first_of(store: EventStore, stream: str) -> int:
    """The number after which the events of a stream are left; what was trimmed is said."""
    number = store.run(before_first(store.info, stream))
    if number:
        what = "event 1 of the stream is" if number == 1 else f"the first {number} events of the stream are"
        say(f"In the log {what} trimmed: this begins at event {number + 1}.", err=True)
    return number


def _begins(
    store: EventStore, after: int | None, partition: int | None, backwards: bool
) -> Iterator[tuple[int, int | None]]:
    """The positions to begin after, by partition."""
    if after is not None or (backwards and partition is None and store.info.partitions > 1):
        yield after or 0, partition  # it needs one partition, and says so
        return
    for keys in store.info.keys if partition is None else [store.info.of_partition(partition)]:
        yield left_after(store, keys), keys.partition


def _events(
    store: EventStore, category: str | None, after: int, since: datetime | None, partition: int | None, backwards: bool
) -> Iterator[RecordedEvent]:
    if category is not None:
        return store.read_category(category, after, since=since, partition=partition)
    return store.read_all(after, since=since, partition=partition, backwards=backwards)
