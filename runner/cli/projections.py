"""``runner projections``: what would be run, and where it comes from."""

from __future__ import annotations

import click

from .. import plugins
from .common import json_option, print_json, print_table

projections_option = click.option(
    "--projections",
    "places",
    multiple=True,
    envvar="RUNNER_PROJECTIONS",
    metavar="DIR|FILE|MODULE",
    help="Where projections are; may be given several times. Without it, those that are shipped as examples.",
)


def loaded(places: tuple[str, ...]) -> list[plugins.Plugin]:
    """The projections of the given places; the shipped ones when none is given."""
    return plugins.load(places or (str(plugins.shipped()),))


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
                "category": plugin.projection.category,
                "types": list(plugin.projection.types),
                "file": plugin.file,
            }
            for plugin in found
        ])  # fmt: skip
        return
    print_table(
        "projections",
        ("name", "category", "types", "file"),
        (
            (
                plugin.projection.name,
                plugin.projection.category or "all",
                ", ".join(plugin.projection.types),
                plugin.file,
            )
            for plugin in found
        ),
    )
