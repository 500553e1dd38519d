"""The Lua scripts, one file each in ``lua/``, and how they are named and called."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

#: Without this first line a script on a demoted master answers from stale data. fakeredis does not know it.
SHEBANG = "#!lua\n"
#: A script that only reads runs on a server that is out of memory, and on a replica.
READ_ONLY = "#!lua flags=no-writes\n"
READERS = frozenset({"adapters/find_event", "log/last_id", "log/read_stream", "progress/rows_at"})
#: A script that writes a few bytes for the runner itself runs there too: it keeps its leases; and so does the one that
#: makes room.
SMALL = "#!lua flags=allow-oom\n"
KEEPERS = frozenset({"log/trim", "progress/claim", "progress/announce", "progress/report"})


class Script:
    """One server function. ``call`` makes the command that runs it."""

    __slots__ = ("bare_sha", "name", "sha", "shebang", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.shebang = READ_ONLY if name in READERS else SMALL if name in KEEPERS else SHEBANG
        self.source = self.shebang + source
        self.sha = hashlib.sha1(self.source.encode()).hexdigest()
        self.bare_sha = hashlib.sha1(source.encode()).hexdigest()

    @property
    def bare_source(self) -> str:
        """The source for servers that do not know the shebang line."""
        return self.source.removeprefix(self.shebang)

    def call(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        """The command, in the form drivers take: the script itself, then the key count, keys and arguments."""
        return (self, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<script {self.name}>"


@cache
def load(name: str) -> Script:
    """The script of ``lua/<name>.lua``, as ``log/append``."""
    return Script(name, resources.files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8"))
