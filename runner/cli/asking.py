"""Commands that remove something for good: they can be tried, they ask, and a no ends them."""

from __future__ import annotations

import functools
import sys
from typing import Any

import click

from ..errors import InvalidInput
from .common import FOUND, F, projection_argument
from .output import ask, say

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be removed.")

#: No variable of the environment stands for it: what destroys data is confirmed each time.
yes_option = click.option("--yes", is_flag=True, allow_from_autoenv=False, help="Do not ask.")


def removal_options(verb: F) -> F:
    """Add the argument of a projection, ``--dry-run`` and ``--yes`` to a verb that forgets what is kept of it."""

    @projection_argument()
    @dry_run_option
    @yes_option
    @functools.wraps(verb)
    def with_options(*args: Any, **options: Any) -> Any:
        return verb(*args, **options)

    return with_options  # type: ignore[return-value]


def confirm(question: str) -> bool:
    """Ask; anything but a yes ends the command: a no with exit code 1, Ctrl-C with 130, and no answer as a mistake."""
    try:
        if ask(question):
            return True
    except click.Abort as ended:
        say(err=True)
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise InvalidInput("nobody answered the question, so nothing was removed", hint="Give --yes.") from None
    say("Nothing was removed.", err=True)
    sys.exit(FOUND)
