"""Importing JSON lines: the file's order, each event once, another writer meanwhile, and whose fault a line is."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from click.testing import CliRunner

from runner import EventStore, InvalidInput, NewEvent, RecordedEvent
from runner.cli.main import main
from runner.effects import DriverOperation, Send
from runner.errors import DataError
from runner.format.codec import pack
from runner.format.json_lines import dump, from_json, parse, to_json
from runner.operations import import_lines
from runner.operations.import_lines import EVENTS_A_BATCH
from runner.settings import MAX_EVENT_BYTES
from runner.testing import TEST_SETTINGS, all_events
from runner.wire.clock import now_in_microseconds

#: The module, whose name in its package is that of the function.
module = importlib.import_module("runner.operations.import_lines")


def line(stream: str, kind: str, **more: object) -> bytes:
    return json.dumps({"stream": stream, "type": kind, **more}).encode()


def types(store: EventStore, stream: str) -> list[str]:
    return [event.type for event in store.read_stream(stream)]


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


class SharedStore(EventStore):
    """A store in which something happens before each command that appends."""

    before_append: Callable[[], None] = staticmethod(lambda: None)

    def run(self, operation: DriverOperation[Any]) -> Any:
        return super().run(self._disturbed(operation))

    def _disturbed(self, operation: DriverOperation[Any]) -> DriverOperation[Any]:
        try:
            effect = next(operation)
            while True:
                if isinstance(effect, Send) and getattr(effect.commands[0][0], "name", "") == "log/append":
                    self.before_append()
                effect = operation.send((yield effect))
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def shared(url: str, store: EventStore) -> Any:
    """The same store as ``store``, seen by an import that another writer interferes with."""
    with SharedStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as opened:
        yield opened


@pytest.mark.parametrize("old", [0, 1], ids=["new stream", "known stream"])
@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("times", [1, 3])
def test_a_stream_keeps_the_order_of_the_file_while_another_writer_appends_to_it(
    store: EventStore, shared: SharedStore, old: int, others: int, times: int
) -> None:
    """However often the other one writes, and however much, no event of the file passes one that stands before it."""
    store.append("a-1", [NewEvent("Old")] * old)
    foreign: list[NewEvent] = []

    def interfere() -> None:
        if len(foreign) < times * others:
            events = [NewEvent("Other") for _ in range(others)]
            foreign.extend(events)
            store.append("a-1", events)

    shared.before_append = interfere
    names = [f"E{place}" for place in range(5)]
    result = import_lines(shared, [text for name in names for text in (line("a-1", name), line("b-1", name))])
    assert result.appended == 10
    found = types(store, "a-1")
    assert [name for name in found if name.startswith("E")] == names
    assert sorted(found) == sorted(names + ["Old"] * old + ["Other"] * len(foreign))
    assert types(store, "b-1") == names


def test_another_writer_that_imports_the_same_file_takes_no_event_away_and_adds_none(
    store: EventStore, shared: SharedStore
) -> None:
    """An event that the other one appended since the stream was looked at is known, the rest follows in order."""
    lines = [line(stream, f"E{place}") for place in range(4) for stream in ("a-1", "a-1", "b-1")]
    parts = iter([lines[:1], lines[:5]])

    def interfere() -> None:
        import_lines(store, next(parts, []))

    shared.before_append = interfere
    import_lines(shared, lines)
    assert types(store, "a-1") == ["E0", "E0", "E1", "E1", "E2", "E2", "E3", "E3"]
    assert types(store, "b-1") == ["E0", "E1", "E2", "E3"]


@pytest.mark.parametrize("before", [0, 700])
@pytest.mark.parametrize("streams", [1, 3, 40])
def test_the_log_has_the_order_of_the_file_when_nobody_else_writes(
    store: EventStore, before: int, streams: int
) -> None:
    """New streams and streams that an import cut short began: position by position as in the file."""
    place_of = [(place * place + place // 3) % streams for place in range(1500)]
    lines = [line(f"a-{stream}", f"T{place}") for place, stream in enumerate(place_of)]
    import_lines(store, lines[:before])
    result = import_lines(store, lines)
    assert (result.known, result.appended) == (before, 1500 - before)
    assert [event.type for event in all_events(store)] == [f"T{place}" for place in range(1500)]


@pytest.mark.parametrize("apart", [0, 1, EVENTS_A_BATCH + 5])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_an_id_that_a_file_holds_twice_is_stored_once(store: EventStore, apart: int, skip_bad: bool) -> None:
    """A new stream or not, side by side or in another batch: the second one is known, and nobody's line is lost."""
    twice = line("a-1", "X", id=str(UUID(int=7)))
    between = [line("a-1", f"T{place}") for place in range(apart)]
    result = import_lines(store, [twice, *between, twice, line("a-1", "Y")], skip_bad=skip_bad)
    assert (result.appended, result.known, result.bad) == (apart + 2, 1, ())
    assert types(store, "a-1") == ["X", *(f"T{place}" for place in range(apart)), "Y"]


def test_a_stream_that_is_written_to_all_the_time_is_named_with_its_own_line(
    store: EventStore, shared: SharedStore
) -> None:
    """It is not the fault of the line that is being read, so --skip-bad does not pass over it."""

    def interfere() -> None:
        store.append("a-1", NewEvent("Other"))

    shared.before_append = interfere
    lines = [line("b-1", "X"), line("a-1", "X"), *(line("b-1", f"T{place}") for place in range(EVENTS_A_BATCH + 5))]
    with pytest.raises(InvalidInput, match="line 2: stream 'a-1' is written to all the time"):
        import_lines(shared, lines, skip_bad=True)
    assert types(store, "b-1")[0] == "X"
    assert set(types(store, "a-1")) == {"Other"}


def test_an_event_just_over_the_limit_of_size_is_its_own_lines_fault(store: EventStore) -> None:
    """The time that the append adds to an event without one counts."""
    fixed = (
        len(msgspec.msgpack.encode([b"0" * 16, "a-1", "X", now_in_microseconds(), "x" * 70_000, None, 2**32 - 1]))
        - 70_000
    )
    large = line("a-1", "X", data="x" * (MAX_EVENT_BYTES - fixed + 1))
    fits = line("a-1", "Z", data="x" * (MAX_EVENT_BYTES - fixed))
    result = import_lines(store, [line("a-1", "W"), large, fits, line("a-1", "Y")], skip_bad=True)
    assert [number for number, _ in result.bad] == [2]
    assert types(store, "a-1") == ["W", "Z", "Y"]
    with pytest.raises(InvalidInput, match=r"line 2: .* bytes; the limit is"):
        import_lines(store, [line("b-1", "W"), large])
    assert types(store, "b-1") == ["W"]


def test_events_that_together_are_larger_than_one_append_are_imported(store: EventStore) -> None:
    """A batch is never larger than what one append may hold."""
    lines = [line("a-1", f"T{place}", data="x" * 900_000) for place in range(12)]
    assert import_lines(store, lines).appended == 12
    assert types(store, "a-1") == [f"T{place}" for place in range(12)]


@pytest.mark.parametrize("levels", [700, 990, 100_000])
def test_a_line_that_is_nested_too_deeply_is_a_bad_line(store: EventStore, levels: int) -> None:
    """Whichever part of reading it gives up, the reason is a sentence."""
    deep = b'{"stream": "a-1", "type": "X", "data": ' + b"[" * levels + b"]" * levels + b"}"
    result = import_lines(store, [line("a-1", "W"), deep, line("a-1", "Y")], skip_bad=True)
    [(number, _)] = result.bad
    assert number == 2
    assert types(store, "a-1") == ["W", "Y"]


def test_too_deep_a_value_is_a_clear_error_on_every_way() -> None:
    """Read, written, or written as part of an event: whose position is named."""
    deep = nested(100_000)
    with pytest.raises(InvalidInput, match="nested too deeply"):
        from_json(deep)
    with pytest.raises(DataError, match="nested too deeply"):
        to_json(deep)
    none = msgspec.Raw(b"\xc0")
    event = RecordedEvent(b"0" * 16, "a-1", "X", 0, none, none, 0, 7, 1, 0, deep)
    with pytest.raises(DataError, match="position 7 cannot be written as JSON: nested too deeply"):
        dump(event)


def test_tags_inside_tags_are_read_as_they_were_written() -> None:
    """Tuples and maps hold other values that JSON lacks."""
    value = {"pair": (b"\x00", {1: (UUID(int=1),)}), "list": [{2: None}]}
    assert from_json(to_json(value)) == value
    assert parse(line("a-1", "X", data=to_json(value))).data == value


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1.5, -0.0, 2**64 - 1, -(2**63)])
def test_a_number_is_written_as_json_and_comes_back(number: float) -> None:
    """What JSON has no number for is tagged; every reader of JSON can read the text."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    event = RecordedEvent(
        b"0" * 16, "a-1", "X", 0, msgspec.Raw(pack({"n": [number]})), msgspec.Raw(pack({number: 1})), 0, 7, 1, 0
    )
    text = dump(event)
    json.loads(text, parse_constant=refuse)
    read = parse(text.encode())
    assert repr(read.data) == repr({"n": [number]})
    assert repr(read.metadata) == repr({number: 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", 'write {"$runner:float": "NaN"}'),
        ("[-Infinity]", 'write {"$runner:float": "-Infinity"}'),
        ('{"a": Infinity}', "Infinity is no number of JSON"),
        ("1e400", 'write {"$runner:decimal": "1e400"}'),
        ("[-1e400]", "more than a float can hold"),
        ("1" * 5000, "more than 64 bits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "an object has the key 'c' twice"),
        ('{"$runner:map": [[1, 2], [1, 3]]}', "has a key twice"),
        ('{"$runner:map": {"ab": 1}}', "must be a list"),
        ('{"$runner:tuple": "ab"}', "must be a list"),
        ('{"$runner:decimal": 1.1}', "must be a decimal number as text, such as 1.50, not 1.1"),
        ('{"$runner:uuid": 7}', "must be a UUID, not 7"),
        ('{"$runner:float": "1.5"}', "must be one of NaN, Infinity, -Infinity, not '1.5'"),
        ('{"$runner:datetime": "2026-01-31T12:00:00.123456789+00:00"}', "must be an ISO 8601 time of microseconds"),
    ],
)
def test_what_is_no_json_or_would_be_changed_is_refused(text: str, reason: str) -> None:
    """On every way in: lines to import, data and metadata on the command line."""
    with pytest.raises(InvalidInput) as refused:
        parse(f'{{"stream": "a-1", "type": "X", "data": {text}}}'.encode())
    assert reason in str(refused.value)
    for given in ([text], ["1", "--metadata", text]):
        result = CliRunner().invoke(main, ["append", "a-1", "X", *given, "--store", "memory:"])
        assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00": 1}', '["a", {"b": "\\ud83d"}]'])
def test_half_a_character_is_refused(store: EventStore, text: str) -> None:
    """JSON can write a lone surrogate, which is no text."""
    with pytest.raises(InvalidInput, match=r"line 1: .*not valid Unicode"):
        import_lines(store, [f'{{"stream": "a-1", "type": "X", "data": {text}}}'.encode()])
    assert store.last_position() == 0


def test_a_time_that_is_finer_than_a_microsecond_is_not_shortened() -> None:
    """Zeros are no loss."""
    assert parse(line("a-1", "X", time="2026-01-31T12:00:00.123456000Z")).recorded_at is not None
    with pytest.raises(InvalidInput, match="microseconds at most"):
        parse(line("a-1", "X", time="2026-01-31T12:00:00.1234567Z"))


def test_a_compressed_file_that_is_damaged_is_a_clear_error(store: EventStore, tmp_path: Path) -> None:
    """Damage in the middle of the compressed data, not only an end that is missing."""
    damaged = bytearray(gzip.compress(b"".join(line("a-1", f"T{place}") + b"\n" for place in range(5000))))
    damaged[10:14] = b"\xff" * 4
    file = tmp_path / "damaged.jsonl.gz"
    file.write_bytes(damaged)
    with gzip.open(file) as lines, pytest.raises(InvalidInput, match="ends in the middle after line 0"):
        import_lines(store, lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("append", "a-1", "X", '{"$runner:colour": 1}'), "Error: DATA: unknown tag $runner:colour"),
        (("append", "a-1", "X", "1", "--metadata", '{"$runner:date": "soon"}'), "Error: --metadata: the value of"),
        (("append", "a-1", "X", "[" * 100_000), "Error: DATA: nested too deeply"),
        (("append", "a-1", "X", "--expected", "²"), "Error: expected version '²' is not a number"),
        (("append", "a-1", "X", "--expected", "٣"), "Error: expected version '٣' is not a number"),
        (("view", "balances", "--as-of", "²"), "'²' is not a position and not an ISO 8601 time"),
    ],
)
def test_a_value_of_the_command_line_that_cannot_be_read_is_called_what_it_is(
    fresh_name: str, arguments: tuple[str, ...], text: str
) -> None:
    """JSON with an unknown tag is JSON; a digit that is no decimal digit is no number."""
    there = ["--store", f"memory:{fresh_name}"]
    assert CliRunner().invoke(main, ["init", *there]).exit_code == 0
    result = CliRunner().invoke(main, [*arguments, *there])
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert "Traceback" not in result.output


class LongLines:
    """A file of three lines, of which the second has no end for a long time; it is never there as a whole."""

    def __init__(self, pieces: int) -> None:
        self.given = iter([line("a-1", "X") + b"\n", *[b"x" * 1024] * pieces, b"x\n", line("a-1", "Y") + b"\n"])
        self.asked: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        raise MemoryError("a line was read without a bound")

    def readline(self, size: int = -1) -> bytes:
        self.asked.append(size)
        found = b""
        while size >= 0 and len(found) + 1024 <= size and not found.endswith(b"\n"):
            piece = next(self.given, b"")
            found += piece
            if not piece:
                break
        return found


def test_a_line_that_is_too_long_is_never_read_whole(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with its number, and nothing before it is lost; the import can go on after it."""
    monkeypatch.setattr(module, "LONGEST_LINE", 8191)
    with pytest.raises(InvalidInput, match=r"line 2: longer than 8,191 bytes") as refused:
        import_lines(store, LongLines(100))
    assert "--skip-bad" in refused.value.hint
    assert types(store, "a-1") == ["X"]

    lines = LongLines(100)
    result = import_lines(store, lines, skip_bad=True)

    assert [number for number, _ in result.bad] == [2]
    assert (result.appended, types(store, "a-1")) == (1, ["X", "Y"])
    assert 0 < min(lines.asked) <= max(lines.asked) == 8192


def test_lines_that_are_long_are_not_gathered(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read at a time is bounded in bytes, as well as in lines; the result is the same."""
    monkeypatch.setattr(module, "LONGEST_LINE", 2000)
    lines = [line("a-1", f"T{number}", data="x" * 1500) + b"\n" for number in range(20)]
    read = iter(lines)
    portion, _, _ = module._read(read)
    assert len(portion) < 4

    assert import_lines(store, lines).appended == 20
    assert import_lines(store, io.BytesIO(b"".join(lines))).known == 20


def test_a_compressed_line_of_many_megabytes_takes_little_memory(tmp_path: Path) -> None:
    """100 kB of a compressed file become 100 MB: the import names the line, and goes on."""
    file = tmp_path / "bomb.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        for _ in range(100):
            out.write(b" " * 1_000_000)
        out.write(b"\n" + line("a-1", "X") + b"\n")
    program = (
        "import resource, sys; from runner.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def memory(*args: str) -> tuple[int, str]:
        ended = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=False)
        return int(ended.stdout.splitlines()[-1]) // 1024, ended.stdout + ended.stderr

    (tmp_path / "one.jsonl").write_bytes(line("a-1", "X") + b"\n")
    before, _ = memory("import", str(tmp_path / "one.jsonl"), "--store", "memory:")
    after, told = memory("import", str(file), "--skip-bad", "--store", "memory:")

    assert "skipped line 1: longer than 16,777,216 bytes" in told
    assert "1 event appended" in told
    assert after - before < 80
