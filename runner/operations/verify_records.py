"""Verifying the small records beside the log: each key has its type, and each field can be decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..effects import Execute, StoreOperation
from ..errors import RecordDamaged
from ..format import fields
from ..format.keys import PartitionKeys
from ..progress.builds import read_builds, unknown_projection
from ..progress.lease import check_ahead
from ..progress.parked import look_at_parked, look_at_skipped
from ..progress.runners import read_announcement
from ..progress.status import damaged_names, projection_names

#: Gets a place and what is wrong there.
Tell = Callable[[str, str], object]

#: The fields of the record of a build that hold numbers, and those that hold text.
NUMBERS = (
    "position", "applied", "skips", "generation", "token", "lease", "lasts", "seen", "updated", "resets",
    "rows", "mixed",
)  # fmt: skip
TEXTS = ("state", "error", "traceback", "where", "owner", "kind")


def verify_records(keys: PartitionKeys, tell: Tell) -> StoreOperation[None]:
    """Check what a partition keeps of its projections, its runners, its bookmarks and its index of ids."""
    for damage in (yield from damaged_names(keys)):
        tell(keys.projections, str(damage))
    for name in (yield from _or_tell(projection_names(keys), lambda where, what: None)) or []:
        builds = yield from _or_tell(read_builds(keys, name), tell)
        if builds is not None and builds.live is None:
            error = yield from unknown_projection(keys, name)
            if isinstance(error, RecordDamaged):  # else it was reset or unregistered since its name was read
                tell(error.keys[0], str(error))
        for build in builds.all if builds is not None else []:
            yield from _verify_build(keys, name, build, tell)
    yield from _verify_runners(keys, tell)
    yield from _or_tell(_bookmarks(keys, tell), tell)
    yield from _or_tell(_index_of_ids(keys), tell)


def _verify_build(keys: PartitionKeys, name: str, build: str, tell: Tell) -> StoreOperation[None]:
    yield from _or_tell(_build_record(keys.build(name, build), tell), tell)
    for look in (look_at_parked, look_at_skipped):
        for one in (yield from _or_tell(look(keys, name, build), tell)) or []:
            if isinstance(one, RecordDamaged):
                tell(one.keys[0], str(one))
    yield from _or_tell(_asked(("HLEN", keys.view(name, build))), tell)


def _build_record(key: str, tell: Tell) -> StoreOperation[None]:
    [flat] = yield Execute([("HGETALL", key)])
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    for decode, names in ((fields.number, NUMBERS), (fields.text, TEXTS)):
        for field in names:
            _try(lambda decode=decode, field=field: decode(key, field, found.get(field.encode())), tell)  # type: ignore[misc]
    _try(lambda: check_ahead(key, found.get(b"ahead", b"")), tell)


def _verify_runners(keys: PartitionKeys, tell: Tell) -> StoreOperation[None]:
    members: Iterable[bytes] = (yield from _or_tell(_asked(("ZRANGE", keys.runners, 0, -1)), tell)) or []
    for member in members:
        if read_announcement(member) is None:
            tell(keys.runners, str(fields.damaged(keys.runners, "member", member, "no announcement of a runner")))


def _bookmarks(keys: PartitionKeys, tell: Tell) -> StoreOperation[None]:
    [named] = yield Execute([("HGETALL", keys.bookmarks)])
    for name, value in zip(named[::2], named[1::2], strict=True):
        if not value.partition(b" ")[0].isdigit():
            tell(f"bookmark {name.decode(errors='replace')}", f"holds {value!r}, which is no position")


def _index_of_ids(keys: PartitionKeys) -> StoreOperation[None]:
    [upto] = yield Execute([("HGET", keys.ids, "upto")])
    fields.number(keys.ids, "upto", upto)


def _asked(command: tuple[Any, ...]) -> StoreOperation[Any]:
    [reply] = yield Execute([command])
    return reply


def _or_tell(operation: StoreOperation[Any], tell: Tell) -> StoreOperation[Any]:
    """What an operation reads; None where a record is damaged, which is told."""
    try:
        return (yield from operation)
    except RecordDamaged as damage:
        tell(damage.keys[0], str(damage))
        return None


def _try(decode: Callable[[], object], tell: Tell) -> None:
    try:
        decode()
    except RecordDamaged as damage:
        tell(damage.keys[0], str(damage))
