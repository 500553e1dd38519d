"""``runner scripts``: load the scripts into the server."""

from __future__ import annotations

import click

from .. import operations
from ..sync.store import EventStore
from .common import store_options
from .output import say


@click.command("scripts")
@store_options
def command(store: EventStore) -> None:
    """Load the scripts of this version into the server, for users who may not load them.

    A server forgets its scripts when it starts anew. Runners, and whoever else may load scripts, load them again by
    themselves.

    Example: runner scripts --store redis://operator@localhost:6379/0
    """
    say(f"{operations.load_scripts(store)} scripts are loaded")
