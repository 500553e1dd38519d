"""``runner acl``: the access list of a user, for the server."""

from __future__ import annotations

import hashlib

import click

from ..format.keys import PartitionKeys
from ..format.tags import suffixes_of
from ..log.info import MAX_PARTITIONS
from ..operations.access_rules import planned_rules
from ..operations.rights import ADAPTERS, DURABILITY, KINDS
from ..settings import DEFAULT_NAME
from ..sync.store import EventStore
from .common import DEFAULT_STORE
from .output import print_command, prompt_password


@click.command("acl")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--user", help="The user's name; by default that of its kind.")
@click.option("--adapter", "adapters", type=click.Choice(list(ADAPTERS)), multiple=True, help="One that it uses.")
@click.option("--durability", type=click.Choice(list(DURABILITY)), help="The level that an appender declares.")
@click.option("--ask-password", is_flag=True, help="Ask for the password, and print its hash.")
@click.option("--partitions", type=click.IntRange(1, MAX_PARTITIONS), help="Of a store that is not made yet.")
@click.option("--store", "url", envvar="RUNNER_STORE", default=DEFAULT_STORE, show_default=True, help="The URL.")
@click.option("--name", envvar="RUNNER_NAME", default=DEFAULT_NAME, show_default=True, help="The store's name.")
def command(
    kind: str,
    user: str | None,
    adapters: tuple[str, ...],
    durability: str | None,
    ask_password: bool,
    partitions: int | None,
    url: str,
    name: str,
) -> None:
    """Print the command that gives a user the rights of its kind, and no more.

    An appender writes events and reads them, a reader reads events and views, a runner runs projections. The list is
    made for the partitions of the store, or for those of --partitions, without asking the server. Put a password in
    the place of PASSWORD.

    Example: runner acl appender --user bank
    """
    if partitions is not None:
        keys = [PartitionKeys(name, place, suffix=suffix) for place, suffix in enumerate(suffixes_of(name, partitions))]
    else:
        with EventStore.open(url, name=name) as store:
            keys = list(store.info.keys)
    rules = planned_rules(keys, kind, adapters=adapters, durability=durability)
    password = ">PASSWORD"
    if ask_password:
        password = f"#{hashlib.sha256(prompt_password().encode()).hexdigest()}"
    print_command(f"ACL SETUSER {user or kind} reset on {password} {' '.join(rules)}")
