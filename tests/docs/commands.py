"""Commands as they stand on a page, and whether the command line takes them."""

from __future__ import annotations

import re
import shlex

import click

from runner.cli.main import main


def words_of(line: str) -> list[str]:
    """The words of a command line, with the path of the program taken off."""
    first, *rest = shlex.split(line)
    return [first.rpartition("/")[2], *rest]


def verbs() -> dict[str, click.Command]:
    """Every command by its words, as ``parked retry``."""
    found: dict[str, click.Command] = {}
    context = click.Context(main)
    for verb in main.list_commands(context):
        command = main.get_command(context, verb)
        assert command is not None
        found[verb] = command
        if isinstance(command, click.Group):
            found |= {f"{verb} {name}": part for name, part in command.commands.items()}
    return found


def options_of(command: click.Command) -> set[str]:
    """What may be given to a command: ``--json``, ``--after``."""
    return {
        name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts
    }  # fmt: skip


def mistakes_of(words: list[str]) -> str:
    """What is wrong with a command line that begins with `runner`; empty where the command line takes it."""
    program, *rest = words
    if program != "runner":
        return f"{program} is not the runner"
    known = verbs()
    if not rest or rest[0] not in known:
        return f"{' '.join(words)}: there is no such command"
    named = " ".join(rest[:2]) if " ".join(rest[:2]) in known else rest[0]
    allowed = options_of(known[named]) | {"--help"}
    if named == "parked":
        allowed |= options_of(known["parked list"])
    for word in rest:
        option = re.match(r"--[a-z][a-z-]*", word)
        if option and option[0] not in allowed:
            return f"{' '.join(words)}: {named} has no option {option[0]}"
    return ""
