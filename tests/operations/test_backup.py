"""An export with positions, and its import into an empty store: everything is where it was, or is refused clearly."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from accounts import balances, reached, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stores import STREAMS, Made, check_appends, check_bookmarks, floor_of, kept_events, make_format_1, steps
from servers import server

from runner import ANY, AsyncEventStore, EventStore, InvalidInput, NewEvent, catch_up
from runner.effects import DriverOperation, Execute
from runner.errors import EventIdReused, LogCorrupt, LogTrimmed, StoreRefused
from runner.log.append_new import append_new
from runner.operations import export_lines, import_lines, trim, verify
from runner.operations.trim import Trim
from runner.testing import TEST_SETTINGS, memory_store

PAGES = replace(TEST_SETTINGS, page_size=3)

_names = count(1)


def exported(store: EventStore, url: str = "") -> bytes:
    """The lines of a store; by the asynchronous face if its URL is given."""
    lines = io.BytesIO()
    if not url:
        export_lines(store, lines.write, with_positions=True)
        return lines.getvalue()

    async def run() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=PAGES) as other:
            await export_lines(other, lines.write, with_positions=True)

    asyncio.run(run())
    return lines.getvalue()


def restored(store: EventStore, lines: bytes, url: str = "") -> Any:
    """Import the lines into a store; by the asynchronous face if its URL is given."""
    if not url:
        return import_lines(store, io.BytesIO(lines), keep_positions=True)

    async def run() -> Any:
        async with AsyncEventStore.open(url, name=store.info.name, settings=PAGES) as other:
            return await import_lines(other, io.BytesIO(lines), keep_positions=True)

    return asyncio.run(run())


def opened(url: str, partitions: int | None = None) -> EventStore:
    return EventStore.open(url, name=f"backup-{next(_names)}", partitions=partitions, settings=PAGES)


def check_same(source: EventStore, target: EventStore) -> None:
    """Every event is in its place, and so is what was trimmed."""
    assert target.info.partitions == source.info.partitions
    for partition, (ours, theirs) in enumerate(zip(target.info.keys, source.info.keys, strict=True)):
        assert kept_events(target, partition) == kept_events(source, partition)
        assert target.last_position(partition=partition) == source.last_position(partition=partition)
        assert floor_of(target, ours) == floor_of(source, theirs)
    assert [target.version(stream) for stream in STREAMS] == [source.version(stream) for stream in STREAMS]
    assert verify(target).findings == ()


def filled(url: str, partitions: int = 1, trimmed: int = 0) -> Made:
    """A store of twelve events in each of six streams; of the first ones some may be trimmed."""
    made = Made(opened(url, partitions))
    made.take([("append", which, 2) for which in range(6)] * 5 + [("trim", trimmed, 0)] * bool(trimmed))
    made.take([("append", which, 2) for which in (0, 1)] + [("bookmark", 0, 3)])
    return made


# -- everything is where it was -------------------------------------------------------------------


@pytest.mark.parametrize("face", ["sync", "async"])
@settings(max_examples=25)
@given(taken=steps, partitions=st.sampled_from([1, 3]))
def test_a_store_that_was_exported_and_imported_is_the_same(taken: list[Any], partitions: int, face: str) -> None:
    """B21. By reading, by its versions, by which appends it recognises, takes and refuses; trimmed or not."""
    url = f"memory:backup-{next(_names)}"
    awaited = url if face == "async" else ""
    with opened(url, partitions) as source, opened(url, partitions) as target:
        # given
        made = Made(source)
        made.take(taken)

        # when
        restored(target, exported(source, awaited), awaited)

        # then
        check_same(source, target)
        check_bookmarks(made, target)
        check_appends(made, target)
        assert verify(target).findings == ()


@pytest.mark.real
@pytest.mark.parametrize("trimmed", [0, 5, 10])
@pytest.mark.parametrize("partitions", [1, 3])
def test_a_real_server_restores_as_the_one_in_memory_does(real_url: str, partitions: int, trimmed: int) -> None:
    """Also streams of which nothing is left, and the indexes that the script copies."""
    made = filled(real_url, partitions, trimmed)
    with made.store as source, opened(real_url, partitions) as target:
        restored(target, exported(source))
        check_same(source, target)
        check_bookmarks(made, target)
        check_appends(made, target)


def test_ids_of_trimmed_events_are_known_after_a_restore(url: str) -> None:
    """An append whose ids must be new in the partition is refused for an id whose event is gone."""
    # given
    event = NewEvent("Deposited")
    with opened(url) as source, opened(url) as target:
        source.run(append_new(source.info, "account-1", [event], ANY, 0, None))
        source.run(append_new(source.info, "account-2", [NewEvent("Deposited")], ANY, 0, None))
        source.run(Trim(source.info, 0, 2).run())

        # when
        restored(target, exported(source))

        # then
        with pytest.raises(EventIdReused, match="at position 1"):
            target.run(append_new(target.info, "account-3", [event], ANY, 0, None))


@pytest.mark.real
def test_the_indexes_of_restored_streams_are_compact(real_url: str) -> None:
    """A new index is copied, as an append does it: it has no 4 KiB set aside."""
    made = filled(real_url)
    with made.store as source, opened(real_url) as target:
        restored(target, exported(source))
        keys = target.info.keys[0].stream(STREAMS[5])
        assert target.driver.execute([("MEMORY", "USAGE", keys)])[0] < 1_000


def test_positions_are_those_of_the_moment_at_which_the_export_began(url: str) -> None:
    """What is appended during the export is in the next one."""
    made = filled(url)
    with made.store as source, opened(url) as target:
        before, lines = source.last_position(), io.BytesIO()

        def write(some: bytes) -> None:
            source.append("account-9", NewEvent("Late"))
            lines.write(some)

        export_lines(source, write, with_positions=True)
        restored(target, lines.getvalue())
        assert target.last_position() == before < source.last_position()


def test_a_stream_whose_events_were_all_trimmed_keeps_its_version_if_it_is_appended_to_meanwhile(url: str) -> None:
    """The export is of the moment at which it began: there the stream had two events, and no more."""
    with opened(url) as source, opened(url) as target:
        # given
        source.append("gone-1", [NewEvent("X"), NewEvent("X")])
        source.append("kept-1", [NewEvent("X"), NewEvent("X")])
        trim(source, 3, although_nobody_has_read_them=True)
        lines = io.BytesIO()

        def write(some: bytes) -> None:
            if not lines.getvalue():
                source.append("gone-1", NewEvent("X"))
            lines.write(some)

        # when
        export_lines(source, write, with_positions=True)
        restored(target, lines.getvalue())

        # then
        assert (target.version("gone-1"), target.version("kept-1")) == (2, 2)
        assert verify(target).sound
        target.append("gone-1", NewEvent("X"), 2)
        assert verify(target).sound


def test_an_import_that_keeps_no_positions_passes_over_what_is_no_event(url: str) -> None:
    """So an export with positions can be read as any other, also into other partitions."""
    made = filled(url, 3)
    with made.store as source, opened(url, 1) as target:
        lines = exported(source)
        result = import_lines(target, io.BytesIO(lines))
        assert result.appended == result.lines == sum(source.last_position(partition=each) for each in range(3))


# -- stopped in the middle --------------------------------------------------------------------------


class Stopped(Exception):
    """The process of an import ended here."""


class Stopping(EventStore):
    """A store whose operations end after some round trips, or that makes each round trip twice."""

    left: int | None = None
    twice = False

    def run(self, operation: DriverOperation[Any]) -> Any:
        return super().run(self._disturbed(operation))

    def _disturbed(self, operation: DriverOperation[Any]) -> DriverOperation[Any]:
        try:
            effect = next(operation)
            while True:
                if isinstance(effect, Execute):
                    if self.left == 0:
                        raise Stopped
                    self.left = None if self.left is None else self.left - 1
                outcome = yield effect
                if self.twice and isinstance(effect, Execute):
                    outcome = yield effect
                effect = operation.send(outcome)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("trimmed", [0, 5])
@pytest.mark.parametrize("partitions", [1, 3])
def test_an_import_that_was_stopped_goes_on_when_it_is_repeated(
    url: str, partitions: int, trimmed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B21. After any round trip. Until it ends nobody can append, so no position is taken by anyone else."""
    monkeypatch.setattr("runner.operations.import_placed.A_RUN", 7)
    made = filled(url, partitions, trimmed)
    with made.store as source:
        lines = exported(source)
        for after in count():
            with opened(url, partitions) as target:
                stopping = Stopping.open(url, name=target.info.name, settings=PAGES)
                stopping.left = after
                with stopping:
                    try:
                        restored(stopping, lines)
                    except Stopped:
                        pass
                    else:
                        break
                restored(target, lines)
                check_same(source, target)
                assert target.append("account-9", NewEvent("Next")).version == 1
    assert after > 10


def test_an_import_whose_replies_are_lost_changes_nothing_by_asking_again(url: str) -> None:
    """Each of its steps may run twice."""
    made = filled(url, 3, 5)
    with made.store as source, opened(url, 3) as target:
        with Stopping.open(url, name=target.info.name, settings=PAGES) as twice:
            twice.twice = True
            result = restored(twice, exported(source))
        assert result.appended == result.lines
        check_same(source, target)
        check_bookmarks(made, target)


def half_restored(url: str, partitions: int = 1) -> tuple[Made, EventStore, bytes]:
    """A store whose import stopped before its last lines, and the whole export."""
    made = filled(url, partitions, 5)
    lines = exported(made.store)
    target = opened(url, partitions)
    with pytest.raises(InvalidInput, match=r"the input ends too early: partition \d ends at position \d+, not at \d+"):
        restored(target, b"".join(lines.splitlines(keepends=True)[:-3]))
    return made, target, lines


WRITES: dict[str, Callable[[EventStore], Any]] = {
    "append": lambda store: store.append("account-1", NewEvent("Early")),
    "append_each": lambda store: store.append_each([("account-1", [NewEvent("Early")], ANY)]),
    "append_new": lambda store: store.run(append_new(store.info, "a", [NewEvent("Early")], ANY, 0, None)),
    "trim": lambda store: trim(store, 2, although_nobody_has_read_them=True),
    "export": exported,
    "export without positions": lambda store: export_lines(store, io.BytesIO().write, after=None),
    "export of a category": lambda store: export_lines(store, io.BytesIO().write, category="account"),
    "import": lambda store: import_lines(store, [b'{"stream": "a", "type": "Early"}']),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_store_in_the_middle_of_a_restore_refuses_to_be_changed(url: str, what: str) -> None:
    """With a sentence that tells how to go on; a walk through the store tells it, too."""
    made, target, lines = half_restored(url)
    with made.store, target:
        before = target.last_position()
        with pytest.raises(StoreRefused, match="is being restored, and is not whole yet") as refused:
            WRITES[what](target)
        assert refused.value.code == "RESTORING"
        assert "with the same source" in refused.value.hint
        assert target.last_position() == before
        [finding] = verify(target).findings
        assert finding.what == "events are put in from elsewhere, and that has not ended"
        restored(target, lines)
        check_same(made.store, target)


def test_a_restore_goes_on_from_its_own_source_only(url: str) -> None:
    """Another export, also a later one of the same store, is refused before anything is put in."""
    made, target, _ = half_restored(url)
    with made.store as source, target:
        before = target.last_position()
        source.append("account-1", NewEvent("Later"))
        with pytest.raises(InvalidInput, match="holds a part of another restore"):
            restored(target, exported(source))
        assert target.last_position() == before


# -- what is refused --------------------------------------------------------------------------------


def test_positions_are_kept_in_an_empty_store_only(url: str) -> None:
    """Whatever partition is used, none is touched. A bookmark alone is a use, too."""
    made = filled(url, 3)
    with made.store as source, opened(url, 3) as used, opened(url, 3) as marked:
        lines = exported(source)
        [first, *_] = [stream for stream in STREAMS if used.info.of_stream(stream).partition == 2]
        used.append(first, NewEvent("Mine"))
        with pytest.raises(InvalidInput, match="is not empty: its partition 2 ends at position 1"):
            restored(used, lines)
        assert used.append("account-1", NewEvent("Mine")).version >= 1

        marked.append_many([], bookmark=("feed", 3), partition=1)
        with pytest.raises(InvalidInput, match="is not empty: it has bookmarks"):
            restored(marked, lines)


def test_a_store_of_other_partitions_is_refused(url: str) -> None:
    made = filled(url, 3)
    with (
        made.store as source,
        opened(url, 2) as target,
        pytest.raises(InvalidInput, match=r"a store of 3 partitions, and store '.*' has 2 partitions"),
    ):
        restored(target, exported(source))


def changed(lines: bytes, at: int, **more: Any) -> bytes:
    """The lines, with other values in the event line ``at``, from 0."""
    split = lines.splitlines()
    split[at] = json.dumps({**json.loads(split[at]), **more}).encode()
    return b"\n".join(split)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: b"\n".join(lines.splitlines()[1:]), "does not begin as an export with positions does"),
        (lambda lines: b"", "does not begin as an export with positions does"),
        (lambda lines: lines.replace(b'"layout":1', b'"layout":2'), r"line 1: \$runner:store: layout 2 is not known"),
        (lambda lines: lines.replace(b'"floors":[0]', b'"floors":7'), r"line 1: \$runner:store: the content is not"),
        (lambda lines: lines + lines, "line 70: a second export begins here"),
        (lambda lines: lines + b'{"$runner:other": {}}', "line 70: no line of an export with positions"),
        (lambda lines: changed(lines, 9, position=5), "line 10: position 5 follows position 7"),
        (lambda lines: changed(lines, 9, position=10), "line 10: position 10 follows position 7"),
        (lambda lines: changed(lines, 9, number=7), "line 10: event 7 of stream 'account-3' follows its event 1"),
        (lambda lines: changed(lines, 8, number=2), "line 9: stream 'account-3' begins with event 2, and fewer were"),
        (lambda lines: changed(lines, 9, id=None), "line 10: the line has no id, time, number"),
        (lambda lines: changed(lines, 9, partition=1), "line 10: partition must be a number from 0 to 0, not 1"),
        (lambda lines: changed(lines, 9, position="8"), "line 10: position must be a number"),
    ],
)
def test_lines_that_are_no_whole_export_are_refused(url: str, change: Callable[[bytes], bytes], reason: str) -> None:
    """The line is named; the store stays closed for others, and can be restored from the whole export."""
    made = filled(url)
    with made.store as source, opened(url) as target:
        lines = exported(source)
        with pytest.raises(InvalidInput, match=reason):
            restored(target, change(lines))


def test_an_export_of_a_part_has_no_positions(store: EventStore) -> None:
    """It could not be put into place."""
    for part in ({"category": "account"}, {"after": 3}):
        with pytest.raises(InvalidInput, match="is of the whole store"):
            export_lines(store, io.BytesIO().write, with_positions=True, **part)
    with pytest.raises(InvalidInput, match="if lines are skipped"):
        import_lines(store, [], skip_bad=True, keep_positions=True)


def test_an_export_during_which_events_are_trimmed_ends_with_an_error(url: str) -> None:
    made = filled(url)
    with made.store as source, pytest.raises(LogTrimmed):
        export_lines(source, lambda lines: source.run(Trim(source.info, 0, 3).run()), with_positions=True)


def test_an_export_whose_source_is_cut_off_ends_with_an_error(url: str) -> None:
    """Not with a file that is too short, nor never."""
    made = filled(url)
    keys = made.store.info.keys[0]

    def cut(lines: bytes) -> None:
        made.store.driver.execute([("XTRIM", keys.log, "MAXLEN", 0)])

    with made.store as source, pytest.raises(LogCorrupt, match="on a second look"):
        export_lines(source, cut, with_positions=True)


# -- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_store_of_format_1_is_restored_into_one_of_format_2(url: str, fresh_name: str, partitions: int) -> None:
    """Streams without braces are in the same partitions, and bookmarks have another key."""
    make_format_1(url, fresh_name, partitions)
    with EventStore.open(url, name=fresh_name, settings=PAGES) as source, opened(url, partitions) as target:
        made = Made(source)
        made.take([("append", which, 2) for which in range(6)] + [("bookmark", 1, 2), ("trim", 5, 0)])
        restored(target, exported(source))
        assert (source.info.keys[0].format, target.info.keys[0].format) == (1, 2)
        check_same(source, target)
        check_bookmarks(made, target)
        check_appends(made, target)


@pytest.mark.parametrize("gone", [False, True])
def test_a_stream_that_format_2_places_elsewhere_is_refused(url: str, fresh_name: str, gone: bool) -> None:
    """Its events would be where no append looks for them. That is so for a stream of trimmed events, too."""
    make_format_1(url, fresh_name, 3)
    with EventStore.open(url, name=fresh_name, settings=PAGES) as source, opened(url, 3) as target:
        moved = next(
            name
            for name in (f"account-{{x}}-{number}" for number in range(99))
            if target.info.of_stream(name).partition != source.info.of_stream(name).partition
        )
        keys = source.info.of_stream(moved)
        other = next(name for name in STREAMS if source.info.of_stream(name) == keys)
        source.append(moved, NewEvent("Opened"))
        source.append(other, NewEvent("Opened"))
        if gone:
            source.run(Trim(source.info, keys.partition, 2).run())
        with pytest.raises(InvalidInput, match="the text in braces decides in format 2") as refused:
            restored(target, exported(source))
        assert "runner copy" in refused.value.hint


# -- the server's files -------------------------------------------------------------------------------


def check_put_back(made: Made, port: int) -> None:
    with EventStore.open(f"redis://127.0.0.1:{port}/0", name=made.store.info.name, settings=PAGES) as back:
        assert back.info.epoch == made.store.info.epoch
        check_same(made.store, back)
        assert rows_of(back) == rows_of(made.store) != {}
        assert catch_up(back, balances()) == 0


@pytest.mark.real
@pytest.mark.parametrize("way", ["dump.rdb", "appendonlydir"])
def test_files_of_a_server_that_were_copied_are_put_back_as_the_page_tells(way: str, tmp_path: Path) -> None:
    """A snapshot, and the append-only file: log, views and checkpoints come back together, and a runner goes on."""
    with server("--appendonly", "yes") as origin:
        # given
        made = filled(origin.url, 3)
        catch_up(made.store, balances())
        made.take([("trim", 5, 0)])
        directory = Path(origin.do("CONFIG", "GET", "dir")[1])

        # when
        if way == "dump.rdb":
            origin.do("SAVE")
            shutil.copy(directory / way, tmp_path)
        else:
            origin.do("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
            assert reached(lambda: origin.do("INFO", "persistence")["aof_rewrite_in_progress"] == 0)
            shutil.copytree(directory / way, tmp_path / way)

        # then
        appendonly = "no" if way == "dump.rdb" else "yes"
        with server("--dir", str(tmp_path), "--appendonly", appendonly) as other:
            check_put_back(made, other.port)
            if way == "dump.rdb":
                other.do("CONFIG", "SET", "appendonly", "yes")
                assert reached(lambda: other.do("INFO", "persistence")["aof_rewrite_in_progress"] == 0)
        if way == "dump.rdb":
            with server("--dir", str(tmp_path), "--appendonly", "yes") as again:
                check_put_back(made, again.port)
        made.store.close()


def test_an_export_with_positions_says_how_many_events_it_holds() -> None:
    """Over all partitions, without the records beside them."""
    told: list[tuple[int, int | None]] = []
    with memory_store(partitions=2) as store:
        for number in range(6):
            store.append(f"a-{number}", NewEvent("X"))
        result = export_lines(
            store,
            io.BytesIO().write,
            with_positions=True,
            progress=lambda so_far: told.append((so_far.done, so_far.total)),
        )
    assert result.events == 6
    assert told[-1] == (6, 6)
