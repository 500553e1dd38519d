"""Reactors: effects at least once, in order within a stream, several streams at a time, and when they happen again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from accounts import balances, deposited, in_thread, reached, reopened
from click.testing import CliRunner
from trouble import Trouble, envelope, rogue
from workbench import Workbench, let_lease_end, parked_of, skipped_of, status_of

from runner import AsyncEventStore, EventStore, Reactor, RecordedEvent, catch_up, follow
from runner.cli.main import main
from runner.errors import HandlerFailed, InvalidInput, ProjectionError, RecordDamaged, StoreUnavailable
from runner.operations.rebuild import rebuild
from runner.operations.retry_parked import retry_row
from runner.progress.parked import read_parked
from runner.projections.policies import ParkStream, Policy, Retry, Skip, Stop
from runner.projections.projection import Projection
from runner.sync.engine import Engine
from runner.sync.session import Session
from runner.testing import TEST_SETTINGS, memory_store
from runner.wire.clock import SYSTEM_CLOCK
from runner.workers.holdings import Holdings
from runner.workers.reactor_worker import EFFECTS_SLICE

#: The policy where none is given.
STOP = Stop()


class Effects:
    """What a reactor did: positions in the order they ended, and how many were under way at once."""

    def __init__(self, *bad: int, times: int = 10**9) -> None:
        self.bad, self.times = set(bad), times
        self.done: list[int] = []
        self.keys: list[str] = []
        self.calls: Counter[int] = Counter()
        self.most = self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self, event: RecordedEvent, key: str) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.calls[event.position] += 1
            self.keys.append(key)
        try:
            yield
            if event.position in self.bad and self.calls[event.position] <= self.times:
                raise Trouble(f"no luck with {event.position}")
            with self._lock:
                self.done.append(event.position)
        finally:
            with self._lock:
                self._now -= 1


def mailer(
    effects: Effects, policy: Policy = STOP, wait: Callable[[RecordedEvent], Any] = lambda event: None, **more: Any
) -> Reactor:
    reactor = Reactor("mailer", on_error=policy, **more)

    @reactor.when
    def mail(event: RecordedEvent, key: str) -> None:
        with effects.one(event, key):
            wait(event)

    return reactor


def append(store: EventStore, *streams: str) -> None:
    for stream in streams:
        store.append(stream, deposited())


def in_order(store: EventStore, effects: Effects) -> bool:
    """Whether the effects of each stream came in its order."""
    streams: dict[str, list[int]] = {}
    of = {event.position: event.stream for event in store.read_all()}
    for position in effects.done:
        streams.setdefault(of[position], []).append(position)
    return all(done == sorted(done) for done in streams.values())


@pytest.mark.parametrize("at_a_time", [1, 4, 8])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("engine", ["threads", "tasks"])
def test_several_streams_at_a_time_and_never_more(
    url: str, fresh_name: str, engine: str, kind: str, at_a_time: int
) -> None:
    """at_a_time effects meet at a barrier, each of a stream of its own; one more is never under way.

    The clock stands still: else, on a busy machine, lanes would pause for a commit while others wait at the barrier.
    The numbers are powers of two, as the sizes of the first pages are: each page fills the barrier whole.
    """
    still = replace(SYSTEM_CLOCK, monotonic=lambda: 0.0)
    store = EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)
    with store:
        # given: three rounds over twice as many streams
        append(store, *(f"a-{place}" for _ in range(3) for place in range(2 * at_a_time)))
        effects, barrier = Effects(), threading.Barrier(at_a_time)
        reactor = Reactor("mailer", at_a_time=at_a_time)

        if kind == "sync":

            @reactor.when
            def mail(event: RecordedEvent, key: str) -> None:
                with effects.one(event, key):
                    barrier.wait(10)
        else:

            @reactor.when
            async def mail_later(event: RecordedEvent, key: str) -> None:
                with effects.one(event, key):
                    await asyncio.to_thread(barrier.wait, 10) if engine == "threads" else await meet()

        waiting: list[asyncio.Future[None]] = []

        async def meet() -> None:
            waiting.append(asyncio.get_running_loop().create_future())
            mine = waiting[-1]
            if len(waiting) == at_a_time:
                for each in waiting:
                    each.set_result(None)
                waiting.clear()
            await asyncio.wait_for(mine, 10)

        # when
        if engine == "threads":
            store.driver.clock = still
            catch_up(store, reactor)
        else:

            async def main() -> None:
                async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as mine:
                    mine.driver.clock = still
                    await catch_up(mine, reactor)

            asyncio.run(main())

        # then
        assert effects.most == at_a_time
        assert sorted(effects.done) == list(range(1, 6 * at_a_time + 1))
        assert in_order(store, effects)
        assert status_of(store, "mailer").lag == 0


def test_the_checkpoint_comes_after_the_effects(store: EventStore) -> None:
    """While an effect is under way, the store does not say that it is done; when it is, the key was its own."""
    # given
    append(store, "a-1", "a-1", "a-2")
    effects, seen = Effects(), dict[int, int]()

    def look(event: RecordedEvent) -> None:
        seen[event.position] = status_of(store, "mailer").position

    # when
    applied = catch_up(store, mailer(effects, wait=look))

    # then
    assert applied == 3
    assert all(checkpoint < position for position, checkpoint in seen.items())
    expected = [f"mailer:{event.stream}:{event.id}" for event in store.read_all()]
    assert sorted(effects.keys) == sorted(expected)


def test_what_was_done_beyond_a_failure_is_not_repeated(store: EventStore) -> None:
    """Other streams went further than the failing one: after a Stop and a restart only the failing event comes again,
    with the same key."""
    # given
    append(store, "a-1", "a-2", "a-2", "a-3", "a-1")
    first, second = Effects(1), Effects()

    # when
    failed = Workbench(store, mailer(first, at_a_time=1)).run()
    assert status_of(store, "mailer").position == 0
    catch_up(store, mailer(second))

    # then
    assert "no luck with 1" in failed.errors[0]
    assert sorted(first.done + second.done) == [1, 2, 3, 4, 5]
    assert first.keys[0] == second.keys[0]


def test_what_was_done_in_another_history_is_not_taken_for_done(store: EventStore) -> None:
    """Where the log was restored from an older copy, another event at the same position has its effect."""
    # given: the second event is done, the first fails after that
    append(store, "a-1", "a-2")
    effects = Effects(1, times=1)
    with pytest.raises(HandlerFailed):
        catch_up(store, mailer(effects, wait=lambda event: reached(lambda: event.position == 2 or effects.done == [2])))
    assert effects.done == [2]

    # when
    [keys] = store.info.keys
    store.driver.execute([("DEL", keys.log, keys.stream("a-1"), keys.stream("a-2"))])
    append(store, "a-1", "a-2")
    catch_up(store, mailer(effects))

    # then
    assert sorted(effects.done) == [1, 2, 2]


def test_a_skipped_effect_is_on_record_before_the_next_of_its_stream(store: EventStore) -> None:
    """A crash in between would have the skipped one tried again, and perhaps succeed, behind the later one."""
    append(store, "a-1", "a-1")
    effects, found = Effects(1), list[list[int]]()

    def look(event: RecordedEvent) -> None:
        found.append([one.position for one in skipped_of(store, "mailer")])

    assert catch_up(store, mailer(effects, Skip(), look)) == 1
    assert effects.done == [2]
    assert found == [[], [1]]


@pytest.mark.parametrize("resort", [Stop(), ParkStream(), Skip()], ids=repr)
@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_a_failing_effect_is_met_by_the_policy(url: str, fresh_name: str, resort: Any, page_size: int) -> None:
    """Tried its number of times; then stop, park the stream in order, or skip with a record; others are done once."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        append(store, "a-1", "a-2", "a-1", "a-2")
        effects = Effects(2)

        # when
        bench = Workbench(store, mailer(effects, Retry(times=2, backoff=1.0, then=resort))).run()

        # then
        assert effects.calls[2] == 3
        assert effects.calls[1] == 1
        assert bench.time >= 3.0
        if resort == Stop():
            assert "no luck with 2" in bench.errors[0]
            assert status_of(store, "mailer").position == 1
        else:
            assert effects.calls[3] == 1
            assert effects.calls[4] == (1 if resort == Skip() else 0)
            kept = (parked_of if resort == ParkStream() else skipped_of)(store, "mailer")
            assert [(one.position, one.attempts) for one in kept] == (
                [(2, 3)] if resort == Skip() else [(2, 3), (4, 0)]
            )
            assert status_of(store, "mailer").lag == 0


def test_an_effect_that_is_tried_again_holds_up_its_stream_alone(store: EventStore) -> None:
    """While one waits an hour for its next try, others of its batch and later ones are done; its stream waits."""
    # given
    append(store, "a-1", "a-2")
    effects = Effects(1)
    with follow(store, mailer(effects, Retry(times=1, backoff=7200.0, longest=7200.0))):
        assert reached(lambda: effects.done == [2])

        # when
        append(store, "a-3", "a-1", "a-2")

        # then
        assert reached(lambda: sorted(effects.done) == [2, 3, 5])
        assert status_of(store, "mailer").position == 0
    assert effects.calls == {1: 1, 2: 1, 3: 1, 5: 1}
    again = Effects()
    catch_up(store, mailer(again))
    assert sorted(again.done) == [1, 4], "nothing that was done is done again after a clean stop"


def test_nobody_waits_for_the_first_pause_of_an_effect_that_is_tried_again(url: str, fresh_name: str) -> None:
    """The event after it, in a page of its own, is done before any time has passed."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=1)) as store:
        append(store, "a-1", "a-2")
        times: list[tuple[int, float]] = []
        policy = Retry(times=1, backoff=1.0, longest=1.0)
        bench = Workbench(store, mailer(Effects(1), policy, lambda event: times.append((event.position, bench.time))))

        # when
        bench.run()

        # then
        assert times == [(1, 0.0), (2, 0.0), (1, 1.0)]


def test_an_effect_that_is_tried_again_goes_well_in_the_end(store: EventStore) -> None:
    """Its stream follows in order, and the checkpoint passes everything."""
    append(store, "a-1", "a-2", "a-1")
    effects = Effects(1, times=3)
    with follow(store, mailer(effects, Retry(times=5, backoff=0.001))) as following:
        last = store.append("a-1", deposited())
        following.wait_for(last, 10)
    assert in_order(store, effects)
    assert effects.calls == {1: 4, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("page_size", [1, 500])
def test_one_event_more_than_the_limit_stops(url: str, fresh_name: str, page_size: int) -> None:
    """Events behind a parked one count: with room for two, the third stops it."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        append(store, "a-1", "a-1", "a-1", "a-2")
        bench = Workbench(store, mailer(Effects(1), ParkStream(2))).run()
        assert [one.position for one in parked_of(store, "mailer")] == [1, 2]
        assert "would park the event at position 3, but 2 events are parked already" in bench.errors[0]


def test_damage_waits_for_what_is_tried_again(store: EventStore) -> None:
    """An event that cannot be decoded is met after everything before it, retries included."""
    append(store, "a-1", "a-2")
    rogue(store, 3, envelope("a-2"), number=2)
    append(store, "a-1")
    effects = Effects(1, times=2)
    bench = Workbench(store, mailer(effects, Retry(times=3, backoff=1.0, then=Skip()))).run()
    assert bench.errors == []
    assert effects.calls == {1: 3, 2: 1, 4: 1}
    assert [one.position for one in skipped_of(store, "mailer")] == [3]


def test_parked_effects_are_had_again_in_order_beside_a_live_reactor(store: EventStore) -> None:
    """`parked retry` has them one by one; then the stream flows again, and no other effect is repeated."""
    # given
    append(store, "a-1", "a-1", "a-2")
    live, later = Effects(1), Effects()
    keys = store.info.keys[0]
    with follow(store, mailer(live, ParkStream())) as following:
        assert reached(lambda: [one.position for one in parked_of(store, "mailer")] == [1, 2])

        # when
        with in_thread(lambda: append(store, *(["a-3", "a-1"] * 40))):
            while store.run(read_parked(keys, "mailer", "1")):
                store.run(retry_row(keys, mailer(later), "a-1", store.driver.clock, dry_run=False))
        following.wait_for(store.append("a-1", deposited()), 10)
        while store.run(read_parked(keys, "mailer", "1")):
            store.run(retry_row(keys, mailer(later), "a-1", store.driver.clock, dry_run=False))

    # then
    assert live.calls[1] == 1
    counted = live.calls + later.calls
    assert {position for position, calls in counted.items() if calls > 1} == {1}
    assert sorted(live.done + later.done) == list(range(1, 85))
    assert in_order(store, later)
    dry = store.run(retry_row(keys, mailer(Effects()), "a-1", store.driver.clock, dry_run=True))
    assert (dry.freed, dry.left) == (0, 0)


@pytest.mark.parametrize("at", range(1, 12))
def test_effects_are_not_repeated_because_a_connection_was_lost(
    store: EventStore, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th request is lost before it is done: the process knows what it did, and does not do it again."""
    # given
    append(store, "a-1", "a-2", "a-1", "a-3")
    effects, sent, real = Effects(), 0, Session._transmit

    def transmit(session: Session, pending: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == at:
            session.close()
            raise StoreUnavailable("the connection was lost")
        real(session, pending)

    bench = Workbench(store, mailer(effects))
    monkeypatch.setattr(Session, "_transmit", transmit)

    # when
    bench.run()

    # then
    assert effects.calls == {1: 1, 2: 1, 3: 1, 4: 1}
    assert (status_of(store, "mailer").lag, status_of(store, "mailer").applied) == (0, 4)


def test_effects_under_way_are_waited_for_when_the_server_goes_away(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat fails during a slow effect: it is neither begun again beside itself nor repeated."""
    # given
    append(store, "a-1", "a-2")
    away, release = threading.Event(), threading.Event()
    real = Session._transmit
    failures = 0

    def transmit(session: Session, pending: Any) -> None:
        nonlocal failures
        if away.is_set() and failures < 3:
            failures += 1
            if failures == 3:
                release.set()
            session.close()
            raise StoreUnavailable("the connection was lost")
        real(session, pending)

    def wait(event: RecordedEvent) -> None:
        away.set()
        assert release.wait(10)

    effects = Effects()
    monkeypatch.setattr(Session, "_transmit", transmit)

    # when
    catch_up(store, mailer(effects, wait=wait))

    # then
    assert effects.calls == {1: 1, 2: 1}
    assert effects.most <= 2


def test_a_stop_ends_after_the_effects_under_way_and_the_lease_is_kept(url: str, fresh_name: str) -> None:
    """An effect that takes several leases: nobody takes over; a stop waits for it, and begins no other."""
    settings = replace(TEST_SETTINGS, lease=1.0)
    with EventStore.open(url, name=fresh_name, settings=settings) as store:
        # given
        append(store, "a-1", "a-1")
        effects, begun, release = Effects(), threading.Event(), threading.Event()

        def wait(event: RecordedEvent) -> None:
            begun.set()
            assert release.wait(10)

        engine, other = Engine(store, [mailer(effects, wait=wait)]), Effects()
        engine.start()
        assert begun.wait(10)
        holder = status_of(store, "mailer").holder
        with EventStore.open(url, name=fresh_name, settings=settings) as second, follow(second, mailer(other)):
            # when
            left = [status_of(store, "mailer").lease_left]
            assert reached(lambda: (left.append(status_of(store, "mailer").lease_left), _renewals(left) >= 4)[1])
            engine.stop()
            assert not engine.join(0.1)
            assert (effects.done, other.done) == ([], [])
            release.set()
            assert engine.join(10)

            # then
            assert holder
            assert effects.done == [1]
            assert reached(lambda: other.done == [2])


def test_a_reactor_that_was_taken_over_begins_no_further_effect(store: EventStore, url: str) -> None:
    """As soon as a heartbeat has said so, although the lease runs on by the clock of the process."""
    # given: another runner claims it during the first effect, and the next heartbeat is heard
    append(store, "a-1", "a-1", "a-1")

    def take_over(event: RecordedEvent) -> None:
        let_lease_end(store, bench.assignments[0])
        with reopened(store, url) as second:
            assert Workbench(second, mailer(Effects())).claim()
        worker, bench.time = bench.workers[0], store.settings.beat
        assert reached(lambda: not worker.assignments)

    effects = Effects()
    bench = Workbench(store, mailer(effects, wait=take_over))

    # when
    bench.run()

    # then
    assert effects.calls == {1: 1}


def test_progress_is_committed_while_a_batch_goes_on(store: EventStore) -> None:
    """Effects take their time: before the next one begins, those of the last slice are on record."""
    # given
    append(store, "a-1", "a-1", "a-1", "a-1")
    recorded: list[int] = []

    def take_time(event: RecordedEvent) -> None:
        recorded.append(status_of(store, "mailer").position)
        bench.time += EFFECTS_SLICE * (0.6 if event.position < 3 else 1.0)

    bench = Workbench(store, mailer(Effects(), wait=take_time))

    # when
    bench.run()

    # then
    assert recorded == [0, 0, 2, 3]
    assert status_of(store, "mailer").position == 4


def test_a_reactor_whose_heartbeat_fails_begins_no_further_effect(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The effect that is under way is waited for; then the reactor stops with the error of the heartbeat."""
    # given
    append(store, "a-1", "a-1", "a-1")
    build, failed = store.info.keys[0].build("mailer", "1"), threading.Event()
    real = Holdings.heartbeat_if_due

    def heartbeat(holdings: Holdings) -> Any:
        try:
            yield from real(holdings)
        except RecordDamaged:
            failed.set()
            raise

    def damage(event: RecordedEvent) -> None:
        store.driver.execute([("DEL", build), ("SET", build, "mine")])
        bench.time = store.settings.beat
        assert failed.wait(10)

    monkeypatch.setattr(Holdings, "heartbeat_if_due", heartbeat)
    effects = Effects()
    bench = Workbench(store, mailer(effects, wait=damage))

    # when
    bench.run()

    # then
    assert effects.done == [1]
    assert [build in error for error in bench.errors] == [True]


def _renewals(left: list[float]) -> int:
    return sum(later > earlier for earlier, later in pairwise(left))


def test_a_reactor_may_begin_at_the_end(store: EventStore) -> None:
    """start="end": what was there when it first ran is none of its business; a restart goes on from the checkpoint."""
    append(store, "a-1", "a-2")
    effects = Effects()
    catch_up(store, mailer(effects, start="end"))
    append(store, "a-1")
    catch_up(store, mailer(effects, start="end"))
    assert effects.done == [3]
    assert status_of(store, "mailer").kind == "reactor"


def test_a_reactor_is_not_rebuilt_and_reset_only_on_demand(fresh_name: str, tmp_path: Any) -> None:
    """Effects are not had twice by accident: rebuild is refused, reset wants --repeat-effects."""
    url = f"memory:reactor-{fresh_name}"
    plugin = tmp_path / "mailer.py"
    plugin.write_text(
        "from runner import Reactor\nmailer = Reactor('mailer')\nmailer.when('Deposited', lambda e, k: 0)\n"
    )

    def run(*args: str) -> Any:
        return CliRunner().invoke(main, [*args, "--store", url])

    with EventStore.open(url) as store:
        append(store, "a-1")
        catch_up(store, mailer(Effects()))
        refused = run("rebuild", "mailer", "--projections", str(plugin))
        assert (refused.exit_code, "no view to rebuild" in refused.output) == (2, True)
        with pytest.raises(InvalidInput):
            rebuild(store, mailer(Effects()))  # type: ignore[call-overload]
        refused = run("reset", "mailer")
        assert (refused.exit_code, "--repeat-effects" in refused.output) == (2, True)
        assert run("reset", "mailer", "--repeat-effects", "--yes").exit_code == 0
        effects = Effects()
        catch_up(store, mailer(effects))
        assert effects.done == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reactor("r", at_a_time=0),
        lambda: Reactor("r", at_a_time=True),
        lambda: Reactor("r", start="middle"),
        lambda: Reactor("r").when("A", lambda event: None),  # type: ignore[type-var]
        lambda: Reactor("r", category="a-b"),
    ],
)
def test_a_reactor_that_is_not_well_made_is_refused(make: Callable[[], object]) -> None:
    """The mistake is told when it is made."""
    with pytest.raises((InvalidInput, ProjectionError)):
        make()


def test_reactors_and_projections_run_side_by_side() -> None:
    """A slow effect does not hold a projection of the same process up."""
    with memory_store() as store:
        append(store, "a-1")
        release = threading.Event()
        counts = Projection("counts")
        counts.when(lambda state, event: {"seen": event.number})
        with follow(store, mailer(Effects(), wait=lambda event: release.wait(10)), counts):
            append(store, "a-1")
            assert reached(lambda: status_of(store, "counts").position == 2)
            assert status_of(store, "mailer").position == 0
            release.set()


def test_several_reactors_of_one_process_work_beside_each_other(store: EventStore) -> None:
    """Reactors that stand at the same position each have their effects, and so does a projection with them."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    had: list[tuple[str, int]] = []
    reactors = [Reactor("one"), Reactor("two")]
    for reactor in reactors:
        reactor.when("Deposited", lambda event, key: had.append((key.partition(":")[0], event.number)))

    # when
    applied = catch_up(store, *reactors, balances())

    # then
    assert applied == 6
    assert sorted(had) == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]


def test_a_reactor_that_fails_is_called_one(store: EventStore) -> None:
    """In the error, and in what to do."""
    store.append("account-1", deposited())
    failing = Reactor("mails")
    failing.when("Deposited", lambda event, key: 1 / 0)
    with pytest.raises(HandlerFailed, match="reactor 'mails' failed at position 1") as failed:
        catch_up(store, failing)
    assert "the reactor goes on with this event" in failed.value.hint
