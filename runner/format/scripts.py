"""The Lua scripts, one file each in ``lua/``, and how they are named and called.

Definitions that several scripts share are in ``lua/prelude.lua``. The server gets a script as one text: a first line
that says what kind of script it is, the definitions of the prelude that the script names, and its own source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

#: Without this first line a script on a demoted master answers from stale data. fakeredis does not know it.
SHEBANG = "#!lua\n"
#: A script that only reads runs on a server that is out of memory, and on a replica.
READ_ONLY = "#!lua flags=no-writes\n"
READERS = frozenset({"adapters/find_event", "log/last_id", "log/read_stream", "progress/rows_at"})
#: A script that writes a few bytes for the runners' leases runs on a server that is out of memory, too. So does the
#: script that trims, because it makes room.
SMALL = "#!lua flags=allow-oom\n"
KEEPERS = frozenset({"log/trim", "progress/claim", "progress/announce", "progress/report"})

#: The first words of the command that loads a script.
LOAD = ("SCRIPT", "LOAD")

#: The names that a definition of the prelude defines.
_DEFINED = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)
_COMMENT = re.compile(r"--.*")


class Script:
    """One server function. ``call`` makes the command that runs it."""

    __slots__ = ("bare_sha", "bare_source", "name", "sha", "shebang", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.shebang = READ_ONLY if name in READERS else SMALL if name in KEEPERS else SHEBANG
        #: For servers that do not know the first line.
        self.bare_source = prelude_of(source) + source
        self.source = self.shebang + self.bare_source
        self.sha = hashlib.sha1(self.source.encode()).hexdigest()
        self.bare_sha = hashlib.sha1(self.bare_source.encode()).hexdigest()

    def call(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        """The command, in the form drivers take: the script itself, then the key count, keys and arguments."""
        return (self, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<script {self.name}>"


@cache
def load(name: str) -> Script:
    """The script of ``lua/<name>.lua``, as ``log/append``."""
    return Script(name, _read(name))


@cache
def every() -> tuple[Script, ...]:
    """All scripts."""
    files = resources.files(__package__).joinpath("lua")
    folders = sorted((folder for folder in files.iterdir() if folder.is_dir()), key=lambda folder: folder.name)
    return tuple(
        load(f"{folder.name}/{name.removesuffix('.lua')}")
        for folder in folders
        for name in sorted(file.name for file in folder.iterdir())
    )


def loading(bare: bool) -> list[tuple[str, ...]]:
    """The commands that load every script; ``bare``: into a server that does not know the first line."""
    return [_loading(script, bare) for script in every()]


def loading_for(commands: Sequence[Sequence[Any]], bare: bool) -> list[tuple[str, ...]]:
    """The commands that load scripts into a server that lacks one of those that ``commands`` call.

    Such a server has been started anew, or knows another version of this package. It gets all scripts, so that users
    who may not load scripts find theirs, too. A store in memory has no other users.
    """
    if not bare:
        return loading(bare)
    return [_loading(script, bare) for script in {command[0] for command in commands} if isinstance(script, Script)]


def _loading(script: Script, bare: bool) -> tuple[str, ...]:
    return (*LOAD, script.bare_source if bare else script.source)


@cache
def definitions() -> dict[tuple[str, ...], str]:
    """The definitions of the prelude by the names that each defines, in their order."""
    found = {}
    for text in _read("prelude").split("\n\n"):
        defined = _DEFINED.search(text)
        if defined:
            found[tuple(defined[1].split(", "))] = text.strip() + "\n\n"
    return found


def prelude_of(source: str) -> str:
    """The definitions of the prelude that a source names, and those that these name."""
    words, chosen = _words(source), []
    for names, text in reversed(definitions().items()):
        if not words.isdisjoint(names):
            chosen.append(text)
            words |= _words(text)
    return "".join(reversed(chosen))


def expect(script: str, verdict: bytes, *known: bytes) -> None:
    """Raise AssertionError if a script gave a verdict that its caller does not know, who might ask again for ever."""
    if verdict not in known:
        raise AssertionError(f"the verdict {verdict!r} of script {script} is not known")


def _words(source: str) -> set[str]:
    return set(re.findall(r"\w+", _COMMENT.sub("", source)))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
