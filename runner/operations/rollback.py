"""Going back to the previous build."""

from __future__ import annotations

from dataclasses import replace

from ..effects import DriverOperation
from ..progress import builds
from ..progress.builds import RollbackResult
from ..progress.runners import keepers, live_runners
from ..progress.status import partitions_of
from .face import StoreContext, for_either_store


@for_either_store
def rollback(store: StoreContext, projection: str, *, to: str | None = None) -> DriverOperation[list[RollbackResult]]:
    """Make the previous build live again, partition by partition, each in one step; the two builds change places.

    The build has the position at which it was replaced; a runner with its code goes on from there. After a rollback
    another one does nothing. ``to``: the build that shall be live, or the version of its code; so a rollback is taken
    back with the build that it left. Raises InvalidInput if no such build is kept, LogTrimmed if events that the build
    has not applied were trimmed.
    """
    results = []
    for keys in (yield from partitions_of(store.info, projection)):
        results.append((yield from builds.rollback(keys, projection, to)))
    runners = yield from live_runners(store.info)
    return [replace(result, keepers=keepers(runners, projection, result.live)) for result in results]
