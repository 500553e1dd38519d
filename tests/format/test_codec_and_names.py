"""What an event may hold and what a stream may be called: what goes in comes back equal, or is refused by name."""

from __future__ import annotations

import enum
import math
import re
import subprocess
import sys
import zlib
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner import EventStore, InvalidInput, NewEvent
from runner.errors import InvalidName, LogCorrupt, PayloadError, UndecodableEvent
from runner.format.codec import pack_value, unpack
from runner.format.events import RecordedEvent, decode_entry, decode_log, pack_event, to_microseconds
from runner.format.names import MAX_NAME_BYTES, check_name, check_plain_name
from runner.settings import MAX_EVENT_BYTES

NOW = 1_700_000_000_000_000


def stored(value: Any) -> Any:
    """``value`` after it was packed and unpacked."""
    return unpack(pack_value(value, "data"))


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down: ``1``, ``1.0`` and ``True`` are three things."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(keyed, one)) == list(map(keyed, other)) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def keyed(key: object) -> tuple[type[Any], object]:
    return type(key), key


def an_event(data: Any = None, **changes: Any) -> NewEvent:
    return NewEvent(**{"type": "Deposited", "data": data, **changes})


def recorded(data: Any = None, **changes: Any) -> RecordedEvent:
    """An event as it comes out of the log, without a log."""
    packed = pack_event("account-1", an_event(data, **changes), NOW)
    return decode_entry(entry(1, packed), 0)


def entry(position: int, packed: bytes, number: int | None = None) -> tuple[bytes, list[bytes]]:
    return f"{position}-{number or position}".encode(), [b"e", packed]


def an_envelope(
    *, id_: Any = b"i" * 16, stream: Any = "account-1", type_: Any = "Deposited", at: Any = NOW, data: bytes = b"\xc0",
    metadata: bytes = b"\xc0", fields: int = 7,
) -> bytes:  # fmt: skip
    """The bytes of an envelope, put together by hand: data and metadata are given packed."""
    parts = [msgpack.packb(part) for part in (id_, stream, type_, at)]
    body = b"".join([*parts, data, metadata])
    checksum = b"\xce" + zlib.crc32(body).to_bytes(4, "big")
    return bytes([0x90 + fields]) + b"".join([*parts, data, metadata, checksum][:fields])


# -- B19: what comes back equal -----------------------------------------------------------------

ZONES = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
    lambda offset: timezone(timedelta(seconds=int(offset.total_seconds())))
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=12),
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.uuids(),
    st.decimals(allow_nan=False),
)
KEYS = st.one_of(TEXT, st.integers(-(2**63), 2**64 - 1), st.binary(max_size=4), st.uuids(), st.dates(), st.tuples(TEXT))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=400)
@given(value=VALUES)
@example(value=[2**64 - 1, -(2**63), 0, -0.0, math.inf, Decimal("1.10"), Decimal("-Infinity"), "", b"", (), [], {}])
@example(value={"nested": [{"deep": ({"er": [None, True, False]},)}], "": "\x00 \U0010ffff 🎉"})
@example(value=[datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), date.min, date.max])
def test_B19_what_can_be_stored_comes_back_equal(value: Any) -> None:
    """B19. Nested maps, lists and tuples of every kind come back equal, type for type, in their order."""
    assert same(stored(value), value)


@settings(max_examples=50)
@given(data=VALUES, metadata=VALUES)
def test_B19_data_and_metadata_come_back_from_the_envelope(data: Any, metadata: Any) -> None:
    """B19. An event that is packed and decoded has equal data and metadata, each in its place."""
    event = recorded(data, metadata=metadata)
    assert same(event.data, data)
    assert same(event.metadata, metadata)


@settings(max_examples=20)
@given(data=VALUES)
def test_B19_data_comes_back_from_a_store(store: EventStore, data: Any) -> None:
    """B19. What was appended is read back equal, on every kind of server."""
    # when
    version = store.append("account-1", an_event(data)).version

    # then
    [event] = store.read_stream("account-1", after=version - 1)
    assert same(event.data, data)


def test_an_event_that_is_read_twice_is_one_element_of_a_set(store: EventStore) -> None:
    """Events that are equal have the same hash, also before and after their data is unpacked."""
    store.append("account-1", [an_event(1), an_event(1)])
    first, again = list(store.read_all()), list(store.read_all())
    assert again[0].data == 1
    assert len({*first, *again}) == 2
    assert {event: event.position for event in first}[again[1]] == 2


def test_B19_a_float_that_is_no_number_comes_back_as_one() -> None:
    """B19. NaN, which equals nothing, is stored, as a float and as a Decimal."""
    number, exact = stored([math.nan, Decimal("NaN")])
    assert isinstance(number, float)
    assert math.isnan(number)
    assert isinstance(exact, Decimal)
    assert exact.is_nan()


def test_B19_a_zone_comes_back_as_its_offset() -> None:
    """B19. A datetime of a named zone comes back at the same moment with the same offset, also when clocks go back."""
    for fold in (0, 1):
        # given
        moment = datetime(2023, 10, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)

        # when
        back = stored(moment)

        # then
        assert back.astimezone(UTC) == moment.astimezone(UTC)
        assert back.utcoffset() == moment.utcoffset()


class Colour(str, enum.Enum):  # noqa: UP042 - the older form of a text enumeration, which is in wide use
    RED = "red"


class Level(int, enum.Enum):
    HIGH = 3


class Size(enum.StrEnum):
    BIG = "big"


class Grade(enum.IntEnum):
    A = 1


class Shape(enum.Enum):
    ROUND = 1


class Shown(str):
    """Text that is shown as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Moment(datetime):
    """A datetime of a class of its own, as other libraries have."""


class Timestamp(datetime):
    """A datetime with nanoseconds, which its equality regards and whose text shows them, as that of pandas."""

    nanosecond = 789

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and datetime.__eq__(self, other)

    __hash__ = datetime.__hash__

    def isoformat(self, *args: Any, **options: Any) -> str:
        return super().isoformat(*args, **options).replace("+", f"{self.nanosecond}+")


class NaTType(datetime):
    """Not a time, as pandas has it: a datetime without parts."""

    year = month = day = hour = minute = second = microsecond = float("nan")  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__

    def isoformat(self, *args: Any, **options: Any) -> str:
        return "NaT"


class Holiday(date):
    """A day that is told by its name."""

    def isoformat(self) -> str:
        return "New Year"


class Money(Decimal):
    """An amount that is shown with its currency."""

    def __str__(self) -> str:
        return f"€ {Decimal.__str__(self)}"


class Priced(Decimal):
    """An amount that equals no other in another currency."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Priced)

    __hash__ = Decimal.__hash__


class Short(UUID):
    """A UUID that is shown by its first digits."""

    def __str__(self) -> str:
        return self.hex[:8]


class Case(str):
    """Text that equals nothing but its like."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case)

    __hash__ = str.__hash__


class Scalar(float):
    """A float of a class of its own, as that of numpy is."""


NOON = (2026, 1, 31, 12, 0, 0, 123456, UTC)


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Size.BIG, "big"),
        (Shown("text"), "text"),
        (Level.HIGH, 3),
        (Grade.A, 1),
        (Point(1, [2]), (1, [2])),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({Colour.RED: 1}, {"red": 1}),
        (Moment(*NOON), datetime(*NOON)),
        (Holiday(2026, 1, 1), date(2026, 1, 1)),
        (Money("1.50"), Decimal("1.50")),
        (Short(int=7), UUID(int=7)),
        (Scalar(0.1), 0.1),
    ],
    ids=repr,
)
def test_B19_a_subclass_is_stored_as_what_it_equals(value: Any, plain: Any) -> None:
    """B19. Enumerations, named tuples and the like come back as the plain value that they equal."""
    assert value == plain
    assert same(stored(value), plain)


# -- B19: what is refused -----------------------------------------------------------------------


class Thing:
    """Something that nobody can store."""


#: A class with the name of a builtin one, as numpy has.
ANOTHER_BOOL = type("bool", (), {"__module__": "numpy"})


@dataclass
class Refused:
    """A value that cannot be stored, and what the error says of it."""

    value: Any
    reason: str


REFUSED = {
    "set": Refused({1, 2}, "a set; store a sorted list"),
    "frozenset": Refused(frozenset({1}), "a frozenset; store a sorted list"),
    "naive datetime": Refused(datetime(2024, 1, 1), "a datetime without a zone"),
    "65-bit int": Refused(2**64, "an integer of more than 64 bits"),
    "65-bit negative int": Refused(-(2**63) - 1, "an integer of more than 64 bits"),
    "lone surrogate": Refused("a\ud800b", "text that is not valid Unicode"),
    "object": Refused(Thing(), "a Thing"),
    "namesake of bool": Refused(ANOTHER_BOOL(), "a numpy.bool; store maps"),
    "class": Refused(Thing, "a type"),
    "function": Refused(stored, "a function"),
    "complex": Refused(1j, "a complex"),
    "time": Refused(datetime(2024, 1, 1, 12).time(), "a time"),
    "timedelta": Refused(timedelta(1), "a timedelta"),
    "plain enumeration": Refused(Shape.ROUND, "a Shape"),
    "nanoseconds": Refused(Timestamp(*NOON), f"a Timestamp, which would come back as {datetime(*NOON)!r}"),
    "no time": Refused(NaTType(*NOON), "a NaTType, which is no datetime"),
    "Decimal that equals no other": Refused(Priced(1), "a Priced, which would come back as Decimal('1')"),
    "text that equals no other": Refused(Case("a"), "a Case, which would come back as 'a'"),
}

PLACES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "itself": (lambda value: value, "data"),
    "in a map": (lambda value: {"a": 1, "amount": value}, "data.amount"),
    "in a list": (lambda value: [0, 1, value], "data[2]"),
    "in a tuple": (lambda value: (value,), "data[0]"),
    "deep": (lambda value: {"items": [1, {"lines": ("x", [value])}]}, "data.items[1].lines[1][0]"),
    "under a number": (lambda value: {7: value}, "data[7]"),
}


@pytest.mark.parametrize(("place", "path"), PLACES.values(), ids=list(PLACES))
@pytest.mark.parametrize("refused", REFUSED.values(), ids=list(REFUSED))
def test_B19_what_cannot_be_stored_is_named_with_its_path(
    refused: Refused, place: Callable[[Any], Any], path: str
) -> None:
    """B19. The error says what it is that cannot be stored, and where in the payload it is."""
    with pytest.raises(PayloadError) as error:
        pack_value(place(refused.value), "data")
    assert str(error.value).startswith(f"{path} cannot be stored: {refused.reason}")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (frozenset({1}), "a frozenset"),
        (2**64, "an integer of more"),
        ("\udc00", "text that is not valid"),
        (Thing, "a type"),
    ],
)
def test_B19_a_key_that_cannot_be_stored_is_named(key: Any, reason: str) -> None:
    """B19. A key is refused as a value is; the error shows the key."""
    with pytest.raises(PayloadError) as error:
        pack_value({"rows": {key: 1}}, "data")
    assert str(error.value).startswith(f"data.rows (the key {key!r}) cannot be stored: {reason}")


def test_B19_the_error_names_event_and_stream_and_nothing_is_sent(store: EventStore) -> None:
    """B19. An append with one bad event among good ones is refused before anything is sent."""
    # given
    events = [an_event({"amount": 1}), an_event(metadata={"tags": {1}}), an_event({"amount": 2})]

    # when
    with pytest.raises(PayloadError) as error:
        store.append("account-1", events)

    # then
    text = "event 'Deposited' of 'account-1': metadata.tags cannot be stored: a set; store a sorted list"
    assert str(error.value) == text
    assert store.version("account-1") == 0
    assert store.last_position() == 0


def test_B19_a_float_of_another_class_that_is_no_number_is_stored() -> None:
    """B19. NaN equals nothing, and is the plain value all the same."""
    assert math.isnan(stored(Scalar("nan")))
    assert stored(Money("NaN")).is_nan()


@pytest.mark.parametrize(("moment", "reason"), [(Timestamp(*NOON), "would come back as"), (NaTType(*NOON), "is no")])
def test_B19_a_time_of_recording_is_not_shortened(moment: datetime, reason: str) -> None:
    """B19. The log has microseconds: a time that is finer, or none, is refused by the name of the argument."""
    with pytest.raises(InvalidInput, match=f"recorded_at: a .*{reason}"):
        NewEvent("Deposited", recorded_at=moment)
    with pytest.raises(InvalidInput, match=f"since: a .*{reason}"):
        to_microseconds(moment, "since")


def test_a_name_of_a_class_of_its_own_is_the_plain_name(store: EventStore) -> None:
    """B1. The stream has the name that the text is, in the log and in the keys, not the one that is shown."""
    store.append(Colour.RED, NewEvent(Shown("Deposited")))
    store.append("red", an_event(), 1)

    assert store.version("red") == store.version(Shown("red")) == 2
    assert [type(event.type) for event in store.read_stream(Colour.RED)] == [str, str]
    assert type(NewEvent(Shown("Deposited")).type) is str
    store.append_many([], bookmark=(Colour.RED, 7))
    assert store.bookmark("red") == 7


def test_B19_after_a_refusal_the_next_value_is_whole() -> None:
    """B19. Half a value that was given up leaves nothing in what is packed next."""
    for refused in REFUSED.values():
        with pytest.raises(PayloadError):
            pack_value({"before": "x" * 100, "bad": refused.value}, "data")
        assert stored({"amount": 1}) == {"amount": 1}


def test_B19_an_event_that_is_too_large_is_refused_with_its_size() -> None:
    """B19. An event may have so many bytes with its envelope, and not one more; the error says how many it has."""
    # given
    around = len(pack_event("account-1", an_event(b"x" * 100_000), NOW)) - 100_000

    # when
    whole = pack_event("account-1", an_event(b"x" * (MAX_EVENT_BYTES - around)), NOW)
    with pytest.raises(PayloadError) as error:
        pack_event("account-1", an_event(b"x" * (MAX_EVENT_BYTES - around + 1)), NOW)

    # then
    assert len(whole) == MAX_EVENT_BYTES
    assert str(MAX_EVENT_BYTES + 1) in str(error.value)
    assert error.value.hint


def nested(levels: int, kind: Callable[[Any], Any], innermost: Any = None) -> Any:
    value = innermost
    for _ in range(levels):
        value = kind(value)
    return value


KINDS: dict[str, Callable[[Any], Any]] = {
    "lists": lambda value: [value],
    "maps": lambda value: {"a": value},
    "tuples": lambda value: (value,),
    "lists in tuples": lambda value: ([value],),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [10, 100, 250, 400, 900, 3000])
def test_B19_what_is_nested_is_refused_or_can_be_read_again(kind: str, levels: int) -> None:
    """B19. Nothing is nested so deeply that it could be stored and never be read; 100 lists and 10 tuples are fine."""
    value = nested(levels, KINDS[kind])
    try:
        packed = pack_value(value, "data")
    except PayloadError as error:
        assert levels > (10 if "tuples" in kind else 100)
        assert "nested too deeply" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert pack_value(unpack(packed), "data") == packed


@pytest.mark.parametrize("levels", [0, 10, 200])
def test_B19_a_payload_that_holds_itself_is_refused(levels: int) -> None:
    """B19. A payload that goes round in a circle, through lists and a tuple, is refused; the process lives on."""
    # given
    program = f"""
from runner.format.codec import pack_value
from runner.errors import PayloadError
tuple_ = ([],)
innermost = tuple_[0]
for _ in range({levels}):
    innermost.append([])
    innermost = innermost[0]
innermost.append(tuple_)
try:
    pack_value(tuple_, "data")
except PayloadError as error:
    print(error)
"""

    # when
    command = [sys.executable, "-P", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    # then
    assert ran.returncode == 0, f"the process ended with {ran.returncode}: {ran.stderr[-500:]}"
    assert "cannot be stored: a value nested too deeply" in ran.stdout


# -- B20: names ---------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=MAX_NAME_BYTES).filter(
    lambda name: len(name.encode()) <= MAX_NAME_BYTES
)


def of_bytes(count: int, character: str) -> str:
    """A name of so many bytes, of one character; what is left over is filled with ``x``."""
    size = len(character.encode())
    return character * (count // size) + "x" * (count % size)


@settings(max_examples=40)
@given(name=NAMES)
@example(name="{es.0}:log")
@example(name="account-1 }{ : * ? [a] \\ '\" 🎉")
@example(name=" ")
@example(name="-")
@example(name="%s%d{}\u2028\u00a0\ufeff")
@example(name=of_bytes(MAX_NAME_BYTES, "x"))
@example(name=of_bytes(MAX_NAME_BYTES, "é"))
@example(name=of_bytes(MAX_NAME_BYTES, "🎉"))
def test_B20_any_text_can_name_a_stream(store: EventStore, name: str) -> None:
    """B20. What is appended under a name is read under it, and stands under it in the log."""
    # when
    result = store.append(name, an_event({"name": name}))

    # then
    [event] = store.read_stream(name, after=result.version - 1)
    assert (event.stream, event.number, event.data) == (name, result.version, {"name": name})
    assert store.version(name) == result.version
    [logged] = store.read_all(after=result.position - 1)
    assert logged == event
    assert logged.category == name.split("-")[0]


def test_B20_names_that_look_alike_are_different_streams(store: EventStore) -> None:
    """B20. Names are not folded, trimmed or normalised."""
    # given
    names = ["a", "A", "a ", " a", "a:", "{a}", "é", "e\u0301", "a-1", "a-01"]

    # when
    for count, name in enumerate(names, 1):
        store.append(name, [an_event() for _ in range(count)])

    # then
    assert [store.version(name) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\t", "\x1b", "\x1f", "\x7f", "\x80", "\x9f", "\ud800"])
def test_B20_control_characters_are_refused_by_name(store: EventStore, character: str) -> None:
    """B20. A control character anywhere in a name is refused; the error shows it; nothing is written."""
    for name in (character, f"account{character}-1", f"account-1{character}"):
        # when
        with pytest.raises(InvalidName) as error:
            store.append(name, an_event())

        # then
        assert repr(character) in str(error.value)
        for use in (lambda name: list(store.read_stream(name)), store.version, lambda name: an_event(type=name)):
            with pytest.raises(InvalidName):
                use(name)
    assert store.last_position() == 0


@pytest.mark.parametrize("character", ["x", "é", "€", "🎉"])
def test_B20_the_limit_counts_bytes(character: str) -> None:
    """B20. A name of 512 bytes of UTF-8 is allowed, one of 513 is not, whatever it is made of."""
    assert MAX_NAME_BYTES == 512
    assert check_name(of_bytes(512, character)) == of_bytes(512, character)
    with pytest.raises(InvalidName, match="longer than 512 bytes"):
        check_name(of_bytes(513, character))


@pytest.mark.parametrize("name", ["", None, 1, b"account-1", ["account-1"]], ids=repr)
def test_B20_what_is_not_a_name_is_refused(store: EventStore, name: Any) -> None:
    """B20. An empty name, and whatever is not text, is the caller's error."""
    with pytest.raises(InvalidInput):
        store.append(name, an_event())
    with pytest.raises(InvalidInput):
        list(store.read_stream(name))


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a:b", "{a}", "é", "a/b", "a\n", "x" * 513], ids=repr)
def test_names_of_stores_and_projections_are_plain(name: str) -> None:
    """Stores, projections and builds are named with letters, digits, ``_``, ``-`` and ``.`` alone."""
    with pytest.raises(InvalidName):
        check_plain_name(name, "projection")
    assert check_plain_name("balances_2.v-1", "projection") == "balances_2.v-1"


# -- hostile bytes ------------------------------------------------------------------------------


def ext(code: int, raw: bytes) -> bytes:
    return bytes(msgpack.packb(msgpack.ExtType(code, raw)))


HOSTILE_DATA = {
    "unknown extension": ext(77, b"x"),
    "extension inside a list": b"\x91" + ext(77, b"x"),
    "datetime that is none": ext(1, b"yesterday"),
    "datetime that is no text": ext(1, b"\xff\xfe"),
    "date that is none": ext(2, b"2023-02-30"),
    "UUID of three bytes": ext(3, b"abc"),
    "decimal that is none": ext(4, b"one"),
    "tuple that is truncated": ext(5, b"\x93\x01"),
    "tuple that claims two thousand million": ext(5, b"\xdd\x7f\xff\xff\xff"),
    "tuple with more behind it": ext(5, b"\x90\x90"),
    "tuple that is a number": ext(5, b"\x01"),
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "map with a list of maps as key": b"\x81\x91\x80\x01",
    "map with a map as key": b"\x81\x80\x01",
}


@pytest.mark.parametrize("packed", HOSTILE_DATA.values(), ids=list(HOSTILE_DATA))
def test_hostile_data_is_an_event_that_cannot_be_decoded(packed: bytes) -> None:
    """The envelope can be read, so the event has its place; asking for the payload says what is wrong with it."""
    # given
    page = decode_log([entry(7, an_envelope(data=packed, metadata=packed))], 6, 0)

    # when
    [event] = page.events
    for part in ("data", "metadata"):
        with pytest.raises(UndecodableEvent) as error:
            getattr(event, part)

        # then
        assert error.value.position == 7
        assert part in str(error.value)
    assert (event.stream, event.position) == ("account-1", 7)


@pytest.mark.parametrize("kind", [b"\x91", b"\x81", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01"], ids=repr)
@pytest.mark.parametrize("levels", [1_100, 200_000])
def test_deep_nesting_does_not_crash_the_reader(kind: bytes, levels: int) -> None:
    """Bytes that nest a thousand or two hundred thousand levels give an event that cannot be decoded, or no event."""
    page = decode_log([entry(1, an_envelope(data=kind * levels + b"\xc0"))], 0, 0)
    if page.events:
        with pytest.raises(UndecodableEvent):
            _ = page.events[0].data
    else:
        assert isinstance(page.damage, UndecodableEvent)


@pytest.mark.parametrize("lists", [1, 50, 400])
def test_deep_nesting_of_tuples_does_not_crash_the_reader(lists: int) -> None:
    """The same where extension types are nested in one another, with lists between."""
    # given
    packed = b"\xc0"
    while len(packed) < 300_000 and len(packed) < 1000 * (lists + 6):
        packed = ext(5, b"\x91" * lists + packed)

    # when
    [event] = decode_log([entry(1, an_envelope(data=packed))], 0, 0).events

    # then
    with pytest.raises(UndecodableEvent):
        _ = event.data


HOSTILE_ENVELOPES = {
    "nothing": b"",
    "a number": b"\x01",
    "a map": b"\x80",
    "text": b"\xa3abc",
    "an invalid byte": b"\xc1",
    "six fields": an_envelope(fields=6),
    "a stream that is a number": an_envelope(stream=1),
    "a type that is nothing": an_envelope(type_=None),
    "an id that is text": an_envelope(id_="i" * 16),
    "an id of three bytes": an_envelope(id_=b"abc"),
    "an id of seventeen bytes": an_envelope(id_=b"i" * 17),
    "a time that is text": an_envelope(at="now"),
    "a time beyond the calendar": an_envelope(at=2**63),
    "a time before the calendar": an_envelope(at=-(2**63)),
    "more behind it": an_envelope() + b"\xc0",
    "a list that claims four thousand million": an_envelope(data=b"\xdd\xff\xff\xff\xff"),
    "text that claims four thousand million": an_envelope(data=b"\xdb\xff\xff\xff\xff"),
    "over the limit": an_envelope(data=bytes(msgpack.packb(b"x" * MAX_EVENT_BYTES))),
    "over the limit with maps": an_envelope(data=b"\xdd\x00\x11\x00\x00" + b"\x80" * 0x110000),
}


@pytest.mark.parametrize("packed", HOSTILE_ENVELOPES.values(), ids=list(HOSTILE_ENVELOPES))
def test_an_entry_that_is_no_envelope_cannot_be_decoded(packed: bytes) -> None:
    """What is not an event of ours is named with its position, alone or between good ones."""
    # given
    good = an_envelope()

    # when
    alone = decode_log([entry(5, packed)], 4, 0)
    between = decode_log([entry(4, good), entry(5, packed), entry(6, good)], 3, 0)

    # then
    for page in (alone, between):
        assert isinstance(page.damage, UndecodableEvent)
        assert page.damage.position == 5
    assert alone.events == []
    assert [event.position for event in between.events] == [4]
    with pytest.raises(UndecodableEvent):
        decode_entry(entry(5, packed), 0)


@settings(max_examples=60)
@given(data=VALUES, cut=st.integers(0, 10_000))
def test_a_truncated_envelope_cannot_be_decoded(data: Any, cut: int) -> None:
    """Wherever an envelope is cut off, what is left of it is refused."""
    packed = pack_event("account-1", an_event(data), NOW)
    page = decode_log([entry(1, packed[: cut % len(packed)])], 0, 0)
    assert page.events == []
    assert isinstance(page.damage, UndecodableEvent)


@settings(max_examples=300)
@given(data=VALUES, changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_an_event_or_an_error_of_ours(data: Any, changes: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed, reading everything an event has gives values or UndecodableEvent, nothing else."""
    # given
    packed = bytearray(pack_event("account-1", an_event(data, metadata=data), NOW))
    for place, byte in changes:
        packed[place % len(packed)] = byte

    # when
    page = decode_log([entry(1, bytes(packed))], 0, 0)

    # then
    if page.damage is not None:
        assert isinstance(page.damage, UndecodableEvent)
    for event in page.events:
        assert isinstance(event.id, UUID)
        assert isinstance(event.recorded_at, datetime)
        for part in ("data", "metadata"):
            try:
                getattr(event, part)
            except UndecodableEvent as error:
                assert error.position == 1  # noqa: PT017 - both outcomes are right


# -- pages of the log ---------------------------------------------------------------------------


def a_log(first: int, last: int) -> list[Any]:
    """Good entries for positions ``first`` to ``last``; each holds its position as data."""
    return [entry(position, pack_event("a-1", an_event(position), NOW)) for position in range(first, last + 1)]


def test_a_sound_page_has_every_event_in_its_place() -> None:
    """Position, number and partition come from the entry; nothing stands behind the events."""
    page = decode_log(a_log(11, 13), 10, 3)
    assert page.damage is None
    assert [(event.position, event.number, event.partition, event.data) for event in page.events] == [
        (11, 11, 3, 11), (12, 12, 3, 12), (13, 13, 3, 13),
    ]  # fmt: skip


def test_an_empty_page_is_sound() -> None:
    """Nothing to decode is no trouble."""
    page = decode_log([], 10, 0)
    assert (page.events, page.damage) == ([], None)


@settings(max_examples=40)
@given(size=st.integers(1, 12), place=st.integers(0, 11), after=st.integers(0, 2**53))
def test_the_events_before_a_broken_entry_are_kept(size: int, place: int, after: int) -> None:
    """Wherever in a page the broken entry is, what stands before it is whole, and the trouble names its position."""
    # given
    entries = a_log(after + 1, after + size)
    place %= size
    entries[place] = entry(after + 1 + place, b"\xc1 not an envelope")

    # when
    page = decode_log(entries, after, 0)

    # then
    assert [event.data for event in page.events] == list(range(after + 1, after + 1 + place))
    assert isinstance(page.damage, UndecodableEvent)
    assert page.damage.position == after + 1 + place


@settings(max_examples=40)
@given(size=st.integers(1, 12), place=st.integers(0, 11), gap=st.integers(1, 1000))
def test_the_events_before_a_gap_are_kept(size: int, place: int, gap: int) -> None:
    """Wherever positions jump, what stands before the gap is whole, and the trouble names the first one missing."""
    # given
    place %= size
    entries = a_log(6, 5 + place) + a_log(6 + place + gap, 5 + size + gap)

    # when
    page = decode_log(entries, 5, 0)

    # then
    assert [event.position for event in page.events] == list(range(6, 6 + place))
    assert isinstance(page.damage, LogCorrupt)
    assert f"position {6 + place} is missing" in str(page.damage)
    assert f"{6 + place + gap}-" in str(page.damage)


def test_positions_that_repeat_or_go_back_are_a_broken_log() -> None:
    """A page that brings a position twice, or one from before, stops there."""
    good = a_log(1, 4)
    for entries in ([*good, good[3]], [*good, good[0]]):
        page = decode_log(entries, 0, 0)
        assert [event.position for event in page.events] == [1, 2, 3, 4]
        assert isinstance(page.damage, LogCorrupt)


def test_two_faults_in_a_page_show_the_first() -> None:
    """A gap behind a broken entry is not what is reported, nor the other way round."""
    # given
    broken = entry(2, b"\xc1")

    # when
    broken_first = decode_log([*a_log(1, 1), broken, *a_log(4, 5)], 0, 0)
    gap_first = decode_log([*a_log(1, 1), *a_log(3, 3), entry(4, b"\xc1")], 0, 0)

    # then
    assert isinstance(broken_first.damage, UndecodableEvent)
    assert isinstance(gap_first.damage, LogCorrupt)
    assert [len(page.events) for page in (broken_first, gap_first)] == [1, 1]


def test_an_entry_of_somebody_else_in_the_log_stops_the_reader(store: EventStore) -> None:
    """What another program wrote into the log is reported at its position; the events before it are read."""
    # given
    store.append("account-1", [an_event(1), an_event(2)])
    store.driver.execute([("XADD", store.info.of_partition(0).log, "3-1", "name", "value")])

    # when
    reading = store.read_all()
    read = [next(reading).data, next(reading).data]
    with pytest.raises(UndecodableEvent) as error:
        next(reading)

    # then
    assert read == [1, 2]
    assert error.value.position == 3


# -- events before they are stored ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"type": ""}, "event type"),
        ({"type": "a\nb"}, "event type"),
        ({"type": 7}, "event type"),
        ({"id": "123"}, "must be a UUID"),
        ({"recorded_at": datetime(2024, 1, 1)}, "no zone"),
        ({"recorded_at": 17}, "recorded_at"),
    ],
    ids=repr,
)
def test_an_event_that_cannot_be_right_is_refused_when_it_is_made(changes: dict[str, Any], text: str) -> None:
    """Type, id and time are checked where the event is made, and the error names which it was."""
    with pytest.raises(InvalidInput, match=text):
        an_event(**changes)


def test_an_event_keeps_its_id_and_its_time_to_the_microsecond() -> None:
    """What the caller gave is what is recorded, in UTC."""
    # given
    id_, at = uuid4(), datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-5)))

    # when
    event = recorded(id=id_, recorded_at=at)

    # then
    assert event.id == id_
    assert event.recorded_at == at
    assert event.recorded_at.tzinfo is UTC
    assert recorded().recorded_us == NOW


def test_the_payload_of_an_event_nobody_asked_for_is_not_unpacked() -> None:
    """A page with a payload that cannot be decoded is sound for everyone who does not look into it."""
    page = decode_log([entry(1, an_envelope(data=ext(77, b"x"))), *a_log(2, 3)], 0, 0)
    assert page.damage is None
    assert [event.data for event in page.events[1:]] == [2, 3]


def test_a_packed_value_is_the_same_for_equal_values() -> None:
    """Packing is a function of the value: what is equal and of the same types has the same bytes."""
    value = {"id": UUID(int=1), "at": datetime(2024, 1, 1, tzinfo=UTC), "lines": [(1, Decimal("2.50"))]}
    assert pack_value(value, "data") == pack_value(stored(value), "data")
    assert pack_value(1, "data") != pack_value(1.0, "data")


@pytest.mark.parametrize("key", ["$runner:version", "$runner:", "$runner:mine"])
def test_reserved_keys_of_the_metadata_are_refused(key: str) -> None:
    """They are the format's own; the same key in the data is the application's, and so is a similar one."""
    with pytest.raises(PayloadError, match=re.escape(key)):
        pack_event("account-1", NewEvent("Deposited", metadata={"by": "ada", key: 1}), 0)
    assert pack_event("account-1", NewEvent("Deposited", data={key: 1}, metadata={"runner:version": 1, 5: key}), 0)
