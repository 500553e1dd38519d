"""``runner projections``: the projections that would be run, and their files."""

from __future__ import annotations

import click

from ..errors import InvalidInput
from ..projections import plugins
from ..projections.projection import Projection
from ..projections.reactor import Reactor
from .common import json_option, print_json, print_table

projections_option = click.option(
    "--projections",
    "places",
    multiple=True,
    envvar="RUNNER_PROJECTIONS",
    metavar="DIR|FILE|MODULE",
    help="Where projections are; may be given several times. Without it, the shipped examples are loaded.",
)


def loaded(places: tuple[str, ...]) -> list[plugins.Plugin]:
    """The projections of the given places; the shipped ones when none is given."""
    return plugins.load(places or (str(plugins.shipped()),))


def find(name: str, places: tuple[str, ...]) -> Projection | Reactor:
    """The projection or reactor of a name among those of the given places. Raises InvalidInput."""
    found = {plugin.projection.name: plugin.projection for plugin in loaded(places)}
    if name not in found:
        known = ", ".join(found) or "none"
        raise InvalidInput(
            f"no plug-in holds a projection {name!r}; loaded are: {known}", hint="Name its place with --projections."
        )
    return found[name]


@click.command("projections")
@projections_option
@json_option
def command(places: tuple[str, ...], as_json: bool) -> None:
    """List the projections that are loaded, with their files and event types.

    Example: runner projections --projections myapp/projections
    """
    found = loaded(places)
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
