"""Removing a projection's views, so that the next run makes them again."""

from __future__ import annotations

from ..effects import DriverOperation
from ..errors import InvalidInput
from ..progress import builds
from ..progress.builds import ResetResult
from ..progress.status import partitions_of, status
from .face import StoreContext, for_either_store


@for_either_store
def reset(
    store: StoreContext, projection: str, *, dry_run: bool = False, repeat_effects: bool = False
) -> DriverOperation[list[ResetResult]]:
    """Remove a projection's views and checkpoints in all partitions; its next run begins at the first event.

    ``dry_run``: only say what would be removed. A reactor is reset only with ``repeat_effects``, because it performs
    all its effects again. Raises InvalidInput; LogTrimmed for a partition whose first events were trimmed, where it
    removes nothing.
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
    results = []
    for keys in places:
        results.append((yield from builds.reset(keys, projection, dry_run=dry_run)))
    return results
