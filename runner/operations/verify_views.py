"""Verifying views: each row against its checksum, and the number of rows against what the commits have left."""

from __future__ import annotations

from collections.abc import Callable

from ..effects import Execute, StoreOperation
from ..errors import DataError, RecordDamaged
from ..format.keys import PartitionKeys
from ..progress.checkpoint import compare_rows
from ..views.redis_rows import BuildView, row_state

#: How many rows are read at a time.
ROWS_A_PAGE = 500


def verify_view(keys: PartitionKeys, name: str, build: str, tell: Callable[[str, str], object]) -> StoreOperation[None]:
    """Check the rows of a build. ``tell`` gets a place and what is wrong there. Commits may go on meanwhile.

    Rows of a store of format 1 have no checksum: there, only what cannot be decoded is found.
    """
    view = BuildView(keys, name, build)
    try:
        yield from compare_rows(keys, name, build)
    except RecordDamaged:
        return  # `verify_records` tells it
    except DataError as fault:
        tell(view.key, str(fault))
    yield from check_rows(view, lambda damage: tell(view.key, str(damage)))


def check_rows(view: BuildView, found: Callable[[DataError], object]) -> StoreOperation[None]:
    """Read all rows of a build; ``found`` is told once of each that is damaged. Commits may go on meanwhile."""
    cursor, told = 0, set[bytes]()
    while True:
        [(following, flat)] = yield Execute([("HSCAN", view.key, cursor, "COUNT", ROWS_A_PAGE)])
        for raw, stored in zip(flat[::2], flat[1::2], strict=True):
            try:
                row_state(view, raw.decode(errors="replace"), stored)
            except DataError as damage:
                if raw not in told:  # a scan may give a field twice
                    told.add(raw)
                    found(damage)
        cursor = int(following)
        if cursor == 0:
            break
