"""Checks of what the store keeps of projections: whether it can be read, and whether somebody changed it by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ..effects import StoreOperation
from ..errors import NOT_ALLOWED, DataError, InvalidInput, StoreRefused
from ..log.info import StoreInfo
from ..progress.builds import changed_by_hand, mixed_rows
from ..progress.status import ProjectionStatus, damaged_names, projection_names, status
from .check import GOOD, WARNING, Check, unseen


def records(store: StoreInfo) -> StoreOperation[list[Check]]:
    """The checks "records", "code" and "views"."""
    try:
        builds, damages = yield from _read(store)
    except StoreRefused as refused:
        if refused.code not in NOT_ALLOWED:
            raise
        return [unseen(name, "reading records of projections") for name in ("records", "code", "views")]
    return [_records(damages), _code(builds), _views(builds)]


def _read(store: StoreInfo) -> StoreOperation[tuple[list[ProjectionStatus], list[DataError]]]:
    """The live builds and the candidates of all projections, and what cannot be read."""
    found: list[ProjectionStatus] = []
    damages: list[DataError] = []
    for keys in store.keys:
        try:
            damages += yield from damaged_names(keys)
            names = yield from projection_names(keys)
        except DataError:
            continue  # the set itself is damaged, which is among the damages
        for name in names:
            try:
                found += yield from status(keys, name)
            except DataError as damage:
                damages.append(damage)
            except InvalidInput:
                continue  # it was reset or unregistered since its name was read
    return [one for one in found if one.role != "previous"], damages


def _records(damages: list[DataError]) -> Check:
    """Whether the records of projections can be read."""
    if not damages:
        return Check("records", GOOD, "the record of each projection can be read")
    return _told("records", ((str(damage), damage.hint) for damage in damages))


def _code(builds: list[ProjectionStatus]) -> Check:
    """Whether code was changed without its build."""
    found = [mixed_rows(one.name, one.build, one.mixed) for one in builds if one.mixed is not None]
    return (
        _told("code", iter(found)) if found else Check("code", GOOD, "each build was made by one version of its code")
    )


def _views(builds: list[ProjectionStatus]) -> Check:
    """Whether rows were written or deleted by hand."""
    found = [
        changed_by_hand(one.name, one.build, one.rows, one.rows_committed)
        for one in builds
        if one.rows_committed is not None
    ]
    good = "each view has as many rows as its commits have left there"
    return _told("views", iter(found)) if found else Check("views", GOOD, good)


def _told(name: str, found: Iterator[tuple[str, str]]) -> Check:
    """A warning that tells each text once, with the first advice."""
    texts, advices = zip(*found, strict=True)
    return Check(name, WARNING, "; ".join(dict.fromkeys(texts)), advices[0])
