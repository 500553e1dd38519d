"""``runner acl``: the access list of a user, for the server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from ..errors import InvalidInput
from ..format.keys import PartitionKeys
from ..format.tags import suffixes_of
from ..log.info import MAX_PARTITIONS
from ..operations.access_rules import planned_rules
from ..operations.rights import ADAPTERS, DURABILITY, KINDS
from ..sync.store import EventStore
from .common import chosen, place_options
from .output import print_command, prompt_password, say_error

#: What stands for the password's hash. Servers refuse it, so that nobody gets a password that stands on a page.
PLACEHOLDER = "#SHA-256-OF-THE-PASSWORD"


@click.command("acl")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--user", help="The user's name; by default that of its kind.")
@click.option("--adapter", "adapters", type=click.Choice(list(ADAPTERS)), multiple=True, help="One that it uses.")
@click.option("--durability", type=click.Choice(list(DURABILITY)), help="The level that an appender declares.")
@click.option("--no-scripts", is_flag=True, help="Do not allow to load scripts; see `runner scripts`.")
@click.option("--ask-password", is_flag=True, help="Ask for the password, and print its hash.")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False), help="Its first line is the password.")
@click.option("--partitions", type=click.IntRange(1, MAX_PARTITIONS), help="Of a store that is not made yet.")
@place_options
def command(
    kind: str,
    user: str | None,
    adapters: tuple[str, ...],
    durability: str | None,
    no_scripts: bool,
    ask_password: bool,
    password_file: str | None,
    partitions: int | None,
    url: str | None,
    name: str,
) -> None:
    """Print the command that gives a user the rights of its kind, and no more.

    An appender writes events and reads them, a reader reads events and views, a runner runs projections, an
    operator looks after the store and its views. The list is made for the partitions of the store, or for those of
    --partitions, without asking the server. Only the hash of the password is printed. A line without one is refused
    by the server.

    Example: runner acl appender --user bank --ask-password
    """
    if partitions is not None:
        keys = [PartitionKeys(name, place, suffix=suffix) for place, suffix in enumerate(suffixes_of(name, partitions))]
    else:
        with EventStore.open(chosen(url), name=name, create=False) as store:
            keys = list(store.info.keys)
    rules = planned_rules(keys, kind, adapters=adapters, durability=durability, loads_scripts=not no_scripts)
    password = _password(ask_password, password_file)
    print_command(f"ACL SETUSER {_user(user or kind)} reset on {_hash_of(password)} {' '.join(rules)}")
    if password is None:
        say_error(
            "the server will refuse the line until it has a password",
            f"Give --ask-password or --password-file; or put >PASSWORD, with a password of yours, for {PLACEHOLDER}.",
            "Note",
        )


def _password(ask: bool, file: str | None) -> str | None:
    if file is not None:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        if not lines or not lines[0]:
            raise InvalidInput(f"the password file {file!r} is empty", hint="Put the password into its first line.")
        return lines[0]
    return prompt_password() if ask else None


def _hash_of(password: str | None) -> str:
    return PLACEHOLDER if password is None else f"#{hashlib.sha256(password.encode()).hexdigest()}"


def _user(name: str) -> str:
    """A name that is one word of the command. Raises InvalidInput."""
    if not name.isprintable() or any(letter.isspace() for letter in name) or set(name) & set("\"'"):
        raise InvalidInput(f"a user's name must be one word without quotes, not {name!r}")
    return name
