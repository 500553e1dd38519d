"""Forgetting a projection or reactor that nobody runs any more, because it was renamed or removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..effects import DriverOperation, invoke
from ..errors import ProjectionHeld
from ..progress import registration
from ..progress.registration import Registration, read_registration
from ..progress.runners import live_runners
from ..progress.status import partitions_of
from .face import StoreContext, for_either_store


@for_either_store
def unregister(
    store: StoreContext,
    projection: str,
    *,
    dry_run: bool = False,
    confirm: Callable[[list[Registration]], Awaitable[bool] | bool] | None = None,
) -> DriverOperation[list[Registration]]:
    """Forget a projection or reactor: remove all that the store keeps of it, in all partitions, for good.

    From then on it holds no event of the log back. If it is run again, it begins as a new one. Returns what was
    removed. ``dry_run``: only say what would be removed. ``confirm`` is called with the same, and nothing is removed if
    it returns False; then the result is empty. It may be a coroutine function.

    Raises InvalidInput for a name that the store does not know; ProjectionHeld while a runner holds it in a partition
    or a live runner has code for it, and then nothing is removed; StoreTrouble.
    """
    places = yield from partitions_of(store.info, projection)
    kept = []
    for keys in places:
        kept.append((yield from read_registration(keys, projection)))
    if dry_run:
        return kept
    for runner in (yield from live_runners(store.info)):
        if projection in runner.codes:
            raise ProjectionHeld(projection, places[0].partition, runner.where)
    if confirm is not None and not (yield from invoke(confirm, kept)):
        return []
    for keys in places:  # before anything is removed
        yield from registration.unregister(keys, projection, dry_run=True)
    removed = []
    for keys in places:
        removed.append((yield from registration.unregister(keys, projection)))
    return removed
