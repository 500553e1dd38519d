"""Importing an export with positions into an empty store, every event in the place that its line names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..effects import StoreOperation
from ..errors import InvalidInput, counted
from ..format.events import pack_event
from ..format.json_lines import parse
from ..format.numbers import check_number
from ..format.place_lines import BOOKMARKS, IDS, RECENT, STORE, STREAMS, is_place_line, parse_place
from ..log.extent import Trimmed
from ..log.restoring import A_RUN, OutOfPlace, Placed, Restoring, check_empty
from ..settings import MAX_APPEND_BYTES
from .face import StoreContext
from .import_result import ImportResult


def partitions_of_export(first_line: bytes) -> int:
    """How many partitions the store had whose export with positions begins with this line. Raises InvalidInput."""
    kind, content = parse_place(first_line) if is_place_line(first_line) else ("", {})
    if kind != STORE:
        raise _no_export()
    return len(content["floors"])


class PlacedImporter:
    """Takes the lines of an export with positions; `finish` puts in what was taken, `end` ends the import."""

    def __init__(self, store: StoreContext) -> None:
        self._store = store
        self._parts: list[Restoring] = []
        self._last: list[int] = []
        self._batch: list[Placed] = []
        #: The lines of the events in the batch, the partition that they are of, and their size.
        self._numbers: list[int] = []
        self._partition = 0
        self._size = 0
        self._appended = 0
        self._known = 0
        self.lines = 0

    @property
    def done(self) -> int:
        """How many events were taken in."""
        return self.lines

    def take_line(self, number: int, text: bytes) -> StoreOperation[None]:
        """Take line ``number`` in. Raises InvalidInput for a bad line."""
        if not text.strip():
            return
        try:
            if is_place_line(text):
                yield from self._take_place(*parse_place(text))
                return
            self.lines += 1
            placed, partition = self._prepare(text)
        except InvalidInput as fault:
            if self._parts:
                yield from self.finish()
            raise InvalidInput(f"line {number}: {fault}", hint=fault.hint) from None
        size = len(placed.envelope)
        if self._batch and (
            partition != self._partition or len(self._batch) == A_RUN or self._size + size > MAX_APPEND_BYTES
        ):
            yield from self.finish()
        self._partition = partition
        self._batch.append(placed)
        self._numbers.append(number)
        self._size += size

    def finish(self) -> StoreOperation[None]:
        """Put in the events that were taken."""
        batch, numbers = self._batch, self._numbers
        self._batch, self._numbers, self._size = [], [], 0
        if not batch:
            return
        part = self._parts[self._partition]
        new = [event for event in batch if event.position > part.position]
        if new and not part.done:
            try:
                yield from part.put_events(new)
            except OutOfPlace as fault:
                line = numbers[len(batch) - len(new) + fault.event]
                raise InvalidInput(f"line {line}: {fault}", hint="The lines are not those of one export.") from None
        self._appended += 0 if part.done else len(new)
        self._known += len(batch) - (0 if part.done else len(new))

    def end(self) -> StoreOperation[ImportResult]:
        """End the import: the store is as any other then. Raises InvalidInput if lines are missing at the end."""
        if not self._parts:
            raise _no_export()
        for place, (part, last) in enumerate(zip(self._parts, self._last, strict=True)):
            if part.position < last:
                raise InvalidInput(
                    f"the input ends too early: partition {place} ends at position {part.position}, not at {last}",
                    hint="Nothing can be appended to the store before it is restored from a whole export.",
                )
        for part, last in zip(self._parts, self._last, strict=True):
            if not part.done:
                yield from part.end(last, self._store.durability)
        return ImportResult(self.lines, self._appended, self._known)

    # -- lines that are no events -------------------------------------------------------------------

    def _take_place(self, kind: str, content: dict[str, Any]) -> StoreOperation[None]:
        if kind == STORE:
            yield from self._begin(content)
            return
        part = self._part(content["partition"])
        if part.done:
            return
        if kind == BOOKMARKS:
            yield from part.put_bookmarks(content["bookmarks"])
        elif kind == STREAMS:
            streams = [Trimmed(*stream) for stream in content["streams"]]
            for stream in streams:
                self._check_home(stream.stream, content["partition"])
            yield from part.put_trimmed_streams(streams)
        elif kind == IDS:
            yield from part.put_trimmed_ids(content["upto"], content["ids"])
        elif kind == RECENT:
            yield from part.put_trimmed_recent(content["ids"])

    def _begin(self, about: dict[str, Any]) -> StoreOperation[None]:
        info = self._store.info
        if self._parts:
            raise InvalidInput("a second export begins here", hint="Restore each export into a store of its own.")
        floors, self._last = about["floors"], about["last"]
        if len(floors) != info.partitions:
            raise InvalidInput(
                f"the export is of a store of {counted(len(floors), 'partition')}, and store {info.name!r} "
                f"has {counted(info.partitions, 'partition')}",
                hint="Give the name of a store that is not there yet: it gets as many. Without keeping positions, "
                "a store of any number will do.",
            )
        restore_id = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        yield from check_empty(info, restore_id)
        parts = [Restoring(info, keys, restore_id) for keys in info.keys]
        for part, floor in zip(parts, floors, strict=True):
            yield from part.begin(floor)
        self._parts = parts

    # -- events -----------------------------------------------------------------------------------

    def _prepare(self, text: bytes) -> tuple[Placed, int]:
        """The event of a line, and its partition."""
        line = parse(text)
        if line.id is None or line.recorded_at is None or None in line.place:
            raise InvalidInput(
                "the line has no id, time, number, position or partition, which are needed to keep positions"
            )
        partition, position, number = line.place
        self._part(partition)
        check_number(position, "position", 1)
        check_number(number, "number", 1)
        self._check_home(line.stream, partition)
        return Placed(position, number, line.stream, pack_event(line.stream, line.event(line.id), 0)), partition

    def _part(self, partition: int) -> Restoring:
        if not self._parts:
            raise _no_export()
        return self._parts[check_number(partition, "partition", 0, len(self._parts) - 1)]

    def _check_home(self, stream: str, partition: int) -> None:
        """Raise InvalidInput if this store has the stream in another partition: formats differ in that."""
        home = self._store.info.of_stream(stream).partition
        if home != partition:
            raise InvalidInput(
                f"stream {stream!r} is of partition {partition} in the export, and this store has it in partition "
                f"{home}: the text in braces decides in format 2",
                hint="Move such a store with `runner copy`, which gives new positions where it must.",
            )


def _no_export() -> InvalidInput:
    return InvalidInput(
        "the input does not begin as an export with positions does",
        hint="Make one: `runner export --with-positions FILE`. Or import without --keep-positions (keep_positions).",
    )
