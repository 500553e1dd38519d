"""``runner demo``: the whole product in half a minute."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import click

from .. import operations
from ..errors import InvalidInput, RunnerError
from ..following import catch_up, follow
from ..format.events import NewEvent
from ..operations import Progress, ProjectionStatus
from ..projections import plugins
from ..projections.projection import Projection
from ..projections.reactor import Reactor
from ..settings import Settings
from ..sync.store import EventStore
from ..sync.view import View
from ..testing import clear
from .common import FOUND, with_environment
from .demo_bank import EVENTS, balances_by_hand, history, live
from .output import live_table, print_table, progress_bar, say, say_error

#: Where the demo keeps its bank, in the working directory.
PLACE = ".runner-demo"

#: Events appended in one call.
EVENTS_A_CALL = 500

#: How long the live part takes, in seconds, and how many events it appends a second.
LIVE_SECONDS, LIVE_RATE = 4.0, 200

SHIPPED = ("balances", "events-per-day")

LIVE_COLUMNS = ("appended", "last account", "its balance", "position", "lag of balances")


#: A short lease: a demo that is started again waits until the lease of the killed one has ended.
SETTINGS = Settings(lease=2.0)


@click.command("demo")
@click.option("--store", "url", envvar="RUNNER_STORE", help=f"The store's URL; by default embedded:{PLACE} here.")
def command(url: str | None) -> None:
    """Append the history of a bank, project it, then follow it live; all on a server of its own.

    Kill it at any moment and start it again: it goes on where it was, and every number is right. Where the working
    directory cannot be written it begins in a new one each time; give --store to go on.

    Example: runner demo
    """
    url = url or f"embedded:{writable_place()}"
    projections = [
        plugin.projection for plugin in plugins.load([str(plugins.shipped())]) if plugin.projection.name in SHIPPED
    ]
    with EventStore.open(with_environment(url), name="demo", settings=SETTINGS) as store:
        say(f"An event log at {store.label}, store 'demo'.")
        say()
        if store.bookmark("demo"):
            say("The last demo came to its end: beginning anew.")
            clear(store)
        _append(store)
        _project(store, projections)
        _show_balances(store)
        _follow(store, projections)
        right = _check(store)
        store.append_many([], bookmark=("demo", store.last_position()))
    if not right:
        sys.exit(FOUND)
    _say_what_next(f"--store {url} --name demo" if url.startswith("embedded:") else "--name demo")


def writable_place() -> str:
    """A directory in the working directory; where that cannot be written, a new one that no other user can enter."""
    return PLACE if os.access(Path.cwd(), os.W_OK) else tempfile.mkdtemp(prefix="runner-demo-")


def _append(store: EventStore) -> None:
    there = store.last_position()
    if there:
        say(f"{there:,} events are in the log from a demo that was interrupted; appending them again is safe.")
    appends = history()
    done = duplicates = 0
    start = time.perf_counter()
    with progress_bar("appending") as progress:
        while batch := list(islice(appends, EVENTS_A_CALL)):
            for outcome in store.append_each(batch):
                if isinstance(outcome, RunnerError):
                    raise outcome
                duplicates += outcome.duplicate
            done += len(batch)
            progress(Progress(done, EVENTS))
    took = time.perf_counter() - start
    known = f", {duplicates:,} of them known already" if duplicates else ""
    say(f"Appended  {done:,} events in {took:.1f} s{known}: {done / took:,.0f} a second.")


def _project(store: EventStore, projections: list[Projection | Reactor]) -> None:
    start = time.perf_counter()
    before = min((_position(store, name) for name in SHIPPED), default=0)
    applied = catch_up(store, *projections)
    took = time.perf_counter() - start
    where = f" (going on from position {before:,})" if before else ""
    say(f"Projected {applied:,} events into 2 views in {took:.1f} s{where}: {applied / took:,.0f} a second.")
    say()


def _position(store: EventStore, name: str) -> int:
    try:
        return _live_build(store, name).position
    except InvalidInput:  # it has never run
        return 0


def _live_build(store: EventStore, name: str) -> ProjectionStatus:
    return operations.status(store, name).projections[0]


def _show_balances(store: EventStore) -> None:
    view = View(store, "balances")
    richest = sorted(view.items(), key=lambda item: -item[1]["balance"])[:5]
    rows = [(key, row["owner"], f"{row['balance'] / 100:,.2f}", row["movements"]) for key, row in richest]
    print_table(f"balances: {len(view):,} rows, the five highest", ("account", "owner", "balance", "movements"), rows)


def _follow(store: EventStore, projections: list[Projection | Reactor]) -> None:
    say()
    say(f"Now live: appending {LIVE_RATE} events a second for {LIVE_SECONDS:.0f} s, projections following.")
    events = live(seed=store.last_position())
    view = View(store, "balances")
    with follow(store, *projections) as following:
        following.wait_live()
        if sys.stdout.isatty():
            with live_table(LIVE_COLUMNS) as show:
                _append_live(store, events, lambda stream, count: show(_live_row(store, view, stream, count)))
        else:
            _append_live(store, events, lambda stream, count: _live_line(store, view, stream, count))
        target = store.last_position()
        deadline = time.monotonic() + 10
        while _position(store, "balances") < target and time.monotonic() < deadline:
            time.sleep(0.01)


def _append_live(store: EventStore, events: Iterator[tuple[str, NewEvent]], show: Callable[[str, int], None]) -> None:
    start = time.monotonic()
    shown = 0.0
    for count, (stream, event) in enumerate(events, 1):
        store.append(stream, event)
        passed = time.monotonic() - start
        if passed - shown >= (0.1 if sys.stdout.isatty() else 1.0):
            shown = passed
            show(stream, count)
        if passed >= LIVE_SECONDS:
            return
        time.sleep(max(0.0, count / LIVE_RATE - passed))


def _live_row(store: EventStore, view: View, stream: str, count: int) -> tuple[object, ...]:
    now = _live_build(store, "balances")
    return count, stream, f"{view[stream]['balance'] / 100:,.2f}", f"{now.position:,}", f"{now.lag} events"


def _live_line(store: EventStore, view: View, stream: str, count: int) -> None:
    now = _live_build(store, "balances")
    balance = view[stream]["balance"] / 100
    say(f"  {count:5} appended; {stream} has {balance:,.2f}; position {now.position:,}, lag {now.lag} events")


def _check(store: EventStore) -> bool:
    expected = balances_by_hand(store.read_all())
    found = {key: row["balance"] for key, row in View(store, "balances").items()}
    if found == expected:
        say()
        say(f"Checked: all {len(found):,} balances equal those of a plain loop over the log.")
        return True
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    say_error(f"{len(wrong)} balances differ from a plain loop over the log, {wrong[0]!r} among them")
    return False


def _say_what_next(store: str) -> None:
    """Say which commands to try. ``store``: options that name it; the URL of a server may hold a password."""
    runner = program()
    said = f"""
What to try next{"" if "--store" in store else ", with the store in RUNNER_STORE"}:
  {runner} status {store}
  {runner} view balances account-7 {store}
  {runner} view balances account-7 --as-of 20000 {store}
  {runner} read account-7 {store}
  {runner} verify {store}
  {runner} demo                  (kill it in the middle with kill -9, and start it again)"""
    for line in said.split("\n"):
        say(line)


def program() -> str:
    """How this program was called, so that it can be called again from here: on PATH it is "runner"."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m runner"
    found = shutil.which("runner")
    if not called.is_file() or (found is not None and called.samefile(found)):
        return "runner"
    return shlex.quote(str(called))
