"""What schedules have found, each as the smallest story that tells it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from uuid import UUID

import pytest

from runner import ANY, NewEvent
from runner.format.events import RecordedEvent
from runner.format.scripts import Script
from runner.log.appending import append_all
from runner.projections.policies import ParkStream, Stop
from runner.settings import Settings
from runner.views.redis_rows import BuildView, row_state

from .checks import Checks
from .schedule import Schedule, of_the_log
from .workload import Happenings, SimulatedRunner, Spec
from .world import DAWN, Task, Violation, World

SETTINGS = Settings(page_size=2, heartbeat=1.0, lease=3.0)


def perform(world: World, operation: Generator[Any, Any, Any]) -> None:
    """Run an operation to its end, with nothing in between."""
    try:
        effect = next(operation)
        while True:
            effect = operation.send([world.store.execute(command) for command in effect.commands])
    except StopIteration:
        pass


def append(world: World, *events: tuple[str, int], history: int = 0) -> None:
    """Append events, each of a stream, which fail in ``p`` so many times (-1: for ever).

    Events of different histories have different ids, also at the same position.
    """
    for stream, fails in events:
        number = 100 * history + len(world.store.db.get(world.info.keys[0].log.encode(), ())) + 1
        event = NewEvent("Changed", {"id": number, "fails": {"p": fails}}, id=UUID(int=number))
        perform(world, append_all(world.info, [(stream, [event], ANY)], None, None, DAWN, None))


def view(world: World) -> dict[str, list[int]]:
    """What ``p`` has seen, by row."""
    name = BuildView(world.info.keys[0], "p", "1")
    flat = world.store.execute(("HGETALL", name.key))
    rows = zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True)
    return {key: row_state(name, key, row)["seen"] for key, row in rows}


def record(world: World) -> dict[bytes, bytes]:
    """What the store knows of the build of ``p``."""
    return dict(world.store.db[world.info.keys[0].build("p", "1").encode()])


def go_on(world: World, seconds: float) -> None:
    """Let simulated time pass."""
    end = world.now + seconds
    world.later(seconds, lambda: None)
    world.run(lambda: world.now >= end)


class SlowRunner(SimulatedRunner):
    """Its handlers take 0.3 s for every event."""

    def fail_perhaps(self, spec: Spec, event: RecordedEvent) -> None:
        self.world.spend(0.3)
        super().fail_perhaps(spec, event)


def test_no_event_is_passed_over_when_there_is_no_room_to_park_and_time_is_short() -> None:
    """Folding again, up to the event there is no room for, may take too long; what is committed ends there as well."""
    world = World(1, Settings(page_size=20, heartbeat=1.0, lease=3.0))
    append(world, ("a", 0), ("a", 0), ("b", -1), ("b", 0))

    runner = SlowRunner(world, Happenings(), "slow", [Spec("p", None, ParkStream(limit=1))], {"p": "1"}, 0.0)
    go_on(world, 10.0)
    runner.kill()

    assert view(world) == {"a": [1, 2]}
    assert (record(world)[b"position"], record(world)[b"state"]) == (b"3", b"stopped")


def test_a_projection_that_was_claimed_anew_while_rows_were_loaded_loses_no_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit is refused because rows were set free; what was planned behind it is not folded onto the new claim."""
    world = World(1, SETTINGS)
    spec, builds = Spec("p", None, Stop()), {"p": "1"}
    append(world, ("a", 0))
    SimulatedRunner(world, Happenings(), "first", [spec], builds, 0.0)
    go_on(world, 1.0)
    world.owners[0].kill()
    append(world, ("a", 0), ("b", 0), ("a", 0), ("c", 0), ("b", 0))
    plain, freed = world.run_command, list[Any]()

    def run_command(task: Task, command: Any, late: bool) -> Any:
        if isinstance(command[0], Script) and command[0].name == "progress/commit" and not freed:
            freed.append(world.store.execute(("HINCRBY", world.info.keys[0].build("p", "1"), "generation", 1)))
        return plain(task, command, late)

    monkeypatch.setattr(world, "run_command", run_command)
    second = SimulatedRunner(world, Happenings(), "second", [spec], builds, 0.0)
    go_on(world, 10.0)
    second.kill()

    assert freed
    assert view(world) == {"a": [1, 2, 4], "b": [3, 6], "c": [5]}


def test_a_commit_folded_from_events_that_a_failover_lost_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit arrives when its events are gone and others have their positions: the view shows the others."""
    world = World(1, SETTINGS)
    append(world, ("a", 0), ("a", 0))
    runner = SimulatedRunner(world, Happenings(), "first", [Spec("p", None, Stop())], {"p": "1"}, 0.0)
    go_on(world, 2.0)
    assert view(world) == {"a": [1, 2]}
    plain, lost = world.run_command, list[str]()

    def run_command(task: Task, command: Any, late: bool) -> Any:
        if isinstance(command[0], Script) and command[0].name == "progress/commit" and not lost:
            lost.append(str(command[0]))
            while len(world.store.db[world.info.keys[0].log.encode()]) > 2:
                world.take_back(1)
            append(world, ("b", 0), ("a", 0), history=1)
        return plain(task, command, late)

    monkeypatch.setattr(world, "run_command", run_command)
    append(world, ("a", 0), ("c", 0))
    go_on(world, 10.0)
    runner.kill()

    assert lost
    assert view(world) == {"a": [1, 2, 104], "b": [103]}
    assert record(world)[b"position"] == b"4"


def reactor_at_work() -> tuple[World, Happenings, Checks]:
    """A runner with the reactor ``p``, which has had its effects of two events of stream ``a``."""
    world, happened, spec, builds = World(1, SETTINGS), Happenings(), Spec("p", None, Stop(), reactor=True), {"p": "1"}
    append(world, ("a", 0), ("a", 0))
    runner = SimulatedRunner(world, happened, "first", [spec], builds, 0.0)
    go_on(world, 2.0)
    assert [number for _, _, number in happened.effects] == [1, 2]
    return world, happened, Checks(world, happened, [spec], [runner], builds)


def lose_the_stop(world: World) -> None:
    """A failover loses the report that ``p`` has stopped, and whatever was written after it."""
    assert record(world)[b"state"] == b"stopped"
    while record(world)[b"state"] == b"stopped":
        world.take_back(1)


def test_a_reactor_that_stands_on_a_lost_history_owes_no_effects_of_this_one() -> None:
    """A failover loses the report of the stop; the checkpoint still tells the next runner, which stops as well."""
    world, happened, checks = reactor_at_work()
    world.take_back(100, of_the_log)
    append(world, ("b", 0), ("b", 0), ("b", 0), history=1)
    go_on(world, 2.0)
    lose_the_stop(world)

    assert checks.unrest() is None
    checks.at_the_end()

    SimulatedRunner(world, happened, "second", [Spec("p", None, Stop(), reactor=True)], {"p": "1"}, 0.0)
    go_on(world, 10.0)

    assert (record(world)[b"state"], record(world)[b"position"]) == (b"stopped", b"2")
    assert b"stands at position 2, but the event there is" in record(world)[b"error"]
    assert [stream for _, stream, _ in happened.effects] == ["a", "a"]


def test_a_reactor_that_has_stopped_owes_the_effects_before_its_checkpoint() -> None:
    """A failover that loses the report of the stop changes nothing in that."""
    world, happened, checks = reactor_at_work()
    append(world, ("a", -1))
    go_on(world, 2.0)
    assert (record(world)[b"state"], record(world)[b"position"]) == (b"stopped", b"2")
    checks.at_the_end()
    happened.effects.pop()

    with pytest.raises(Violation, match=r"never had the effects of \{2\} in a"):
        checks.at_the_end()

    lose_the_stop(world)
    with pytest.raises(Violation, match=r"never had the effects of \{2\} in a"):
        checks.at_the_end()


#: Seeds of schedules that failed before what the text says was so.
SEEDS: dict[str, list[int]] = {
    "a worker that has lost every projection ends quietly": [24, 63],
    "a claim without an answer leaves its projection to the worker": [413],
    "a claim without an answer keeps the coordinator from nothing": [362],
    "a projection that joins the live worker gets what that has passed": [672, 868],
    "a projection that could not tell that it failed goes on without a failure": [828],
    "a commit that the store has forgotten is noticed by the heartbeat": [1174, 2488],
    "a runner whose build was lost with the tail of history has stopped": [18370, 31376, 32357, 2004510],
    "code that comes late does not take the place of newer code": [32441],
    "a switch that was lost with the tail of history is made again": [40175],
    "a commit of another history that comes late is noticed": [31083, 46349, 48841],
    "a feed that begins in one history and goes on in another says so": [58083],
    "a log that is restored between two looks at it is seen as it is": [33826],
    "a claim that was found to be bad, and could not be given back, is nobody's": [4003224],
    "an effect that was had in another history is had in this one": [30350, 31613],
    "a reactor waits for what it can try, not for what it has yet to read again": [93440],
    "an event is skipped before the effects of later ones, also after a crash": [31331],
}


@pytest.mark.parametrize(("what", "seed"), [(what, seed) for what, seeds in SEEDS.items() for seed in seeds])
def test_a_schedule_that_failed_once_passes(what: str, seed: int) -> None:
    """See `SEEDS`."""
    Schedule(seed).run()
