"""Going back to the previous build."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from ..effects import DriverOperation, StoreOperation
from ..errors import DataError
from ..format.keys import PartitionKeys
from ..progress import builds
from ..progress.builds import RollbackResult, goal_of, read_builds
from ..progress.checkpoint import compare_rows
from ..progress.runners import keepers, live_runners
from ..progress.status import partitions_of
from ..views.redis_rows import BuildView
from .face import StoreContext, for_either_store
from .verify import check_checkpoint
from .verify_views import check_rows


@for_either_store
def rollback(store: StoreContext, projection: str, *, to: str | None = None) -> DriverOperation[list[RollbackResult]]:
    """Make the previous build live again, partition by partition, each in one step; the two builds change places.

    The build has the position at which it was replaced; a runner with its code goes on from there. After a rollback
    another one does nothing. ``to``: the build that shall be live, or the version of its code; so a rollback is taken
    back with the build that it left. Before the first partition is rolled back, all are looked at: the rows of the
    build are read, and the log is asked for the event of its checkpoint. Raises InvalidInput if a partition keeps no
    such build, LogTrimmed if events that the build has not applied were trimmed, DataError if the build is damaged;
    then no partition was rolled back.
    """
    places = yield from partitions_of(store.info, projection)
    for keys in places:
        yield from builds.rollback(keys, projection, to, dry_run=True)
        yield from _check_goal(keys, projection, to)
    results = []
    for keys in places:
        results.append((yield from builds.rollback(keys, projection, to)))
    runners = yield from live_runners(store.info)
    return [replace(result, keepers=keepers(runners, projection, result.live)) for result in results]


def _check_goal(keys: PartitionKeys, name: str, to: str | None) -> StoreOperation[None]:
    """Raise DataError if the build that a rollback would make live is not what was written."""
    found = yield from read_builds(keys, name)
    goal = goal_of(found, to)
    if goal is None or goal == found.live:
        return

    def refuse(damage: DataError) -> NoReturn:
        raise DataError(
            f"build {goal!r} of projection {name!r} (partition {keys.partition}) is damaged, and nothing was rolled "
            f"back: {damage}",
            hint=f"Make the view again with the older code: `runner rebuild {name}`. `runner verify` names all faults.",
        )

    try:
        yield from check_checkpoint(keys, name, goal)
        yield from compare_rows(keys, name, goal)
    except DataError as damage:
        refuse(damage)
    yield from check_rows(BuildView(keys, name, goal), refuse)
