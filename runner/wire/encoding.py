"""What both drivers share: commands in their wire form, and how long to wait before trying again."""

from __future__ import annotations

import random

from ..errors import StoreTrouble
from ..requests import Command
from ..scripts import Script

#: First and longest pause between tries, in seconds; doubled each time, with full jitter.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0

#: How often scripts are loaded again for one request, when someone keeps flushing them.
SCRIPT_TRIES = 20


def encode(commands: list[Command], fake: bool) -> list[Command]:
    """Replace scripts by EVALSHA, and numbers by their text.

    Numbers, because hiredis calls back into Python to make text of them, which a signal may interrupt: it does not
    look whether that succeeded, and the process ends with a segmentation fault.
    """
    encoded = []
    for command in commands:
        first = command[0]
        if isinstance(first, Script):
            command = ("EVALSHA", first.bare_sha if fake else first.sha, *command[1:])
        encoded.append(tuple([part if isinstance(part, (bytes, str)) else str(part) for part in command]))
    return encoded


def missing_scripts(commands: list[Command], fake: bool) -> list[Command]:
    """The commands that load every script of ``commands``."""
    scripts = {command[0] for command in commands if isinstance(command[0], Script)}
    return [("SCRIPT", "LOAD", script.bare_source if fake else script.source) for script in scripts]


class Backoff:
    """Exponential back-off with full jitter, bounded in time; it reads no clock, ``now`` is given (monotonic, s).

    Source: "Exponential Backoff And Jitter", M. Brooker, 2015.
    """

    def __init__(self, patience: float, now: float) -> None:
        self._until = now + patience
        self._pause = FIRST_PAUSE

    def after(self, trouble: StoreTrouble, now: float) -> float:
        """How long to wait, in seconds; raises ``trouble`` when patience has run out."""
        if now >= self._until:
            raise trouble
        pause = min(random.uniform(self._pause / 2, self._pause), self._until - now)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return pause
