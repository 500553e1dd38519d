"""Putting events into an empty partition at the places that they have elsewhere, by the script `restore`.

A restore has an id, which follows from what is restored. So a restore that was interrupted goes on when it is begun
again with the same source, and is refused with another one. Until it ends, nobody can append to the partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..effects import Execute, StoreOperation
from ..errors import InvalidInput, NotConfirmed, StoreReplaced
from ..format.keys import PartitionKeys
from ..format.scripts import expect, load
from ..settings import MAX_APPEND_BYTES
from .durability import Durability, acknowledgement, shortfall
from .extent import Trimmed
from .info import StoreInfo
from .reading import last_position

#: How many events, or streams, one run of the script puts in: a few milliseconds of the server's time.
A_RUN = 500


class Placed(NamedTuple):
    """An event, packed, and its place."""

    position: int
    number: int
    stream: str
    envelope: bytes


class OutOfPlace(InvalidInput):
    """An event that is not the next one. ``event``: which of those that were given, from 0."""

    def __init__(self, message: str, event: int) -> None:
        super().__init__(message)
        self.event = event


def check_empty(info: StoreInfo, restore_id: str) -> StoreOperation[None]:
    """Raise InvalidInput if a partition holds anything but a beginning of this restore."""
    for keys in info.keys:
        last = yield from last_position(keys)
        [(restoring, restored), bookmarks] = yield Execute(
            [("HMGET", keys.meta, "restoring", "restored"), ("EXISTS", keys.bookmarks)]
        )
        ours = restore_id.encode() in (restoring, restored)
        if not ours and restoring is not None:
            raise _other(keys)
        if not ours and (last or bookmarks):
            raise _occupied(keys, last)


class Restoring:
    """The restore of one partition. `begin` it, put things in, `end` it; each step may be repeated."""

    def __init__(self, info: StoreInfo, keys: PartitionKeys, restore_id: str) -> None:
        self._info = info
        self._keys = keys
        self._id = restore_id
        #: The last position that is in the log.
        self.position = 0
        #: Whether the restore has ended.
        self.done = False

    def begin(self, floor: int) -> StoreOperation[None]:
        """Begin, or go on. Raises InvalidInput if the partition holds anything else, and what each step may raise."""
        yield from self._step("begin", floor)

    def put_bookmarks(self, bookmarks: dict[str, str]) -> StoreOperation[None]:
        """Set bookmarks."""
        if bookmarks:
            yield from self._step("bookmarks", *(word for pair in bookmarks.items() for word in pair))

    def put_trimmed_streams(self, streams: Sequence[Trimmed]) -> StoreOperation[None]:
        """Make the indexes of streams of which no event is left."""
        for at in range(0, len(streams), A_RUN):
            part = streams[at : at + A_RUN]
            yield from self._step(
                "streams",
                *(f"{stream.number}-{stream.position}" for stream in part),
                streams=[stream.stream for stream in part],
            )

    def put_trimmed_ids(self, upto: int, ids: Sequence[tuple[bytes, str]]) -> StoreOperation[None]:
        """Put ids of trimmed events into the index of ids, which has those of all events up to ``upto``."""
        for at in range(0, len(ids), A_RUN):
            yield from self._step("ids", upto, *(word for pair in ids[at : at + A_RUN] for word in pair))

    def put_trimmed_recent(self, recent: Sequence[tuple[str, bytes, str]]) -> StoreOperation[None]:
        """Put ids of trimmed events among the recent ids: stream, id and place of each."""
        for at in range(0, len(recent), A_RUN):
            part = recent[at : at + A_RUN]
            yield from self._step_on_streams(
                "recent", [(stream, (event_id, place)) for stream, event_id, place in part]
            )

    def put_events(self, events: Sequence[Placed]) -> StoreOperation[None]:
        """Put events in; those that are there already are passed over. Raises OutOfPlace."""
        reply = yield from self._step_on_streams(
            "events",
            [(event.stream, (f"{event.position}-{event.number}", event.envelope)) for event in events],
            allowed=(b"gap", b"numbers"),
        )
        if reply[0] in (b"gap", b"numbers"):
            raise _out_of_place(events, *reply)

    def end(self, last: int, level: Durability) -> StoreOperation[None]:
        """End: from here on the partition is as any other. Raises InvalidInput if it does not end at ``last``.

        Raises NotConfirmed if too few replicas confirm it.
        """
        reply = yield from self._step("end", last, allowed=(b"short",), level=level)
        if reply[0] == b"short":
            raise InvalidInput(
                f"partition {self._keys.partition} ends at position {reply[1]}, and should end at {last}: "
                "there was less to restore than at the beginning was told",
                hint="The source is not whole. Nothing can be appended to the store until it is restored.",
            )

    def _step_on_streams(
        self, step: str, items: Sequence[tuple[str, tuple[Any, ...]]], allowed: tuple[bytes, ...] = ()
    ) -> StoreOperation[list[Any]]:
        """A step whose items each name their stream first."""
        streams = list(dict.fromkeys(stream for stream, _ in items))
        which = {stream: place for place, stream in enumerate(streams, 1)}
        args = (word for stream, words in items for word in (which[stream], *words))
        return (yield from self._step(step, *args, streams=streams, allowed=allowed))

    def _step(
        self,
        step: str,
        *args: Any,
        streams: Sequence[str] = (),
        allowed: tuple[bytes, ...] = (),
        level: Durability = None,
    ) -> StoreOperation[list[Any]]:
        keys = self._keys
        names = [keys.log, keys.meta, keys.bookmarks, *keys.recent, keys.new, keys.ids]
        names += [keys.stream(stream) for stream in streams]
        command = load("log/restore").call(names, step, self._info.epoch, self._id, *args)
        [reply, *acknowledged] = yield Execute([command, *acknowledgement(level)])
        if reply[0] == b"replaced":
            raise StoreReplaced(keys.name)
        if reply[0] == b"other":
            raise _other(keys)
        if reply[0] == b"occupied":
            raise _occupied(keys, reply[1])
        expect("log/restore", reply[0], b"ok", b"done", *allowed)
        if reply[0] in (b"ok", b"done"):
            self.position, self.done = reply[1], reply[0] == b"done"
        if missing := shortfall(level, acknowledged):
            raise NotConfirmed([], *missing)
        return reply  # type: ignore[no-any-return]


def in_runs(events: Sequence[Placed]) -> list[Sequence[Placed]]:
    """The events in portions that one run of the script may take."""
    runs: list[list[Placed]] = []
    size = 0
    for event in events:
        if not runs or len(runs[-1]) == A_RUN or size + len(event.envelope) > MAX_APPEND_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(event)
        size += len(event.envelope)
    return list(runs)


def _out_of_place(events: Sequence[Placed], verdict: bytes, place: int, last: int) -> OutOfPlace:
    wrong = events[place - 1]
    if verdict == b"gap":
        text = f"position {wrong.position} follows position {last}"
    elif last:
        text = f"event {wrong.number} of stream {wrong.stream!r} follows its event {last}"
    else:
        text = f"stream {wrong.stream!r} begins with event {wrong.number}, and fewer were trimmed"
    return OutOfPlace(text, place - 1)


def _occupied(keys: PartitionKeys, last: int) -> InvalidInput:
    what = f"its partition {keys.partition} ends at position {last}" if last else "it has bookmarks"
    return InvalidInput(
        f"store {keys.name!r} is not empty: {what}; positions can be kept in an empty store only",
        hint="Give another name (--name), or another server.",
    )


def _other(keys: PartitionKeys) -> InvalidInput:
    return InvalidInput(
        f"store {keys.name!r} holds a part of another restore",
        hint="Restore it from the source that it was begun with, or give another name (--name).",
    )
