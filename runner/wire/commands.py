"""Commands in their wire form."""

from __future__ import annotations

from ..effects import Command
from ..format.scripts import LOAD, Script

#: How long one look for a free connection takes at least, in seconds, where requests are not repeated.
LEAST_PATIENCE = 0.1

#: How often scripts are loaded again for one request, when another client keeps flushing them.
SCRIPT_TRIES = 20


def encode(commands: list[Command], fake: bool) -> list[Command]:
    """Replace scripts by EVALSHA, and numbers by their text.

    Numbers are replaced because hiredis calls back into Python to make text of them. A signal may interrupt that call;
    hiredis does not check the result, and the process ends with a segmentation fault.
    """
    encoded = []
    for command in commands:
        first = command[0]
        if isinstance(first, Script):
            command = ("EVALSHA", first.bare_sha if fake else first.sha, *command[1:])
        encoded.append(tuple([part if isinstance(part, (bytes, str)) else str(part) for part in command]))
    return encoded


def waits(commands: list[Command]) -> bool:
    """Whether the server answers these commands only after something else has happened, such as a replica's answer."""
    return any(command[0] == "WAIT" for command in commands)


def room_for_waits(connections: int) -> int:
    """How many of some connections may be lent for commands that wait; the others serve the rest meanwhile."""
    return max(1, connections * 3 // 4)


def keys_of(command: Command) -> tuple[str, ...]:
    """The keys that a command on stored data names."""
    first, *rest = command
    if isinstance(first, Script):
        return tuple(command[2 : 2 + command[1]])
    if "STREAMS" in rest:  # XREAD: as many keys as IDs
        names = rest[rest.index("STREAMS") + 1 :]
        return tuple(names[: len(names) // 2])
    return tuple(str(key) for key in rest[:1])


def is_loading(command: Command) -> bool:
    return tuple(command[:2]) == LOAD
