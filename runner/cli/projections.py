"""``runner projections``: the projections that would be run, and their files."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection
from typing import Any, NamedTuple

import click

from ..errors import InvalidInput, ProjectionError
from ..projections import plugins
from ..projections.projection import Projection
from ..projections.reactor import Reactor
from ..text import nearest
from .common import FOUND, F, json_option
from .output import print_json, print_table, say_warning


class Places(NamedTuple):
    """Where projections are, and whether entry points are loaded beside them."""

    named: tuple[str, ...]
    entry_points: bool


def projections_option(verb: F) -> F:
    """Add ``--projections`` and ``--no-entry-points`` to a verb, which gets `Places` as its argument ``places``."""

    @click.option(
        "--projections",
        "named",
        multiple=True,
        envvar="RUNNER_PROJECTIONS",
        metavar="PATH|MODULE",
        help="Where projections are: ./DIR, FILE.py or a module. Without it, the shipped examples are loaded.",
    )
    @click.option(
        "--no-entry-points",
        is_flag=True,
        envvar="RUNNER_NO_ENTRY_POINTS",
        help="Leave out what installed packages declare.",
    )
    @functools.wraps(verb)
    def with_places(*args: Any, named: tuple[str, ...], no_entry_points: bool, **options: Any) -> Any:
        return verb(*args, places=Places(named, not no_entry_points), **options)

    return with_places  # type: ignore[return-value]


def loaded(places: Places, failures: list[ProjectionError] | None = None) -> list[plugins.Plugin]:
    """The projections of the given places; the shipped ones when none is given.

    Where places are given, an entry point that does not load is told as a warning, and put into ``failures``.
    """

    def warn(failure: ProjectionError) -> None:
        say_warning(str(failure), "Correct or uninstall the package, or leave all out with --no-entry-points.")
        if failures is not None:
            failures.append(failure)

    return plugins.load(
        places.named or (str(plugins.shipped()),),
        with_entry_points=places.entry_points,
        on_failure=warn if places.named else None,
    )


def chosen(found: list[plugins.Plugin], only: tuple[str, ...], left_out: tuple[str, ...]) -> list[plugins.Plugin]:
    """Those of the plug-ins that are named, or that are not left out. Raises InvalidInput for a name that none has."""
    if only and left_out:
        raise InvalidInput("--only and --except were both given", hint="Give one of them.")
    names = {plugin.projection.name for plugin in found}
    for name in (*only, *left_out):
        if name not in names:
            raise _not_loaded(name, names)
    return [one for one in found if (one.projection.name in only if only else one.projection.name not in left_out)]


def find(name: str, places: Places) -> Projection | Reactor:
    """The projection or reactor of a name among those of the given places. Raises InvalidInput."""
    found = {plugin.projection.name: plugin.projection for plugin in loaded(places)}
    if name not in found:
        raise _not_loaded(name, found)
    return found[name]


def _not_loaded(name: str, names: Collection[str]) -> InvalidInput:
    """The error for a name that no plug-in has, with the one that was probably meant."""
    known = ", ".join(sorted(names)) or "none"
    meant = nearest(name, names)
    return InvalidInput(
        f"no plug-in holds a projection {name!r}; loaded are: {known}",
        hint=(f"Did you mean {meant!r}? " if meant else "") + "Name its place with --projections.",
    )


@click.command("projections")
@projections_option
@json_option
def command(places: Places, as_json: bool) -> None:
    """List the projections that are loaded, with their files and event types.

    The exit code is 1 if an entry point does not load.

    Example: runner projections --projections myapp/projections
    """
    failures: list[ProjectionError] = []
    _show(loaded(places, failures), as_json)
    if failures:
        sys.exit(FOUND)


def _show(found: list[plugins.Plugin], as_json: bool) -> None:
    if as_json:
        print_json([
            {
                "name": plugin.projection.name,
                "kind": plugin.projection.kind,
                "category": plugin.projection.category,
                "types": list(plugin.projection.types),
                "file": plugin.file,
            }
            for plugin in found
        ])  # fmt: skip
        return
    print_table(
        "projections",
        ("name", "kind", "category", "types", "file"),
        (
            (
                plugin.projection.name,
                plugin.projection.kind,
                plugin.projection.category or "all",
                ", ".join(plugin.projection.types),
                plugin.file,
            )
            for plugin in found
        ),
    )
