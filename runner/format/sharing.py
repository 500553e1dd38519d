"""Lists and maps that stand in two places: of one state, of the states of two rows, or of a state and of the code.

Until a batch ends such a list is one: what is added in one place is there in the other, too. A state that comes back
from Redis has two. So the result would depend on where a batch ends, and the state is refused.

It is looked for when a row is packed, once a batch and row. A flat state costs a search through its packed bytes. What
is shared and apart again within one batch is not seen; `runner.testing.Scenario.replay_twice` finds that, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import PayloadError
from .codec import inside

_CONTAINERS: Final = (dict, list, tuple)

#: The bytes with which maps, arrays and extensions begin. Other values may hold them, too.
_search: Final = re.compile(rb"[\x80-\x9f\xc7-\xc9\xd4-\xd8\xdc-\xdf]").search

#: Lists and maps that code holds, by id: the list or map, which is kept so that no other one gets its id, and its name.
Held = Mapping[int, tuple[Any, str]]


class Sharing:
    """The lists and maps of the states of one batch. ``held``: those that the code holds."""

    def __init__(self, held: Held) -> None:
        self._held = held
        #: The ids of the lists and maps of the states that were added. These states must live as long as this object.
        self._added: set[int] = set()

    def add(self, state: Any, packed: bytes) -> bool:
        """Add a state; False, and nothing is added, if it shares a list or a map."""
        if type(state) not in _CONTAINERS:
            return True
        if _search(packed, 1) is None:  # the most frequent case
            one = id(state)
            if one in self._held or one in self._added:
                return False
            self._added.add(one)
            return True
        found = _ids(state)
        if len(set(found)) < len(found) or not self._added.isdisjoint(found):
            return False
        if self._held and not self._held.keys().isdisjoint(found):
            return False
        self._added.update(found)
        return True

    def check(self, state: Any, what: str) -> None:
        """Raise PayloadError, with the path of a list or map that a state shares. The state is not added."""
        places: dict[int, str] = {}
        todo = [(what, state)]
        for path, one in todo:
            if isinstance(one, (dict, list)):
                kind = "map" if isinstance(one, dict) else "list"
                other = places.setdefault(id(one), path)
                if other is not path:
                    raise _shared(path, f"the same {kind} as {other}")
                if id(one) in self._held:
                    raise _shared(path, f"the {kind} {self._held[id(one)][1]} of the code")
                if id(one) in self._added:
                    raise _shared(path, f"the same {kind} as one of another row")
            todo += [(path + step, inner) for step, inner in inside(one) if isinstance(inner, _CONTAINERS)]


def check_own(state: Any, what: str, held: Held) -> None:
    """Raise PayloadError, with the path, for a list or map that stands in two places of a state, or that code holds."""
    Sharing(held).check(state, what)


def _ids(state: Any) -> list[int]:
    """The ids of the lists and maps of a state. A tuple does not change, so it may stand in several places."""
    found: list[int] = []
    todo = [state]
    for one in todo:
        if type(one) is dict:
            found.append(id(one))
            todo += [inner for inner in one.values() if type(inner) in _CONTAINERS]
        else:
            if type(one) is list:
                found.append(id(one))
            todo += [inner for inner in one if type(inner) in _CONTAINERS]
    return found


def _shared(path: str, what: str) -> PayloadError:
    return PayloadError(f"{path} cannot be stored: it is {what}; give it a copy of its own")
