"""``runner copy``: a store into an empty one, with other partitions, in another format, or on another server."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from .. import operations
from ..errors import StoreNotFound, counted
from ..log.info import MAX_PARTITIONS
from ..operations import CopyResult
from ..operations.stream_digests import whole_digest
from ..settings import DEFAULT_NAME
from ..sync.store import EventStore
from .common import FOUND, json_option
from .output import print_json, progress_bar, say, say_warning


@click.command("copy")
@click.argument("source", envvar="RUNNER_STORE")
@click.argument("target", envvar="RUNNER_TARGET")
@click.option("--name", envvar="RUNNER_NAME", default=DEFAULT_NAME, show_default=True, help="The source's name.")
@click.option("--to-name", help="The target's name; that of the source unless given.")
@click.option("--partitions", type=click.IntRange(1, MAX_PARTITIONS), help="Of the target; as many as the source has.")
@click.option("--digests", is_flag=True, help="Print the number of events and the digest of each stream.")
@json_option
def command(
    source: str, target: str, name: str, to_name: str | None, partitions: int | None, digests: bool, as_json: bool
) -> None:
    """Copy all events of the store at the URL SOURCE into an empty store at the URL TARGET, which is made.

    Stop the writers first. With as many partitions, positions are kept; with others they are new. Numbers, ids and
    times are kept always. Views are not copied: a runner makes them again. The target is verified, and compared with
    the source stream by stream. A copy that was interrupted goes on when it is given again. The URLs may be in
    RUNNER_STORE and RUNNER_TARGET, where no list of processes shows their passwords.

    Example: runner copy embedded:.runner embedded:moved --partitions 4
    """
    with (
        EventStore.open(source, name=name, create=False) as ours,
        _target(target, to_name or name, partitions, ours.info.partitions) as theirs,
        progress_bar("copying") as progress,
    ):
        result = operations.copy_store(ours, theirs, progress=progress)
    if as_json:
        print_json({**asdict(result), "good": result.good})
    else:
        _show(result, digests)
    if not result.good:
        sys.exit(FOUND)


def _target(url: str, name: str, partitions: int | None, as_source: int) -> EventStore:
    """The target. One that is not there is made, with as many partitions as the source has unless told."""
    try:
        return EventStore.open(url, name=name, partitions=partitions, create=False)
    except StoreNotFound:
        return EventStore.open(url, name=name, partitions=partitions or as_source)


def _show(result: CopyResult, digests: bool) -> None:
    if digests:
        for one in result.streams:
            say(f"{one.digest}  {counted(one.events, 'event')}  {one.stream}")
    where = "positions are kept" if result.positions_kept else "positions are new"
    events = result.copied + result.known
    say(f"{counted(events, 'event')} in {counted(len(result.streams), 'stream')}: {where}")
    say(f"digest {whole_digest(result.streams)}" + ("" if result.differing else ", the same in source and target"))
    say("Views are not copied: start runners on the target, which make them again.")
    if result.bookmarks_left:
        say_warning(
            f"{counted(result.bookmarks_left, 'bookmark')} not copied, because positions are new",
            "Set them again with append_many, in the partition where they are needed.",
        )
    for stream in result.differing:
        say(f"stream {stream!r} differs in source and target", err=True)
    for finding in result.findings:
        say(f"partition {finding.partition}: {finding.where}: {finding.what}", err=True)
    if result.missed:
        say_warning(
            f"{counted(result.missed, 'event')} appended to the source meanwhile, and not copied",
            "Stop the writers, and copy again to another empty store.",
        )
