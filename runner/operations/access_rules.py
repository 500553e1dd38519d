"""Access rules: the words of ``ACL SETUSER`` that give a kind of user what its work on a store needs, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..effects import DriverOperation
from ..errors import InvalidInput
from ..format.keys import PartitionKeys
from .face import StoreContext, for_either_store
from .rights import ADAPTERS, DURABILITY, KINDS, LOADING, Right, rules_of


@for_either_store
def access_rules(
    store: StoreContext,
    kind: str,
    *,
    adapters: Sequence[str] = (),
    durability: str | None = None,
    loads_scripts: bool = True,
) -> DriverOperation[list[str]]:
    """The rules for a kind of user: "appender", "reader", "runner" or "operator".

    ``adapters``: the adapters that an appender uses, by the names of their extras; ``durability``: the level that it
    declares, "memory", "everysec", "always" or "replicated"; ``loads_scripts``: whether the user may load scripts, if
    its kind does. The rules give no password; the server is asked nothing. Raises InvalidInput for a name that is not
    known.
    """
    yield from ()
    return planned_rules(store.info.keys, kind, adapters=adapters, durability=durability, loads_scripts=loads_scripts)


def planned_rules(
    keys: Sequence[PartitionKeys],
    kind: str,
    *,
    adapters: Sequence[str] = (),
    durability: str | None = None,
    loads_scripts: bool = True,
) -> list[str]:
    """The same for a store whose partitions will have these keys."""
    rights = list(_known("kind of user", kind, KINDS))
    for adapter in adapters:
        rights += _known("adapter", adapter, ADAPTERS)
    if durability is not None:
        rights += _known("durability", durability, DURABILITY)
    if kind != "appender" and (adapters or durability is not None):
        raise InvalidInput(f"adapters and durability are for an appender, not for a {kind}")
    rules = rules_of(rights, keys)
    return rules if loads_scripts else [rule for rule in rules if rule != f"+{LOADING}"]


def _known(what: str, name: str, known: Mapping[str, Sequence[Right]]) -> Sequence[Right]:
    if name not in known:
        raise InvalidInput(f"{name!r} is no {what} that is known; there are {', '.join(known)}")
    return known[name]
