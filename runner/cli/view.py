"""``runner view``: the rows of a projection, now or as they were."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import click

from .. import operations
from ..errors import InvalidInput
from ..following import state_at
from ..progress.builds import no_projection
from ..projections.projection import Projection
from ..sync.store import EventStore
from ..sync.view import View
from .common import FOUND, parse_time, projection_argument, row_as_json, store_options
from .output import one_line, print_json, print_table, say, say_error
from .projections import Places, find, projections_option


@click.command("view")
@projection_argument()
@click.argument("key", required=False)
@click.option("--as-of", metavar="POSITION|TIME", help="As the view was then: the plug-in is loaded and folds the log.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@projections_option
@store_options
def command(
    store: EventStore,
    projection: str,
    key: str | None,
    as_of: str | None,
    limit: int | None,
    as_json: bool,
    places: Places,
) -> None:
    """Print the rows of a projection, or the row of one key.

    Example: runner view balances account-1 --as-of 2026-01-31T12:00:00+00:00
    """
    rows: Iterable[tuple[str, Any]]
    if as_of is not None:
        one = find(projection, places)
        if not isinstance(one, Projection):
            raise InvalidInput(f"{projection!r} is a reactor; it has no view")
        then = _as_of(store, one, as_of, key)
        rows = then.items() if key is None else [(key, then)]
    else:
        known = operations.projection_names(store)
        if projection not in known:
            raise no_projection(projection, known)
        view = View(store, projection)
        rows = view.items() if key is None else [(key, view.get(key))]
    if key is not None:
        [(_, row)] = rows
        if row is None:
            say_error(f"projection {projection!r} has no row {key!r}")
            raise SystemExit(FOUND)
        if as_json:
            print_json(row_as_json(key, row))
        else:
            say(one_line(row))
        return
    if as_json:
        for name, row in islice(rows, limit):
            print_json(row_as_json(name, row))
        return
    shown = list(islice(sorted(rows), limit))
    print_table(projection, ("key", "row"), ((name, one_line(row)) for name, row in shown))


def _as_of(store: EventStore, projection: Projection, text: str, key: str | None) -> Any:
    if text.isascii() and text.isdecimal():
        return state_at(store, projection, position=int(text), key=key)
    return state_at(store, projection, time=parse_time(text, "--as-of", or_position=True), key=key)
