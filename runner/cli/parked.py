"""``runner parked``: events that wait for another try, and what to do about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from ..effects import DriverOperation
from ..format.keys import PartitionKeys
from ..operations.retry_parked import Outcome, drop_row, parked_rows, retry_row
from ..progress.builds import unknown_projection
from ..progress.parked import Aside
from ..progress.status import projection_names
from ..sync.store import EventStore
from .common import FOUND, json_option, print_json, print_table, store_options
from .projections import find, projections_option

stream_option = click.option("--stream", help="Only this stream (or row, for a projection with a key of its own).")


class _Parked(click.Group):
    """``runner parked`` and ``runner parked NAME`` list; the other verbs are named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group("parked", cls=_Parked)
def command() -> None:
    """Events that projections have set aside, each with every later event of its row behind it.

    Example: runner parked; runner parked show balances; runner parked retry balances --dry-run
    """


@command.command("list")
@click.argument("projection", required=False)
@json_option
@store_options
def list_(store: EventStore, projection: str | None, as_json: bool) -> None:
    """Rows with parked events, and how many."""
    rows = [
        (name, keys.partition, key, waiting)
        for keys, name in _places(store, projection)
        for key, waiting in store.run(parked_rows(keys, name, None)).items()
    ]
    if as_json:
        print_json([
            {"projection": name, "partition": partition, "row": key, "events": len(waiting), "error": _why(waiting)}
            for name, partition, key, waiting in rows
        ])  # fmt: skip
        return
    print_table(
        f"{sum(len(waiting) for *_, waiting in rows)} events are parked",
        ("projection", "partition", "row", "events", "position", "failed last", "error"),
        (
            (name, partition, key, len(waiting), waiting[0].position, _time(waiting[0]), _why(waiting))
            for name, partition, key, waiting in rows
        ),
    )


@command.command("show")
@click.argument("projection")
@stream_option
@json_option
@store_options
def show(store: EventStore, projection: str, stream: str | None, as_json: bool) -> None:
    """The parked events in order, with error, traceback, attempts and times."""
    found = [
        (keys.partition, one)
        for keys, name in _places(store, projection)
        for waiting in store.run(parked_rows(keys, name, stream)).values()
        for one in waiting
    ]
    if as_json:
        print_json([{"partition": partition, **as_record(one)} for partition, one in found])
        return
    for _, one in found:
        click.echo(describe(one))


@command.command("retry")
@click.argument("projection")
@stream_option
@click.option("--dry-run", is_flag=True, help="Only say how far it would get; nothing is written.")
@projections_option
@json_option
@store_options
def retry(
    store: EventStore, projection: str, stream: str | None, dry_run: bool, places: tuple[str, ...], as_json: bool
) -> None:
    """Run parked events in order through the code that is loaded, row by row, until one fails again.

    A row without parked events flows again. Something that fails again makes the exit code 1.
    """
    one = find(projection, places)
    outcomes = _each_row(
        store, projection, stream, lambda keys, key: retry_row(keys, one, key, dry_run=dry_run)
    )  # fmt: skip
    _tell(outcomes, "would be applied" if dry_run else "applied", as_json)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(FOUND)


@command.command("drop")
@click.argument("projection")
@stream_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_options
def drop(store: EventStore, projection: str, stream: str | None, yes: bool, as_json: bool) -> None:
    """Give parked events up: their rows go on without them, for ever. Records of them stay with the skipped events."""
    count = sum(
        len(waiting)
        for keys, name in _places(store, projection)
        for waiting in store.run(parked_rows(keys, name, stream)).values()
    )
    if count and not yes:
        click.confirm(f"Give {count} parked events of {projection} up for ever?", abort=True, err=True)
    outcomes = _each_row(store, projection, stream, lambda keys, key: drop_row(keys, projection, key))
    _tell(outcomes, "given up", as_json)


def _places(store: EventStore, projection: str | None) -> list[tuple[PartitionKeys, str]]:
    known = [(keys, name) for keys in store.info.keys for name in store.run(projection_names(keys))]
    if projection is None:
        return known
    found = [(keys, name) for keys, name in known if name == projection]
    if not found:
        raise unknown_projection(projection)
    return found


def _each_row(
    store: EventStore,
    projection: str,
    stream: str | None,
    work: Callable[[PartitionKeys, str], DriverOperation[Outcome]],
) -> list[Outcome]:
    return [
        store.run(work(keys, key))
        for keys, name in _places(store, projection)
        for key in store.run(parked_rows(keys, name, stream))
    ]


def _tell(outcomes: list[Outcome], what: str, as_json: bool) -> None:
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])
        return
    if not outcomes:
        click.echo("nothing is parked")
    for outcome in outcomes:
        left = f", {outcome.left} stay parked: {outcome.error}" if outcome.left else ""
        click.echo(f"{outcome.key}: {outcome.freed} {what}{left}")


def _why(waiting: list[Aside]) -> str:
    return next((one.error for one in waiting if one.error), "")


def _time(one: Aside) -> str:
    return one.last.isoformat(timespec="seconds") if one.last else "-"


def as_record(one: Aside) -> dict[str, Any]:
    """A record for JSON: times as text."""
    found = asdict(one)
    del found["first_us"], found["last_us"]
    return {
        **found,
        "first": one.first.isoformat() if one.first else None,
        "last": one.last.isoformat() if one.last else None,
    }


def describe(one: Aside) -> str:
    """A record for people."""
    head = f"position {one.position}: {one.type or 'unreadable'}"
    if one.stream:
        head += f", event {one.number} of {one.stream}"
    if one.key not in ("", one.stream):
        head += f", row {one.key}"
    if not one.error:
        return f"{head}: waits behind a parked event"
    times = f"{one.attempts} attempts, the first {one.first}, the last {one.last}"
    return "\n".join([f"{head}: {one.error}", f"  {times}", *(f"  | {line}" for line in one.traceback.splitlines())])
