"""Removing a projection's views, so that the next run makes them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..effects import DriverOperation, StoreOperation, invoke
from ..errors import InvalidInput
from ..format.keys import PartitionKeys
from ..progress import builds
from ..progress.builds import ResetResult
from ..progress.status import partitions_of, status
from .face import StoreContext, for_either_store


@for_either_store
def reset(
    store: StoreContext,
    projection: str,
    *,
    dry_run: bool = False,
    repeat_effects: bool = False,
    confirm: Callable[[list[ResetResult]], Awaitable[bool] | bool] | None = None,
) -> DriverOperation[list[ResetResult]]:
    """Remove a projection's views and checkpoints in all partitions; its next run begins at the first event.

    ``dry_run``: only say what would be removed. ``confirm`` is called with the same, and nothing is removed if it
    returns False; then the result is empty. It may be a coroutine function. A reactor is reset only with
    ``repeat_effects``, because it performs all its effects again. Raises InvalidInput; LogTrimmed if the first events
    of a partition were trimmed.
    """
    places = yield from partitions_of(store.info, projection)
    if not (dry_run or repeat_effects):
        for keys in places:
            [live, *_] = yield from status(keys, projection)
            if live.kind == "reactor":
                raise InvalidInput(
                    f"{projection!r} is a reactor: after a reset it performs all its effects again",
                    hint="Give --repeat-effects (repeat_effects=True) if that is what you want.",
                )
    planned = yield from _reset(places, projection, dry_run=True)
    if dry_run:
        return planned
    if confirm is not None and not (yield from invoke(confirm, planned)):
        return []
    return (yield from _reset(places, projection, dry_run=False))


def _reset(places: Sequence[PartitionKeys], name: str, *, dry_run: bool) -> StoreOperation[list[ResetResult]]:
    results = []
    for keys in places:
        results.append((yield from builds.reset(keys, name, dry_run=dry_run)))
    return results
