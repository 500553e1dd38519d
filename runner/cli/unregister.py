"""``runner unregister``: forget a projection that nobody runs any more."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import operations
from ..errors import counted
from ..operations import Registration
from ..sync.store import EventStore
from .asking import confirm, removal_options
from .common import json_option, store_options
from .output import print_json, say


@click.command("unregister")
@removal_options
@json_option
@store_options
def command(store: EventStore, projection: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget a projection or reactor that was renamed or removed: its views, checkpoints and records go for good.

    Until then its checkpoint holds the log back from a trim. It is refused while a live runner has the projection. If
    it is run again, it begins as a new one: a reactor has all its effects once more.

    Example: runner unregister old-balances --dry-run
    """

    def ask(kept: list[Registration]) -> bool:
        for one in kept:
            say(_sentence("would remove", projection, one), err=True)
        return confirm(f"Forget {projection} for good?")

    removed = operations.unregister(store, projection, dry_run=dry_run, confirm=None if yes else ask)
    if as_json:
        print_json([{**asdict(one), "dry_run": dry_run} for one in removed])
        return
    for one in removed:
        say(_sentence("would remove" if dry_run else "removed", projection, one))


def _sentence(verb: str, projection: str, kept: Registration) -> str:
    builds = f"{'build' if len(kept.builds) == 1 else 'builds'} {', '.join(kept.builds)}" if kept.builds else "no build"
    return (
        f"{verb} {projection} from partition {kept.partition}: {builds}, the checkpoint at position {kept.position}, "
        f"{counted(kept.rows, 'row')}, {counted(kept.parked, 'parked event')}, "
        f"{counted(kept.skipped, 'record')} of skipped events"
    )
