"""Who takes part: runners with their projections, writers, and an operator who frees parked rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from runner import ANY, DELETE, NewEvent, Projection, Reactor
from runner.effects import Execute, Pause
from runner.effects.clock import Clock
from runner.errors import StoreTrouble, StoreUnavailable, WrongExpectedVersion
from runner.format.codec import pack
from runner.format.events import RecordedEvent, decode_entry
from runner.format.keys import PartitionKeys
from runner.log.append_plan import STREAM_EXISTS
from runner.log.appending import append_all
from runner.log.reading import version
from runner.progress.builds import read_builds
from runner.progress.lease import RunnerIdentity
from runner.progress.parked import SetAsideEvent, read_parked, unpark
from runner.projections.policies import ParkStream, Policy, Retry, Skip, Stop
from runner.views.redis_rows import BuildView, row_state, rows_command, stored_row
from runner.workers.assignment import Assignment
from runner.workers.context import WorkerContext
from runner.workers.pool import WorkerPool
from runner.workers.worker import Worker

from .world import Owner, SimulatedFeed, Task, World

Work = Generator[Any, Any, None]


class Trouble(Exception):
    """What a handler of the simulation raises."""


@dataclass(frozen=True)
class Spec:
    """A projection or reactor."""

    name: str
    category: str | None
    policy: Policy
    reactor: bool = False

    def wants(self, event: RecordedEvent) -> bool:
        return event.type != "Noted" and self.category in (None, event.category)


POLICIES = (
    Stop(),
    Skip(),
    ParkStream(),
    ParkStream(limit=3),
    Retry(times=2, backoff=0.2),
    Retry(times=3, backoff=0.5, then=ParkStream()),
    Retry(times=1, backoff=0.1, then=Skip()),
)


def draw_specs(random: Random, count: int, reactors: int) -> list[Spec]:
    """Projections and reactors with policies of all kinds."""
    specs = []
    for number in range(count + reactors):
        name = f"p{number}" if number < count else f"r{number}"
        category = random.choice(("account", None))
        specs.append(Spec(name, category, random.choice(POLICIES), number >= count))
    return specs


@dataclass
class Happenings:
    """What the taking part know for sure, for the checks at the end."""

    #: Stream and number in its data of each event.
    acknowledged: set[tuple[str, int]] = field(default_factory=set)
    refused: set[tuple[str, int]] = field(default_factory=set)
    #: How often an event failed, by projection.
    failed: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    #: Effects that succeeded: reactor, stream, event, in their order.
    effects: list[tuple[str, str, int]] = field(default_factory=list)
    writers: int = 0
    last_event: int = 0


def apply(state: dict[str, Any], event: RecordedEvent) -> Any:
    """What every handler does to its row: it keeps every event, so a lost or doubled one shows."""
    if event.type == "Closed":
        return DELETE
    state["seen"].append(event.data["id"])
    return None


def new_row() -> dict[str, Any]:
    return {"seen": []}


class SimulatedRunner(Owner):
    """A process with projections; what `runner.sync.engine.Engine` is in threads."""

    def __init__(
        self, world: World, happened: Happenings, name: str, specs: list[Spec], builds: dict[str, str], sloth: float
    ) -> None:
        super().__init__(world, name)
        self.happened = happened
        self.sloth = sloth
        self.id = f"{name}-{world.random.getrandbits(32):08x}"
        self.builds = builds
        given = [self._make(spec, builds[spec.name]) for spec in specs]
        runner = RunnerIdentity(self.id, world.info, world.settings.lease)
        clock = Clock(self.clock, self.wall, world.random.random)
        self.pool = WorkerPool(given, WorkerContext(runner, world.settings, clock, math.inf), live=True)
        self._workers: list[tuple[Task, Worker]] = []
        self.feeds = {keys.partition: SimulatedFeed(self, world.info, keys) for keys in world.info.keys}
        self.coordinator = Task(self, "coordinator", self._keep_house())
        world.owners.append(self)
        world.note("{} starts as {} with builds {}", name, self.id, builds)

    def start_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> None:
        worker = self.pool.new_worker(assignments, delay)
        task = Task(self, "+".join(assignment.name for assignment in assignments), self._drive(worker))
        task.partition = assignments[0].keys.partition
        self._workers.append((task, worker))

    def stop(self) -> None:
        """As on a signal: end after the batch at hand."""
        self.pool.stop()
        for task in list(self.tasks):
            task.wake()

    def driven(self, assignment: Assignment[Any]) -> bool:
        """Whether a worker that is at work has an assignment."""
        return any(
            not task.ended and (assignment in worker.assignments or assignment in worker._newcomers)
            for task, worker in self._workers
        )

    def _keep_house(self) -> Work:
        coordinator = self.pool.coordinator
        try:
            yield from coordinator.first_round()
        except StoreTrouble:
            self.world.note("{} cannot start", self.name)
            self.world.later(0.0, self.kill)
            yield Pause(1.0)
        claimed = coordinator.take_claimed()
        while True:
            for assignments in claimed:
                self.start_worker(assignments)
            claimed = yield from coordinator.work()
            if not claimed:
                return

    def _drive(self, worker: Worker) -> Work:
        try:
            while True:
                outcomes = yield from worker.work(True)
                if not outcomes and self.pool.ended(worker):
                    return
                steps = self.pool.conclude(worker, outcomes)
                for assignments, delay in steps.start:
                    self.start_worker(assignments, delay)
                for task, other in self._workers:
                    if other in steps.wake:
                        task.wake()
                if steps.wake_coordinator:
                    self.coordinator.wake()
        except StoreTrouble as trouble:
            if not self.pool.stopping:
                raise
            self.pool.crashed(worker, trouble)  # it says so, and whoever is next finds out how far it came

    def _make(self, spec: Spec, build: str) -> Projection | Reactor:
        if spec.reactor:
            reactor = Reactor(spec.name, category=spec.category, on_error=spec.policy, at_a_time=3)

            @reactor.when("Changed", "Closed")
            def affect(event: RecordedEvent, key: str) -> None:
                self._affect(spec, event)

            return reactor
        projection = Projection(
            spec.name, category=spec.category, initial=new_row, build=build, on_error=spec.policy
        )  # fmt: skip

        @projection.when("Changed", "Closed")
        def change(state: dict[str, Any], event: RecordedEvent) -> Any:
            if self.sloth and self.world.random.random() < 0.02:
                self.world.spend(self.world.random.uniform(0.0, self.sloth))
            state["seen"].append(-1)  # must leave no trace if it fails
            self.fail_perhaps(spec, event)
            state["seen"].pop()
            return apply(state, event)

        return projection

    def fail_perhaps(self, spec: Spec, event: RecordedEvent) -> None:
        times = event.data["fails"].get(spec.name, 0)
        if not times:
            return
        key = (spec.name, event.stream, event.data["id"])
        self.happened.failed[key] += 1
        if times < 0 or self.happened.failed[key] <= times:
            raise Trouble(f"event {event.data['id']} is not liked")

    def _affect(self, spec: Spec, event: RecordedEvent) -> None:
        keys = self.world.info.of_stream(event.stream)
        self.world.check_lease(keys.build(spec.name, "1"), self.id, f"{self.name} has an effect")
        self.fail_perhaps(spec, event)
        self.happened.effects.append((spec.name, event.stream, event.data["id"]))


@dataclass(frozen=True)
class Writing:
    """What writers do."""

    streams: list[str]
    specs: list[Spec]
    appends: int
    pause: float
    #: How likely an event is to fail in some projection.
    failing: float


def new_event(world: World, happened: Happenings, writing: Writing, *, failing: float) -> NewEvent:
    """An event that some projections may dislike: for a while, or for ever."""
    random = world.random
    happened.last_event += 1
    fails = {}
    if random.random() < failing:
        fails[random.choice(writing.specs).name] = random.choice((1, 2, 3, -1))
    kind = random.choices(("Changed", "Closed", "Noted"), (85, 7, 8))[0]
    return NewEvent(kind, {"id": happened.last_event, "fails": fails}, id=UUID(int=random.getrandbits(128)))


def write(world: World, happened: Happenings, writing: Writing, owner: Owner) -> Work:
    """A writer: append after append, each repeated until its outcome is known."""
    random = world.random
    for _ in range(writing.appends):
        yield Pause(random.expovariate(1 / writing.pause))
        count = random.choice((1, 1, 1, 2, 3))
        streams = [random.choice(writing.streams)]
        if random.random() < 0.1 and len(world.info.keys) == 1:
            streams = random.sample(writing.streams, 2)
        appends = []
        for stream in streams:
            expected: Any = ANY
            chance = random.random()
            if chance < 0.6:
                try:
                    expected = yield from version(world.info, stream)
                except StoreUnavailable:
                    expected = 0
            elif chance < 0.7:
                expected = STREAM_EXISTS
            events = [new_event(world, happened, writing, failing=writing.failing) for _ in range(count)]
            appends.append((stream, events, expected))
        yield from append(world, happened, owner, appends)
    happened.writers -= 1


def append(world: World, happened: Happenings, owner: Owner, appends: list[Any]) -> Work:
    """One append, repeated until its outcome is known."""
    ids = {(stream, event.data["id"]) for stream, events, _ in appends for event in events}
    while True:
        try:
            yield from append_all(world.info, appends, None, None, owner.wall(), None)
        except StoreUnavailable:
            yield Pause(world.random.uniform(0.01, 0.4))
        except WrongExpectedVersion as conflict:
            if isinstance(conflict.expected, int) and conflict.actual > conflict.expected:
                happened.refused |= ids  # for good: a copy that is still on its way is refused as well
            world.note("{} was refused {}", owner.name, sorted(ids))
            return
        else:
            happened.acknowledged |= ids
            world.note("{} has appended {}", owner.name, sorted(ids))
            return


def free_parked(world: World, runner: SimulatedRunner, spec: Spec, keys: PartitionKeys) -> Work:
    """Try the parked events of every row again, in order, each row up to the first that fails again."""
    builds = yield from read_builds(keys, spec.name)
    if builds.live is None:
        return
    parked = yield from read_parked(keys, spec.name, builds.live)
    for row in dict.fromkeys(one.key for one in parked):
        mine = [one for one in parked if one.key == row]
        yield from _free_row(world, runner, spec, keys, builds.live, row, mine)


def _free_row(
    world: World,
    runner: SimulatedRunner,
    spec: Spec,
    keys: PartitionKeys,
    build: str,
    row: str,
    parked: list[SetAsideEvent],
) -> Work:
    [[before], *entries] = yield Execute([
        rows_command(keys, spec.name, build, [row]),
        *(("XRANGE", keys.log, one.position, one.position) for one in parked),
    ])  # fmt: skip
    if not all(entries):
        return  # history was taken back meanwhile
    events = [decode_entry(entry[0], keys.partition) for entry in entries]
    state, taken, failed = row_state(BuildView(keys, spec.name, build), row, before), list[SetAsideEvent](), None
    for one, event in zip(parked, events, strict=True):
        try:
            runner.fail_perhaps(spec, event)
        except Trouble as trouble:
            now = runner.wall()
            failed = SetAsideEvent(
                one.position, one.key, one.stream, one.number, one.type, one.attempts + 1, one.first_us or now, now,
                str(trouble),
            )  # fmt: skip
            break
        state = new_row() if state is None else state
        state = None if apply(state, event) is DELETE else state
        taken.append(one)
    after = None if state is None else stored_row(keys, row, pack(state))
    freed = yield from unpark(
        keys, spec.name, build, row, (before, after), taken, failed=failed
    )  # fmt: skip
    world.count("rows freed" if freed and failed is None else "rows freed in part" if freed else "rows not freed")
