"""Which mutants there are, and the fixed sample of them."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import lua, operators
from .mutant import Mutant

HERE = Path(__file__).parent

#: The parts of the package whose code is changed: everything that a wrong view could come from.
PYTHON = (
    "effects", "format", "log", "wire", "subscriptions", "projections", "progress", "views", "forwarding", "workers",
    "operations", "sync", "aio", "aggregates", "following.py",
)  # fmt: skip
LUA = "format/lua"

#: How many mutants the sample has, and which part of them are scripts.
SAMPLE, LUA_PART = 240, 1 / 6

SEED = 20261129


def mutants_of(root: Path) -> Iterator[Mutant]:
    """Every mutant, file by file."""
    for path in _files(root):
        changes = lua.changes_of if path.suffix == ".lua" else operators.changes_of
        same: Counter[tuple[str, str, str]] = Counter()
        for change in changes(path.read_bytes()):
            what = change.function, change.before, change.after
            same[what] += 1
            yield Mutant(path.relative_to(root).as_posix(), change, same[what])


def _files(root: Path) -> list[Path]:
    package = root / "runner"
    found = [
        path
        for part in PYTHON
        for path in ([package / part] if part.endswith(".py") else (package / part).rglob("*.py"))
    ]
    return sorted(found) + sorted((package / LUA).rglob("*.lua"))


def drawn(mutants: Iterable[Mutant], size: int = SAMPLE, seed: int = SEED) -> list[Mutant]:
    """A sample, the same for each run: chance is a hash of seed and name, so an edit elsewhere changes little."""
    ranked = sorted(mutants, key=lambda one: hashlib.sha256(f"{seed} {one.name}".encode()).digest())
    scripts = [one for one in ranked if one.path.endswith(".lua")]
    modules = [one for one in ranked if not one.path.endswith(".lua")]
    wanted = min(len(scripts), max(round(size * LUA_PART), size - len(modules)))
    return modules[: size - wanted] + scripts[:wanted]


def equivalent() -> dict[str, str]:
    """The names of the mutants that nobody could notice, with the reason."""
    listed = tomllib.loads((HERE / "equivalent.toml").read_text())
    return {one["mutant"]: one["reason"] for one in listed.get("equivalent", [])}


def holes() -> dict[str, str]:
    """The names of mutants that no test noticed once, with the test that does now."""
    listed = tomllib.loads((HERE / "holes.toml").read_text())
    return {one["mutant"]: one["test"] for one in listed.get("hole", [])}
