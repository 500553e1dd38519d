"""Commands of the command line, run in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from runner.cli.main import main


def run(*args: str, store: str = "", text: str | None = None) -> Result:
    """Run ``runner`` with these arguments; an exception that is no exit of its own is raised."""
    given = [*args, "--store", store] if store else list(args)
    result = CliRunner().invoke(main, given, input=text, env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
