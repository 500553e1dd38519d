"""The check of users: who may do what no work on a store needs. Nothing is changed.

The server is asked what it would allow (``ACL DRYRUN``). A user who may not ask that tries what harms nobody: reading a
key that no store has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..effects import Command, Execute, StoreOperation
from ..errors import StoreRefused
from ..log.info import StoreInfo
from .check import GOOD, WARNING, Check, unseen

#: A key that no store has, because it has no tag.
FOREIGN = "runner:doctor"

DEFAULT_USER = "default"

#: How many users a finding names.
USERS_SHOWN = 8

ADVICE = "Give programs users that `runner acl` makes, and keep this one for the administration of the server."
OPEN_ADVICE = "Make users with `runner acl`, then switch this one off: ACL SETUSER default off."


def beyond(store: StoreInfo) -> list[Command]:
    """What no kind of user may do. Each would harm the store, or stores and programs beside it."""
    log, meta = store.keys[0].log, store.keys[0].meta
    return [
        ("FLUSHALL",), ("SHUTDOWN",), ("CONFIG", "SET", "appendonly", "no"), ("SCRIPT", "FLUSH"), ("DEL", log),
        ("RENAME", log, meta), ("EXPIRE", log, "1"), ("GET", FOREIGN), ("SET", FOREIGN, ""),
    ]  # fmt: skip


def users(store: StoreInfo, embedded: bool) -> StoreOperation[Check]:
    """Whether this user, and others of the server as far as that can be seen, may do more than any work needs."""
    if embedded:
        return Check("users", GOOD, "only this user of the machine reaches the embedded server")
    who = yield from _asked("ACL", "WHOAMI")
    if who is None:
        return (yield from _by_trying())
    name = who.decode()
    if (yield from _is_open(name)):
        finding = "the server asks for no password: who reaches it may do anything, such as FLUSHALL"
        return Check("users", WARNING, finding, OPEN_ADVICE)
    excess = yield from _allowed(store, name)
    if excess is None:
        return (yield from _by_trying(f"{name!r}"))
    if not excess:
        return Check("users", GOOD, f"user {name!r} may do nothing that no work on a store needs")
    finding = f"user {name!r} may do what no work on a store needs: {', '.join(excess)}"
    if others := (yield from _others(store, name)):
        finding += f"; so may {', '.join(others[:USERS_SHOWN])}{', …' if len(others) > USERS_SHOWN else ''}"
    return Check("users", WARNING, finding, ADVICE)


def _by_trying(name: str = "") -> StoreOperation[Check]:
    """The check for a user who may not ask what it may do."""
    this = f"user {name}" if name else "this user"
    if (yield from _asked("EXISTS", FOREIGN)) is not None:
        finding = f"{this} may read the keys of other programs and stores"
        return Check("users", WARNING, finding, ADVICE)
    if (yield from _asked("MODULE", "LIST")) is not None:
        return Check("users", WARNING, f"{this} may administer the server", ADVICE)
    advice = "Compare its access list with that of `runner acl`."
    return unseen("users", "ACL DRYRUN", advice, f"{this} reads no keys of other programs; what else it may do ")


def _is_open(name: str) -> StoreOperation[bool]:
    """Whether this is the user that a connection without a password gets."""
    if name != DEFAULT_USER:
        return False
    facts = yield from _asked("ACL", "GETUSER", DEFAULT_USER)
    return facts is not None and b"nopass" in dict(zip(facts[::2], facts[1::2], strict=True)).get(b"flags", [])


def _allowed(store: StoreInfo, name: str) -> StoreOperation[list[str] | None]:
    """What a user may do of `beyond`; None if nobody may ask."""
    tried = beyond(store)
    try:
        told = yield Execute([("ACL", "DRYRUN", name, *command) for command in tried])
    except StoreRefused:
        return None
    return [" ".join(command[:2]).rstrip() for command, reply in zip(tried, told, strict=True) if reply == b"OK"]


def _others(store: StoreInfo, name: str) -> StoreOperation[list[str]]:
    """The other users who may do something of `beyond`, as far as this user may see them."""
    found: Iterable[bytes] = (yield from _asked("ACL", "USERS")) or []
    others = []
    for other in sorted(each.decode(errors="replace") for each in found):
        if other != name and (yield from _allowed(store, other)):
            others.append(repr(other))
    return others


def _asked(*command: Any) -> StoreOperation[Any]:
    """The reply to a command; None if it is refused."""
    try:
        [reply] = yield Execute([command])
    except StoreRefused:
        return None
    return reply
