"""``runner status``: where every projection stands, whether or not a runner is there."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..operations.doctor import alarms
from ..progress.status import ProjectionStatus, projection_names, status
from ..sync.store import EventStore
from .common import json_option, print_json, print_table, say_error, store_options

#: What a projection is said to be doing when its last runner has gone without a word.
NO_RUNNER = "no runner"

#: States in which nobody is expected to be there.
AT_REST = ("stopped", "idle", "replaced")


@click.command("status")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Show each projection's state, position and lag (in events, and how long the oldest of them has waited).

    Also who holds it, by machine and process, and what it has parked and skipped. While a view is made anew, the
    candidate has a line of its own. With --json the build that is kept for a rollback has one too.

    Example: runner status --json
    """
    found = [
        one
        for keys in store.info.keys
        for name in store.run(projection_names(keys))
        for one in store.run(status(keys, name))
    ]
    if as_json:
        print_json([{**asdict(one), "state": state_of(one)} for one in found])
        return
    last = ", ".join(str(store.last_position(partition=keys.partition)) for keys in store.info.keys)
    rows = [
        (
            one.name,
            one.partition,
            f"{one.build} (candidate)" if one.role == "candidate" else one.build,
            state_of(one),
            one.position,
            one.lag,
            span(one.lag_seconds),
            one.rows,
            _set_aside(one),
            one.holder,
            one.error,
        )
        for one in found
        if one.role != "previous"
    ]
    columns = (
        "projection", "partition", "build", "state", "position", "lag", "waiting", "rows",
        "set aside", "holder", "error",
    )  # fmt: skip
    for alarm in alarms(store):
        say_error(f"{alarm.name}: {alarm.finding}", alarm.advice)
    print_table(f"store {store.info.name!r}, last position {last}", columns, rows)


def state_of(one: ProjectionStatus) -> str:
    """What its runner said last, unless that runner has gone silent: its lease has run out."""
    return one.state if one.state in AT_REST or one.lease_left else NO_RUNNER


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
