"""The page of the public names has each of them, under the module that it is imported from."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest
from pages import PAGES

import runner
import runner.adapters

PAGE = PAGES["docs/api.md"]

#: What users import from. The page has a heading for each that has names.
MODULES = [
    "runner",
    *(f"runner.{name}" for name in ("aggregates", "errors", "forwarding", "operations", "testing")),
    *(f"runner.adapters.{each.name}" for each in pkgutil.iter_modules(runner.adapters.__path__)),
]


#: The modules of the errors, in the order of the tree that the package draws.
ERRORS = ("root", "caller", "conflicts", "server", "data", "handlers")


def classes_of(module: str) -> list[str]:
    found = vars(importlib.import_module(module))
    return [name for name, each in found.items() if inspect.isclass(each) and each.__module__ == module]


def public(module: str) -> list[str]:
    """The names of a module: its ``__all__``, or every class that it defines."""
    found = importlib.import_module(module)
    if module == "runner.errors":
        return [name for part in ERRORS for name in classes_of(f"{module}.{part}")]
    return list(getattr(found, "__all__", []))


def on_page() -> dict[str, dict[str, str]]:
    """What the tables say: by module and name."""
    said: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for _, line in PAGE.prose:
        if heading := re.fullmatch(r"## `(.+)`", line):
            names = said.setdefault(heading[1], {})
        elif row := re.fullmatch(r"\| `(\w+)` \| (.+) \|", line):
            assert row[1] not in names, f"{row[1]} is there twice"
            names[row[1]] = row[2]
    return said


@pytest.mark.parametrize("module", MODULES)
def test_the_page_has_every_public_name_in_its_order(module: str) -> None:
    """Those of the module, in the order that it gives them, and no others."""
    assert list(on_page().get(module, {})) == public(module)


def test_the_page_has_the_public_modules_and_no_other() -> None:
    """What is not public has no heading, and the package shows no other module."""
    assert on_page().keys() <= set(MODULES)
    assert set(dir(runner)) - set(runner.__all__) - {"__version__"} == {name.split(".")[1] for name in MODULES[1:]}


def test_a_name_that_two_modules_have_is_the_same_thing_for_both() -> None:
    """The errors that `runner` has are those of `runner.errors`."""
    said = on_page()
    for name in said["runner"].keys() & said["runner.errors"].keys():
        assert getattr(runner, name) is getattr(runner.errors, name)
