"""``runner bench``: figures beside bare baselines."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from ..bench import ratios
from ..bench.figures import Bench, Figure
from ..errors import InvalidInput
from .common import fail, json_option, with_environment
from .output import print_json, print_table, say, spinner


@click.command("bench")
@click.option("--store", "url", envvar="RUNNER_BENCH_STORE", help="The store's URL; by default a new embedded server.")
@click.option("--events", type=click.IntRange(1000), default=100_000, show_default=True, help="Events in the log.")
@click.option("--startup-events", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="The best of so many counts.")
@click.option("--compare", type=click.Path(path_type=Path), help="Report ratios that are worse than in this file.")
@click.option("--keep", type=click.Path(path_type=Path), help="Write the ratios to this file.")
@json_option
def command(
    url: str | None,
    events: int,
    startup_events: int,
    rounds: int,
    compare: Path | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Measure appending, reading, projecting, latency, memory and start-up, each beside a bare baseline.

    With --compare, ratios that are more than a quarter worse than the kept ones are reported; the exit code stays 0,
    because machines differ.

    Example: runner bench --events 20000 --startup-events 50000
    """
    options = {"events": events, "startup_events": startup_events}
    try:
        kept = ratios.read(compare, options) if compare is not None else {}
    except InvalidInput as error:
        fail(error)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as directory:
        place = with_environment(url) if url else f"embedded:{directory}"
        bench = Bench(place, events=events, startup_events=startup_events, rounds=rounds)
        found: list[Figure] = []
        with spinner("measuring") as show:
            for figure in bench.figures():
                found.append(figure)
                show(f"measured: {figure.name}")
    if keep is not None:
        ratios.keep(keep, found, options)
    if as_json:
        print_json([{**asdict(figure), "ratio": round(figure.ratio, 3)} for figure in found])
    else:
        _print_figures(events, found)
    worse = ratios.falls(found, kept)
    if worse:
        say(err=True)
        say(f"WORSE than the ratios kept in {compare}:", err=True, fg="red", bold=True)
        for fall in worse:
            say(f"  {fall}", err=True, fg="red")
    elif compare is not None:
        say(f"No ratio is more than {ratios.TOLERANCE:.0%} worse than those kept in {compare}.", err=True)


def _print_figures(events: int, found: list[Figure]) -> None:
    print_table(
        f"{events:,} events",
        ("figure", "value", "baseline", "its value", "ratio", "reach", "met"),
        (
            (
                figure.name,
                _shown(figure.value, figure.unit),
                figure.baseline_name,
                _shown(figure.baseline, figure.unit),
                f"{figure.ratio:.2f}",
                figure.reach,
                "yes" if figure.met else "NO",
            )
            for figure in found
        ),
    )


def _shown(value: float, unit: str) -> str:
    return f"{value * 1000:.2f} ms" if unit == "s" else f"{value:,.0f} {unit}"
