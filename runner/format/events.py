"""Events before and after they are stored, and the envelope they are stored in.

The envelope is one MessagePack array, the only field of a log entry::

    [event id (16 bytes), stream, type, recorded-at (µs since 1970), data, metadata, CRC-32]
      ^ offset 3 to 18, which is where the Lua scripts look for it

The checksum is of everything between the array's first byte and itself. Servers keep no checksum in their append-only
files, so `runner verify` compares it. Reading does not: that would cost a tenth of its speed.

Reading decodes the envelope straight into a `RecordedEvent`; data and metadata stay packed until they are asked
for, so an event without a handler costs one envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Annotated, Any
from uuid import UUID, uuid4
from zlib import crc32

import msgspec
from msgspec import UNSET

from ..errors import DataError, InvalidInput, LogCorrupt, PayloadError, UndecodableEvent
from ..settings import MAX_EVENT_BYTES
from . import codec
from .names import MAX_NAME_BYTES, are_names, category_of, check_name

#: How MessagePack begins an array of seven items, and a number of 32 bits.
ARRAY_OF_SEVEN, UINT32 = b"\x97", b"\xce"

#: The place of the event id in an envelope.
EVENT_ID = slice(3, 19)

#: The name of the single field of a log entry.
FIELD = "e"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_MICROSECOND = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_MICROSECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def to_microseconds(time: datetime, what: str = "time") -> int:
    """Microseconds since 1970; raises InvalidInput for a datetime without a zone."""
    if not isinstance(time, datetime):
        raise InvalidInput(f"{what} must be a datetime with a zone, not {type(time).__name__}: {time!r}")
    if type(time) is not datetime:
        try:
            time = codec.plain(time)
        except codec.NotStorable as fault:
            raise InvalidInput(f"{what}: {fault}") from None
    if time.utcoffset() is None:
        raise InvalidInput(f"{what} {time.isoformat()} has no zone; give it one, for example tzinfo=UTC")
    microseconds = (time - _EPOCH) // _MICROSECOND
    if not _FIRST_MICROSECOND <= microseconds <= _LAST_MICROSECOND:
        raise InvalidInput(f"{what} {time.isoformat()} is outside the years 1 to 9999 in UTC")
    return microseconds


def from_microseconds(microseconds: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. ``id`` makes appending it idempotent; ``recorded_at`` defaults to the time of the append.

    ``data`` and ``metadata`` hold values that `runner.format.codec` lists. Raises InvalidName or InvalidInput.
    """

    type: str
    data: Any = None
    metadata: Any = None
    id: UUID = field(default_factory=uuid4)
    recorded_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", check_name(self.type, "event type"))
        if self.id is None:
            object.__setattr__(self, "id", uuid4())
        elif not isinstance(self.id, UUID):
            raise InvalidInput(f"an event id must be a UUID, not {type(self.id).__name__}: {self.id!r}")
        if self.recorded_at is not None:
            to_microseconds(self.recorded_at, "recorded_at")


#: Keys of the metadata that begin with this are the format's own; see `docs/format.md`.
RESERVED = "$runner:"


def _check_metadata(metadata: Any, what: str) -> None:
    """Raise PayloadError for metadata with a reserved key."""
    if isinstance(metadata, dict):
        for key in metadata:
            if isinstance(key, str) and key.startswith(RESERVED):
                raise PayloadError(
                    f"{what}: metadata holds the key {key!r}, and keys that begin with {RESERVED!r} are reserved",
                    hint="Give the key another name.",
                )


def pack_event(stream: str, event: NewEvent, now: int) -> bytes:
    """The envelope of ``event`` in ``stream``; ``now`` is in µs. Raises PayloadError."""
    recorded = now if event.recorded_at is None else to_microseconds(event.recorded_at)
    if event.metadata is not None:
        _check_metadata(event.metadata, f"event {event.type!r} of {stream!r}")
    try:
        body = codec.pack([event.id.bytes, stream, event.type, recorded, event.data, event.metadata])[1:]
        packed = b"".join((ARRAY_OF_SEVEN, body, UINT32, crc32(body).to_bytes(4, "big")))
    except codec.FAULTS:
        for what, value in (("data", event.data), ("metadata", event.metadata)):
            codec.pack_value(value, f"event {event.type!r} of {stream!r}: {what}")
        raise
    if len(packed) > MAX_EVENT_BYTES:
        raise PayloadError(
            f"event {event.type!r} of {stream!r} takes {len(packed)} bytes; the limit is {MAX_EVENT_BYTES}",
            hint="Store large content elsewhere and keep its address in the event.",
        )
    return packed


def is_intact(envelope: bytes) -> bool:
    """Whether an envelope that can be decoded still has the checksum that it was written with."""
    return crc32(envelope[1:-5]).to_bytes(4, "big") == envelope[-4:]


#: The text of a name; `are_names` compares the rest, which would take longer here.
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]


class RecordedEvent(msgspec.Struct, array_like=True, eq=False, gc=False):
    """An event of the log. Events are equal if place and content are; ``data`` is unpacked when it is asked for."""

    _id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    #: The event's stream, and its type.
    stream: _Name
    type: _Name
    _recorded: Annotated[int, msgspec.Meta(ge=_FIRST_MICROSECOND, le=_LAST_MICROSECOND)]
    _packed_data: msgspec.Raw
    _packed_metadata: msgspec.Raw
    _crc: Annotated[int, msgspec.Meta(ge=0)]
    #: The event's place in the log of the partition: 1, 2, 3 …
    position: int = 0
    #: The event's place in the stream: 1, 2, 3 …
    number: int = 0
    #: The partition that the stream is in.
    partition: int = 0
    _data: Any = UNSET
    _metadata: Any = UNSET

    @property
    def id(self) -> UUID:
        """What identifies the event within its stream."""
        return UUID(bytes=self._id)

    @property
    def category(self) -> str:
        """The stream's name up to its first ``-``."""
        return category_of(self.stream)

    @property
    def recorded_at(self) -> datetime:
        """When the event was recorded, by the writer's clock, in UTC."""
        return from_microseconds(self._recorded)

    @property
    def recorded_us(self) -> int:
        """The same in microseconds since 1970."""
        return self._recorded

    @property
    def data(self) -> Any:
        """The payload. Raises UndecodableEvent."""
        if self._data is UNSET:
            try:
                self._data = codec.unpack(self._packed_data)
            except codec.UNPACK_FAULTS as fault:
                raise UndecodableEvent(self.position, f"data: {fault}") from fault
        return self._data

    @property
    def metadata(self) -> Any:
        """The metadata that was stored beside the data. Raises UndecodableEvent."""
        if self._metadata is UNSET:
            try:
                self._metadata = codec.unpack(self._packed_metadata)
            except codec.UNPACK_FAULTS as fault:
                raise UndecodableEvent(self.position, f"metadata: {fault}") from fault
        return self._metadata

    def forget(self) -> None:
        """Drop the unpacked payload, so that the next reader unpacks a payload of its own."""
        self._data = self._metadata = UNSET

    @property
    def _size(self) -> int:
        """About how many bytes of memory the event takes as it is stored."""
        return len(self._packed_data) + len(self._packed_metadata)

    def copy(self) -> RecordedEvent:
        """The same event with a payload of its own, as it is stored."""
        return RecordedEvent(
            self._id, self.stream, self.type, self._recorded, self._packed_data, self._packed_metadata,
            self._crc, self.position, self.number, self.partition,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedEvent):
            return NotImplemented
        return (
            self.partition == other.partition
            and self.position == other.position
            and self.number == other.number
            and self._id == other._id
            and self.stream == other.stream
            and self.type == other.type
            and self._recorded == other._recorded
            and bytes(self._packed_data) == bytes(other._packed_data)
            and bytes(self._packed_metadata) == bytes(other._packed_metadata)
        )

    def __hash__(self) -> int:
        return hash((self.partition, self.position, self._id))

    def __repr__(self) -> str:
        return f"<{self.type} {self.stream!r} number={self.number} position={self.position}>"


@dataclass(slots=True)
class Page:
    """Events that were read together. ``damage``: the error of the entry right after them, if it is no valid event.

    ``sizes`` are the bytes of the events' envelopes. ``cut``: it has fewer events than were asked for, because these
    are large, and not because there are no more.
    """

    events: list[RecordedEvent]
    damage: DataError | None = None
    sizes: list[int] = field(default_factory=list)
    cut: bool = False

    @property
    def largest(self) -> int:
        """The bytes of the largest event; 0 without events."""
        return max(self.sizes, default=0)


#: The first byte of an envelope. It is compared because more items would set the fields behind the checksum.
_FIRST, _SEVEN = itemgetter(0), {ARRAY_OF_SEVEN[0]}

_DECODE_FAULTS = (ValueError, TypeError, LookupError, RecursionError)

_decode = msgspec.msgpack.Decoder(RecordedEvent).decode

#: Many numbers at once; `int` takes three times as long.
_numbers = msgspec.json.Decoder(list[int]).decode

#: One entry of XRANGE or XREAD: its ID, and its fields as a flat list.
Entry = Sequence[Any]


def entry_id(entry: Sequence[Any]) -> bytes:
    """The event id in an entry of the log, or other bytes if the entry is damaged."""
    return entry[1][1][EVENT_ID]  # type: ignore[no-any-return]


def decode_log(entries: Sequence[Entry], after: int, partition: int) -> Page:
    """Decode consecutive entries of a log that follow position ``after``; stop at a gap or a broken entry."""
    decoded = _decode_page(entries, partition)
    if decoded is not None:
        positions, events, sizes = decoded
        if positions == list(range(after + 1, after + 1 + len(events))):
            return Page(events, sizes=sizes)
    if len(entries) > 1:
        return _decode_one_by_one(entries, after, partition)
    return Page([], _what_is_wrong(entries[0], after + 1))


def decode_entries(entries: Sequence[Entry], partition: int) -> list[RecordedEvent]:
    """Decode entries of a log that need not be consecutive. Raises UndecodableEvent for the first broken one."""
    decoded = _decode_page(entries, partition)
    return [decode_entry(entry, partition) for entry in entries] if decoded is None else decoded[1]


def decode_entry(entry: Entry, partition: int) -> RecordedEvent:
    """Decode one log entry, at any position. Raises UndecodableEvent."""
    position = int(entry[0].partition(b"-")[0])
    page = decode_log([entry], position - 1, partition)
    if page.damage is not None:
        raise page.damage
    return page.events[0]


def _decode_page(entries: Sequence[Entry], partition: int) -> tuple[list[int], list[RecordedEvent], list[int]] | None:
    """The positions, the events and the sizes of entries; None if one of them is broken.

    This runs for every event that is read. It is the hottest piece of the package, so it works on whole pages. Only
    the entries of a damaged page are decoded one by one.
    """
    try:
        places = _numbers(b"[%b]" % b",".join([entry[0] for entry in entries]).replace(b"-", b","))
        positions, values = places[::2], [entry[1][1] for entry in entries]
        events = list(map(_decode, values))
        sizes = list(map(len, values))
        if values and not (_are_envelopes(values, sizes) and are_names(_names_of(events))):
            return None
    except _DECODE_FAULTS:
        return None
    for event, position, number in zip(events, positions, places[1::2], strict=True):
        event.position = position
        event.number = number
        event.partition = partition
    return positions, events, sizes


def _are_envelopes(values: list[bytes], sizes: list[int]) -> bool:
    """Whether what could be decoded has the size and the first byte that envelopes have."""
    return max(sizes) <= MAX_EVENT_BYTES and set(map(_FIRST, values)) == _SEVEN


def _names_of(events: list[RecordedEvent]) -> list[str]:
    return [event.stream for event in events] + [event.type for event in events]


def _decode_one_by_one(entries: Sequence[Entry], after: int, partition: int) -> Page:
    events: list[RecordedEvent] = []
    sizes: list[int] = []
    for position, entry in enumerate(entries, after):
        page = decode_log([entry], position, partition)
        if page.damage is not None:
            return Page(events, page.damage, sizes)
        events += page.events
        sizes += page.sizes
    return Page(events, sizes=sizes)


def _what_is_wrong(entry: Entry, position: int) -> DataError:
    entry_id, fields = entry
    if int(entry_id.partition(b"-")[0]) != position:
        return LogCorrupt(f"position {position} is missing from the log; the next entry is {entry_id.decode()}")
    try:
        size = len(fields[1])
        detail = f"its {size} bytes are over the limit of {MAX_EVENT_BYTES}"
        if size <= MAX_EVENT_BYTES:
            event = _decode(fields[1])
            detail = "it is not an envelope"
            check_name(event.stream)
            check_name(event.type, "event type")
    except _DECODE_FAULTS as fault:  # InvalidName is a ValueError
        detail = str(fault)
    return UndecodableEvent(position, detail, **_what_it_says(entry))


def _what_it_says(entry: Entry) -> dict[str, Any]:
    """The stream, number and type of an entry that cannot be decoded, if at least these can be read."""
    try:
        number = int(entry[0].partition(b"-")[2])
        _, stream, event_type = codec.first_items(entry[1][1], 3)
        return {"stream": check_name(stream), "number": number, "event_type": check_name(event_type, "event type")}
    except (*_DECODE_FAULTS, InvalidInput):
        return {}
