"""``runner verify``: walk the whole store and say what is wrong."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from .. import operations
from ..errors import counted
from ..operations import Finding
from ..sync.store import EventStore
from .common import FOUND, json_option, store_options
from .output import print_json, progress_bar, say, say_warning


@click.command("verify")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Check positions, numbers, ids, indexes and checkpoints against each other. With a finding the exit code is 1.

    Example: runner verify
    """

    def show(finding: Finding) -> None:
        if not as_json:
            say(f"partition {finding.partition}: {finding.where}: {finding.what}")

    with progress_bar("verifying") as progress:
        result = operations.verify(store, found=show, progress=progress)
    for unseen in result.unseen:
        say_warning(unseen, "Run `runner verify` as an operator.")
    if as_json:
        print_json(asdict(result))
    elif result.sound:
        kept = f", but {counted(len(result.findings), 'finding')} in builds that are kept only for a rollback"
        say(f"{counted(result.events, 'event')}, nothing wrong{kept if result.findings else ''}")
    else:
        say(f"{counted(result.events, 'event')}, {counted(len(result.findings), 'finding')}", err=True)
    if not result.sound:
        sys.exit(FOUND)
