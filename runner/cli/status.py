"""``runner status``: where every projection stands, whether or not a runner is there."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..progress import ProjectionStatus, projection_names, status
from ..store import EventStore
from .common import json_option, print_json, print_table, store_options

#: A runner that was not heard of for so many heartbeats is not there any more.
MISSED_BEATS = 5


@click.command("status")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Show each projection's state, position and lag (in events, and how long the oldest of them has waited).

    Example: runner status --json
    """
    found = [
        store.run(status(keys, name)) for keys in store.facts.keys for name in store.run(projection_names(keys))
    ]  # fmt: skip
    patience = store.settings.heartbeat * MISSED_BEATS
    if as_json:
        print_json([{**asdict(one), "state": _state(one, patience)} for one in found])
        return
    last = ", ".join(str(store.last_position(partition=keys.partition)) for keys in store.facts.keys)
    rows = [
        (
            one.name,
            one.partition,
            _state(one, patience),
            one.position,
            one.lag,
            _span(one.lag_seconds),
            one.rows,
            one.error,
        )
        for one in found
    ]
    print_table(
        f"store {store.facts.name!r}, last position {last}",
        ("projection", "partition", "state", "position", "lag", "waiting", "rows", "error"),
        rows,
    )


def _state(one: ProjectionStatus, patience: float) -> str:
    """What its runner said last, unless that runner has gone silent."""
    if one.state in ("stopped", "idle"):
        return one.state
    if one.seen_ago is None or one.seen_ago > patience:
        return "no runner"
    return one.state


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds else "-"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
