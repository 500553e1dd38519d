"""``runner doctor``: is the server fit to hold the log?"""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from .. import operations
from ..sync.store import EventStore
from .common import SERVER, json_option, store_options
from .output import print_json, print_table


@click.command("doctor")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Examine the server: version, durability, eviction, expiry, clock, scripts, round-trip time.

    The exit code is 3 if a check is bad.

    Example: runner doctor --store redis://localhost:6379/0
    """
    found = operations.doctor(store)
    if as_json:
        print_json([asdict(check) for check in found.checks])
    else:
        rows = [(check.name, check.verdict, check.finding, check.advice) for check in found.checks]
        print_table(f"server at {store.label}", ("check", "verdict", "finding", "what to do"), rows)
    if not found.fit:
        sys.exit(SERVER)
