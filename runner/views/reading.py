"""Reading a view: the rows of a projection's live build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..effects import Command, Execute, Hear, Listen, StoreOperation
from ..effects.clock import Clock
from ..errors import StoreUnavailable, WaitTimeout
from ..format import fields
from ..format.keys import FIRST_BUILD, PartitionKeys
from ..format.names import check_name, check_plain_name
from ..log.info import StoreInfo
from ..progress.builds import no_projection
from .redis_rows import BuildView, row_state

#: Rows read at a time while listing.
SCAN_COUNT = 500

#: A message ends a wait for a view. After so many seconds without one the position is read anyway: the connection may
#: have died unnoticed.
LOOK_ANYWAY = 5.0

#: How long a wait for a view lasts by default, in seconds: less than the time-outs of web servers.
PATIENCE = 10.0


class Appended(Protocol):
    """The append that a wait is for. See `runner.AppendResult`."""

    @property
    def partition(self) -> int: ...
    @property
    def position(self) -> int: ...


class ViewReader:
    """The operations of a view. It remembers the live build, and notices in the same round trip if another is live.

    Raises InvalidName for a name that no projection can have.
    """

    def __init__(self, projection: str) -> None:
        self._name = check_plain_name(projection, "projection")
        self._builds: dict[int, str] = {}

    def get(self, info: StoreInfo, key: str) -> StoreOperation[Any]:
        """The row, or None. Rows keyed by stream are in the stream's partition; others may be in any."""
        key = check_name(key, "row")
        home = info.of_stream(key).partition
        order = sorted(range(info.partitions), key=lambda partition: partition != home)
        for partition in order:
            keys = info.keys[partition]
            stored = yield from self._on_live_build(keys, lambda view: ("HGET", view, key))
            if stored is not None:
                return row_state(self._view(keys), key, stored)
        return None

    def count(self, info: StoreInfo) -> StoreOperation[int]:
        """The number of rows in all partitions."""
        total = 0
        for keys in info.keys:
            total += yield from self._on_live_build(keys, lambda view: ("HLEN", view))
        return total

    def page(self, keys: PartitionKeys, cursor: int) -> StoreOperation[tuple[int, list[tuple[str, Any]]]]:
        """Some rows, and the cursor of the next rows (0 = no more)."""
        reply = yield from self._on_live_build(keys, lambda view: ("HSCAN", view, cursor, "COUNT", SCAN_COUNT))
        following, flat = reply
        view = self._view(keys)
        names = [fields.text(view.key, "name of a row", key) for key in flat[::2]]
        return int(following), [(key, row_state(view, key, row)) for key, row in zip(names, flat[1::2], strict=True)]

    def wait_for(self, info: StoreInfo, what: Appended, timeout: float | None, clock: Clock) -> StoreOperation[None]:
        """Wait until the live build has applied ``what``. Each commit sends a message, so nothing is polled.

        ``timeout`` is in seconds of ``clock``; None = no limit. Raises WaitTimeout; InvalidInput at once if other
        projections were run and this one never was.
        """
        keys = info.of_partition(what.partition)
        channel = keys.applied(self._name)
        deadline = float("inf") if timeout is None else clock.monotonic() + timeout
        listening = yield Listen(channel, if_open=True)
        while True:
            try:
                position, state, error = yield from self._progress(info, keys)
                if position >= what.position:
                    return
                left = deadline - clock.monotonic()
                if left <= 0:
                    lag = what.position - position
                    raise WaitTimeout(self._name, keys.partition, what.position, lag, state, error)
                if not listening:
                    listening = yield Listen(channel)
                listening = yield from _hear_of(what.position, min(left, LOOK_ANYWAY), clock)
            except StoreUnavailable:
                listening = False
                yield from self._wait_for_server(keys, deadline, clock)

    def _wait_for_server(self, keys: PartitionKeys, deadline: float, clock: Clock) -> StoreOperation[None]:
        """Wait until the server answers. A request backs off by itself; listening does not."""
        while True:
            try:
                yield Execute([("HGET", keys.projection(self._name), "build")])
                return
            except StoreUnavailable:
                if clock.monotonic() >= deadline:
                    raise

    def _check_name(self, info: StoreInfo) -> StoreOperation[None]:
        """Raise InvalidInput for a name that no projection has. Without any name, the first runner is yet to come."""
        known = yield Execute([("SMEMBERS", each.projections) for each in info.keys])
        names = {name.decode(errors="replace") for members in known for name in members}
        if names and self._name not in names:
            raise no_projection(self._name, names)

    def _progress(self, info: StoreInfo, keys: PartitionKeys) -> StoreOperation[tuple[int, str, str]]:
        while True:
            build = self._builds.get(keys.partition, FIRST_BUILD)
            key = keys.build(self._name, build)
            [stored, (position, state, error, lease), now] = yield Execute([
                ("HGET", keys.projection(self._name), "build"),
                ("HMGET", key, "position", "state", "error", "lease"), ("TIME",),
            ])  # fmt: skip
            live = fields.plain_name(keys.projection(self._name), "build", stored)
            if live is None:
                yield from self._check_name(info)
                return 0, "never run", ""
            if live == build:
                break
            self._builds[keys.partition] = live
        held = fields.number(key, "lease", lease) > int(now[0]) * 1_000_000 + int(now[1])
        said = fields.text(key, "state", state, "idle")
        doing = said if held or said == "stopped" else "no runner holds it"
        return fields.number(key, "position", position), doing, fields.text(key, "error", error)

    def _view(self, keys: PartitionKeys) -> BuildView:
        """The view in which rows were found last."""
        return BuildView(keys, self._name, self._builds.get(keys.partition, FIRST_BUILD))

    def _on_live_build(self, keys: PartitionKeys, command: Callable[[str], Command]) -> StoreOperation[Any]:
        while True:
            build = self._builds.get(keys.partition, FIRST_BUILD)
            stored, reply = yield Execute([
                ("HGET", keys.projection(self._name), "build"), command(keys.view(self._name, build)),
            ])  # fmt: skip
            live = fields.plain_name(keys.projection(self._name), "build", stored)
            if live is None or live == build:
                return reply
            self._builds[keys.partition] = live


def _hear_of(position: int, timeout: float, clock: Clock) -> StoreOperation[bool]:
    """Wait for a message that may tell of ``position``; False if none comes in time. It may be of another build."""
    deadline = clock.monotonic() + timeout
    while True:
        message = yield Hear(max(0.0, deadline - clock.monotonic()))
        if message is None:
            return False
        if not message.isdigit() or int(message) >= position:
            return True
