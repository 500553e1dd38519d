"""Commands of the command line on a store in memory: whatever the store holds, they end as commands may."""

from __future__ import annotations

from click.testing import CliRunner

from runner import EventStore
from runner.cli.main import main

#: The exit codes of the command line; 130 is that of an interrupted command, which no test interrupts.
EXIT_CODES = {0, 1, 2, 3}


def tried(store: EventStore, *commands: str) -> None:
    """Run commands on a store. AssertionError for one that ends with a traceback or another exit code."""
    for command in commands:
        words = command.split()
        result = CliRunner().invoke(main, [*words, "--store", store.label, "--name", store.info.name])
        failed = result.exception is not None and not isinstance(result.exception, SystemExit)
        assert not failed, (command, result.exception)
        assert result.exit_code in EXIT_CODES, (command, result.exit_code)
        # Those of handlers are shown with a mark before each line.
        assert "\nTraceback" not in f"\n{result.output}", (command, result.output)
