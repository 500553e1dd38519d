"""``runner status``: state, position and lag of every projection, also while no runner is alive."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..log.append_replies import being_restored
from ..operations import ProjectionStatus
from ..progress.builds import changed_by_hand, mixed_rows
from ..sync.store import EventStore
from .common import json_option, store_options
from .output import print_json, print_table, say_error, say_warning


@click.command("status")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Show each projection's state, position and lag (in events, and how long the oldest of them has waited).

    Also the holder (machine and process), and how many events are parked and skipped. During a rebuild the candidate
    has a line of its own. With --json the previous build is shown, too.

    Example: runner status --json
    """
    found = operations.status(store)
    if as_json:
        print_json([{**asdict(one), "state": one.current_state} for one in found.projections])
        return
    rows = [
        (
            one.name,
            one.partition,
            f"{one.build} (candidate)" if one.role == "candidate" else one.build,
            one.current_state,
            one.position,
            one.lag,
            span(one.lag_seconds),
            one.rows,
            _set_aside(one),
            one.holder,
            one.error,
        )
        for one in found.projections
        if one.role != "previous"
    ]
    columns = (
        "projection", "partition", "build", "state", "position", "lag", "waiting", "rows",
        "set aside", "holder", "error",
    )  # fmt: skip
    for alarm in operations.alarms(store):
        say_error(f"{alarm.name}: {alarm.finding}", alarm.advice)
    if found.restoring:
        refused = being_restored(found.name)
        say_warning(str(refused), refused.hint)
    for one in found.projections:
        if one.role == "previous":
            continue  # kept for a rollback only, and removed by the next rebuild
        if one.mixed is not None:
            say_warning(*mixed_rows(one.name, one.build, one.mixed))
        if one.rows_committed is not None:
            say_warning(*changed_by_hand(one.name, one.build, one.rows, one.rows_committed))
    last = ", ".join(map(str, found.last_positions))
    print_table(f"store {found.name!r}, last position {last}", columns, rows)


def _set_aside(one: ProjectionStatus) -> str:
    parts = [f"{count} {what}" for count, what in ((one.parked, "parked"), (one.skipped, "skipped")) if count]
    return ", ".join(parts) or "-"


def span(seconds: float) -> str:
    """A time, for people."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds else "-"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
