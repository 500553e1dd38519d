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


def shows_a_fault(text: str) -> bool:
    """Whether Python's traceback of a fault is in a text; those of handlers have a mark, or are in a JSON line."""
    return any("Traceback" in line for line in text.splitlines() if not line.startswith(("  | ", "{")))
