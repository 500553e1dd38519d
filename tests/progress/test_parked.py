"""Parked events: set aside in order, listed, tried again beside a live runner, given up; and never lost or doubled."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from accounts import balances, deposited, in_thread, noted, plain_fold, reached, rows_of
from command_line import run
from driving import Killed
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import do
from trouble import Trap, envelope, rogue, three_accounts, trapped
from workbench import Workbench, parked_of, skipped_of, status_of

from runner import EventStore, NewEvent, Projection, RecordedEvent, catch_up, follow, operations
from runner.effects import Execute
from runner.errors import DataError, InvalidInput, StoreUnavailable
from runner.operations.parked import parked_rows
from runner.operations.retry_parked import drop_row, retry_row
from runner.progress.parked import SetAsideEvent, look_at_parked
from runner.projections.policies import ParkStream, Policy, Retry, Skip, Stop
from runner.sync.engine import Engine
from runner.sync.session import Session
from runner.testing import TEST_SETTINGS, all_events, memory_store


def retry(store: EventStore, projection: Any, key: str = "account-2", *, dry_run: bool = False) -> Any:
    return store.run(retry_row(store.info.keys[0], projection, key, store.driver.clock, dry_run=dry_run))


def parked_at(store: EventStore, name: str = "balances") -> list[int]:
    return [one.position for one in parked_of(store, name)]


def test_a_parked_event_that_is_gone_from_the_log_is_not_passed_over(store: EventStore) -> None:
    """Its row would be made without it: the retry ends with an error that names the position, and nothing changes."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    store.driver.execute([("XDEL", store.info.keys[0].log, "5-2")])

    # when
    with pytest.raises(DataError, match="the parked event at position 5 is not in the log any more"):
        retry(store, balances())

    # then
    assert parked_at(store) == [2, 5]


# -- setting aside ------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_a_failing_event_is_parked_with_every_later_event_of_its_row(url: str, fresh_name: str, page_size: int) -> None:
    """C8. In order, with error, traceback, attempts and times; the row keeps its last good state; all others go on."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        three_accounts(store)
        store.append("account-2", [deposited(1), noted(), deposited(2)])
        history = all_events(store)
        trap = Trap(5, 9)

        # when
        bench = Workbench(store, trapped(trap, ParkStream())).run()

        # then
        assert bench.errors == []
        assert rows_of(store) == plain_fold(event for event in history if event.position not in (5, 7, 9))
        first, *others = parked_of(store)
        assert (first.position, first.stream, first.number, first.attempts) == (5, "account-2", 2, 1)
        assert "no luck with 5" in first.error
        assert "Trouble" in first.traceback
        assert first.first is not None
        assert first.last == first.first
        assert [(one.position, one.error, one.attempts) for one in others] == [(7, "", 0), (9, "", 0)]
        assert trap.calls.get(7) is None, "what waits behind a parked event is not tried"
        now = status_of(store)
        assert (now.parked, now.lag, now.state) == (3, 0, "idle")


def test_parked_rows_stay_parked_after_a_restart(store: EventStore) -> None:
    """A new process knows which rows are parked: what comes later waits behind, though its code would do."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    store.append("account-2", deposited(7))
    store.append("account-1", deposited(8))

    # when
    catch_up(store, trapped(Trap(), ParkStream()))

    # then
    assert parked_at(store) == [2, 5, 7]
    assert rows_of(store) == plain_fold(event for event in all_events(store) if event.stream != "account-2")


@pytest.mark.parametrize("policy", [Stop(), Skip(), Retry(backoff=0.0), Retry(backoff=0.0, then=Skip())], ids=repr)
def test_a_parked_row_waits_also_under_another_policy(store: EventStore, policy: Policy) -> None:
    """Code with another policy takes over: the rows that are parked wait, in order, until they are tried again."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    store.append("account-2", deposited(7))
    store.append("account-1", deposited(8))

    # when
    bench = Workbench(store, trapped(Trap(), policy)).run()

    # then
    assert bench.errors == []
    assert parked_at(store) == [2, 5, 7]
    retry(store, trapped(Trap(), policy))
    assert rows_of(store) == plain_fold(all_events(store))


def test_an_error_whose_text_is_no_text_is_recorded(store: EventStore) -> None:
    """The error of a file name that is not UTF-8 holds half characters: the event is parked all the same."""
    odd = Projection("balances", on_error=ParkStream())

    @odd.when()
    def fail(state: Any, event: RecordedEvent) -> None:
        raise ValueError("a\udcffb")

    store.append("account-1", deposited())
    assert Workbench(store, odd).run().errors == []

    [parked] = parked_of(store)
    assert "a b" in parked.error
    assert "\\udcff" in parked.traceback


@pytest.mark.parametrize("page_size", [1, 3, 500])
def test_one_event_more_than_the_limit_stops(url: str, fresh_name: str, page_size: int) -> None:
    """The bound is exact: three are parked, what is before the fourth is committed, and the error says so."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given: account-2 fails at 2 and waits at 5 and 7; account-1 fails at 9
        three_accounts(store)
        store.append("account-2", deposited())
        store.append("account-3", deposited())
        store.append("account-1", [deposited(), deposited()])

        # when
        bench = Workbench(store, trapped(Trap(2, 9), ParkStream(3))).run()

        # then
        assert parked_at(store) == [2, 5, 7]
        assert status_of(store).position == 8
        assert status_of(store).state == "stopped"
        assert "would park the event at position 9, but 3 events are parked already" in bench.errors[0]
        good = [event for event in all_events(store) if event.position < 9 and event.stream != "account-2"]
        assert rows_of(store) == plain_fold(good)
        retry(store, trapped(Trap(), ParkStream(3)))
        assert Workbench(store, trapped(Trap(9), ParkStream(3))).run().errors == []
        assert parked_at(store) == [9, 10]


def test_there_is_room_again_once_parked_events_were_taken_out(store: EventStore) -> None:
    """A row that was tried and failed again further on leaves room for as many as went well, under a live runner."""
    # given
    store.append("account-1", [deposited() for _ in range(3)])
    trap = Trap(1)
    with follow(store, trapped(trap, ParkStream(3))):
        assert reached(lambda: parked_at(store) == [1, 2, 3])

        # when
        retry(store, trapped(Trap(3), ParkStream(3)), "account-1")
        trap.positions = {4, 5}
        store.append("account-2", deposited())
        store.append("account-3", deposited())

        # then
        assert reached(lambda: parked_at(store) == [3, 4, 5])
        assert reached(lambda: status_of(store).state == "live")


# -- crashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_point_loses_no_event_and_parks_none_twice(
    url: str, fresh_name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8, C10. Killed at the k-th request, for every k: after a restart each event is in its row, or parked, once."""
    for at in count(1):
        with EventStore.open(
            url, name=f"{fresh_name}-{at}", settings=replace(TEST_SETTINGS, page_size=2, lease=0.05)
        ) as store:
            # given
            three_accounts(store)
            store.append("account-2", deposited())
            sent, real = 0, Session._transmit

            def transmit(session: Session, pending: Any, at: int = at, real: Any = real) -> None:
                nonlocal sent
                sent += 1
                if sent == at and when == "before":
                    raise Killed
                real(session, pending)
                if sent == at:
                    raise Killed

            bench = Workbench(store, trapped(Trap(2, 6), Retry(times=1, backoff=0.0, then=ParkStream())))
            monkeypatch.setattr(Session, "_transmit", transmit)
            died = False
            try:
                bench.run()
            except Killed:
                died = True
            monkeypatch.setattr(Session, "_transmit", real)

            # when
            Engine(store, [trapped(Trap(2, 6), ParkStream())], live=False).run_to_end()

            # then
            assert parked_at(store) == [2, 5, 6, 7], f"killed at request {at}"
            good = [event for event in all_events(store) if event.position in (1, 3, 4)]
            assert rows_of(store) == plain_fold(good), f"killed at request {at}"
            assert status_of(store).applied == 3
            if not died:
                assert at > 10
                return


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_lost_at_any_point_of_a_retry_applies_each_event_once(
    url: str, fresh_name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C9. The k-th request of `parked retry` is lost, done or not, for every k: the row is the fold of its events."""
    for at in count(1):
        with EventStore.open(url, name=f"{fresh_name}-{at}", settings=TEST_SETTINGS) as store:
            # given
            three_accounts(store)
            Workbench(store, trapped(Trap(2), ParkStream())).run()
            sent, real = 0, Session._transmit

            def transmit(session: Session, pending: Any, at: int = at, real: Any = real) -> None:
                nonlocal sent
                sent += 1
                if sent == at and when == "before":
                    session.close()
                    raise ConnectionError
                real(session, pending)
                if sent == at:
                    session._read_into(pending)
                    pending.replies.clear()
                    session.close()

            def lose(session: Session, pending: Any) -> None:
                try:
                    transmit(session, pending)
                except ConnectionError:
                    raise StoreUnavailable("the connection was lost") from None

            monkeypatch.setattr(Session, "_transmit", lose)

            # when
            retry(store, trapped(Trap(), ParkStream()))
            taken = sent
            monkeypatch.setattr(Session, "_transmit", real)

            # then
            assert parked_at(store) == []
            assert rows_of(store) == plain_fold(all_events(store)), f"lost at request {at}"
            if taken < at:
                assert at > 3
                return


# -- trying again -------------------------------------------------------------------------------


def test_a_retry_applies_parked_events_in_order_and_the_stream_flows_again(store: EventStore) -> None:
    """C9. Through the code of today, in order; then new events of the stream are applied as they come."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()

    # when
    outcome = retry(store, trapped(Trap(), ParkStream()))
    store.append("account-2", deposited(3))
    catch_up(store, trapped(Trap(), ParkStream()))

    # then
    assert (outcome.freed, outcome.left, outcome.error) == (2, 0, "")
    assert rows_of(store) == plain_fold(all_events(store))
    assert status_of(store).parked == 0


def test_a_stream_that_was_freed_flows_again_in_a_live_runner(store: EventStore) -> None:
    """C9. The runner that parked it notices by itself: the next event of the stream is applied, not set aside."""
    three_accounts(store)
    trap = Trap(2)
    with follow(store, trapped(trap, ParkStream())) as following:
        assert reached(lambda: parked_at(store) == [2, 5])
        retry(store, trapped(Trap(), ParkStream()))
        following.wait_for(store.append("account-2", deposited(3)), 10)
        assert parked_at(store) == []
        assert rows_of(store) == plain_fold(all_events(store))


def test_a_retry_ends_before_the_event_that_fails_again(store: EventStore) -> None:
    """C9. What went well before it is in the row; its record counts the attempt, and keeps when it failed first."""
    # given
    three_accounts(store)
    store.append("account-2", deposited(3))
    Workbench(store, trapped(Trap(2), Retry(times=2, backoff=0.0, then=ParkStream()))).run()
    before = parked_of(store)[0]

    # when
    same = retry(store, trapped(Trap(2), ParkStream()))
    further = retry(store, trapped(Trap(5), ParkStream()))

    # then
    assert (same.freed, same.left) == (0, 3)
    assert (further.freed, further.left) == (1, 2)
    assert "no luck with 5" in further.error
    assert rows_of(store)["account-2"] == {"balance": 10, "numbers": [1]}
    failed, waiting = parked_of(store)
    assert (failed.position, failed.attempts, waiting.position, waiting.error) == (5, 1, 7, "")
    assert before.attempts == 3


def test_each_try_is_counted(store: EventStore) -> None:
    """C7. Attempts of the runner and of retries add up; the first time stays, the last one moves on."""
    three_accounts(store)
    Workbench(store, trapped(Trap(2), Retry(times=2, backoff=0.0, then=ParkStream()))).run()
    first = parked_of(store)[0]
    for tries in (4, 5):
        retry(store, trapped(Trap(2), ParkStream()))
        [now, _] = parked_of(store)
        assert (now.attempts, now.first_us) == (tries, first.first_us)
        assert now.last_us > first.last_us


def test_a_dry_run_writes_nothing(store: EventStore) -> None:
    """It says how far a retry would get; the parked events and the row are as they were, bit for bit."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    before = parked_of(store), rows_of(store)

    # when
    all_well = retry(store, trapped(Trap(), ParkStream()), dry_run=True)
    half = retry(store, trapped(Trap(5), ParkStream()), dry_run=True)

    # then
    assert (all_well.freed, all_well.left) == (2, 0)
    assert (half.freed, half.left) == (1, 1)
    assert "no luck with 5" in half.error
    assert (parked_of(store), rows_of(store)) == before


def test_a_long_row_is_tried_in_portions(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events wait, they are applied some at a time, in order, each once."""
    # given
    monkeypatch.setattr(sys.modules[retry_row.__module__], "EVENTS_A_TRY", 7)
    store.append("account-2", [deposited(place) for place in range(50)])
    Workbench(store, trapped(Trap(1), ParkStream())).run()

    # when
    outcome = retry(store, trapped(Trap(45), ParkStream()))

    # then
    assert (outcome.freed, outcome.left) == (44, 6)
    assert rows_of(store) == plain_fold(all_events(store)[:44])


def test_an_event_that_cannot_be_decoded_stays_parked(store: EventStore) -> None:
    """A retry gets as far as it, and says so, in a dry run too; dropping it and what is behind it is the way out."""
    # given
    three_accounts(store)
    rogue(store, 7, envelope("account-2"), number=3)
    store.append("account-2", deposited(9))
    Workbench(store, trapped(Trap(2), ParkStream())).run()

    # when
    dry = retry(store, trapped(Trap(), ParkStream()), dry_run=True)
    wet = retry(store, trapped(Trap(), ParkStream()))

    # then
    assert (dry.freed, dry.left) == (wet.freed, wet.left) == (2, 2)
    assert "cannot be decoded" in dry.error
    assert "cannot be decoded" in wet.error
    assert rows_of(store) == plain_fold(all_events_but_damage(store, upto=6))
    assert parked_at(store) == [7, 8]


def all_events_but_damage(store: EventStore, upto: int) -> list[RecordedEvent]:
    found = []
    for event in store.read_all():
        if event.position > upto:
            break
        found.append(event)
        if event.position == upto:
            break
    return found


def test_code_of_another_build_does_not_try_parked_events(store: EventStore) -> None:
    """The rows are the live build's: other code would make a row of two kinds."""
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    other = Projection("balances", build="2")
    with pytest.raises(InvalidInput, match="the live build is '1', and this code is build '2'"):
        retry(store, other)


@pytest.mark.parametrize("fails", [False, True])
def test_an_event_that_was_dropped_meanwhile_is_not_parked_again(store: EventStore, fails: bool) -> None:
    """A retry and a drop at once: what was dropped stays dropped, whether or not it would have gone well."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    keys = store.info.keys[0]

    def drop_meanwhile(event: RecordedEvent) -> None:
        if not skipped_of(store):
            store.run(drop_row(keys, "balances", "account-2"))
        if fails:
            raise ValueError

    # when
    outcome = retry(store, trapped(drop_meanwhile, ParkStream()))

    # then
    assert outcome.freed == 0
    assert parked_at(store) == []
    assert "account-2" not in rows_of(store)
    assert [one.position for one in skipped_of(store)] == [2, 5]


def test_what_is_parked_behind_while_a_row_is_dropped_is_dropped_with_it(store: EventStore) -> None:
    """No event stays behind with no failing one before it, waiting for nothing."""
    # given: the row is read, and before it is written another event is parked
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    operation = drop_row(store.info.keys[0], "balances", "account-2")
    effect = next(operation)

    # when
    outcome, late = None, False
    while outcome is None:
        assert isinstance(effect, Execute)
        replies = store.driver.execute(effect.commands)
        if effect.commands[0][0] == "HMGET" and not late:
            late = True
            store.append("account-2", deposited(1))
            catch_up(store, trapped(Trap(), ParkStream()))
        try:
            effect = operation.send(replies)
        except StopIteration as stop:
            outcome = stop.value

    # then
    assert (outcome.freed, outcome.left, parked_at(store)) == (3, 0, [])
    store.append("account-2", deposited(77))
    catch_up(store, trapped(Trap(), ParkStream()))
    assert rows_of(store)["account-2"] == {"balance": 77, "numbers": [4]}


def test_retries_beside_a_live_runner_keep_every_row_right(url: str, fresh_name: str) -> None:
    """C9. Events of the parked streams keep coming while they are tried again and again: at the end, the plain fold."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=7)) as store:
        # given: every 11th event fails for as long as it is said to
        broken = True
        stop, freed = threading.Event(), list[int]()
        accounts = [f"account-{place}" for place in range(4)]

        def on_event(event: RecordedEvent) -> None:
            if broken and event.position % 11 == 0:
                raise ValueError(f"{event.position}")

        def write() -> None:
            for place in range(400):
                store.append(accounts[place % 4], deposited(place))
            stop.set()

        def try_again(lucky: Callable[[RecordedEvent], None]) -> None:
            while not stop.is_set():
                for key in store.run(parked_rows(store.info.keys[0], "balances", None)):
                    freed.append(retry(store, trapped(lucky, ParkStream()), key).freed)

        # when
        with follow(store, trapped(on_event, ParkStream())) as following:
            following.wait_live(10)
            with in_thread(write), in_thread(lambda: try_again(on_event)), in_thread(lambda: try_again(lambda e: None)):
                pass
            broken = False
            for key in store.run(parked_rows(store.info.keys[0], "balances", None)):
                retry(store, trapped(on_event, ParkStream()), key)
            last = store.append("account-0", deposited(1))
            following.wait_for(last, 10)
            for key in store.run(parked_rows(store.info.keys[0], "balances", None)):
                retry(store, trapped(on_event, ParkStream()), key)

        # then
        assert parked_at(store) == []
        assert rows_of(store) == plain_fold(all_events(store))
        assert sum(freed) > 10


# -- what it costs ------------------------------------------------------------------------------


def test_parked_streams_cost_no_round_trips(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following with a parked row beside takes as many requests as without, as long as its stream is quiet."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream(), "with")).run()
    Workbench(store, trapped(Trap(), ParkStream(), "without")).run()
    store.append("account-1", [deposited() for _ in range(2000)])
    trips = {}
    for name in ("with", "without"):
        bench = Workbench(store, trapped(Trap(), ParkStream(), name))
        bench.claim()

        # when
        with monkeypatch.context() as patch:
            trips[name] = counted = Counted(patch)
            bench.work()
        assert counted.sent > 8

    # then
    assert trips["with"].sent == trips["without"].sent
    assert parked_at(store, "with") == [2, 5]


class Counted:
    """Counts the requests that sessions send."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        real = Session._transmit

        def transmit(session: Session, pending: Any) -> None:
            self.sent += 1
            real(session, pending)

        patch.setattr(Session, "_transmit", transmit)


# -- the commands -------------------------------------------------------------------------------

PLUGIN = """
from runner import Projection
from runner.projections.policies import ParkStream
sums = Projection("sums", initial=lambda: {"sum": 0}, on_error=ParkStream())
@sums.when("Added")
def added(state, event):
    state["sum"] += 1
    if event.data["amount"] BAD:
        raise ValueError("what a number")
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], str]:
    """A plug-in file that fails for events whose amount matches a condition."""
    files = count(1)

    def write(bad: str) -> str:
        file = tmp_path / f"plugin{next(files)}.py"
        file.write_text(PLUGIN.replace("BAD", bad))
        return str(file)

    return write


@pytest.fixture
def parked_store(fresh_name: str, plugin: Callable[[str], str]) -> Iterator[str]:
    """The URL of a store whose projection has parked thing-1 at position 2 (two events), and thing-2 at 3 (one)."""
    url = f"memory:parked-{fresh_name}"
    with EventStore.open(url) as store:
        for stream, amount in (("thing-0", 1), ("thing-1", 13), ("thing-2", 13), ("thing-1", 4), ("thing-0", 5)):
            store.append(stream, NewEvent("Added", {"amount": amount}))
        assert run("run", "--once", "--accept-bad", "--projections", plugin("== 13"), store=url).exit_code == 0
        yield url


def test_parked_lists_rows_with_counts(parked_store: str) -> None:
    """For all projections, or for one; an unknown one is a mistake."""
    for args in ((), ("sums",)):
        found = json.loads(run("parked", *args, "--json", store=parked_store).output)
        assert [(one["projection"], one["row"], one["events"]) for one in found] == [
            ("sums", "thing-1", 2), ("sums", "thing-2", 1),
        ]  # fmt: skip
        assert all("ValueError: what a number" in one["error"] for one in found)
    assert "3 parked events" in run("parked", store=parked_store).output
    assert run("parked", "nothing", store=parked_store).exit_code == 2


def test_parked_show_tells_everything_about_each_event(parked_store: str) -> None:
    """Position, stream, attempts, times, error and traceback; and of those behind, that they wait."""
    text = run("parked", "show", "sums", "--stream", "thing-1", store=parked_store).output
    assert "position 2: Added, event 1 of thing-1: ValueError: what a number" in text
    assert 'raise ValueError("what a number")' in text
    assert "position 4: Added, event 2 of thing-1: waits for a parked event" in text
    assert "thing-2" not in text
    found = json.loads(run("parked", "show", "sums", "--json", store=parked_store).output)
    assert [one["position"] for one in found] == [2, 4, 3], "row by row"
    assert found[0]["attempts"] == 1
    assert found[0]["first"] == found[0]["last"] is not None


def test_parked_retry_goes_through_the_code_that_is_loaded(parked_store: str, plugin: Callable[[str], str]) -> None:
    """A dry run changes nothing; a row that fails again makes the exit code 1; one stream, or all."""
    good, bad = plugin("== 999"), plugin("== 13")
    dry = run("parked", "retry", "sums", "--dry-run", "--projections", good, store=parked_store)
    assert (dry.exit_code, "thing-1: 2 would be applied" in dry.output) == (0, True)
    again = run("parked", "retry", "sums", "--projections", bad, store=parked_store)
    assert again.exit_code == 1
    assert "thing-1: 0 applied, 2 stay parked" in again.output
    one = run("parked", "retry", "sums", "--stream", "thing-1", "--projections", good, "--json", store=parked_store)
    assert [(each["key"], each["freed"], each["left"]) for each in json.loads(one.stdout)] == [("thing-1", 2, 0)]
    assert run("parked", "retry", "sums", "--projections", good, store=parked_store).exit_code == 0
    assert "nothing is parked" in run("parked", "retry", "sums", "--projections", good, store=parked_store).output
    rows = json.loads("[" + ",".join(run("view", "sums", "--json", store=parked_store).output.splitlines()) + "]")
    assert len(rows) == 3


def test_parked_drop_asks_first_and_leaves_records(parked_store: str, plugin: Callable[[str], str]) -> None:
    """No: nothing happens. Yes: the rows go on without their events, and `runner skipped` lists them."""
    no = run("parked", "drop", "sums", text="n\n", store=parked_store)
    assert no.exit_code != 0
    assert "Give 3 parked events of sums up?" in no.output
    assert "3 parked events" in run("parked", store=parked_store).output
    yes = run("parked", "drop", "sums", "--stream", "thing-1", "--yes", store=parked_store)
    assert "thing-1: 2 given up" in yes.output
    assert "1 parked event" in run("parked", store=parked_store).output
    skipped = json.loads(run("skipped", "sums", "--json", store=parked_store).output)
    assert [(one["position"], one["error"]) for one in skipped] == [
        (2, "ValueError: what a number"), (4, "dropped after a parked event"),
    ]  # fmt: skip
    with EventStore.open(parked_store) as store:
        store.append("thing-1", NewEvent("Added", {"amount": 1}))
        assert run("run", "--once", "--accept-bad", "--projections", plugin("== 13"), store=parked_store).exit_code == 0
        assert rows_of(store, "sums")["thing-1"] == {"sum": 1}


# -- any history --------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=150)
def test_any_history_with_any_failures_ends_as_the_plain_fold(data: st.DataObject) -> None:
    """Random events, failures, policies, pages, restarts and retries: each row is the fold of its events, without
    skipped ones, and up to the first parked one; nothing is lost, doubled or out of order."""
    # given
    streams = [f"account-{place}" for place in range(data.draw(st.integers(1, 4), "streams"))]
    length = data.draw(st.integers(1, 25), "events")
    failing = data.draw(st.sets(st.integers(1, length)), "failing")
    ever_failing = set(failing)
    page_size, cache = data.draw(st.integers(1, 9), "page size"), data.draw(st.integers(1, 4), "cache")
    resorts = st.sampled_from(list[ParkStream | Skip | Stop]([ParkStream(), Skip(), Stop(), ParkStream(3)]))
    chosen = replace(TEST_SETTINGS, page_size=page_size, cache_rows=cache)
    with memory_store(settings=chosen) as store:
        appended, dropped = 0, set[int]()

        def trap(event: RecordedEvent) -> None:
            if event.position in failing:
                raise ValueError

        def check() -> None:
            history = all_events(store)
            skipped = {one.position for one in skipped_of(store)}
            parked = {one.position for one in parked_of(store)}
            upto = status_of(store).position
            assert not skipped & parked
            assert len(skipped_of(store)) == len(skipped)
            expected = plain_fold(event for event in history[:upto] if event.position not in skipped | parked)
            assert rows_of(store) == expected
            first: dict[str, int] = {}
            for event in history[:upto]:
                if event.position in parked:
                    first.setdefault(event.stream, event.position)
                assert event.position in parked or event.stream not in first, "one went past a parked event"
            assert skipped <= ever_failing | dropped

        # when
        while appended < length:
            more = data.draw(st.integers(1, length - appended), "more")
            for _ in range(more):
                store.append(data.draw(st.sampled_from(streams)), deposited(appended))
                appended += 1
            resort = data.draw(resorts, "resort")
            times = data.draw(st.integers(0, 2), "times")
            policy: Policy = Retry(times=times, backoff=0.0, then=resort) if times else resort
            Workbench(store, trapped(trap, policy)).run()
            check()
            failing -= data.draw(st.sets(st.integers(1, length)), "corrected")
            for key in list(store.run(parked_rows(store.info.keys[0], "balances", None))):
                what = data.draw(st.sampled_from(["retry", "leave", "drop", "dry run"]))
                if what == "drop":
                    dropped |= {one.position for one in parked_of(store) if one.key == key}
                    store.run(drop_row(store.info.keys[0], "balances", key))
                elif what != "leave":
                    retry(store, trapped(trap, policy), key, dry_run=what == "dry run")
            check()
        failing.clear()
        Workbench(store, trapped(trap, ParkStream())).run()
        for key in list(store.run(parked_rows(store.info.keys[0], "balances", None))):
            retry(store, trapped(trap, ParkStream()), key)

        # then
        skipped = {one.position for one in skipped_of(store)}
        assert parked_at(store) == []
        assert status_of(store).lag == 0
        assert rows_of(store) == plain_fold(event for event in all_events(store) if event.position not in skipped)


def test_parked_events_are_read_in_pages_and_only_as_many_as_are_asked_for(store: EventStore) -> None:
    """The first events of a row or of all rows, in order, with or without their tracebacks: no reply holds all."""
    # given
    store.append("account-1", noted())
    catch_up(store, balances())
    keys = store.info.keys[0]
    records = [
        SetAsideEvent(number, f"account-{number % 2}", "a-1", 1, "X", error="E: no", traceback="t" * 8000)
        for number in range(1, 1001)
    ]
    for one in records:
        do(store, "HSET", keys.parked("balances", "1"), one.position, one.record())

    # when
    found = operations.parked(store)
    brief = operations.parked(store, "balances", brief=True)
    few = operations.parked(store, "balances", row="account-1", limit=3)

    # then
    assert [one for row in found for one in row.events] == [*records[::2], *records[1::2]]
    assert [(row.key, len(row.events), row.error) for row in brief] == [(r.key, len(r.events), r.error) for r in found]
    assert not any(one.traceback for row in brief for one in row.events)
    assert [one for row in few for one in row.events] == records[0:6:2]


def test_no_reply_holds_all_parked_events(store: EventStore) -> None:
    """A page of a hundred or so at a time, so neither the server nor a reader has all of them in memory."""
    # given
    keys = store.info.keys[0]
    for position in range(2000):
        record = SetAsideEvent(position, "account-1", "account-1", 1, "X", traceback="t" * 200).record()
        do(store, "HSET", keys.parked("balances", "1"), position, record)
    largest = 0

    # when
    reading = look_at_parked(keys, "balances", "1", brief=True)
    effect = next(reading)
    with pytest.raises(StopIteration):
        while True:
            assert isinstance(effect, Execute)
            reply = store.driver.execute(effect.commands)
            largest = max(largest, len(reply[0][1]) // 2)
            effect = reading.send(reply)

    # then
    assert 0 < largest <= 300
