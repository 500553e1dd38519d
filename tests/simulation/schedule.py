"""A schedule: what a seed makes happen, and what must be true of it.

First everything goes wrong that the seed says. Then the faults end, whatever was killed is started again, and all must
come to rest: every projection has caught up, or has stopped for a reason that its policy or a lost history explains.
Then parked rows are set free and one more event is appended to each stream, which must arrive like any other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from runner.errors import StoreUnavailable
from runner.format.keys import PartitionKeys
from runner.settings import Settings

from .checks import Checks
from .workload import (
    Happenings,
    SimulatedRunner,
    Writing,
    append,
    draw_specs,
    free_parked,
    new_event,
    write,
)
from .world import Faults, Owner, Task, World

#: Simulated seconds in which things go wrong.
CHAOS = 8.0
#: Simulated seconds within which all must have come to rest: what is held or frozen comes back within 8, a server's
#: clock that was set back prolongs leases by 5, a lease is 3, and pauses before another try are a few.
REST = 40.0
LOOK = 0.25


class Schedule:
    """See the head of this module. ``sources`` replaces scripts, to see whether what they check is missed."""

    def __init__(self, seed: int, sources: Mapping[str, str] | None = None) -> None:
        chance = self.random = random.Random(f"schedule {seed}")
        settings = Settings(
            page_size=chance.choice((2, 5, 20)),
            buffer_size=chance.choice((3, 10, 100)),
            cache_rows=chance.choice((1, 3, 100)),
            heartbeat=1.0,
            lease=3.0,
        )
        partitions = 2 if chance.random() < 0.15 else 1
        self.world = World(seed, settings, partitions, sources)
        self.happened = Happenings()
        self.specs = draw_specs(chance, chance.randint(2, 4), chance.random() < 0.4)
        #: The version of the code of each, as whoever is started now has it.
        self.builds = {spec.name: "1" for spec in self.specs}
        self.sloth = chance.choice((0.0, 0.0, 0.5, 4.0))
        self.world.slow_effects = chance.choice((0.0, 0.5, 4.0))
        count = chance.randint(1, 6)
        self.writing = Writing(
            streams=[f"{chance.choice(('account', 'order'))}-{number}" for number in range(count + 1)],
            specs=self.specs,
            appends=chance.randint(3, 12),
            pause=chance.choice((0.1, 0.5, 1.0)),
            failing=chance.choice((0.0, 0.05, 0.2)),
        )
        self.places: list[SimulatedRunner | None] = [None] * chance.randint(1, 3)
        self.checks = Checks(self.world, self.happened, self.specs, self.places, self.builds)
        self._started = 0
        self._draw_faults()

    def run(self) -> World:
        """Let it happen; raises Violation."""
        before = random.getstate()
        random.seed(self.world.seed)  # for what the package does not take its chance from outside
        try:
            self._begin()
            world = self.world
            world.run(lambda: world.now >= CHAOS)
            self._calm_down()
            self._come_to_rest()
            self._free_and_append()
            self._come_to_rest()
            self.checks.at_the_end()
        finally:
            random.setstate(before)
            for owner in self.world.owners:
                owner.kill()
        return self.world

    # -- what goes wrong ------------------------------------------------------------------------

    def _draw_faults(self) -> None:
        """Each kind of fault is in some schedules only, so that what one hides another may show."""
        chance, world = self.random, self.world
        world.network.faults = Faults(*(chance.choice((0.0, 0.0, 0.02, 0.1)) for _ in range(4)))
        kinds: list[Callable[[], None]] = [
            self._kill, self._stop, self._rebuild, self._freeze, self._cut, self._jump, self._free_parked
        ]  # fmt: skip
        kinds = [kind for kind in kinds if chance.random() < 0.5]
        if chance.random() < 0.35:
            kinds.append(self._fail_over)
        elif chance.random() < 0.15:
            kinds.append(self._restore_log)
        if kinds:
            for _ in range(chance.randint(0, 8)):
                world.later(chance.uniform(0.0, CHAOS), chance.choice(kinds))

    def _begin(self) -> None:
        world, chance = self.world, self.random
        world.later(CHAOS, lambda: None)  # time goes on, also when nobody does anything
        for place in range(len(self.places)):
            world.later(chance.choice((0.0, 0.0, 2.0)) * chance.random(), self._start, place)
        self.clients = Owner(world, "clients")
        world.owners.append(self.clients)
        self.happened.writers = chance.randint(1, 3)
        for number in range(self.happened.writers):
            Task(self.clients, f"w{number}", write(world, self.happened, self.writing, self.clients))

    def _start(self, place: int) -> None:
        runner = self.places[place]
        if runner is None or not runner.alive:
            self._started += 1
            name = f"run{self._started}"
            self.places[place] = SimulatedRunner(
                self.world, self.happened, name, self.specs, dict(self.builds), self.sloth
            )

    def _someone(self) -> SimulatedRunner | None:
        alive = [runner for runner in self.places if runner is not None and runner.alive]
        return self.random.choice(alive) if alive else None

    def _kill(self) -> None:
        runner = self._someone()
        if runner is not None:
            self.world.note("{} is killed", runner.name)
            runner.kill()
            self.world.later(self.random.uniform(0.0, 4.0), self._start, self.places.index(runner))

    def _stop(self) -> None:
        runner = self._someone()
        if runner is not None:
            self.world.note("{} is told to stop", runner.name)
            runner.stop()
            self.world.later(self.random.uniform(0.0, 2.0), self._replace, runner)

    def _replace(self, runner: SimulatedRunner) -> None:
        runner.kill()
        if runner in self.places:
            self._start(self.places.index(runner))

    def _rebuild(self) -> None:
        name = self.random.choice(self.specs).name
        self.builds[name] = "2"  # one new version at most: two would fight over which is the newer
        self._kill()

    def _freeze(self) -> None:
        runner = self._someone()
        if runner is not None:
            seconds = self.random.uniform(0.1, 8.0)
            self.world.note("{} freezes for {:.1f} s", runner.name, seconds)
            runner.frozen_until = self.world.now + seconds
            self.world.disturbed = True  # it may be frozen between looking at the clock and acting

    def _cut(self) -> None:
        owner = self.random.choice(self.world.owners)
        self.world.note("{} loses its connections", owner.name)
        self.world.network.cut(lambda one: one is owner)

    def _jump(self) -> None:
        seconds = self.random.uniform(-5.0, 5.0)
        self.world.note("the server's clock jumps by {:.1f} s", seconds)
        self.world.jump += seconds
        self.world.disturbed = True

    def _fail_over(self) -> None:
        self.checks.views()
        writes = self.random.choice((1, 3, 10, 40))
        self.world.note("failover; the last {} writes are lost", writes)
        self.checks.about_to_lose()
        self.world.take_back(writes)
        if self.random.random() < 0.7:
            self.world.network.cut(whole=True)
        else:
            self.world.note("a proxy hides the failover")
            self.world.network.end_waits()
        self.checks.has_lost()
        self.checks.views()

    def _restore_log(self) -> None:
        """The log is restored from an older copy; views and checkpoints are not."""
        writes = self.random.choice((3, 10, 40))
        self.world.note("the log is restored as it was {} writes ago", writes)
        self.checks.about_to_lose()
        self.world.take_back(writes, of_the_log)
        self.world.network.cut(whole=True)
        self.checks.has_lost()

    def _free_parked(self) -> None:
        runner = self._someone()
        if runner is not None:
            for spec in self.specs:
                if not spec.reactor:
                    for keys in self.world.info.keys:
                        Task(self.clients, "operator", self._freeing(runner, spec, keys))

    def _freeing(self, runner: SimulatedRunner, spec: object, keys: PartitionKeys):  # type: ignore[no-untyped-def]
        try:
            yield from free_parked(self.world, runner, spec, keys)  # type: ignore[arg-type]
        except StoreUnavailable as trouble:
            self.world.note("the operator gives up: {}", trouble)

    # -- the end --------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        world = self.world
        world.note("the faults end")
        world.network.faults = Faults()
        for place in range(len(self.places)):
            self._start(place)
        if not any(runner.builds == self.builds for runner in self.places if runner is not None and runner.alive):
            self._replace(self.places[0])  # type: ignore[arg-type]

    def _come_to_rest(self) -> None:
        world = self.world
        deadline = world.now + REST
        problem: str | None = "nobody has looked"

        def look() -> None:
            nonlocal problem
            for place in range(len(self.places)):
                self._start(place)
            problem = self.checks.unrest()
            if problem is not None and world.now >= deadline:
                world.fail(f"{REST} s after the last fault {problem}")
            if problem is not None:
                world.later(LOOK, look)

        world.later(LOOK, look)
        world.run(lambda: problem is None)

    def _free_and_append(self) -> None:
        world = self.world
        self._free_parked()
        world.run(lambda: not any("operator" in task.name for task in self.clients.tasks))
        more = [f"account-more-{number}" for number in range(4)]  # so that every partition gets an event
        for stream in self.writing.streams + (more if len(world.info.keys) > 1 else []):
            self.happened.writers += 1
            event = new_event(world, self.happened, self.writing, failing=0.0)
            Task(self.clients, "w", self._last_append(stream, event))

    def _last_append(self, stream: str, event: object):  # type: ignore[no-untyped-def]
        from runner import ANY

        yield from append(self.world, self.happened, self.clients, [(stream, [event], ANY)])
        self.happened.writers -= 1


def of_the_log(key: bytes) -> bool:
    """Whether a key belongs to a log, and not to what was made of it."""
    name = key.partition(b"}:")[2]
    return name.startswith((b"log", b"stream:", b"meta", b"recent:", b"run:", b"bookmarks"))
