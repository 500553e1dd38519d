"""What must be true: of the log, of every view, of effects, and of a store at rest."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from runner import DELETE
from runner.errors import BuildReplaced
from runner.format.codec import unpack
from runner.format.events import RecordedEvent, decode_log
from runner.format.keys import PartitionKeys
from runner.progress.builds import code_of
from runner.progress.parked import SetAsideEvent
from runner.projections.policies import ParkStream, Stop, last_resort
from runner.views.redis_rows import BuildView, row_state
from runner.workers.assignment import LIVE, Assignment

from .workload import Happenings, SimulatedRunner, Spec, apply, new_row
from .world import World


class Checks:
    """Looks into the store directly, past scripts and runners."""

    def __init__(
        self, world: World, happened: Happenings, specs: list[Spec], places: list[SimulatedRunner | None],
        builds: dict[str, str],
    ) -> None:  # fmt: skip
        self._world = world
        self._happened = happened
        self._specs = specs
        self._places = places
        self._builds = builds
        self._lost: set[tuple[str, int]] = set()
        self._before: set[tuple[str, int]] = set()

    # -- what history loses ---------------------------------------------------------------------

    def about_to_lose(self) -> None:
        self._before = self._stored()

    def has_lost(self) -> None:
        self._lost |= self._before - self._stored()

    def _stored(self) -> set[tuple[str, int]]:
        return {(event.stream, event.data["id"]) for keys in self._world.info.keys for event in self._log(keys)}

    # -- the log --------------------------------------------------------------------------------

    def _log(self, keys: PartitionKeys) -> list[RecordedEvent]:
        """The whole log, which must be contiguous."""
        entries = self._world.store.execute(("XRANGE", keys.log, "-", "+"))
        page = decode_log(entries, 0, keys.partition)
        if page.damage is not None:
            self._world.fail(f"the log is broken: {page.damage}")
        return page.events

    def log(self) -> None:
        """Invariants A, B and C."""
        world, happened = self._world, self._happened
        stored: Counter[tuple[str, Any]] = Counter()
        for keys in world.info.keys:
            numbers: Counter[str] = Counter()
            for event in self._log(keys):
                numbers[event.stream] += 1
                if event.number != numbers[event.stream]:
                    world.fail(f"event {event!r} should be number {numbers[event.stream]}")
                stored[event.stream, event.data["id"]] += 1
            for stream, count in numbers.items():
                index = world.store.db[keys.stream(stream).encode()]
                if [number for number, _ in index.ids] != list(range(1, count + 1)):
                    world.fail(f"the index of {stream} holds {index.ids}")
        for twice in (event for event, times in stored.items() if times > 1):
            world.fail(f"event {twice} is stored twice")
        if missing := happened.acknowledged - set(stored) - self._lost:
            world.fail(f"events were acknowledged and are gone: {sorted(missing)}")
        if not world.forked and (wrong := happened.refused & set(stored)):
            world.fail(f"events were refused and are stored: {sorted(wrong)}")

    # -- views ----------------------------------------------------------------------------------

    def views(self, *, at_rest: bool = False) -> None:
        """Invariant D, for every view that does not say itself that it stands on another history.

        It takes a heartbeat until it says so; at rest it has, unless nobody is at it.
        """
        for spec in self._specs:
            for keys in self._world.info.keys:
                info = self._hash(keys.projection(spec.name))
                for role in ("build", "candidate"):
                    if role in info and not self._without_driver(spec, info[role]):
                        self._view(spec, keys, info[role], at_rest)

    def _without_driver(self, spec: Spec, build: str) -> bool:
        """A build of older code that nobody drives cannot tell that history was taken back."""
        return self._world.forked and not spec.reactor and code_of(build) != self._builds[spec.name]

    def _view(self, spec: Spec, keys: PartitionKeys, build: str, at_rest: bool) -> None:
        world = self._world
        record = self._hash(keys.build(spec.name, build))
        if not self._answers_for_the_log(spec, keys, record, at_rest):
            return
        what = f"{spec.name} (build {build}, partition {keys.partition}) at {record.get('position', '0')}"
        wanted = [event for event in self._log(keys)[: int(record.get("position", "0"))] if spec.wants(event)]
        parked = self._asides(world.store.execute(("HVALS", keys.parked(spec.name, build))))
        entries = world.store.execute(("XRANGE", keys.skipped(spec.name, build), "-", "+"))
        skipped = {one.position for one in self._asides([fields[1] for _, fields in entries])}
        if spec.reactor:
            return
        rows: dict[str, Any] = {}
        waiting: dict[str, list[int]] = {}
        for one in sorted(parked, key=lambda one: one.position):
            waiting.setdefault(one.key, []).append(one.position)
        for event in wanted:
            if event.position in skipped:
                continue
            row = waiting.get(event.stream)
            if row and event.position >= row[0]:
                if event.position not in row:
                    world.fail(f"{what}: {event!r} was applied or lost, though its row has parked events {row}")
                continue
            state = rows.get(event.stream) or new_row()
            rows[event.stream] = None if apply(state, event) is DELETE else state
        view = BuildView(keys, spec.name, build)
        flat = world.store.execute(("HGETALL", view.key))
        stored = {
            key: row_state(view, key, row) for key, row in zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True)
        }
        expected = {key: row for key, row in rows.items() if row is not None}
        if stored != expected:
            world.fail(f"the view of {what} is {stored}, the fold of the log {expected}")
        if too_early := [one.position for one in parked if one.position > int(record.get("position", "0"))]:
            world.fail(f"{what} has parked events that it has not reached: {too_early}")

    def _answers_for_the_log(self, spec: Spec, keys: PartitionKeys, record: dict[str, str], at_rest: bool) -> bool:
        """Whether a build must agree with the log; a build that stands on another history need not.

        The record of such a build says so, or the checkpoint of a build that nobody drives shows it. The record alone
        does not tell: a failover may take back the report of a stop, and an assignment that has stopped reports no
        more. The next runner that claims the build compares the checkpoint, and stops as well.
        """
        if not self._world.forked:
            return True
        if _says_that_history_is_another(record.get("error", "")):
            return False
        driven = any(assignment.held for _, assignment in self._assignments(spec, keys))
        return (at_rest and driven) or self._stands(record, keys)

    def _stands(self, record: dict[str, str], keys: PartitionKeys) -> bool:
        """Whether the log holds the event of a checkpoint."""
        position = int(record.get("position", "0"))
        event = next((one for one in self._log(keys) if one.position == position), None)
        return position == 0 or (event is not None and event._id == record["id"].encode("latin1"))

    @staticmethod
    def _asides(records: list[bytes]) -> list[SetAsideEvent]:
        return [SetAsideEvent(*unpack(record)) for record in records]

    def _hash(self, key: str) -> dict[str, str]:
        """A hash of the runner's own: the fields that are text."""
        found = self._world.store.db.get(key.encode(), {})
        return {name.decode(): value.decode("latin1") for name, value in found.items()}

    # -- at rest --------------------------------------------------------------------------------

    def unrest(self) -> str | None:
        """What is not at rest yet."""
        if self._happened.writers:
            return "a writer has not come to its end"
        if any(runner is not None and runner.pool.stopping for runner in self._places):
            return "a runner has not come to its end"
        for spec in self._specs:
            for keys in self._world.info.keys:
                problem = self._unrest_of(spec, keys)
                if problem is not None:
                    return f"{spec.name} (partition {keys.partition}): {problem}"
        return None

    def _unrest_of(self, spec: Spec, keys: PartitionKeys) -> str | None:
        info = self._hash(keys.projection(spec.name))
        newest = "1" if spec.reactor else self._builds[spec.name]
        mine = [
            (runner, assignment)
            for runner, assignment in self._assignments(spec, keys)
            if spec.reactor or runner.builds[spec.name] == newest  # older code stands by
        ]
        if not mine:
            return f"nobody runs code {newest}"
        build = next((info[role] for role in ("build", "candidate") if code_of(info.get(role, "")) == newest), None)
        if build is None:
            if self._world.forked and all(assignment.failure is not None for _, assignment in mine):
                return None  # the store has forgotten what became of it; whoever ran it has said so, and stopped
            return f"code {newest} has no build; there are {info}"
        world = self._world
        record = self._hash(keys.build(spec.name, build))
        position, end = int(record.get("position", "0")), len(self._log(keys))
        if record.get("state") == "stopped":
            self._must_explain(spec, keys, build, position, record.get("error", ""))
            return None
        for runner, assignment in mine:
            if assignment.failure is not None and assignment.held:
                return f"{runner.name} holds it, which has failed there: {assignment.failure}"
        assignments = [(runner, assignment) for runner, assignment in mine if assignment.failure is None]
        if not assignments:
            for _, assignment in mine:
                self._must_explain(spec, keys, build, position, str(assignment.failure), assignment)
            return None
        if position != end:
            return f"build {build} stands at {position} of {end}, {record.get('state')}"
        if build != info.get("build"):
            live = self._hash(keys.build(spec.name, info.get("build", "")))
            if world.forked and int(live.get("position", "0")) > position:
                return None  # the live build stands on a history that is gone; it is switched once the log is as long
            return f"build {build} has caught up and is not live"
        if not any(
            assignment.held and assignment.state == LIVE and runner.driven(assignment)
            for runner, assignment in assignments
        ):
            return f"nobody drives build {build}: {[(runner.name, one.held, one.state) for runner, one in assignments]}"
        return None

    def _assignments(self, spec: Spec, keys: PartitionKeys) -> list[tuple[SimulatedRunner, Assignment[Any]]]:
        return [
            (runner, assignment)
            for runner in self._places
            if runner is not None and runner.alive
            for assignment in runner.pool.assignments
            if assignment.name == spec.name and assignment.keys is keys
        ]

    def _must_explain(
        self,
        spec: Spec,
        keys: PartitionKeys,
        build: str,
        position: int,
        error: str,
        assignment: Assignment[Any] | None = None,
    ) -> None:
        """Whether a stop follows from the policy, or from a history that was taken back."""
        world = self._world
        if world.forked and _says_that_history_is_another(error):
            return
        if assignment is not None and isinstance(assignment.failure, BuildReplaced):
            return
        resort = last_resort(spec.policy)
        failed = re.search(r"failed at position (\d+)", error)
        if failed and isinstance(resort, Stop):
            place = int(failed[1])
            log = self._log(keys)
            event = log[place - 1] if place <= len(log) else None
            if spec.reactor and event is not None and event.data["fails"].get(spec.name):
                return
            if place == position + 1 and event is not None and event.data["fails"].get(spec.name):
                return
            if world.forked:
                return  # the event that failed is gone, perhaps
        if "would park the event" in error and isinstance(resort, ParkStream):
            return
        if failed and spec.reactor and isinstance(resort, ParkStream):  # there was no room
            return
        world.fail(f"{spec.name} (build {build}) stands at {position} and has stopped without a reason: {error!r}")

    # -- the end --------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        self.log()
        self.views(at_rest=True)
        for spec in self._specs:
            for keys in self._world.info.keys:
                build = self._hash(keys.projection(spec.name)).get("build", "")
                record = self._hash(keys.build(spec.name, build))
                # The state in the record is no measure. A build that diverged and stopped is on record as "catching up"
                # where a second failover lost the report of the stop; its checkpoint is of a history that is gone, and
                # owes nothing to the events that have the same positions now. A build that stopped at a failed event
                # is on record as "stopped", and owes the effects of all events before.
                if not record or not self._answers_for_the_log(spec, keys, record, at_rest=True):
                    continue
                if spec.reactor:
                    self._effects(spec, keys, build, int(record.get("position", "0")))
                else:
                    self._heads(spec, keys, build)

    def _heads(self, spec: Spec, keys: PartitionKeys, build: str) -> None:
        """The first parked event of a row is one that failed; nothing waits for nothing."""
        heads: dict[str, SetAsideEvent] = {}
        for one in self._asides(self._world.store.execute(("HVALS", keys.parked(spec.name, build)))):
            if one.key not in heads or one.position < heads[one.key].position:
                heads[one.key] = one
        for one in heads.values():
            if not one.attempts:
                self._world.fail(f"{spec.name}: event {one.position} of {one.key} waits behind no failed event")

    def _effects(self, spec: Spec, keys: PartitionKeys, build: str, position: int) -> None:
        """Each wanted event had its effect, unless it was set aside; those of a stream in order."""
        world = self._world
        entries = world.store.execute(("XRANGE", keys.skipped(spec.name, build), "-", "+"))
        aside = self._asides([fields[1] for _, fields in entries])
        aside += self._asides(world.store.execute(("HVALS", keys.parked(spec.name, build))))
        left = {one.position for one in aside}
        had = [(stream, number) for name, stream, number in self._happened.effects if name == spec.name]
        first: dict[str, list[int]] = {}
        for stream, number in dict.fromkeys(had):
            first.setdefault(stream, []).append(number)
        wanted: dict[str, list[int]] = {}
        for event in self._log(keys)[:position]:
            if spec.wants(event) and event.position not in left:
                wanted.setdefault(event.stream, []).append(event.data["id"])
        for stream, numbers in wanted.items():
            if missing := set(numbers) - set(first.get(stream, [])):
                world.fail(f"reactor {spec.name} never had the effects of {missing} in {stream}")
            if not world.forked and [number for number in first[stream] if number in numbers] != numbers:
                world.fail(f"reactor {spec.name} had its effects of {stream} as {first[stream]}, not as {numbers}")


def _says_that_history_is_another(error: str) -> bool:
    return "stands at position" in error or "lost its tail" in error or "ends before" in error
