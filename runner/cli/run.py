"""``runner run``: the long-running process."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import click

from .. import __version__
from ..daemon.opening import Ended, ending, open_when_there
from ..daemon.process import Daemon, unfit
from ..errors import RunnerError, StoreRefused, StoreUnavailable, counted
from ..projections.plugins import Plugin
from ..settings import DEFAULTS
from ..sync.store import EventStore
from ..wire.log import log
from ..workers.assignment import CATCHING_UP, REBUILDING, Assignment
from .common import chosen as chosen_url
from .common import complete_projections, exit_code, lease_option, place_options
from .output import BarId, Bars, say_error, show_log
from .projections import Places, chosen, loaded, projections_option


def _begin_log(_context: click.Context, _parameter: click.Parameter, form: str) -> str:
    show_log(form, logging.INFO)
    return form


_names = functools.partial(click.option, multiple=True, metavar="NAME", shell_complete=complete_projections)


@click.command("run")
@projections_option
@_names("--only", help="Run only this projection; may be given again.")
@_names("--except", "left_out", help="Run all but this projection.")
@click.option("--once", is_flag=True, help="Catch up and end.")
@click.option("--accept-bad", is_flag=True, help="Run although the server is not fit (see `runner doctor`).")
@lease_option
@click.option(
    "--log", "log_form", type=click.Choice(["text", "json"]), default="text", show_default=True, callback=_begin_log,
    is_eager=True, help="The form of the log, and of errors.",
)  # fmt: skip
@click.option(
    "--wait-for-server/--no-wait-for-server",
    "waits",
    default=None,
    help="Wait for a server that is not there at the start; else end. By default it waits, unless --once is given.",
)
@place_options
def command(
    url: str | None,
    name: str,
    waits: bool | None,
    lease: float,
    places: Places,
    only: tuple[str, ...],
    left_out: tuple[str, ...],
    once: bool,
    accept_bad: bool,
    log_form: str,
) -> None:
    """Catch every projection up with the log, then follow it until SIGTERM or SIGINT.

    Start two or more runners: they share the work, and when one ends or goes silent the others take over. The first
    signal ends a runner after the batch at hand, the second at once. A projection that fails stops, and the others go
    on; the exit code is 1 then.

    Example: runner run --projections myapp/projections --store redis://localhost:6379/0
    """
    found = chosen(loaded(places), only, left_out)
    url, settings = chosen_url(url), replace(DEFAULTS, lease=lease)

    def opened() -> EventStore:
        return EventStore.open(url, name=name, settings=settings)

    def run() -> list[RunnerError]:
        while True:
            with open_when_there(opened) if waits else opened() as store:
                try:
                    return _run(store, found, once, accept_bad, log_form)
                except StoreUnavailable:  # before anything was claimed: the server went away right after the opening
                    if not waits:
                        raise

    waits = not once if waits is None else waits
    try:
        with ending():
            failures = run()
    except Ended:
        return
    for failure in failures:
        say_error(str(failure), failure.hint)
    if failures:
        sys.exit(max(exit_code(failure) for failure in failures))


def _run(store: EventStore, found: Sequence[Plugin], once: bool, accept_bad: bool, log_form: str) -> list[RunnerError]:
    """Work until a signal comes, or all is done; returns what failed."""
    bars = Bars() if sys.stderr.isatty() and log_form == "text" else None
    show = None if bars is None else _Bars(bars, store)
    daemon = Daemon(store, [plugin.projection for plugin in found], once=once, show=show)
    show_log(log_form, logging.INFO, daemon.runner_id)
    _introduce(store, found, daemon.runner_id)
    if not accept_bad:
        for check in unfit(store):
            raise StoreRefused(
                f"the server is not fit to hold the log: {check.name}: {check.finding}",
                hint=f"{check.advice} See `runner doctor`, or run all the same with --accept-bad.",
            )
    with bars or nullcontext():
        return daemon.run()


def _introduce(store: EventStore, found: Sequence[Plugin], runner: str) -> None:
    """The first line of the log."""
    projections = {plugin.projection.name: plugin.file for plugin in found}
    said = ", ".join(f"{name} ({file})" for name, file in projections.items())
    fields = {
        "version": __version__, "store": store.label, "name": store.info.name, "partitions": store.info.partitions,
        "lease": store.settings.lease, "projections": projections,
    }  # fmt: skip
    text = (
        f"runner {__version__}, id {runner}: store {store.info.name!r} at {store.label}, "
        f"{counted(store.info.partitions, 'partition')}, lease {store.settings.lease:g} s; {said}"
    )
    log.info("%s", text, extra={"fields": fields})


class _Bars:
    """A progress bar for each projection that is catching up."""

    def __init__(self, progress: Bars, store: EventStore) -> None:
        self._progress = progress
        self._tasks: dict[Assignment[Any], BarId] = {}
        self._ends = [store.last_position(partition=partition) for partition in range(store.info.partitions)]

    def __call__(self, assignments: Sequence[Assignment[Any]]) -> None:
        for assignment in assignments:
            if assignment.state not in (CATCHING_UP, REBUILDING):
                if assignment in self._tasks:
                    self._progress.remove_task(self._tasks.pop(assignment))
                continue
            if assignment not in self._tasks:
                total = self._ends[assignment.keys.partition]
                self._tasks[assignment] = self._progress.add_task(assignment.name, total=total)
            self._progress.update(self._tasks[assignment], completed=assignment.position)
