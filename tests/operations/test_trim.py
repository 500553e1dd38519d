"""Trimming: what goes and what stays, what readers below the floor are told, and what goes on meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

import pytest
from accounts import balances, deposited, in_thread, noted, plain_fold, reached, rows_of
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import do, keys_of
from servers import server

from runner import (
    ALL,
    ANY,
    Category,
    EventStore,
    HandlerFailed,
    InvalidInput,
    Projection,
    RecordedEvent,
    WrongExpectedVersion,
    catch_up,
    state_at,
)
from runner.cli.main import main
from runner.effects import Effect, Execute, Operation, Pending, Receive, Send, StoreOperation
from runner.embedded.server import find_binary
from runner.errors import DataError, LogCorrupt, LogTrimmed, StoreRefused, StoreReplaced
from runner.format.json_lines import dump
from runner.log.reading import versions
from runner.operations import TrimResult, import_lines, rebuild, retry_parked, verify
from runner.operations.trim import Trim, trims
from runner.operations.verify import Finding, Inspection
from runner.progress.builds import propose, read_builds, reset, rollback
from runner.progress.status import projection_names, status
from runner.projections.policies import ParkStream
from runner.subscriptions.feed import FeedCore
from runner.testing import TEST_SETTINGS, memory_store

#: The options of a trim of a log that no projection was ever run on.
UNREAD = ("--yes", "--although-nobody-has-read-them")

#: Above every position here.
ALL_OF_IT = 1_000_000

_names = count(1)

# -- builders and looks -------------------------------------------------------------------------


def trim(store: EventStore, before: int | datetime = ALL_OF_IT, portion: int = 10_000) -> TrimResult:
    return store.run(Trim(store.info, 0, before).run(portion))


def told(result: TrimResult) -> tuple[int, int, int, str]:
    """A result without its advice."""
    return result.partition, result.removed, result.floor, result.limit


def filled(store: EventStore, events: int = 10) -> list[RecordedEvent]:
    """Events of two accounts, in turn; gives them back."""
    for turn in range(events):
        store.append(f"account-{turn % 2 + 1}", deposited(turn + 1))
    return list(store.read_all())


def projected(store: EventStore, upto: int, beyond: int) -> list[RecordedEvent]:
    """A log of which the projection `balances` has seen the first ``upto`` events, and ``beyond`` it has not."""
    filled(store, upto)
    catch_up(store, balances())
    filled(store, beyond)
    return list(store.read_all())


def positions(events: Iterator[RecordedEvent] | list[RecordedEvent]) -> list[int]:
    return [event.position for event in events]


def numbers(events: Iterator[RecordedEvent]) -> list[int]:
    return [event.number for event in events]


def floor_of(store: EventStore) -> int:
    [floor] = store.driver.execute([("HGET", store.info.keys[0].meta, "floor")])
    return int(floor or 0)


def is_sound(store: EventStore) -> bool:
    """Whether log, indexes and checkpoints agree, and the log has exactly what is above the floor."""
    left = positions(store.read_all(floor_of(store)))
    assert left == list(range(floor_of(store) + 1, store.last_position() + 1))
    return verify(store).sound


def answer(store: EventStore, effect: Effect) -> Any:
    """What an effect comes to."""
    if isinstance(effect, Receive):
        return store.driver.execute(effect.pending.commands)
    assert isinstance(effect, (Execute, Send))
    return Pending(effect.commands) if isinstance(effect, Send) else store.driver.execute(effect.commands)


def run_with(
    store: EventStore, operation: Operation[Any], hook: Callable[[int], object], what: Callable[[object], bool]
) -> Any:
    """Run an operation, and ``hook`` right before each effect that is ``what``, with its number, from 1."""
    runs = count(1)
    try:
        effect = next(operation)
        while True:
            if what(effect):
                hook(next(runs))
            effect = operation.send(answer(store, effect))
    except StopIteration as stop:
        return stop.value


def runs_script(effect: object) -> bool:
    return isinstance(effect, Execute) and getattr(effect.commands[0][0], "name", "") == "log/trim"


def reads_log(effect: object) -> bool:
    return isinstance(effect, (Execute, Send)) and effect.commands[0][0] == "XRANGE"


def cuts(effect: object) -> bool:
    """Whether it is a run of the script that is to remove something: one that names a new floor."""
    if not runs_script(effect):
        return False
    _, keys, *rest = effect.commands[0]  # type: ignore[attr-defined]
    return bool(rest[keys + 2] > 0)


def drain(events: Iterator[RecordedEvent]) -> tuple[list[RecordedEvent], LogTrimmed | None]:
    """What a read gives, and the error that ends it."""
    found = []
    try:
        for event in events:
            found.append(event)
    except LogTrimmed as trimmed:
        return found, trimmed
    return found, None


def command(store: EventStore, url: str, *args: str, text: str | None = None) -> Result:
    given = [*args, "--store", url, "--name", store.info.name]
    return CliRunner().invoke(main, given, input=text, env={"COLUMNS": "200"})


def failing(name: str = "balances", *, at: int, **options: Any) -> Projection:
    """A row an account: its sum. Its handler fails for the event at position ``at``."""
    projection = Projection(name, category="account", initial=lambda: {"sum": 0}, **options)

    @projection.when("Deposited")
    def add(state: Any, event: RecordedEvent) -> None:
        if event.position == at:
            raise ZeroDivisionError
        state["sum"] += event.data["amount"]

    return projection


# -- how much goes ------------------------------------------------------------------------------


def test_the_last_event_of_a_log_stays(store: EventStore) -> None:
    """Where nothing holds the log, all goes but the last event; done again, nothing goes."""
    # given
    filled(store, 10)

    # when
    first, again = trim(store), trim(store)

    # then
    assert first == TrimResult(0, 9, 9, "the last event of a log stays")
    assert (again.removed, again.floor) == (0, 9)
    assert positions(store.read_all(9)) == [10]
    assert store.last_position() == 10
    indexes = [store.info.keys[0].stream(f"account-{number}") for number in (1, 2)]
    assert store.driver.execute([("XLEN", key) for key in indexes]) == [0, 1]
    assert is_sound(store)


def test_an_empty_log_has_nothing_to_trim(store: EventStore) -> None:
    """Nothing goes, and nothing is written. A projection that stands at its beginning holds nothing back."""
    assert trim(store).removed == 0
    catch_up(store, balances())
    done = trim(store)
    assert (done.removed, done.limit, done.advice) == (0, "the log is empty", "")
    assert floor_of(store) == 0


@pytest.mark.parametrize(("before", "floor"), [(0, 0), (1, 0), (2, 1), (5, 4), (10, 9)])
def test_a_position_is_exclusive(store: EventStore, before: int, floor: int) -> None:
    """Events below it go, the one at it stays."""
    # given
    filled(store, 10)

    # when
    plan = store.run(Trim(store.info, 0, before).plan())
    done = trim(store, before)

    # then
    assert done == plan == TrimResult(0, floor, floor, "that is all that was asked for")
    assert floor_of(store) == floor


def test_a_checkpoint_holds_its_event_and_all_after_it(store: EventStore) -> None:
    """The event that a projection stands on is what its history is compared by, so it stays too."""
    # given
    history = projected(store, 6, 4)

    # when
    done = trim(store)

    # then
    assert told(done) == (0, 5, 5, "projection 'balances' (build '1') stands at position 6")
    assert catch_up(store, balances()) == 4
    assert rows_of(store) == plain_fold(history)
    assert trim(store).floor == 9
    assert is_sound(store)


def test_the_slowest_of_several_projections_decides(store: EventStore) -> None:
    """Each checkpoint counts, whatever the others have seen."""
    # given
    filled(store, 4)
    catch_up(store, balances("slow"))
    filled(store, 4)
    catch_up(store, balances("quick"), balances("quicker"))

    # then
    assert told(trim(store)) == (0, 3, 3, "projection 'slow' (build '1') stands at position 4")


def test_a_projection_at_the_beginning_holds_everything(store: EventStore) -> None:
    """One that failed at its first event still needs it."""
    # given
    filled(store, 4)
    with pytest.raises(HandlerFailed):
        catch_up(store, failing(at=1))

    # when
    done = trim(store)

    # then
    assert (done.removed, done.limit) == (0, "projection 'balances' (build '1') stands at position 0")
    assert catch_up(store, failing(at=0)) == 4


def test_a_candidate_holds_the_log_too(store: EventStore) -> None:
    """A view that is made beside the live one needs what it has not passed, from its proposal on."""
    # given
    projected(store, 6, 0)
    keys = store.info.keys[0]
    store.run(propose(keys, "balances", store.run(read_builds(keys, "balances")), "2"))

    # then
    assert told(trim(store)) == (0, 0, 0, "projection 'balances' (build '2') stands at position 0")

    # given
    [kept] = rebuild(store, failing(at=0, build="2"), require_same=True)
    assert not kept.switched
    filled(store, 4)
    catch_up(store, balances())

    # then
    assert told(trim(store)) == (0, 5, 5, "projection 'balances' (build '2') stands at position 6")


def test_a_build_that_is_kept_does_not_hold_the_log_and_is_not_gone_back_to(store: EventStore) -> None:
    """Below the floor a rollback is refused, and nothing changes; at the floor it is not."""
    # given
    projected(store, 6, 0)
    [done] = rebuild(store, failing(at=0, build="2"))
    assert done.switched
    filled(store, 4)
    catch_up(store, failing(at=0, build="2"))
    keys = store.info.keys[0]

    # when
    assert trim(store, 7).floor == 6
    there = store.run(rollback(keys, "balances"))
    back = store.run(rollback(keys, "balances", "2"))

    # then
    assert (there.live, there.position, back.live) == ("1", 6, "2")

    # when
    assert trim(store).floor == 9
    with pytest.raises(LogTrimmed) as refused:
        store.run(rollback(keys, "balances"))

    # then
    assert refused.value.floor == 9
    assert store.run(read_builds(keys, "balances")).live == "2"
    assert is_sound(store)


def test_a_parked_event_stays_until_it_is_parked_no_more(store: EventStore) -> None:
    """It is read from the log when it is tried again, and so is what is parked behind it."""
    # given
    filled(store, 10)
    catch_up(store, failing(at=3, on_error=ParkStream()))

    # when
    done = trim(store)

    # then
    assert told(done) == (0, 2, 2, "projection 'balances' (build '1') has parked the event at position 3")

    # when
    [tried] = retry_parked(store, failing(at=0))

    # then
    assert (tried.freed, tried.left) == (4, 0)
    assert rows_of(store)["account-1"] == {"sum": 1 + 3 + 5 + 7 + 9}
    assert trim(store).floor == 9


def test_a_build_that_parked_what_is_gone_is_not_gone_back_to(store: EventStore) -> None:
    """Its parked events could never be tried again."""
    # given
    filled(store, 6)
    catch_up(store, failing(at=3, on_error=ParkStream()))
    [done] = rebuild(store, failing(at=0, build="2"))
    assert done.switched
    assert trim(store, 5).floor == 4

    # then
    with pytest.raises(LogTrimmed):
        store.run(rollback(store.info.keys[0], "balances"))


def test_what_cannot_begin_any_more_leaves_no_record(store: EventStore) -> None:
    """A new projection and a rebuild are refused before they are recorded: a record would hold the log for ever."""
    # given
    projected(store, 6, 0)
    keys = store.info.keys[0]
    trim(store, 4)

    # then
    with pytest.raises(LogTrimmed):
        catch_up(store, balances("new"))
    with pytest.raises(LogTrimmed):
        list(rebuild(store, failing(at=0, build="2")))
    assert store.run(projection_names(keys)) == ["balances"]
    assert store.run(read_builds(keys, "balances")).candidate is None
    assert trim(store).floor == 5


@pytest.mark.real
def test_a_server_out_of_memory_can_be_trimmed(fresh_name: str) -> None:
    """That is what makes room."""
    with server() as full, EventStore.open(full.url, name=fresh_name, settings=TEST_SETTINGS) as store:
        # given
        filled(store, 20)
        full.do("CONFIG", "SET", "maxmemory", "1")

        # then
        assert trim(store).floor == 19
        assert is_sound(store)


def test_a_time_goes_up_to_the_first_event_that_is_not_older(store: EventStore) -> None:
    """The log is not sorted by time: what is older but stands behind a later event stays."""
    # given
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for minutes in (-9, -3, -5, 0, -1, 4):
        store.append("account-1", deposited(recorded_at=noon + timedelta(minutes=minutes)))

    # when
    plan = store.run(Trim(store.info, 0, noon).plan())

    # then
    assert trim(store, noon, portion=2) == plan == TrimResult(0, 3, 3, "that is all that was asked for")
    assert trim(store, noon + timedelta(hours=1)) == TrimResult(0, 2, 5, "the last event of a log stays")


def test_a_time_needs_a_zone(store: EventStore) -> None:
    """A naive time is a mistake, as everywhere."""
    with pytest.raises(InvalidInput, match="zone"):
        Trim(store.info, 0, datetime(2026, 1, 31))


def test_an_entry_that_cannot_be_read_goes_with_those_around_it(store: EventStore) -> None:
    """Broken bytes do not hold the log for ever; by time they go when something behind them is old enough."""
    # given
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    keys = store.info.keys[0]

    def broken(position: int, number: int) -> None:
        store.driver.execute([
            ("XADD", keys.log, f"{position}-{number}", "e", b"junk"),
            ("XADD", keys.stream("a-1"), f"{number}-{position}", "", ""),
        ])  # fmt: skip

    store.append("a-1", deposited(recorded_at=noon))
    broken(2, 2)
    store.append("a-1", deposited(recorded_at=noon))
    broken(4, 4)
    store.append("a-1", [deposited(), deposited()])

    # then
    assert trim(store, noon + timedelta(hours=1), portion=1).floor == 3
    assert positions(store.read_all(4)) == [5, 6]
    assert trim(store, 5).floor == 4
    assert is_sound(store)


def test_a_log_with_a_gap_is_not_trimmed(store: EventStore) -> None:
    """What is damaged is left as it is."""
    # given
    filled(store, 5)
    keys = store.info.keys[0]
    store.driver.execute([("XDEL", keys.log, "2-1")])

    # then
    with pytest.raises(LogCorrupt, match="nothing was removed"):
        trim(store)
    assert floor_of(store) == 0


# -- what goes on meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("before", [ALL_OF_IT, datetime(2100, 1, 1, tzinfo=UTC)], ids=["position", "time"])
def test_a_gap_that_comes_between_the_look_and_the_read_ends_the_trim(
    store: EventStore, before: int | datetime
) -> None:
    """The trim takes nothing of the portion that it could not read to its end."""
    # given
    filled(store, 5)

    def lose_one(turn: int) -> None:
        do(store, "XDEL", keys_of(store).log, "2-1")

    # then
    with pytest.raises(DataError, match="position 2 is missing"):
        run_with(store, Trim(store.info, 0, before).run(), lose_one, reads_log)
    assert floor_of(store) == 0
    assert do(store, "XLEN", keys_of(store).log) == 4


def test_a_log_that_is_gone_between_the_look_and_the_read_is_not_read_for_ever(store: EventStore) -> None:
    """Nothing is left to remove."""
    filled(store, 5)
    done = run_with(
        store, Trim(store.info, 0, ALL_OF_IT).run(), lambda turn: do(store, "DEL", keys_of(store).log), reads_log
    )
    assert (done.removed, floor_of(store)) == (0, 0)


def test_a_portion_has_a_bounded_number_of_streams(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script gets a key for each of them, so that the server is not blocked for long."""
    # given
    module = sys.modules[Trim.__module__]
    monkeypatch.setattr(module, "STREAMS_A_PORTION", 2)
    monkeypatch.setattr(module, "EVENTS_A_PAGE", 1)
    for number in range(7):
        store.append(f"account-{number}", deposited())
    portions: list[int] = []

    # when
    store.run(Trim(store.info, 0, ALL_OF_IT).run(progress=portions.append))

    # then
    assert portions == [2, 4, 6]
    assert is_sound(store)


@pytest.mark.parametrize("run", [1, 2], ids=["before the look", "before the cut"])
def test_a_trim_of_a_store_that_was_replaced_removes_nothing(store: EventStore, run: int) -> None:
    """Whoever made a store of the same name meanwhile keeps its events."""
    # given
    filled(store, 5)

    def replace_store(turn: int) -> None:
        if turn == run:
            do(store, "HSET", keys_of(store).meta, "epoch", "another")

    # then
    with pytest.raises(StoreReplaced):
        run_with(store, Trim(store.info, 0, ALL_OF_IT).run(), replace_store, runs_script)
    assert floor_of(store) == 0
    assert do(store, "XLEN", keys_of(store).log) == 5


def test_a_projection_that_comes_between_the_look_and_the_cut_is_respected(store: EventStore) -> None:
    """The script sees that there are other projections than the caller knew of, and the cut is made anew."""
    # given
    history = filled(store, 10)

    def begin(run: int) -> None:
        if run == 2:
            with pytest.raises(HandlerFailed):
                catch_up(store, failing(at=4))

    # when
    done = run_with(store, Trim(store.info, 0, ALL_OF_IT).run(), begin, runs_script)

    # then
    assert told(done) == (0, 2, 2, "projection 'balances' (build '1') stands at position 3")
    assert positions(store.read_all(2)) == positions(history[2:])
    assert catch_up(store, failing(at=0)) == 7


def test_a_candidate_that_comes_between_the_look_and_the_cut_is_respected(store: EventStore) -> None:
    """A rebuild that has only just been proposed begins at the first event."""
    # given
    projected(store, 10, 0)
    keys = store.info.keys[0]

    def begin(run: int) -> None:
        if run == 2:
            store.run(propose(keys, "balances", store.run(read_builds(keys, "balances")), "2"))

    # when
    done = run_with(store, Trim(store.info, 0, ALL_OF_IT).run(), begin, runs_script)

    # then
    assert done.removed == 0
    assert [each.switched for each in rebuild(store, failing(at=0, build="2"))] == [True]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_view_that_could_not_be_made_again_is_not_reset(store: EventStore, dry_run: bool) -> None:
    """Once events it was made of are trimmed, a reset would lose it for good, and is refused."""
    projected(store, 6, 4)
    before = rows_of(store)
    trim(store, 5)
    with pytest.raises(LogTrimmed, match="trimmed up to position 4") as refused:
        store.run(reset(store.info.keys[0], "balances", dry_run=dry_run))
    assert "Keep the existing view" in refused.value.hint
    assert rows_of(store) == before
    catch_up(store, balances())
    assert rows_of(store) != before


@pytest.mark.parametrize("begun", [True, False], ids=["begun again", "not begun again yet"])
def test_a_projection_that_is_reset_between_the_look_and_the_cut_is_respected(store: EventStore, begun: bool) -> None:
    """Its checkpoint went back to the beginning, or its name is gone: it will want the first event."""
    # given
    history = projected(store, 10, 0)
    keys = store.info.keys[0]

    def begin_again(run: int) -> None:
        if run == 2:
            store.run(reset(keys, "balances"))
            if begun:
                with pytest.raises(HandlerFailed):
                    catch_up(store, failing(at=1))

    # when
    done = run_with(store, Trim(store.info, 0, ALL_OF_IT).run(), begin_again, runs_script)

    # then
    assert done.removed == 0
    assert ("stands at position 0" if begun else "was reset or unregistered meanwhile") in done.limit
    catch_up(store, balances())
    assert {row["balance"] for row in rows_of(store).values()} == {
        row["balance"] for row in plain_fold(history).values()
    }


def test_a_projection_that_is_forgotten_holds_nothing(store: EventStore) -> None:
    """A reset is how a projection that is run no more lets go of the log."""
    # given
    projected(store, 4, 6)
    store.run(reset(store.info.keys[0], "balances"))

    # then
    assert trim(store).floor == 9


def test_a_script_run_that_comes_late_removes_nothing(store: EventStore) -> None:
    """A request that is delivered twice finds a floor that it does not expect."""
    # given
    filled(store, 10)
    sent: list[Execute] = []
    operation = Trim(store.info, 0, 4).run()
    effect = next(operation)
    with pytest.raises(StopIteration):
        while True:
            if isinstance(effect, Execute):
                sent.append(effect)
            effect = operation.send(answer(store, effect))
    trim(store, 7)

    # when
    for effect in sent:
        store.driver.execute(effect.commands)

    # then
    assert floor_of(store) == 6
    assert is_sound(store)


def test_each_portion_leaves_a_sound_store_and_the_next_trim_goes_on(store: EventStore) -> None:
    """A trim that ends between two portions has removed whole portions, and nothing else."""
    # given
    history = projected(store, 10, 5)
    floors: list[int] = []

    class Killed(Exception):
        pass

    def look(run: int) -> None:
        floors.append(floor_of(store))
        assert is_sound(store)
        assert positions(store.read_all(floors[-1])) == positions(history[floors[-1] :])
        if run == 4:
            raise Killed

    # when
    with pytest.raises(Killed):
        run_with(store, Trim(store.info, 0, ALL_OF_IT).run(portion=2), look, runs_script)
    rest = trim(store, portion=2)

    # then
    assert floors == [0, 0, 2, 4]
    assert (rest.removed, rest.floor) == (5, 9)
    assert is_sound(store)


def test_two_trims_at_a_time_do_not_hinder_each_other(store: EventStore) -> None:
    """One finds what the other has removed, and goes on behind it."""
    # given
    filled(store, 20)

    def beside(run: int) -> None:
        if run in (2, 4):
            trim(store, floor_of(store) + 5)

    # when
    done = run_with(store, Trim(store.info, 0, ALL_OF_IT).run(portion=3), beside, runs_script)

    # then
    assert done.floor == 19
    assert is_sound(store)


@pytest.mark.parametrize("before", [18, datetime(2100, 1, 1, tzinfo=UTC)], ids=["position", "time"])
def test_a_trim_whose_events_another_one_takes_looks_again(store: EventStore, before: int | datetime) -> None:
    """That what it is about to read is gone is no error, neither for what it does nor for what it says."""
    # given
    filled(store, 20)
    one = Trim(store.info, 0, before)

    # then
    would = run_with(store, one.plan(), lambda turn: trim(store, 5), reads_log)
    assert would.floor == (17 if before == 18 else 19)
    done = run_with(store, one.run(portion=3), lambda turn: trim(store, min(18, floor_of(store) + 3)), reads_log)
    assert done.floor == would.floor
    assert is_sound(store)


@pytest.mark.real
def test_a_trim_that_is_killed_can_be_done_again(real_store: EventStore, real_url: str) -> None:
    """SIGKILL in the middle: what is left is sound and readable, and the next trim finishes."""
    # given
    real_store.append_each([(f"account-{turn % 50}", [deposited(turn)], ANY) for turn in range(3000)])
    history = list(real_store.read_all())
    code = (
        "import sys; from runner import EventStore; from runner.operations.trim import Trim\n"
        "with EventStore.open(sys.argv[1], name=sys.argv[2]) as store:\n"
        "    store.run(Trim(store.info, 0, 3000).run(portion=1))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, real_url, real_store.info.name])

    # when
    try:
        assert reached(lambda: floor_of(real_store) > 20, 30)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    floor = floor_of(real_store)

    # then
    assert 20 < floor < 2999
    assert is_sound(real_store)
    assert list(real_store.read_all(floor)) == history[floor:]
    assert trim(real_store, 3000).floor == 2999
    assert is_sound(real_store)


@pytest.mark.real
def test_writing_and_projecting_go_on_while_the_log_is_trimmed(real_store: EventStore) -> None:
    """Appends, catch-ups and trims at once: every event is in the view once, and none below a checkpoint is missed."""
    # given
    written: list[Any] = []
    ended = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        for turn in range(600):
            appends = [(f"account-{(turn + each) % 7}", [deposited(each)], ANY) for each in range(20)]
            written.extend(real_store.append_each(appends))
            if turn > 50 and floor_of(real_store) > 200:
                break
        ended.set()

    def project() -> None:
        try:
            while not ended.is_set():
                catch_up(real_store, balances(), balances("second"))
        except BaseException as error:
            errors.append(error)

    # when
    catch_up(real_store, balances(), balances("second"))
    with in_thread(write), in_thread(project):
        while not ended.is_set():
            trim(real_store, portion=15)
    between = floor_of(real_store)

    # then
    assert is_sound(real_store)
    catch_up(real_store, balances(), balances("second"))
    assert errors == []
    assert between > 200
    assert len(written) == real_store.last_position()
    for name in ("balances", "second"):
        rows = rows_of(real_store, name)
        assert sum(row["balance"] for row in rows.values()) == len(written) // 20 * sum(range(20))
        assert all(row["numbers"] == list(range(1, len(row["numbers"]) + 1)) for row in rows.values())
    assert is_sound(real_store)


def test_a_step_that_starts_from_another_floor_removes_nothing(store: EventStore) -> None:
    """The streams it names are those of other events than would go."""
    # given
    filled(store, 10)
    operation = Trim(store.info, 0, 8).run()
    effect = next(operation)
    while not cuts(effect):
        effect = operation.send(answer(store, effect))
    assert isinstance(effect, Execute)
    operation.close()
    trim(store, 4)

    # when
    store.driver.execute(effect.commands)

    # then
    assert floor_of(store) == 3
    assert is_sound(store)


@pytest.mark.real
@pytest.mark.parametrize("binary", ["redis-server", "embedded binary"])
@pytest.mark.parametrize("rights", ["-xtrim", "-hset", "resetkeys ~*:log ~*:meta ~*:projections"])
def test_who_may_not_do_all_of_it_does_nothing_of_it(fresh_name: str, binary: str, rights: str) -> None:
    """A right that is missing shows before the first write: log, floor and indexes go together."""
    with server(binary=find_binary() if binary == "embedded binary" else binary) as plain:
        # given
        plain.do("ACL", "SETUSER", "some", "reset", "on", "nopass", "~*", "&*", "+@all", *rights.split())
        with EventStore.open(plain.url, name=fresh_name, settings=TEST_SETTINGS) as store:
            filled(store, 10)

            # when
            url = plain.url.replace("//", "//some:any@")
            with EventStore.open(url, name=fresh_name) as restricted, pytest.raises(StoreRefused):
                trim(restricted)

            # then
            assert floor_of(store) == 0
            assert len(list(store.read_stream("account-1"))) == 5
            assert is_sound(store)


@pytest.mark.real
def test_the_version_of_a_stream_that_is_gone_outlives_a_restart() -> None:
    """What is left of it is written out when the server writes its file anew."""
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:
        # given
        with EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as store:
            filled(store, 10)
            trim(store)
            store.driver.execute([("BGREWRITEAOF",)])
            assert reached(lambda: b"aof_rewrite_in_progress:0" in _persistence(store))
            assert b"aof_last_bgrewrite_status:ok" in _persistence(store)

        # then
        with EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as store:
            assert [store.version(f"account-{number}") for number in (1, 2)] == [5, 5]
            assert floor_of(store) == 9
            assert is_sound(store)
            assert store.append("account-1", deposited(), 5).position == 11


def _persistence(store: EventStore) -> bytes:
    [text] = store.driver.execute([("INFO", "persistence")])
    return bytes(text)


# -- readers below the floor --------------------------------------------------------------------


def test_a_read_from_below_the_floor_is_told_where_the_floor_is(store: EventStore) -> None:
    """No read leaves out events without a word: all, a category, a subscription, the past, a new projection."""
    # given
    filled(store, 10)
    trim(store, 5)

    # then
    for read in (
        lambda: list(store.read_all()),
        lambda: list(store.read_all(3)),
        lambda: list(store.read_category("account", 3)),
        lambda: list(store.read_category("order", 3)),
        lambda: state_at(store, balances(), position=8),
        lambda: state_at(store, balances(), position=2),
        lambda: catch_up(store, balances()),
    ):
        with pytest.raises(LogTrimmed) as told:
            read()
        assert told.value.floor == 4
    for source, after in ((ALL, 0), (Category("account"), 3), ("account-1", 1)):
        with pytest.raises(LogTrimmed), store.subscribe(source, after) as subscription:
            subscription.poll(5)
    assert positions(store.read_all(4)) == positions(store.read_category("account", 4)) == [5, 6, 7, 8, 9, 10]
    with store.subscribe(ALL, 4) as subscription:
        assert positions(islice(subscription, 6)) == [5, 6, 7, 8, 9, 10]


def test_a_live_feed_that_was_passed_by_the_floor_says_so(store: EventStore) -> None:
    """It finds no gap that is damage, but one that was made."""
    # given
    filled(store, 10)
    feed = FeedCore(store.info, store.info.keys[0], store.settings)
    feed.position = 2
    trim(store, 6)

    # then
    with pytest.raises(LogTrimmed) as told:
        feed.advance(store.driver.execute(feed.read_commands()))
    assert told.value.floor == 5


@pytest.mark.parametrize("page_size", [1, 3, 500])
def test_reading_backwards_ends_at_the_floor_with_an_error(url: str, fresh_name: str, page_size: int) -> None:
    """All that is left is given, last first; the first that is left is not taken for the beginning."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        history = filled(store, 10)
        whole = drain(store.read_all(backwards=True))
        trim(store, 5)

        # then
        assert whole == (history[::-1], None)
        found, told = drain(store.read_all(backwards=True))
        assert found == history[:3:-1]
        assert told is not None
        assert told.floor == 4
        assert positions(islice(store.read_all(backwards=True), 6)) == [10, 9, 8, 7, 6, 5]
        assert drain(store.read_all(4, backwards=True)) == (history[:3:-1], None)


@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_a_stream_backwards_ends_at_the_floor_with_an_error(url: str, fresh_name: str, page_size: int) -> None:
    """As the log does; a limit, or an end above the floor, asks for no more than there is."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        filled(store, 10)
        assert numbers(store.read_stream("account-1", backwards=True)) == [5, 4, 3, 2, 1]
        trim(store, 5)

        # then
        found, told = drain(store.read_stream("account-1", backwards=True))
        assert numbers(iter(found)) == [5, 4, 3]
        assert told is not None
        assert told.floor == 4
        assert numbers(store.read_stream("account-1", backwards=True, limit=3)) == [5, 4, 3]
        assert numbers(store.read_stream("account-1", 2, backwards=True)) == [5, 4, 3]
        assert numbers(store.read_stream("account-1", 3, 4, backwards=True)) == [4]
        assert drain(store.read_stream("account-1", 0, 2, backwards=True))[1] is not None
        assert list(store.read_stream("account-9", backwards=True)) == []


def test_backwards_over_an_index_that_still_has_what_is_gone(store: EventStore) -> None:
    """What has an index entry and no event is the floor all the same."""
    # given
    filled(store, 10)
    keys = store.info.keys[0]
    store.driver.execute([("XTRIM", keys.log, "MINID", 5), ("HSET", keys.meta, "floor", 4)])
    store.append("account-1", [deposited(), deposited()])

    # then
    found, told = drain(store.read_stream("account-1", backwards=True))
    assert numbers(iter(found)) == [7, 6, 5, 4, 3]
    assert told is not None


def test_a_stream_that_is_gone_keeps_its_version(store: EventStore) -> None:
    """It says that its events were trimmed, and goes on where it was."""
    # given
    store.append("account-1", [deposited(), deposited()])
    store.append("account-2", deposited())
    trim(store)

    # then
    for after in (0, 1):
        assert drain(store.read_stream("account-1", after))[1] is not None
    assert list(store.read_stream("account-1", 2)) == []
    assert store.version("account-1") == 2
    assert store.run(versions(store.info, ["account-1", "account-2", "account-3"])) == [2, 1, 0]
    with pytest.raises(WrongExpectedVersion):
        store.append("account-1", deposited(), 0)
    assert store.append("account-1", deposited(), 2).version == 3
    assert numbers(store.read_stream("account-1", 2)) == [3]
    assert is_sound(store)


@pytest.mark.parametrize("floor", [1, 2, 3])
def test_a_versioned_append_whose_events_were_trimmed_is_not_done_twice(store: EventStore, floor: int) -> None:
    """Its events cannot be compared any more, some or all of them, so its repetition is refused as a conflict."""
    # given
    events = [deposited(1), deposited(2), deposited(3)]
    store.append("account-1", events, 0)
    store.append("account-2", deposited())
    trim(store, floor + 1)

    # then
    with pytest.raises(WrongExpectedVersion) as conflict:
        store.append("account-1", events, 0)
    assert conflict.value.actual == 3
    assert store.version("account-1") == 3


def test_an_unversioned_append_whose_events_were_trimmed_is_not_done_twice(store: EventStore) -> None:
    """Its ids are kept for their 10,000 positions whatever is trimmed."""
    # given
    events = [deposited(1), deposited(2)]
    store.append("account-1", events)
    store.append("account-2", deposited())
    trim(store)

    # when
    again = store.append("account-1", events)

    # then
    assert (again.duplicate, again.version, again.position) == (True, 2, 2)
    assert store.version("account-1") == 2


# -- verify, status, import, export -------------------------------------------------------------


@pytest.mark.parametrize("before", [4, 8, ALL_OF_IT])
def test_a_trim_in_the_middle_of_a_verification_is_no_finding(store: EventStore, before: int) -> None:
    """Whatever goes between two looks, in the log, between log and indexes, with new events among it."""
    filled(store, 8)
    trim(store, 2)

    class Disturbed(Inspection):
        def _walk_indexes(self) -> StoreOperation[None]:
            store.append("account-1", [deposited(), deposited()])
            store.append("account-3", [deposited(), deposited(), deposited()])
            trim(store, before + 3)
            yield from super()._walk_indexes()

    found: list[Finding] = []
    inspection = Disturbed(store.info.keys[0], found.append, lambda events: trim(store, before), entries_a_page=3)
    store.run(inspection.run())
    assert found == []
    assert is_sound(store)


def test_an_event_that_comes_and_goes_during_a_verification_is_no_finding(store: EventStore) -> None:
    """Appended after the log was walked, trimmed after its index was read."""
    # given
    filled(store, 6)

    class Disturbed(Inspection):
        def _walk_indexes(self) -> StoreOperation[None]:
            store.append("account-1", [deposited(), deposited()])
            yield from super()._walk_indexes()

        def _is_in_log(self, number: int, position: int) -> StoreOperation[bool]:
            trim(store)
            return (yield from super()._is_in_log(number, position))

    # then
    found: list[Finding] = []
    store.run(Disturbed(store.info.keys[0], found.append).run())
    assert found == []
    assert floor_of(store) == 7


def test_damage_in_a_trimmed_store_is_still_found(store: EventStore) -> None:
    """An index that lacks an entry above the floor, and a log that lacks an event."""
    # given
    filled(store, 10)
    trim(store, 5)
    keys = store.info.keys[0]
    store.driver.execute([("XDEL", keys.stream("account-1"), "3-5"), ("XDEL", keys.log, "8-4")])

    # then
    found = [(finding.where, finding.what) for finding in verify(store).findings]
    assert (f"{keys.stream('account-1')} 4-7", "number 3 missing before it") in found
    assert (f"{keys.log} 9-5", "position 8 missing before it") in found


def test_status_counts_from_the_end_of_a_trimmed_log(store: EventStore) -> None:
    """Lag is what it was, and so is what the doctor's neighbours say."""
    # given
    projected(store, 6, 4)
    trim(store)

    # then
    [shown] = store.run(status(store.info.keys[0], "balances"))
    assert (shown.position, shown.lag) == (6, 4)


def test_an_import_does_not_append_again_what_was_trimmed(store: EventStore) -> None:
    """Lines of a stream that lost events may be those events; lines of other streams are taken."""
    # given
    lines = [dump(event).encode() for event in filled(store, 4)]
    trim(store, 3)
    new = json.dumps({"stream": "order-1", "type": "Placed"}).encode()

    # then
    with pytest.raises(InvalidInput, match="events that were trimmed"):
        import_lines(store, lines)
    assert import_lines(store, [new]).appended == 1
    assert import_lines(store, [new]).known == 1
    assert store.last_position() == 5


# -- the command --------------------------------------------------------------------------------


def test_the_command_says_what_it_would_remove_and_asks(store: EventStore, url: str) -> None:
    """--dry-run removes nothing, nor does a no; a yes does, or --yes."""
    # given
    projected(store, 6, 4)
    would = (
        "would remove 5 events of partition 0, up to position 5: projection 'balances' (build '1') stands at position 6"
    )

    # when
    dry = command(store, url, "trim", "--before", "8", "--dry-run")
    no = command(store, url, "trim", "--before", "8", text="n\n")

    # then
    assert (dry.exit_code, dry.stdout.strip()) == (0, would)
    assert no.exit_code == 1
    assert would in no.stderr
    assert "Asked: balances." in no.stderr
    assert "no view can be made from the first event" in no.stderr
    assert "Hint: Let a runner catch balances up." in dry.stderr
    assert floor_of(store) == 0

    # when
    yes = command(store, url, "trim", "--before", "3", text="y\n")
    more = command(store, url, "trim", "--before", "8", "--yes", "--json")
    none = command(store, url, "trim", "--before", "8", "--yes")

    # then
    assert yes.stdout.strip() == "removed 2 events of partition 0, up to position 2: that is all that was asked for"
    [done] = json.loads(more.stdout)
    assert (done["removed"], done["floor"], done["dry_run"]) == (3, 5, False)
    assert none.stdout.startswith("removed nothing of partition 0: projection")


def test_the_command_removes_nothing_that_nobody_was_asked_about(store: EventStore, url: str) -> None:
    """Neither with --yes; the option that says so names the danger, and the question says that nobody was asked."""
    # given
    filled(store)

    # when
    dry = command(store, url, "trim", "--before", "5", "--dry-run")
    refused = command(store, url, "trim", "--before", "5", "--yes")
    asked = command(store, url, "trim", "--before", "5", UNREAD[1], text="y\n")

    # then
    assert "--although-nobody-has-read-them" in dry.stderr
    assert (dry.exit_code, refused.exit_code, asked.exit_code) == (0, 2, 0)
    assert "knows no projection or reactor in partition 0" in refused.stderr
    assert "Nobody was asked" in asked.stderr
    assert floor_of(store) == 4


def test_what_is_exported_of_a_trimmed_store_can_be_imported(store: EventStore, url: str) -> None:
    """All that is left."""
    filled(store, 6)
    trim(store, 5)
    rest = command(store, url, "export")
    with memory_store() as other:
        assert import_lines(other, rest.stdout.encode().splitlines()).appended == 2


def test_a_time_and_several_partitions(url: str, fresh_name: str) -> None:
    """A time goes for all partitions; a position needs to be told which."""
    with EventStore.open(url, name=fresh_name, partitions=2, settings=TEST_SETTINGS) as store:
        # given
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        for turn in range(20):
            store.append(f"account-{turn}", deposited(recorded_at=long_ago))
        ends = [store.last_position(partition=partition) for partition in (0, 1)]

        # then
        with pytest.raises(InvalidInput, match="needs its partition"):
            trims(store.info, 5)
        assert command(store, url, "trim", "--before", "5", "--yes").exit_code == 2
        assert command(store, url, "trim", "--before", "2", "--partition", "7", "--yes").exit_code == 2
        assert command(store, url, "trim", "--before", "soon", "--yes").exit_code == 2
        one = command(store, url, "trim", "--before", "3", "--partition", "1", *UNREAD, "--json")
        assert [(done["partition"], done["floor"]) for done in json.loads(one.stdout)] == [(1, 2)]
        both = command(store, url, "trim", "--before", "2020-06-01", *UNREAD, "--json")
        assert [done["floor"] for done in json.loads(both.stdout)] == [end - 1 for end in ends]


# -- against a model ----------------------------------------------------------------------------


@dataclass
class Model:
    """What must be there: every event ever appended, and the floor."""

    events: list[tuple[str, int]] = field(default_factory=list)
    floor: int = 0
    checkpoint: int | None = None

    def version(self, stream: str) -> int:
        return sum(name == stream for name, _ in self.events)

    def append(self, stream: str, size: int) -> None:
        first = self.version(stream) + 1
        self.events += [(stream, first + each) for each in range(size)]

    def trim(self, before: int) -> None:
        limit = max(0, len(self.events) - 1)
        if self.checkpoint is not None:
            limit = min(limit, max(0, self.checkpoint - 1))
        self.floor = max(self.floor, min(limit, before - 1))


STREAMS = ("account-1", "account-2", "order-1")
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(STREAMS), st.integers(1, 4)),
    st.tuples(st.just("trim"), st.integers(0, 40), st.integers(1, 5)),
    st.tuples(st.just("catch up")),
)


@given(st.lists(STEPS, min_size=1, max_size=12))
@settings(max_examples=60)
def test_whatever_is_trimmed_reads_give_the_rest_or_say_what_is_gone(steps: list[tuple[Any, ...]]) -> None:
    """After any appends, trims and catch-ups: reads, versions, views and verify agree with a model."""
    with memory_store(name=f"model-{next(_names)}", settings=replace(TEST_SETTINGS, page_size=3)) as store:
        model, amounts = Model(), 0
        for step in steps:
            if step[0] == "append":
                _, stream, size = step
                before = model.version(stream)
                kind = noted() if stream == "order-1" else None
                events = [kind or deposited() for _ in range(1 if kind else size)]
                store.append(stream, events, before)
                model.append(stream, len(events))
                amounts += 0 if kind else 10 * len(events)
            elif step[0] == "trim":
                _, before, portion = step
                model.trim(before)
                assert trim(store, before, portion).floor == model.floor
            elif model.checkpoint is not None or model.floor == 0:
                catch_up(store, balances())
                model.checkpoint = len(model.events)
                assert sum(row["balance"] for row in rows_of(store).values()) == amounts
            check(store, model)


def check(store: EventStore, model: Model) -> None:
    end, floor = len(model.events), model.floor
    assert store.last_position() == end
    for after in range(end + 1):
        found, told = drain(store.read_all(after))
        assert (told.floor if told else None) == (floor if after < floor else None)
        assert positions(found) == ([] if told else list(range(after + 1, end + 1)))
    back, told = drain(store.read_all(backwards=True))
    assert positions(back) == list(range(end, floor, -1))
    assert (told is not None) == (floor > 0)
    for stream in STREAMS:
        last = model.version(stream)
        gone = sum(name == stream for name, _ in model.events[:floor])
        assert store.version(stream) == last
        for after in range(last + 1):
            found, told = drain(store.read_stream(stream, after))
            assert numbers(iter(found)) == ([] if after < gone else list(range(after + 1, last + 1)))
            assert (told is not None) == (after < gone)
            back, told = drain(store.read_stream(stream, after, backwards=True))
            assert numbers(iter(back)) == list(range(last, max(after, gone), -1))
            assert (told is not None) == (after < gone)
    assert is_sound(store)
