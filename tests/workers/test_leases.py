"""Leases, standby runners and fair shares: who holds what, for how long, and who takes over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from accounts import PATIENCE, balances, deposited, plain_fold, reached, rows_of
from proxy import Proxy
from workbench import pool_of

from runner import (
    ANY,
    AsyncEventStore,
    EventStore,
    HandlerFailed,
    Projection,
    Settings,
    catch_up,
    operations,
)
from runner.aio.engine import AsyncEngine
from runner.effects import Execute, Operation, Pause
from runner.errors import ProjectionHeld, StoreUnavailable
from runner.progress.checkpoint import Checkpoint, Claim
from runner.progress.lease import (
    ClaimRequest,
    Free,
    HeldByOther,
    RunnerIdentity,
    Stopped,
    Which,
    acquire,
    claim_again,
    report_command,
)
from runner.progress.runners import announce, live_runners
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS, all_events
from runner.views.redis_rows import Changes, commit_command
from runner.wire.clock import SYSTEM_CLOCK
from runner.wire.host import place
from runner.workers import coordinator
from runner.workers.assignment import LIVE, Assignment
from runner.workers.coordinator import LOOK_EVERY, ROUNDS_A_SECOND, codes

#: A lease that a test can wait out, renewed often, with room for a machine that is busy with other things.
LEASE = 0.8
BRIEF = replace(TEST_SETTINGS, lease=LEASE)

#: A lease that no test waits out.
LONG = replace(TEST_SETTINGS, lease=60.0)

Place = tuple[str, int]


def runner(store: EventStore, name: str, lease: float = LEASE) -> RunnerIdentity:
    return RunnerIdentity(name, store.info, lease, place())


def request(store: EventStore, name: str = "balances", partition: int = 0) -> ClaimRequest:
    return ClaimRequest(store.info.keys[partition], name, "1")


def claim(
    store: EventStore, who: str, *, lease: float = LEASE, also_stopped: bool = False, of: str = "balances"
) -> Claim | HeldByOther | Stopped:
    found = store.run(
        acquire(runner(store, who, lease), request(store, of), Which.ANY if also_stopped else Which.RUNNABLE)
    )
    assert not isinstance(found, Free)
    return found


def claimed(store: EventStore, who: str, *, lease: float = LEASE, of: str = "balances") -> Claim:
    """A claim that is expected to be granted."""
    found = claim(store, who, lease=lease, of=of)
    assert isinstance(found, Claim), found
    return found


def report(
    store: EventStore, who: str, held: Claim, *, lease: float = LEASE, release: bool = False, state: str = "live"
) -> bytes:
    """What the store answers to a heartbeat."""
    command = report_command(
        runner(store, who, lease), store.info.keys[0], "balances", held, state, release=release
    )  # fmt: skip
    [[verdict, *_]] = store.driver.execute([command])
    return bytes(verdict)


def commit(store: EventStore, held: Claim, after: Checkpoint | None = None) -> bytes:
    """What the store answers to a commit of one row, up to a checkpoint, or up to an event that is appended for it."""
    if after is None:
        event = deposited()
        after = Checkpoint(store.append("account-1", event).position, event.id.bytes)
    row: dict[str, bytes | None] = {"account-1": b"\x01"}
    command = commit_command(store.info.keys[0], "balances", held, after, Changes(row))
    [[verdict, *_]] = store.driver.execute([command])
    return bytes(verdict)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of a server in memory, which is this process's, by so many seconds."""
    offset = 0.0
    true = time.time

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(time, "time", lambda: true() + offset)
    return move


@pytest.fixture
def fake(fresh_name: str) -> Iterator[EventStore]:
    """A store whose server has a clock that a test can move."""
    with EventStore.open(f"memory:{fresh_name}", settings=TEST_SETTINGS) as opened:
        yield opened


# -- claims ---------------------------------------------------------------------------------------


def test_a_unit_is_held_by_one_until_its_lease_has_run_out(store: EventStore) -> None:
    """Whoever asks meanwhile is told who has it, where, and for how long; then it is free under a higher token."""
    # given
    first = claimed(store, "a")

    # when
    refused = claim(store, "b")
    assert reached(lambda: isinstance(claim(store, "c", lease=60.0), Claim))
    again = claim(store, "d")

    # then
    assert isinstance(refused, HeldByOther)
    assert (refused.owner, refused.where) == ("a", runner(store, "a").where)
    assert 0 < refused.left <= LEASE
    assert (first.token > 0, first.token_before) == (True, 0)
    assert isinstance(again, HeldByOther)
    assert again.owner == "c"


def test_the_lease_runs_by_the_clock_of_the_server(fake: EventStore, clock: Callable[[float], None]) -> None:
    """A moment before its end the unit is held, a moment after it is free."""
    # given
    claimed(fake, "a", lease=100.0)

    # when
    clock(99.0)
    before = claim(fake, "b")
    clock(1.5)
    after = claim(fake, "b")

    # then
    assert isinstance(before, HeldByOther)
    assert before.left <= 1.0
    assert isinstance(after, Claim)


def test_a_heartbeat_renews_the_lease_in_full(fake: EventStore, clock: Callable[[float], None]) -> None:
    """From when it comes, whatever was left."""
    # given
    held = claimed(fake, "a", lease=100.0)
    clock(90.0)

    # when
    assert report(fake, "a", held, lease=100.0) == b"ok"
    clock(90.0)

    # then
    found = claim(fake, "b")
    assert isinstance(found, HeldByOther)
    assert 9.0 < found.left <= 10.0


def test_a_lease_that_has_run_out_is_renewed_if_nobody_wanted_it(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """A holder that was away alone goes on under the token it has."""
    # given
    held = claimed(fake, "a")
    clock(100.0)

    # when
    assert report(fake, "a", held) == b"ok"
    assert commit(fake, held) == b"ok"

    # then
    assert isinstance(claim(fake, "b"), HeldByOther)


def test_a_unit_that_is_given_back_is_free_at_once(store: EventStore) -> None:
    """Nobody waits for the lease of a runner that has said goodbye; its late word is refused."""
    # given
    held = claimed(store, "a", lease=60.0)

    # when
    assert report(store, "a", held, release=True) == b"ok"

    # then
    assert claimed(store, "b").token > held.token
    assert report(store, "a", held, lease=60.0) == b"owner"


def test_a_second_claim_of_the_same_owner_fences_off_its_first(store: EventStore) -> None:
    """The owner is the same and the token is not: a heartbeat and a commit under the old one come late."""
    # given
    first = claimed(store, "a", lease=60.0)

    # when
    second = claimed(store, "a", lease=60.0)

    # then
    assert second.token > first.token
    assert second.token_before == first.token
    assert report(store, "a", first, release=True) == b"owner"
    assert commit(store, first) == b"owner"
    assert commit(store, second) == b"ok"


def test_a_renewal_that_comes_when_another_holds_it_is_told_so(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """It gets no claim, changes nothing, and learns who it is."""
    # given
    first = claimed(fake, "a")
    clock(LEASE + 1)
    second = claimed(fake, "b", lease=60.0)

    # when
    found = fake.run(claim_again(runner(fake, "a"), request(fake), first))

    # then
    assert isinstance(found, HeldByOther)
    assert found.owner == "b"
    assert commit(fake, second) == b"ok"


@pytest.mark.parametrize("next_owner", ["a", "b"])
def test_the_token_of_a_claim_that_the_server_forgot_is_not_given_again(store: EventStore, next_owner: str) -> None:
    """Neither to another owner nor to the same: a commit under the lost claim is refused, one under the new taken."""
    # given: a claim that the server forgets, as a replica that was promoted has never heard of it
    key = store.info.keys[0].build("balances", "1")
    earlier = claimed(store, "a", lease=60.0)
    [flat] = store.driver.execute([("HGETALL", key)])
    lost = claimed(store, "a", lease=60.0)
    store.driver.execute([("DEL", key), ("HSET", key, *flat), ("HDEL", key, "owner")])

    # when
    known = claimed(store, next_owner, lease=60.0)

    # then
    assert known.token > lost.token > earlier.token
    assert known.token_before == earlier.token
    assert report(store, "a", lost) == b"owner"
    assert commit(store, lost) == b"owner"
    assert commit(store, known) == b"ok"


def test_the_token_of_a_claim_before_a_reset_is_not_given_again(store: EventStore) -> None:
    """The record of the build begins anew; a commit of the same owner under its old claim is refused all the same."""
    before = claimed(store, "a", lease=60.0)
    operations.reset(store, "balances")

    after = claimed(store, "a", lease=60.0)

    assert after.token > before.token
    assert commit(store, before) == b"owner"
    assert commit(store, after) == b"ok"


def test_a_token_rises_when_the_clock_of_the_server_is_put_back(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """Row 28. A token is the time of its claim, or one more than the token before."""
    first = claimed(fake, "a")
    clock(-3600.0)

    second = claimed(fake, "a")

    assert second.token == first.token + 1
    assert second.token_before == first.token


def test_a_token_that_an_earlier_version_counted_is_followed_by_a_higher_one(store: EventStore) -> None:
    """Earlier versions counted the claims of a build."""
    held = claimed(store, "a", lease=60.0)
    store.driver.execute([("HSET", store.info.keys[0].build("balances", "1"), "token", 7)])
    held.token = 7
    assert commit(store, held) == b"ok"

    again = claimed(store, "a", lease=60.0)

    assert (again.token > 7, again.token_before) == (True, 7)


def test_a_commit_up_to_an_event_that_the_log_does_not_hold_is_refused(store: EventStore) -> None:
    """Its rows were folded from events that are gone: others have their positions, or none. Nothing is written."""
    # given
    store.append("account-1", first := deposited())
    store.append("account-1", second := deposited())
    held = claimed(store, "a", lease=60.0)

    # when: each commit follows the checkpoint that is stored
    refused = [Checkpoint(1, second.id.bytes), Checkpoint(2, b"x" * 16), Checkpoint(3, second.id.bytes)]
    assert [commit(store, held, after) for after in refused] == [b"suspect"] * 3

    # then
    assert store.driver.execute([("HLEN", store.info.keys[0].view("balances", "1"))]) == [0]
    assert commit(store, held, Checkpoint(1, first.id.bytes)) == b"ok"
    held.checkpoint = Checkpoint(1, first.id.bytes)
    assert commit(store, held, Checkpoint(2, second.id.bytes)) == b"ok"


def test_what_stopped_by_a_failure_is_only_had_by_who_asks_for_that(store: EventStore) -> None:
    """A standby that asks is told; a runner that is started gets it, under the next token."""
    # given
    held = claimed(store, "a", lease=60.0)
    assert report(store, "a", held, release=True, state="stopped") == b"ok"

    # when
    standby = claim(store, "b")
    started = claim(store, "c", also_stopped=True)

    # then
    assert isinstance(standby, Stopped)
    assert isinstance(started, Claim)
    assert started.token > held.token


def test_a_clock_that_is_put_back_keeps_nothing_locked_for_longer_than_a_lease(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """Row 28. The server's clock goes back an hour after a runner died: its units are free a lease later."""
    # given
    claimed(fake, "dead", lease=10.0)
    clock(-3600.0)
    seen = claim(fake, "b")

    # when
    clock(10.5)

    # then
    assert isinstance(seen, HeldByOther)
    assert seen.left <= 10.0
    assert isinstance(claim(fake, "b"), Claim)


def test_a_clock_that_leaps_forward_costs_a_lease_and_nothing_else(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """Row 28. The lease of a living runner seems over, another takes the unit, and the first one is refused."""
    # given
    first = claimed(fake, "a", lease=10.0)
    clock(3600.0)

    # when
    second = claimed(fake, "b", lease=10.0)

    # then
    assert commit(fake, second) == b"ok"
    assert commit(fake, first) == b"owner"


# -- who is there ---------------------------------------------------------------------------------


def test_runners_count_those_that_run_the_same(fake: EventStore, clock: Callable[[float], None]) -> None:
    """Whoever runs something else is not counted, nor who has left, nor who has been silent for a lease."""

    def alive(who: str, build: str = "1", *, leaving: bool = False) -> int:
        codes = {"balances": build, "owners": "1"}
        found = fake.run(announce(runner(fake, who, 10.0), codes, leaving=leaving))
        return sum(one.codes == codes for one in found)

    assert [alive("a"), alive("b"), alive("c"), alive("d", "2")] == [1, 2, 3, 1]
    assert alive("c", leaving=True) == 2
    clock(6.0)
    assert alive("b") == 2
    clock(6.0)
    assert alive("b") == 1


def test_a_clock_that_is_put_back_keeps_no_dead_runner_among_the_living(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """Row 28. Who died before the clock went back an hour is forgotten a lease later."""
    fake.run(announce(runner(fake, "dead", 10.0), {"balances": "1"}))
    clock(-3600.0)
    assert len(fake.run(announce(runner(fake, "a", 10.0), {"balances": "1"}))) == 2
    clock(10.5)
    assert len(fake.run(announce(runner(fake, "a", 10.0), {"balances": "1"}))) == 1


def test_the_runners_that_are_alive_tell_where_they_are_and_what_code_they_have(
    fake: EventStore, clock: Callable[[float], None]
) -> None:
    """Also to those who are no runners. Who has been silent for a lease is not told, though its record is there."""
    # given
    fake.run(announce(runner(fake, "a", 10.0), {"balances": "2", "mails": "1"}))
    fake.run(announce(replace(runner(fake, "b", 60.0), where="some host:1"), {}))

    # when
    first, second = sorted(fake.run(live_runners(fake.info)), key=lambda one: one.id)
    clock(10.5)

    # then
    assert (first.where, first.codes) == (place(), {"balances": "2", "mails": "1"})
    assert (second.where, second.codes) == ("some_host:1", {})
    assert [one.id for one in fake.run(live_runners(fake.info))] == ["b"]


# -- runners at work ------------------------------------------------------------------------------


class Working:
    """A runner in this process: an engine in threads, on a store of its own."""

    def __init__(self, url: str, name: str, projections: list[Projection], settings: Settings) -> None:
        self.store = EventStore.open(url, name=name, settings=settings)
        self.engine = Engine(self.store, projections, patience=float("inf"))
        self.engine.start()

    @property
    def id(self) -> str:
        return self.engine._pool.context.runner.id

    @property
    def held(self) -> set[Place]:
        """What it believes to hold."""
        return {
            (assignment.name, assignment.keys.partition) for assignment in self.engine.assignments if assignment.held
        }

    def stop(self) -> None:
        self.engine.stop()
        assert self.engine.join(PATIENCE), "it does not end"
        self.store.close()


class WorkingAsync:
    """The same in tasks of an event loop, which has a thread of its own."""

    def __init__(self, url: str, name: str, projections: list[Projection], settings: Settings) -> None:
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(url, name, projections, settings), daemon=True)
        self._thread.start()
        assert self._started.wait(PATIENCE)

    def _run(self, url: str, name: str, projections: list[Projection], settings: Settings) -> None:
        async def work() -> None:
            async with AsyncEventStore.open(url, name=name, settings=settings) as store:
                self.engine = AsyncEngine(store, tuple(projections), live=True)
                await self.engine.start()
                self._started.set()
                await self.engine.join()

        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as one:
                one.run(work())
        except BaseException as error:
            self._trouble = error

    @property
    def id(self) -> str:
        assert self.engine._pool is not None
        return self.engine._pool.context.runner.id

    @property
    def held(self) -> set[Place]:
        return {
            (assignment.name, assignment.keys.partition) for assignment in self.engine.assignments if assignment.held
        }

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self.engine.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not end"
        if self._trouble is not None and not isinstance(self._trouble, HandlerFailed):
            raise self._trouble


class Ward:
    """Runners over one store, and what the store says of them."""

    def __init__(self, url: str, name: str, names: list[str], stack: ExitStack, partitions: int = 1) -> None:
        self._url, self._name, self._stack = url, name, stack
        self.names = names
        self.store = stack.enter_context(EventStore.open(url, name=name, partitions=partitions, settings=BRIEF))
        self.runners: list[Working | WorkingAsync] = []

    def start(
        self,
        kind: type[Working] | type[WorkingAsync] = Working,
        *,
        projections: list[Projection] | None = None,
        settings: Settings = BRIEF,
        url: str = "",
    ) -> Working | WorkingAsync:
        given = [balances(name) for name in self.names] if projections is None else projections
        started = kind(url or self._url, self._name, given, settings)
        self.runners.append(started)
        return started

    def stop(self, one: Working | WorkingAsync) -> None:
        self.runners.remove(one)
        one.stop()

    def end(self) -> None:
        for one in self.runners:
            one.stop()

    @property
    def units(self) -> set[Place]:
        return {(name, keys.partition) for name in self.names for keys in self.store.info.keys}

    def owners(self) -> dict[Place, str]:
        """Who holds what, by leases that run."""
        found = {}
        [(seconds, micros)] = self.store.driver.execute([("TIME",)])
        now = int(seconds) * 1_000_000 + int(micros)
        for name, partition in self.units:
            key = self.store.info.keys[partition].build(name, "1")
            [(owner, lease)] = self.store.driver.execute([("HMGET", key, "owner", "lease")])
            if owner is not None and int(lease) > now:
                found[name, partition] = owner.decode()
        return found

    def tokens(self) -> dict[Place, int]:
        """The fencing token of each unit; another one after each claim, 0 before the first."""
        keys = {(name, partition): self.store.info.keys[partition].build(name, "1") for name, partition in self.units}
        return {
            place: int(self.store.driver.execute([("HGET", key, "token")])[0] or 0) for place, key in keys.items()
        }  # fmt: skip

    def shares(self) -> list[int]:
        """How much each runner holds, by the store's word and by its own, the most first; empty where they differ."""
        owners = self.owners()
        for one in self.runners:
            if {place for place, owner in owners.items() if owner == one.id} != one.held:
                return []
        if owners.keys() != self.units or not set(owners.values()) <= {one.id for one in self.runners}:
            return []
        counts = Counter(owners.values())
        return sorted((counts[one.id] for one in self.runners), reverse=True)

    def shared_fairly(self) -> bool:
        """Whether everything is held, and nobody holds more than a fair share, within a bounded time."""
        share = -(-len(self.units) // len(self.runners))
        return reached(lambda: bool(shares := self.shares()) and shares[0] <= share)

    def append(self, count: int = 3) -> None:
        for number in range(count):
            self.store.append(f"account-{number}", deposited(), ANY)

    def views_are_right(self, patience: float = PATIENCE) -> bool:
        expected = plain_fold(
            event for keys in self.store.info.keys for event in self.store.read_all(partition=keys.partition)
        )
        return reached(lambda: all(rows_of(self.store, name) == expected for name in self.names), patience)


@pytest.fixture
def ward(url: str, fresh_name: str) -> Iterator[Callable[..., Ward]]:
    """Makes a store of projections and partitions, whose runners end with the test."""
    wards: list[Ward] = []
    with ExitStack() as stack:

        def make(projections: int = 1, partitions: int = 1) -> Ward:
            names = [f"balances{place}" for place in range(projections)]
            wards.append(Ward(url, fresh_name, names, stack, partitions))
            return wards[-1]

        yield make
        for one in wards:
            one.end()


KINDS = [pytest.param([Working], id="threads"), pytest.param([WorkingAsync], id="tasks"),
         pytest.param([Working, WorkingAsync], id="both")]  # fmt: skip


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize(("runners", "projections", "partitions"), [(2, 7, 1), (3, 7, 1), (5, 7, 1), (3, 1, 4)])
def test_work_spreads_over_the_runners_there_are(
    ward: Callable[..., Ward], kinds: list[Any], runners: int, projections: int, partitions: int
) -> None:
    """Everything is held, nobody has more than a fair share, and each event is in each view once."""
    # given
    place = ward(projections, partitions)
    place.append()

    # when
    for kind, _ in zip(cycle(kinds), range(runners), strict=False):
        place.start(kind)
    assert place.shared_fairly(), place.owners()
    settled = place.tokens()
    place.append()

    # then
    assert place.views_are_right()
    assert place.tokens() == settled


@pytest.mark.parametrize("kinds", KINDS)
def test_shares_follow_who_leaves_and_who_joins(ward: Callable[..., Ward], kinds: list[Any]) -> None:
    """One leaves: the others have it all, at once. One joins: it gets its share."""
    # given
    place = ward(7)
    kind = cycle(kinds)
    for _ in range(3):
        place.start(next(kind))
    assert place.shared_fairly()

    # when
    place.stop(place.runners[0])
    assert place.shared_fairly()
    place.append()
    assert place.views_are_right()
    place.start(next(kind))

    # then
    assert place.shared_fairly()
    place.append()
    assert place.views_are_right()


def test_runners_of_different_projections_leave_no_work_lying(ward: Callable[..., Ward]) -> None:
    """Their sets overlap: whatever one of them leaves is taken by another that can do it."""
    # given
    place = ward(4)
    one, two, three, four = place.names
    first = place.start(projections=[balances(one), balances(two)])
    place.start(projections=[balances(two), balances(three), balances(four)])
    place.start(projections=[balances(four), balances(one)])
    assert reached(lambda: place.owners().keys() == place.units)

    # when
    place.stop(first)

    # then
    assert reached(lambda: place.owners().keys() == place.units, 2 * LEASE)
    place.append()
    assert place.views_are_right()


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_what_a_silent_runner_held_is_taken_over_within_its_lease(ward: Callable[..., Ward], kind: Any) -> None:
    """It never said goodbye: a lease after its last word the standby is at work."""
    # given
    place = ward(3)
    for name in place.names:
        claimed(place.store, "dead", of=name)
    silent_since = time.monotonic()

    # when
    place.start(kind)
    place.append()

    # then
    assert place.views_are_right()
    assert LEASE * 0.9 < time.monotonic() - silent_since < LEASE + 1.0


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_what_a_runner_gives_back_is_taken_at_once(ward: Callable[..., Ward], kind: Any) -> None:
    """The standby has everything long before a lease is over."""
    # given
    place = ward(3)
    long = replace(BRIEF, lease=30.0)
    first = place.start(kind, settings=long)
    place.start(kind, settings=long)
    assert place.shared_fairly()

    # when
    place.stop(first)
    stopped = time.monotonic()

    # then
    assert place.shared_fairly()
    assert time.monotonic() - stopped < 2.0


def test_a_projection_that_moves_into_a_live_worker_behind_it_needs_no_further_event(
    ward: Callable[..., Ward],
) -> None:
    """What was appended while it was on its way is applied at once, also where nothing is appended after it."""
    # given: a live worker that has gone further than an assignment of the same runner
    place = ward(2)
    live, late = place.names
    one = place.start(projections=[balances(live)])
    place.append()
    assert reached(lambda: rows_of(place.store, live) == plain_fold(all_events(place.store)))
    assert isinstance(one, Working)
    pool = one.engine._pool
    assignment = Assignment(balances(late), place.store.info.keys[0])
    assignment.take(claimed(place.store, one.id, of=late), time.monotonic() + LEASE)

    # when
    pool.workers[0].take_in([assignment])

    # then
    assert place.views_are_right()
    assert assignment.state == LIVE


# -- outages --------------------------------------------------------------------------------------


class Cut(Exception):
    """The test has seen enough."""


def by_hand(store: EventStore, operation: Operation[Any], lose: Callable[[Any], bool], pauses: int = 1000) -> None:
    """Run an operation of the coordinator; requests that ``lose`` picks find no server, pauses take no time.

    Raises Cut after so many pauses.
    """
    effect = next(operation)
    try:
        while True:
            if isinstance(effect, Pause):
                pauses -= 1
                effect = operation.throw(Cut()) if pauses < 0 else operation.send(None)
            elif isinstance(effect, Execute) and lose(effect):
                effect = operation.throw(StoreUnavailable("the connection was lost"))
            else:
                assert isinstance(effect, Execute)
                effect = operation.send(store.driver.execute(effect.commands))
    except StopIteration:
        return


@pytest.mark.parametrize("at", range(1, 14))
def test_what_was_claimed_before_the_server_went_away_is_worked_on_after_it(store: EventStore, at: int) -> None:
    """The coordinator's request number ``at`` fails: in the end everything is handed out, and nothing is left."""
    # given
    store.append("account-1", deposited())
    handed_out: list[list[Assignment[Any]]] = []
    projections = [balances(name) for name in ("one", "two", "three")]
    pool = pool_of(store, projections, settings=LONG, live=True, patience=float("inf"))
    requests = count(1)

    def work() -> Operation[None]:
        while claimed := (yield from pool.coordinator.work()):
            handed_out.extend(claimed)

    # when
    with pytest.raises(Cut):
        by_hand(store, work(), lambda effect: next(requests) == at, pauses=4)

    # then
    assert sorted(assignment.name for assignments in handed_out for assignment in assignments) == [
        "one",
        "three",
        "two",
    ]
    assert all(assignment.held for assignment in pool.assignments)


@pytest.mark.real
def test_a_standby_survives_an_outage_longer_than_its_patience_with_one_request(
    real_url: str, tmp_path: Path, fresh_name: str
) -> None:
    """The server is away for longer than a request is repeated; then the standby takes over as if nothing had been."""
    with ExitStack() as stack:
        place = Ward(real_url, fresh_name, ["balances0"], stack)
        server = place.store.driver.address.server
        assert server is not None
        proxy = stack.enter_context(Proxy(server.socket, tmp_path))
        claimed(place.store, "dead", lease=2 * LEASE, of="balances0")
        place.append()
        standby = place.start(url=proxy.url, settings=replace(BRIEF, retry_for=0.1))
        try:
            # when
            with proxy.away():
                assert reached(lambda: not place.owners())  # the lease has run out, and nobody could see it
            # then
            assert place.views_are_right()
            assert place.owners() == {("balances0", 0): standby.id}
        finally:
            place.end()


# -- at rest --------------------------------------------------------------------------------------


def test_a_runner_that_stands_by_asks_little(store: EventStore) -> None:
    """Each look it says that it is there; what another has it asks about once a beat."""
    # given: two runners of five projections, of which the other has three
    projections = [balances(f"balances{place}") for place in range(5)]
    for projection in projections[:3]:
        claimed(store, "other", lease=3600.0, of=projection.name)
    now, requests = 0.0, list[float]()
    settings = replace(LONG, heartbeat=2.0)
    clock = replace(SYSTEM_CLOCK, monotonic=lambda: now)
    pool = pool_of(store, projections, settings=settings, live=True, clock=clock)
    store.run(announce(runner(store, "other", 3600.0), codes(pool.assignments)))

    def rounds() -> Operation[None]:
        while (yield from pool.coordinator.work()):
            pass

    # when: a minute passes by its clock
    work = rounds()
    effect = next(work)
    while now < 60.0:
        if isinstance(effect, Pause):
            now += effect.seconds
            for assignment in pool.assignments:
                assignment.expires_by_worker = now + 60.0  # their workers do what workers do
            effect = work.send(None)
        else:
            assert isinstance(effect, Execute)
            requests.append(now)
            effect = work.send(store.driver.execute(effect.commands))
    work.close()

    # then
    late = [moment for moment in requests if moment >= 10.0]
    looks, beats, held = 50 / LOOK_EVERY, 50 / 2.0, 3
    assert len(late) <= (looks + beats * held * 2) * 1.1
    assert sum(assignment.held for assignment in pool.assignments) == 2


def pause_of(effect: Any) -> float:
    assert isinstance(effect, Pause)
    return effect.seconds


@pytest.mark.parametrize("runners", [1, 4, 5, 20, 60])
def test_however_many_runners_there_are_their_rounds_are_bounded(store: EventStore, runners: int) -> None:
    """Twice a second each is for few. All the same each announces itself before it counts as gone."""
    # given: as many coordinators, one of which holds all there is; a clock of their own
    now, rounds = 0.0, list[tuple[float, int]]()
    clock = replace(SYSTEM_CLOCK, monotonic=lambda: now)
    settings = replace(LONG, heartbeat=2.0, lease=3600.0)  # no lease ends while the test runs
    pools = [pool_of(store, [balances()], settings=settings, live=True, clock=clock) for _ in range(runners)]
    for pool in pools:
        store.run(pool.coordinator.first_round())
        pool.coordinator.take_claimed()
    works = [pool.coordinator.work() for pool in pools]
    due = {place: pause_of(next(work)) for place, work in enumerate(works)}

    # when: a minute passes
    while due[place := min(due, key=due.__getitem__)] < 60.0:
        now = due[place]
        for assignment in pools[place].assignments:
            assignment.expires_by_worker = now + 60.0  # its worker does what workers do
        effect = works[place].send(None)
        while isinstance(effect, Execute):
            if "announce" in repr(effect.commands[0][0]):
                rounds.append((now, place))
            effect = works[place].send(store.driver.execute(effect.commands))
        due[place] = now + pause_of(effect)
    for work in works:
        work.close()

    # then
    late = [place for moment, place in rounds if moment >= 20.0]
    assert len(late) / 40.0 <= ROUNDS_A_SECOND * 1.1
    assert set(late) == set(range(runners))


# -- who stopped, who is stuck, who is slow -------------------------------------------------------


def failing(name: str) -> Projection:
    """A projection that takes no event."""

    def fail(event: Any) -> None:
        raise ValueError("no")

    return balances(name, on_event=fail)


def states(store: EventStore, names: list[str]) -> set[str]:
    return {store.run(status(store.info.keys[0], name))[0].state for name in names}


def with_failure(runners: Iterable[Any]) -> list[Any]:
    """The runners of which a projection has stopped by a failure."""
    return [one for one in runners if any(each.failure is not None for each in one.engine.assignments)]


def test_a_standby_leaves_what_failed_where_it_is(ward: Callable[..., Ward]) -> None:
    """The runner whose handler failed ends; the other, which was there before, takes all the rest, and not that."""
    # given
    place = ward(2)
    good, bad = place.names
    both = [place.start(projections=[balances(good), failing(bad)]) for _ in range(2)]
    assert place.shared_fairly()
    before = place.tokens()[bad, 0]

    # when
    place.append()
    assert reached(lambda: states(place.store, [bad]) == {"stopped"})
    # The store knows it a moment before the process does.
    assert reached(lambda: len(with_failure(both)) == 1)
    place.stop(with_failure(both)[0])

    # then
    assert reached(lambda: place.owners().keys() == {(good, 0)})
    assert not threading.Event().wait(2 * LEASE)
    assert states(place.store, [bad]) == {"stopped"}
    assert place.tokens()[bad, 0] == before
    assert sum(assignment.failure is not None for one in both for assignment in one.engine.assignments) == 1


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_a_runner_that_is_started_takes_up_all_that_stopped(ward: Callable[..., Ward], kind: Any) -> None:
    """Also what is beyond its share: a standby that counts will not take it."""
    # given: everything stopped, and another runner of the same
    place = ward(4)
    place.append()
    for name in place.names:
        with pytest.raises(HandlerFailed):
            catch_up(place.store, failing(name))
    place.store.run(announce(runner(place.store, "standby", 60.0), dict.fromkeys(place.names, "1")))

    # when
    place.start(kind)

    # then
    assert place.views_are_right()


def test_work_that_a_stuck_runner_cannot_do_stays_with_who_takes_it(
    ward: Callable[..., Ward], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alive and counts, but a handler never returns: what the other takes beyond its share it keeps."""
    # given
    monkeypatch.setattr(coordinator, "OUTLASTS", 1)
    place = ward(4)
    stuck, release = threading.Event(), threading.Event()

    def hang(event: Any) -> None:
        stuck.set()
        release.wait()

    place.start(projections=[balances(name, on_event=hang) for name in place.names])
    other = place.start()
    try:
        assert place.shared_fairly()

        # when
        place.append()
        assert stuck.wait(PATIENCE)
        assert reached(lambda: set(place.owners().values()) == {other.id} and len(place.owners()) == 4)
        taken = place.tokens()

        # then
        changed = threading.Event()
        assert not changed.wait(4 * LEASE)
        assert place.tokens() == taken
        assert place.views_are_right()
    finally:
        release.set()


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_slow_handlers_keep_their_lease(ward: Callable[..., Ward], kind: Any) -> None:
    """A batch takes several leases, each event a part of one; several projections do: nobody else gets them."""
    # given
    place = ward(3)
    place.append(4)
    pause = threading.Event()
    slow = [balances(name, on_event=lambda event: pause.wait(LEASE / 2) and None) for name in place.names]

    # when
    place.start(kind, projections=slow)
    assert reached(lambda: len(place.owners()) == 3)
    claims = place.tokens()

    # then
    deadline = time.monotonic() + 40
    while not all(rows_of(place.store, name) == plain_fold(all_events(place.store)) for name in place.names):
        assert time.monotonic() < deadline
        for name in place.names:
            found = claim(place.store, "b", of=name)
            assert isinstance(found, HeldByOther), "the lease was lost"
    assert place.tokens() == claims


def test_a_runner_gives_up_its_surplus_in_the_midst_of_a_batch(ward: Callable[..., Ward]) -> None:
    """A long batch of slow events does not keep a runner that joins from its share."""
    # given
    place = ward(2)
    place.append(40)
    pause = threading.Event()
    slow = [balances(name, on_event=lambda event: pause.wait(0.1) and None) for name in place.names]
    place.start(projections=slow)
    assert reached(lambda: len(place.owners()) == 2)

    # when
    second = place.start(projections=slow)
    joined = time.monotonic()
    assert reached(lambda: second.id in place.owners().values())

    # then
    assert time.monotonic() - joined < 2.0


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_events_that_each_outlast_the_lease_are_got_through(ward: Callable[..., Ward], kind: Any) -> None:
    """A standby does not take them over, as it would be no faster, and two would take turns for ever."""
    # given
    place = ward(1)
    place.append(2)

    # when
    first = place.start(kind, projections=[dawdling(place.names[0], kind)])
    assert reached(lambda: place.owners() != {})
    claims = place.tokens()
    place.start(kind, projections=[dawdling(place.names[0], kind)])

    # then
    assert place.views_are_right(2 * 1.5 * LEASE + 3.0)
    assert place.owners() == {(place.names[0], 0): first.id}
    assert place.tokens() == claims


def dawdling(name: str, kind: type[Working] | type[WorkingAsync]) -> Projection:
    """A projection whose events each take longer than the lease. In tasks its handlers let the others work."""
    projection = balances(name, on_event=lambda event: threading.Event().wait(1.5 * LEASE) and None)
    if kind is Working:
        return projection
    patient = Projection(name, category="account", initial=lambda: {"balance": 0, "numbers": []})

    @patient.when("Deposited")
    async def moved(state: Any, event: Any) -> None:
        await asyncio.sleep(1.5 * LEASE)
        state["numbers"].append(event.number)
        state["balance"] += event.data["amount"]

    return patient


def test_an_event_that_outlasts_all_patience_is_taken_over_and_counted_once(
    ward: Callable[..., Ward], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runner gets its turn; whoever commits first wins."""
    # given
    monkeypatch.setattr(coordinator, "OUTLASTS", 0)
    place = ward(1)
    place.append(2)
    at_it = threading.Event()

    def dawdle_once(event: Any) -> None:
        if not at_it.is_set():
            at_it.set()
            threading.Event().wait(4 * LEASE)

    # when
    first = place.start(projections=[balances(place.names[0], on_event=dawdle_once)])
    assert at_it.wait(PATIENCE)
    second = place.start(projections=[balances(place.names[0], on_event=dawdle_once)])

    # then
    assert place.views_are_right(3 * LEASE)
    assert place.owners() == {(place.names[0], 0): second.id}
    place.stop(first)
    [found] = place.store.run(status(place.store.info.keys[0], place.names[0]))
    assert found.applied == 2


# -- catching up beside runners -------------------------------------------------------------------


def test_catching_up_says_so_where_a_living_runner_has_it(ward: Callable[..., Ward]) -> None:
    """It waits until the holder renews its lease, and names it."""
    place = ward(1)
    one = place.start()
    assert reached(lambda: place.owners() != {})
    with pytest.raises(ProjectionHeld) as held:
        catch_up(place.store, balances(place.names[0]))
    assert held.value.holder == runner(place.store, one.id).where


def test_catching_up_waits_for_the_leases_of_the_dead(ward: Callable[..., Ward]) -> None:
    """A lease that nobody renews is waited out."""
    place = ward(2)
    place.append()
    for name in place.names:
        claimed(place.store, "dead", of=name)
    assert catch_up(place.store, *(balances(name) for name in place.names)) == 6
    assert place.views_are_right()


def test_catching_up_in_threads_does_each_part_once(ward: Callable[..., Ward]) -> None:
    """What is done while the lease of a dead one is waited out is not claimed again."""
    # given
    place = ward(3)
    place.append()
    dead = claimed(place.store, "dead", of=place.names[2])
    engine = Engine(place.store, [balances(name) for name in place.names], live=False)

    # when
    engine.start()
    assert reached(lambda: all(rows_of(place.store, name) for name in place.names[:2]))
    done = place.tokens()
    assert engine.join(PATIENCE)

    # then
    engine.check()
    assert place.views_are_right()
    found = place.tokens()
    assert [found[name, 0] for name in place.names[:2]] == [done[name, 0] for name in place.names[:2]]
    assert found[place.names[2], 0] > dead.token


def test_catching_up_does_not_take_a_slow_answer_for_a_renewed_lease(store: EventStore) -> None:
    """Of several leases of the dead each is waited for, however long the store takes to answer."""
    # given
    for name in ("one", "two"):
        claimed(store, "dead", of=name)
    pool = pool_of(store, [balances("one"), balances("two")], settings=BRIEF)
    requests, slow = count(1), threading.Event()

    def delay(effect: Any) -> bool:
        if next(requests) in (7, 8):
            slow.wait(0.1)
        return False

    # when
    by_hand(store, pool.coordinator.claim_all(), delay, pauses=100_000)

    # then
    assert [assignment.failure for assignment in pool.assignments] == [None, None]


# -- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Working, WorkingAsync])
def test_a_runner_that_stands_by_stops_at_once(ward: Callable[..., Ward], kind: Any) -> None:
    """And says that it has left."""
    place = ward(1)
    place.start()
    assert reached(lambda: place.owners() != {})
    standby = place.start(kind, settings=replace(BRIEF, lease=30.0, heartbeat=10.0))
    began = time.monotonic()
    place.stop(standby)
    assert time.monotonic() - began < 1.0
    [members] = place.store.driver.execute([("ZCARD", place.store.info.keys[0].runners)])
    assert members == 1


def test_a_signal_may_stop_an_engine_that_is_being_waited_for(store: EventStore) -> None:
    """A signal handler runs in the middle of anything the main thread does, waiting for the engine included."""

    class Interrupted(threading.Thread):
        def is_alive(self) -> bool:
            if not engine._pool.stopping:
                engine.stop()
            return super().is_alive()

    engine = Engine(store, [balances()])
    engine.start()
    engine._threads.append(Interrupted())

    def wait() -> None:
        ended.append(engine.join(PATIENCE))

    ended: list[bool] = []
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(PATIENCE / 2)
    assert ended == [True]
