"""Users with the rights of a kind, for the tests that work under access lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import redis
from servers import Server

from runner.format.keys import PartitionKeys
from runner.operations.rights import KINDS, Right, rules_of

ONE_PARTITION = (PartitionKeys("es", 0),)


def become(
    at: Server, kind: str, rights: Sequence[Right] | None = None, keys: Sequence[PartitionKeys] = ONE_PARTITION
) -> str:
    """Make a user with the rights of its kind, or with other ones; returns the URL for this user."""
    rules = rules_of(KINDS[kind] if rights is None else rights, keys)
    at.do("ACL", "SETUSER", kind, "reset", "on", ">PASSWORD", *rules)
    return at.url.replace("//", f"//{kind}:PASSWORD@")


def is_refused(at: Server, user: str, *command: str) -> bool:
    """Whether the access list refuses a command by hand, past the product."""
    with redis.Redis(port=at.port, username=user, password="PASSWORD", protocol=2) as client:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
        return False


def with_one_word_less(rights: Sequence[Right]) -> Iterator[tuple[str, list[Right]]]:
    """Each way to leave out one command or one kind of key of one right: its name, and the rights that are left."""
    for place, right in enumerate(rights):
        for name in ("commands", "keys"):
            words = getattr(right, name).split()
            for word in words:
                left = [each for each in words if each != word]
                less = [replace(right, **{name: " ".join(left)})] if left else []
                yield f"{right.commands.split()[0]}-{place}-{word}", [*rights[:place], *less, *rights[place + 1 :]]
