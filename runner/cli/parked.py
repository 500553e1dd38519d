"""``runner parked``: events that wait for another attempt. They are listed, retried or given up."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from .. import operations
from ..errors import counted
from ..operations import ParkedRow, RowOutcome
from ..progress.parked import SetAsideEvent
from ..projections.reactor import Reactor
from ..sync.store import EventStore
from .asking import confirm, yes_option
from .common import COUNT, FOUND, json_option, projection_argument, store_options
from .output import print_json, print_table, say, say_traceback
from .projections import Places, find, projections_option

stream_option = click.option("--stream", help="Only this stream (or row, for a projection with a key of its own).")


limit_option = click.option("--limit", type=COUNT, default=100, show_default=True, help="At most so many are shown.")


class _Parked(click.Group):
    """``runner parked`` and ``runner parked NAME`` mean ``runner parked list``; the other verbs are named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group("parked", cls=_Parked)
def command() -> None:
    """Events that projections have set aside, each with every later event of its row.

    Example: runner parked; runner parked show balances; runner parked retry balances --dry-run
    """


@command.command("list")
@projection_argument(required=False)
@limit_option
@json_option
@store_options
def list_(store: EventStore, projection: str | None, limit: int, as_json: bool) -> None:
    """List the rows with parked events, and how many events each has; with --json all of them."""
    rows = operations.parked(store, projection, brief=True)
    if as_json:
        print_json([
            {
                "projection": row.projection, "partition": row.partition, "row": row.key, "events": len(row.events),
                "error": row.error,
            }
            for row in rows
        ])  # fmt: skip
        return
    print_table(
        f"{counted(_count(rows), 'parked event')} in {counted(len(rows), 'row')}{_first(limit, len(rows))}",
        ("projection", "partition", "row", "events", "position", "failed last", "error"),
        (
            (
                row.projection, row.partition, row.key, len(row.events), row.events[0].position, _time(row.events[0]),
                row.error,
            )
            for row in rows[:limit]
        ),
    )  # fmt: skip


@command.command("show")
@projection_argument()
@stream_option
@limit_option
@json_option
@store_options
def show(store: EventStore, projection: str, stream: str | None, limit: int, as_json: bool) -> None:
    """Show the parked events in order, with error, traceback, attempts and times; of each partition the first."""
    rows = operations.parked(store, projection, row=stream, limit=limit)
    found = [(row.partition, one) for row in rows for one in row.events]
    if as_json:
        print_json([{"partition": partition, **as_record(one)} for partition, one in found])
        return
    for _, one in found:
        describe(one)


@command.command("retry")
@projection_argument()
@stream_option
@click.option("--dry-run", is_flag=True, help="Only say how many would succeed; nothing is written.")
@projections_option
@json_option
@store_options
def retry(store: EventStore, projection: str, stream: str | None, dry_run: bool, places: Places, as_json: bool) -> None:
    """Run the parked events in order through the code that is loaded. A row ends at an event that fails again.

    A row without parked events takes new events again. The exit code is 1 if an event fails again.
    """
    one = find(projection, places)
    outcomes = operations.retry_parked(store, one, row=stream, dry_run=dry_run)
    if dry_run and isinstance(one, Reactor):
        if as_json:
            _tell(outcomes, "", as_json)
        left = counted(sum(outcome.left for outcome in outcomes), "event")
        say(f"{projection} is a reactor and has no dry run: its effects cannot be tried. {left} parked.", err=as_json)
        return
    _tell(outcomes, "would be applied" if dry_run else "applied", as_json)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(FOUND)


@command.command("drop")
@projection_argument()
@stream_option
@yes_option
@json_option
@store_options
def drop(store: EventStore, projection: str, stream: str | None, yes: bool, as_json: bool) -> None:
    """Give parked events up: their rows go on without them until a rebuild. `runner skipped` lists them."""
    count = _count(operations.parked(store, projection, row=stream, brief=True))
    if count and not yes:
        confirm(f"Give {counted(count, 'parked event')} of {projection} up?")
    outcomes = operations.drop_parked(store, projection, row=stream)
    _tell(outcomes, "given up", as_json)


def _first(limit: int, of: int) -> str:
    return f"; shown: the first {limit} (see --limit)" if limit < of else ""


def _count(rows: list[ParkedRow]) -> int:
    return sum(len(row.events) for row in rows)


def _tell(outcomes: list[RowOutcome], what: str, as_json: bool) -> None:
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])
        return
    if not outcomes:
        say("nothing is parked")
    for outcome in outcomes:
        left = f", {outcome.left} stay parked: {outcome.error}" if outcome.left else ""
        say(f"{outcome.key}: {outcome.freed} {what}{left}")


def _time(one: SetAsideEvent) -> str:
    return one.last.isoformat(timespec="seconds") if one.last else "-"


def as_record(one: SetAsideEvent) -> dict[str, Any]:
    """A set-aside event for JSON: times as text."""
    found = asdict(one)
    del found["first_us"], found["last_us"]
    return {
        **found,
        "first": one.first.isoformat() if one.first else None,
        "last": one.last.isoformat() if one.last else None,
    }


def describe(one: SetAsideEvent, before: str = "") -> None:
    """Print a set-aside event for people."""
    head = f"{before}position {one.position}: {one.type or 'unreadable'}"
    if one.stream:
        head += f", event {one.number} of {one.stream}"
    if one.key not in ("", one.stream):
        head += f", row {one.key}"
    if not one.error:
        say(f"{head}: waits for a parked event")
        return
    say(f"{head}: {one.error}")
    say(f"  {one.attempts} attempts, the first {one.first}, the last {one.last}")
    say_traceback(one.traceback)
