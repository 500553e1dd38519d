"""The reference of commands and settings is complete, and no page names a command or an option that is not there."""

from __future__ import annotations

import re
from dataclasses import fields

import click
import pytest
from commands import mistakes_of, options_of, verbs
from pages import PAGES, ROOT, Page

from runner import Settings
from runner.cli import common
from runner.cli.main import VERBS
from runner.daemon.process import STOPPED_AT_ONCE
from runner.format.names import MAX_NAME_BYTES
from runner.projections.policies import MOST_PARKED
from runner.settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS, MAX_EVENT_BYTES

REFERENCE = PAGES["docs/commands.md"]
DEPLOYING = PAGES["docs/deploying.md"]

#: Options that are explained once for all commands.
SHARED = {"--no-entry-points", "--store", "--name", "--json"}


def section(heading: str) -> str:
    """The text under a heading of the reference, up to the next one."""
    [found] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", REFERENCE.text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_command_is_in_the_reference() -> None:
    """Every verb of the command line has its row in the table, and its section."""
    rows = [row[0].strip("`").split()[:2] for row in REFERENCE.table("command")]
    assert rows == [["runner", verb] for verb in sorted(VERBS, key=[row[1] for row in rows].index)]
    assert len(rows) == len(VERBS)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_option_is_in_the_section_of_its_command(verb: str) -> None:
    """And no option that the command does not have."""
    told = set(re.findall(r"^\| `(--[a-z-]+)", section(f"runner {verb}"), flags=re.MULTILINE))
    known = options_of(verbs()[verb])
    assert told - {"--store"} == known - SHARED
    assert "--store" in known or "--store" not in told


def test_what_all_commands_share_is_explained() -> None:
    """The shared options, with the variables that stand for them."""
    rows = {row[0].strip("`").split()[0]: row[1].strip("`") for row in REFERENCE.table("option") if len(row) == 3}
    assert rows == {
        "--store": "RUNNER_STORE", "--name": "RUNNER_NAME", "--projections": "RUNNER_PROJECTIONS",
        "--no-entry-points": "RUNNER_NO_ENTRY_POINTS",
        "--lease": "RUNNER_LEASE", "--json": "", "--help": "",
    }  # fmt: skip


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_option_has_the_variable_that_the_page_tells(verb: str) -> None:
    """RUNNER_, the command, the option; for `run` without the command. None stands for --yes."""
    first = "RUNNER" if verb == "run" else f"RUNNER_{verb.replace(' ', '_').upper()}"
    found = {
        option.opts[0]: option.envvar for option in verbs()[verb].params
        if isinstance(option, click.Option) and option.opts[0] not in SHARED - {"--json"} | {"--projections", "--lease"}
    }  # fmt: skip
    assert found == {
        name: None if name == "--yes" else f"{first}_{name[2:].replace('-', '_').upper()}" for name in found
    }  # fmt: skip


def test_every_variable_of_the_environment_is_explained() -> None:
    """Those that the command line and the embedded server read."""
    read = {
        name for path in (ROOT / "runner").rglob("*.py") if "adapters" not in path.parts
        for name in re.findall(r"\"(RUNNER_[A-Z_]+)\"", path.read_text())
    }  # fmt: skip
    assert len(read) >= 6
    assert {name for name in read if name not in REFERENCE.text} == set()


@pytest.mark.parametrize("page", [REFERENCE, DEPLOYING], ids=lambda page: page.name)
def test_every_exit_code_is_explained(page: Page) -> None:
    """0, 1, 2, 3 and 130."""
    codes = page.table("exit code") + page.table("code")
    known = {0, common.FOUND, common.MISTAKE, common.SERVER, common.INTERRUPTED, STOPPED_AT_ONCE}
    assert {int(row[0]) for row in codes} == known


def test_every_setting_is_explained_with_its_default() -> None:
    """The table of settings is complete, and its defaults are those of the code."""
    rows = {row[0].strip("`"): re.sub(r"[, s]", "", row[1]) for row in DEPLOYING.table("setting") if len(row) == 3}
    assert {name: float(value) for name, value in rows.items()} == {
        field.name: field.default for field in fields(Settings)
    }


def test_the_limits_are_those_of_the_code() -> None:
    """Those that a program meets, as numbers."""
    told = {row[0]: row[1] for row in PAGES["docs/concepts.md"].table("what")}
    assert told["events in an append"] == f"{MAX_APPEND_EVENTS:,}"
    assert told["bytes in an append"] == f"{MAX_APPEND_BYTES // 1024**2} MB"
    assert told["bytes of an event with its envelope"] == f"{MAX_EVENT_BYTES // 1024**2} MiB"
    assert told["bytes of a name of a stream, event type, row or category"].startswith(f"{MAX_NAME_BYTES}, ")
    assert told["events parked for a projection in a partition"].startswith(f"{MOST_PARKED:,};")


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_commands_in_the_text_are_those_of_the_command_line(page: Page) -> None:
    """Inline code that begins with `runner` and a verb names commands and options that exist."""
    for line, code in page.inline_code:
        if re.match(r"runner [a-zA-Z]", code) and not code.startswith("runner COMMAND"):
            words = re.sub(r"\\\||[\[\]]", " ", code).split()
            assert not mistakes_of(words), f"{page.name}:{line}: {mistakes_of(words)}"


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_names_of_the_package_in_the_text_exist(page: Page) -> None:
    """Inline code that is a dotted name of the package can be imported."""
    import importlib

    for line, code in page.inline_code:
        if re.fullmatch(r"runner(\.\w+)+", code):
            module, _, name = code.rpartition(".")
            found = importlib.import_module(module)
            there = hasattr(found, name) or importlib.util.find_spec(code) is not None
            assert there, f"{page.name}:{line}: {code}"
        elif re.fullmatch(r"runner/[\w/]+\.py", code):
            assert (ROOT / code).exists(), f"{page.name}:{line}: {code}"
