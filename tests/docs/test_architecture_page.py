"""The page about the architecture agrees with the code: its files, names, floors, scripts and words exist."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from types import FrameType, UnionType
from typing import get_args

import pytest
from pages import PAGES, ROOT, Page, read

import runner
from runner import EventStore, NewEvent, Projection, follow
from runner.effects import FeedEffect, SchedulingEffect, StoreEffect, UserCodeEffect
from runner.testing import memory_store

PAGE = PAGES["docs/architecture.md"]
PACKAGE = ROOT / "runner"
SCRIPTS = PACKAGE / "format" / "lua"

#: The effects by the kind that the page gives them, and what performs them.
EFFECTS: dict[str, tuple[UnionType, str]] = {
    "store": (StoreEffect, "driver"),
    "user code": (UserCodeEffect, "driver"),
    "feed": (FeedEffect, "interpreter"),
    "scheduling": (SchedulingEffect, "interpreter"),
}

#: What the page names in code style and is no name of the package: libraries, names of the tests and of scripts.
ELSEWHERE = {"redis", "asyncio", "threading", "time", "random", "GUARDED", "KEYS", "pyproject.toml"}

DECISIONS = ROOT / "docs" / "decisions"

#: What a record of a decision has, in this order.
PARTS = ["Context", "Decision", "Consequences", "Measured"]

#: A record is read in a minute or two.
MOST_LINES = 60


# -- what stands in the code ----------------------------------------------------------------------


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names that a module defines, ``Class.method`` and fields included; of a script, its own name."""
    if path.suffix == ".lua":
        return frozenset({path.stem})
    return frozenset(_defined(ast.parse(path.read_text()).body))


def _defined(body: list[ast.stmt], owner: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield owner + node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(node.body, f"{owner}{node.name}.")
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                owner + name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )


@cache
def known_names() -> frozenset[str]:
    """Every name that a module of the package defines or takes as an argument, and the last part of each."""
    found: set[str] = set(ELSEWHERE)
    for path in PACKAGE.rglob("*.py"):
        found |= names_in(path)
        found |= {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
    return frozenset(found | {name.rpartition(".")[2] for name in found})


@cache
def rules() -> dict[str, object]:
    """The constants of the test that guards the floors."""
    module = ast.parse((ROOT / "tests" / "test_architecture.py").read_text())
    wanted = ("FLOORS", "APART")
    return {
        target.id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id in wanted
    }


def floors() -> dict[int, str]:
    found = rules()["FLOORS"]
    assert isinstance(found, dict)
    return found


# -- what stands on the page ----------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A line of a journey: its file below runner/, the names to look for in it, whether it stood there before."""

    file: str
    names: list[str]
    again: bool


#: The lines of a journey, part by part: a line between them says whose part begins.
Parts = list[list[Step]]


def journeys(page: Page) -> dict[str, Parts]:
    """The drawings of the journeys, by their letters."""
    found = {}
    for text in page.text.split("\n### ")[1:]:
        letter = re.match(r"([A-Z])\. ", text)
        drawing = re.search(r"^```text\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        if letter and drawing:
            parts = re.split(r"^ ─.*\n", drawing[1], flags=re.MULTILINE)
            found[letter[1]] = [[_step(line) for line in part.splitlines()] for part in parts if part]
    return found


def _step(line: str) -> Step:
    mark, rest = line[:3], line[3:]
    file, names, words = re.fullmatch(r"(\S+) +([^\s,]+(?:, [^\s,]+)*) +(\S.*)", rest).groups()  # type: ignore[union-attr]
    assert words
    return Step(file, names.split(", "), "↑" in mark)


def cells(text: str) -> list[str]:
    """What a cell of a table lists, without the marks of code."""
    return [part.strip().strip("`") for part in text.split(",") if part.strip()]


# -- what may be wrong with it --------------------------------------------------------------------


def wrong_floors(page: Page) -> list[str]:
    """The drawing has the floors of the test, each with its packages, and bars where neighbours stand apart."""
    drawn = dict(re.findall(r"^floor +(\d+) +(.*)$", page.text, flags=re.MULTILINE))
    faults = [f"floor {floor} is not drawn" for floor in floors() if str(floor) not in drawn]
    apart = rules()["APART"]
    assert isinstance(apart, tuple)
    for floor, line in drawn.items():
        rooms = re.split(r" {4,}", line)[0]
        given, wanted = re.findall(r"\w+", rooms), floors().get(int(floor), "").split()
        faults += [f"floor {floor} has {wanted}, not {given}"] if sorted(given) != sorted(wanted) else []
        faults += [f"floor {floor}: bars"] if ("│" in rooms) != (int(floor) in apart) else []
    return faults


def wrong_packages(page: Page) -> list[str]:
    """Each package has one row with one sentence."""
    rows = page.table("package")
    given, wanted = [row[0].strip("`") for row in rows], " ".join(floors().values()).split()
    faults = [f"{name} has no row" for name in wanted if name not in given]
    faults += [f"{name} does not exist, or has two rows" for name in (Counter(given) - Counter(wanted))]
    return faults + [f"{row[0]}: no sentence" for row in rows if not re.fullmatch(r"[A-Z`].+\.", row[1])]


def wrong_effects(page: Page) -> list[str]:
    """Each effect stands in the table once, with its kind and with what performs it."""
    given = [(effect, row[1], row[3]) for row in page.table("effect") for effect in cells(row[0])]
    wanted = [
        (effect.__name__, kind, performer)
        for kind, (effects, performer) in EFFECTS.items()
        for effect in get_args(effects)
    ]
    faults = [f"{effect[0]} is missing, or another" for effect in wanted if effect not in given]
    return faults + [f"{effect[0]} does not exist, or is there twice" for effect in (Counter(given) - Counter(wanted))]


def wrong_journeys(page: Page) -> list[str]:
    """Files exist, define the names, and are marked where they stood in the drawing before."""
    found = journeys(page)
    faults = [] if sorted(found) == list("ABCDEF") else [f"the journeys are {sorted(found)}"]
    for letter, parts in found.items():
        seen: set[str] = set()
        for step in chain(*parts):
            path = PACKAGE / step.file
            if not path.is_file():
                faults.append(f"{letter}: {step.file} does not exist")
                continue
            faults += [f"{letter}: {step.file} has no {name}" for name in step.names if name not in names_in(path)]
            faults += [f"{letter}: {step.file} has a wrong mark"] if step.again != (step.file in seen) else []
            seen.add(step.file)
    return faults


def wrong_scripts(page: Page) -> list[str]:
    """Each script stands in the table once, with one sentence."""
    rows = page.table("script")
    given = [row[0].strip("`") for row in rows]
    wanted = sorted(path.relative_to(SCRIPTS).with_suffix("").as_posix() for path in SCRIPTS.rglob("*.lua"))
    wanted.remove("prelude")
    faults = [f"script {name} is missing" for name in wanted if name not in given]
    faults += [f"script {name} does not exist, or is there twice" for name in (Counter(given) - Counter(wanted))]
    return faults + [f"{row[0]}: no sentence" for row in rows if not re.fullmatch(r"[A-Z].+\.", row[1])]


def wrong_map(page: Page) -> list[str]:
    """Each module exists and stands there once; each word of the glossary does, too, and each public name."""
    rows = page.table("module")
    modules, words = [row[0].strip("`") for row in rows], [word for row in rows for word in cells(row[1])]
    faults = [f"{module} does not exist" for module in modules if not (ROOT / module).is_file()]
    for what, given in (("module", modules), ("word", words)):
        faults += [f"{what} {name!r} is there twice" for name, times in Counter(given).items() if times > 1]
    glossary = [row[0].strip("*") for row in PAGES["docs/concepts.md"].table("word")]
    faults += [f"word {word!r} is missing" for word in glossary if word not in words]
    named = [(name, row[0].strip("`")) for row in rows for name in cells(row[2])]
    faults += [
        f"{module} does not define {name}"
        for name, module in named
        if (ROOT / module).is_file() and name not in names_in(ROOT / module)
    ]
    public = Counter(name for name, _ in named)
    faults += [f"public name {name} is missing, or there twice" for name in runner.__all__ if public[name] != 1]
    return faults + [f"{name} is not public" for name in public if name not in runner.__all__]


def wrong_names(page: Page) -> list[str]:
    """Inline code that is a path exists; what is a name is one of the package."""
    rooms = set(" ".join(floors().values()).split())
    faults = []
    for line, code in page.inline_code:
        if re.fullmatch(r"(runner|tests|lua)(/[\w.]+)+/?", code):
            path = (SCRIPTS.parent if code.startswith("lua/") else ROOT) / code
            faults += [] if path.exists() else [f"line {line}: {code} does not exist"]
        elif re.fullmatch(r"(sync|aio)/\w+\.py", code):
            faults += [] if (PACKAGE / code).exists() else [f"line {line}: {code} does not exist"]
        elif re.fullmatch(r"\w+\.lua", code):
            faults += [] if any(SCRIPTS.rglob(code)) else [f"line {line}: {code} does not exist"]
        elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", code) and not code.startswith("runner"):
            faults += [f"line {line}: nothing is named {code}"] if code not in known_names() | rooms else []
    return faults


RULES: list[Callable[[Page], list[str]]] = [
    wrong_floors, wrong_packages, wrong_effects, wrong_journeys, wrong_scripts, wrong_map, wrong_names,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.removeprefix("wrong_"))
def test_the_page_agrees_with_the_code(rule: Callable[[Page], list[str]]) -> None:
    """Floors, packages, effects, journeys, scripts, words and names of the page are those of the code."""
    assert rule(PAGE) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("floor  6   workers", "floor  6   work", "floor 6 has ['workers'], not ['work']"),
        ("floor  2   format", "", "floor 2 is not drawn"),
        ("log   wire", "log │ wire", "floor 3: bars"),
        ("operations  │  sync  │  aio", "operations  sync  aio", "floor 7: bars"),
        ("| `views` |", "| `vistas` |", "views has no row"),
        ("| `views` |", "| `vistas` |", "vistas does not exist, or has two rows"),
        ("| `aio` | The same files for asyncio. |", "| `aio` | the same |", "`aio`: no sentence"),
        ("| `Pause` |", "| `Wait` |", "Pause is missing, or another"),
        ("| `Pause` |", "| `Wait` |", "Wait does not exist, or is there twice"),
        (
            "an awaitable that it returned | driver |",
            "an awaitable that it returned | interpreter |",
            "Invoke is missing",
        ),
        ("### F. ", "### G. ", "the journeys are ['A', 'B', 'C', 'D', 'E', 'G']"),
        ("   sync/session.py   ", "   sync/sessions.py  ", "A: sync/sessions.py does not exist"),
        (
            "CommitPipeline.send     ",
            "CommitPipeline.sends    ",
            "C: workers/commits.py has no CommitPipeline.sends",
        ),
        ("   format/lua/log/append.lua      append ", "   format/lua/log/append.lua      added  ", "has no added"),
        (" ↑ cli/status.py", "   cli/status.py", "D: cli/status.py has a wrong mark"),
        ("   log/append_plan.py", " ↑ log/append_plan.py", "A: log/append_plan.py has a wrong mark"),
        ("| `log/trim` |", "| `log/cut` |", "script log/trim is missing"),
        ("| `log/trim` |", "| `log/cut` |", "script log/cut does not exist"),
        ("| One owner at a time, by the server's clock", "| one owner", "`progress/claim`: no sentence"),
        (
            "| `runner/progress/lease.py` |",
            "| `runner/progress/leases.py` |",
            "runner/progress/leases.py does not exist",
        ),
        ("| `runner/progress/lease.py` |", "| `runner/settings.py` |", "module 'runner/settings.py' is there twice"),
        ("| lease, owner, fencing token |", "| lease, owner |", "word 'fencing token' is missing"),
        ("| lease, owner, fencing token |", "| lease, owner, fencing token, fold |", "word 'fold' is there twice"),
        ("`ALL`, `Category` |", "`ALL` |", "public name Category is missing"),
        ("| worker pool | |", "| worker pool | `WorkerPool` |", "WorkerPool is not public"),
        ("| `Replicated` |", "| `Retry` |", "runner/log/durability.py does not define Retry"),
        ("`runner/workers/lanes.py`", "`runner/workers/roads.py`", "runner/workers/roads.py does not exist"),
        ("`lua/prelude.lua`", "`lua/interlude.lua`", "lua/interlude.lua does not exist"),
        ("that `commit.lua` refuses", "that `commits.lua` refuses", "commits.lua does not exist"),
        ("In `sync/store.py` and", "In `sync/stores.py` and", "sync/stores.py does not exist"),
        ("ends in `LeaseKeeper.stop`", "ends in `LeaseKeeper.halt`", "nothing is named LeaseKeeper.halt"),
    ],
)
def test_a_page_that_does_not_agree_is_found_out(old: str, new: str, fault: str) -> None:
    """Each way in which the page may be wrong is noticed, and named."""
    assert old in PAGE.text
    wrong = Page(PAGE.path, PAGE.text.replace(old, new, 1))
    faults = [found for rule in RULES for found in rule(wrong)]
    assert any(fault in found for found in faults), faults


# -- the ways that calls take ---------------------------------------------------------------------

#: A function of the package that was called, or a generator that was resumed: its file below runner/, and its name.
Call = tuple[str, str]


@contextmanager
def watched() -> Iterator[dict[int, list[Call]]]:
    """The calls inside the package by thread, in their order: of this thread, and of those that begin meanwhile."""
    calls: dict[int, list[Call]] = defaultdict(list)

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{PACKAGE}/"):
            calls[threading.get_ident()].append((code.co_filename.removeprefix(f"{PACKAGE}/"), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def missed(part: list[Step], calls: list[Call]) -> Step | None:
    """The first step of a part that the calls of a thread do not take in its turn; None where they take all."""
    rest = iter(calls)
    for step in part:
        if step.file.endswith(".py") and not any(file == step.file and name in step.names for file, name in rest):
            return step
    return None


def an_append(store: EventStore) -> None:
    store.append("account-1", NewEvent("Deposited", {"amount": 5}), expected_version=0)


def a_commit(store: EventStore) -> None:
    balances = Projection("balances", initial=lambda: {"balance": 0})
    balances.when("Deposited", lambda state, event: {"balance": state["balance"] + event.data["amount"]})
    with follow(store, balances) as following:
        following.wait_live(timeout=20)
        following.wait_for(store.append("account-1", NewEvent("Deposited", {"amount": 5})), timeout=20)


@pytest.mark.parametrize(("letter", "journey"), [("A", an_append), ("B", a_commit), ("C", a_commit)])
def test_a_call_takes_the_way_that_is_drawn(letter: str, journey: Callable[[EventStore], None]) -> None:
    """Each part of a journey is what one thread calls, file by file, in the order of the drawing."""
    with memory_store() as store, watched() as calls:
        journey(store)
    for part in journeys(PAGE)[letter]:
        missing = [missed(part, of_thread) for of_thread in calls.values()]
        assert None in missing, missing


def test_a_way_that_is_drawn_wrongly_is_found_out() -> None:
    """Steps that change places are not what happens."""
    with memory_store() as store, watched() as calls:
        an_append(store)
    [part], [of_thread] = journeys(PAGE)["A"], calls.values()
    drawn = [step for step in part if step.file.endswith(".py")]
    for place in range(1, len(drawn)):
        wrong = [*drawn[: place - 1], drawn[place], drawn[place - 1], *drawn[place + 1 :]]
        assert missed(wrong, of_thread) is not None, drawn[place]


# -- the records of decisions ---------------------------------------------------------------------


def records() -> list[Path]:
    return sorted(DECISIONS.glob("[0-9]*.md"))


def wrong_record(page: Page) -> list[str]:
    """What a record lacks: its number before the title, its parts, their order, and being short."""
    number = page.path.name.partition("-")[0]
    title, *parts = page.headings
    faults = [] if re.match(rf"{number}\. [A-Z]", title) else [f"the title is {title!r}"]
    faults += [] if parts == PARTS else [f"the parts are {parts}"]
    faults += [f"{part} is empty" for part in PARTS if re.search(rf"^## {part}\n+(?=## |\Z)", page.text, re.MULTILINE)]
    return faults + (["it is long"] if len(page.text.splitlines()) > MOST_LINES else [])


@pytest.mark.parametrize("path", records(), ids=lambda path: path.stem)
def test_a_record_says_why_what_and_what_follows(path: Path) -> None:
    """Each has its number, the context, the decision, the consequences and what was measured, on one screen."""
    assert wrong_record(read(path)) == []


RECORD = """# 001. A choice

## Context

Twice.

## Decision

Once.

## Consequences

None.

## Measured

Nothing.
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("", "", ""),
        ("# 001. A", "# 002. A", "the title is '002. A choice'"),
        ("## Decision\n", "", "the parts are"),
        ("## Measured\n\nNothing.\n", "## Measured\n", "Measured is empty"),
        ("Twice", "Twice\n" * MOST_LINES, "it is long"),
    ],
)
def test_a_record_that_lacks_something_is_found_out(old: str, new: str, fault: str) -> None:
    """Each lack is named, and the record of this example lacks nothing."""
    text = RECORD.replace(old, new) if old else RECORD
    faults = wrong_record(Page(DECISIONS / "001-a-choice.md", text))
    assert any(fault in found for found in faults) if fault else faults == [], faults


def test_the_records_are_numbered_and_the_index_has_each() -> None:
    """Without gaps from 001; the index has their titles, in their order, with links."""
    assert len(records()) >= 10
    assert [path.name[:4] for path in records()] == [f"{number:03}-" for number in range(1, len(records()) + 1)]
    rows = PAGES["docs/decisions/README.md"].table("decision")
    assert [row[0] for row in rows] == [f"[{read(path).headings[0]}]({path.name})" for path in records()]
