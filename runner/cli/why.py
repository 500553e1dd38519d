"""``runner why``: what is wrong with a projection, with tracebacks."""

from __future__ import annotations

import click

from .. import operations
from ..operations import ProjectionStatus
from ..sync.store import EventStore
from .common import COUNT, json_option, projection_argument, store_options
from .output import print_json, say, say_traceback
from .parked import as_record, describe


@click.command("why")
@projection_argument()
@click.option("--limit", type=COUNT, default=3, show_default=True, help="At most so many parked events, and skipped.")
@json_option
@store_options
def command(store: EventStore, projection: str, limit: int, as_json: bool) -> None:
    """Show why a projection or reactor has stopped or tries again, and what it has parked and skipped.

    With the traceback of each error. `runner parked show` and `runner skipped` show all events.

    Example: runner why balances
    """
    builds = [one for one in operations.status(store, projection).projections if one.role != "previous"]
    parked = [one for row in operations.parked(store, projection, limit=limit) for one in row.events if one.error]
    skipped = [one.event for one in operations.skipped(store, projection, limit=limit)]
    if as_json:
        print_json({
            "builds": [
                {
                    "partition": one.partition, "build": one.build, "role": one.role, "state": one.current_state,
                    "position": one.position, "error": one.error, "traceback": one.traceback, "parked": one.parked,
                    "skipped": one.skipped,
                }
                for one in builds
            ],
            "parked": [as_record(one) for one in parked[:limit]],
            "skipped": [as_record(one) for one in skipped[-limit:]],
        })  # fmt: skip
        return
    for one in builds:
        _say_state(one)
    for event in parked[:limit]:
        describe(event, "parked: ")
    for event in skipped[-limit:]:
        describe(event, "skipped: ")


def _say_state(one: ProjectionStatus) -> None:
    what = f"{one.name}, partition {one.partition}, build {one.build}: {one.current_state} at position {one.position}"
    say(f"{what}, {one.parked} parked, {one.skipped} skipped; {one.error or 'no error'}")
    if one.traceback:
        say_traceback(one.traceback)
