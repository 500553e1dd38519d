"""``runner rebuild``: make a view again beside the live one, then switch."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import click

from .. import operations
from ..errors import InvalidInput, counted
from ..format.json_lines import to_json
from ..operations import Comparison, Progress, RebuildResult
from ..operations.face import OnProgress
from ..projections.projection import Projection
from ..sync.store import EventStore
from .common import FOUND, json_option, lease_option, projection_argument, say_keepers, store_options
from .output import one_line, print_json, progress_bar, say
from .projections import Places, find, projections_option

#: How often a line is written where there is no terminal for a bar, in seconds.
LINE_EVERY = 5.0


@click.command("rebuild")
@projection_argument()
@click.option(
    "--diff", is_flag=True, help="Compare old and new rows before the switch, and show the first that differ."
)
@click.option("--require-same", is_flag=True, help="Do not switch if a row differs; the exit code is 1 then.")
@projections_option
@lease_option
@json_option
@store_options
def command(store: EventStore, projection: str, diff: bool, require_same: bool, places: Places, as_json: bool) -> None:
    """Make the view of a projection again from the first event, with the code that is loaded.

    Readers get the old view, and its runner keeps it up to date, until the new view has caught up. Then one step
    switches to the new view. A rebuild that was killed goes on where it was. `runner rollback` goes back.

    Example: runner rebuild balances --diff --require-same
    """
    found = find(projection, places)
    if not isinstance(found, Projection):
        raise InvalidInput(f"reactor {projection!r} has no view to rebuild, and a rebuild performs no effects")
    with progress_bar(f"rebuilding {projection}") as show:
        results = operations.rebuild(
            store, found, compare=diff, require_same=require_same, progress=_Lines(show), note=_say
        )
    if as_json:
        print_json([_as_json(result) for result in results])
    else:
        for result in results:
            _show(projection, result)
        say_keepers(store, projection, ((result.build, result.keepers) for result in results if result.switched))
    if not all(result.switched for result in results):
        sys.exit(FOUND)


class _Lines:
    """Shows progress in a bar, or without a terminal in a line now and then: position, rate and the time left."""

    def __init__(self, bar: OnProgress) -> None:
        self._bar = bar
        self._began: tuple[float, int] | None = None
        self._told = time.monotonic()

    def __call__(self, told: Progress) -> None:
        self._bar(told)
        now, total = time.monotonic(), told.total or 0
        if self._began is None:
            self._began = now, told.done
        if not sys.stderr.isatty() and now - self._told >= LINE_EVERY:
            self._told = now
            rate = (told.done - self._began[1]) / max(0.001, now - self._began[0])
            left = f", {(total - told.done) / rate:.0f} s left" if rate else ""
            _say(f"position {told.done:,} of {total:,}, {rate:,.0f} events a second{left}")


def _say(text: str) -> None:
    say(text, err=True)


def _show(name: str, result: RebuildResult) -> None:
    if result.comparison is not None:
        _show_comparison(result.comparison)
    where = f"{name} (partition {result.partition})"
    if result.switched:
        say(
            f"{where}: build {result.build} is live at position {result.position}; "
            f"build {result.before} is kept for `runner rollback {name}`"
        )
    else:
        say(
            f"{where}: build {result.before} stays live; build {result.build} is kept, and the next rebuild goes on "
            "with its rows, unless the code has changed"
        )


def _show_comparison(found: Comparison) -> None:
    say(
        f"compared at position {found.position}: {counted(found.rows_live, 'row')} live, "
        f"{found.rows_candidate} made again, {found.differing} differ"
    )
    for row in found.first:
        say(f"  {row.key}")
        say(f"    - {_row(row.live)}")
        say(f"    + {_row(row.rebuilt)}")
    if found.differing > len(found.first):
        say(f"  … and {found.differing - len(found.first)} more")


def _row(row: Any) -> str:
    return "(no row)" if row is None else one_line(row)


def _as_json(result: RebuildResult) -> dict[str, Any]:
    found = asdict(result)
    if result.comparison is not None:
        found["comparison"]["first"] = [
            {"key": row.key, "live": to_json(row.live), "rebuilt": to_json(row.rebuilt)}
            for row in result.comparison.first
        ]
    return found
