"""One thread in which everything happens: a clock, tasks, a network with faults, and a store (see `store`).

A task is an operation of the package (see `runner.effects`). Whatever it waits for is an entry in a queue ordered by
simulated time; the seed decides how long each thing takes and what goes wrong, so a seed is a schedule.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NoReturn

from runner.effects import Begin, Execute, Finish, Invoke, Join, Leave, Pause, Pending, Receive, Send, Take
from runner.errors import DataError, StoreUnavailable
from runner.format.keys import PartitionKeys
from runner.format.scripts import Script, load
from runner.log.info import StoreInfo
from runner.log.reading import last_event
from runner.settings import Settings
from runner.subscriptions.feed import FeedCore, Member

from .store import ReplyError, SimulatedStore

#: Midnight of some day, in µs: clocks begin there.
DAWN = 1_700_000_000_000_000
#: How many of the last happenings a failure shows.
TRACE = 60
#: More happenings than this at one moment, and time stands still.
BUSY = 10_000
EPOCH = "0123456789abcdef"


class Violation(AssertionError):
    """Something happened that must not; the text holds the seed and what came before."""


class Killed(BaseException):
    """Ends an operation where it stands."""


@dataclass(frozen=True)
class Wait:
    """What a feed does: read, and wait for something if there is nothing."""

    commands: list[Any]
    seconds: float


@dataclass
class Faults:
    """How likely each fault of the network is, for each request."""

    lost: float = 0.0
    reply_lost: float = 0.0
    held: float = 0.0
    slow: float = 0.0


class Owner:
    """A process: its tasks live, freeze and die together."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        #: Its clock runs so much faster than the world's, and began at this.
        self.rate = world.random.uniform(0.97, 1.03)
        self.offset = world.random.uniform(0, 1000)
        self.tasks: list[Task] = []
        self.feeds: dict[int, SimulatedFeed] = {}

    def clock(self) -> float:
        """Monotonic, in seconds."""
        current = self.world.current
        spent = current.spent if current is not None and current.owner is self else 0.0
        return self.offset + self.rate * (self.world.now + spent)

    def wall(self) -> int:
        return DAWN + int(self.clock() * 1e6)

    def kill(self) -> None:
        self.alive = False
        for task in self.tasks:
            task.kill()
        self.tasks.clear()
        self.feeds.clear()


@dataclass(eq=False)
class Session:
    """The connection of a task: what was sent on it comes to the store in order, and so do the answers."""

    open: dict[Pending, int | None] = field(default_factory=dict)
    generation: int = 0
    #: What becomes of all that is sent on it until it breaks.
    fault: str = ""
    #: Broken, and its task has not noticed.
    dead: bool = False
    last_arrival: float = 0.0
    last_answer: float = 0.0


@dataclass(eq=False)
class Request:
    task: Task
    token: int
    commands: list[Any]
    started: float
    era: int
    pending: Pending | None = None
    generation: int = 0
    mute: bool = False
    #: A feed's: until when it waits for something.
    until: float = 0.0
    answered: bool = False


class Task:
    """An operation under way."""

    def __init__(self, owner: Owner, name: str, operation: Generator[Any, Any, Any], delay: float = 0.0) -> None:
        self.owner = owner
        self.world = owner.world
        self.name = f"{owner.name}/{name}"
        self.session = Session()
        self.member: Member | None = None
        #: Seconds that handlers have taken in this step.
        self.spent = 0.0
        self.woken = False
        self.drowsy = False
        self.ended = False
        self.token = 0
        self._lanes: list[_Lane] = []
        self._operation = self._with_feed(operation)
        owner.tasks.append(self)
        self.world.later(delay, self.resume, 0)

    def resume(self, token: int, value: Any = None, error: BaseException | None = None) -> None:
        """Go on, unless that has happened already."""
        if token != self.token or self.ended or not self.owner.alive:
            return
        frozen = self.owner.frozen_until - self.world.now
        if frozen > 0:
            self.world.later(frozen + self.world.random.random() * 0.001, self.resume, token, value, error)
            return
        self.token += 1
        self.drowsy = False
        self._step(value, error)

    def wake(self, *, lasting: bool = True) -> None:
        """End a wait for time or the feed."""
        if self.drowsy:
            self.drowsy = False
            self.world.later(0.0, self.resume, self.token)
        elif lasting:
            self.woken = True

    def kill(self) -> None:
        self._end(Killed())

    def _end(self, error: BaseException) -> None:
        self.ended = True
        for lane in self._lanes:
            lane.kill()
        try:
            self._operation.throw(error)
        except (Killed, StopIteration):
            pass

    def _step(self, value: Any, error: BaseException | None) -> None:
        world, operation = self.world, self._operation
        world.current, self.spent = self, 0.0
        try:
            while True:
                effect = operation.send(value) if error is None else operation.throw(error)
                error = None
                try:
                    waiting, value = self._perform(effect)
                except StoreUnavailable as trouble:
                    error = trouble
                else:
                    if waiting:
                        return
        except StopIteration:
            self.ended = True
            self.owner.tasks.remove(self)
        finally:
            world.current = None

    def _perform(self, effect: Any) -> tuple[bool, Any]:
        """Whether it has to wait, and the outcome if not."""
        world = self.world
        if isinstance(effect, Execute):
            world.network.execute(self, effect.commands)
            return True, None
        if isinstance(effect, Send):
            return False, world.network.send(self, effect.commands)
        if isinstance(effect, Receive):
            return self._receive(effect.pending)
        if isinstance(effect, Pause):
            return self._doze(effect.seconds)
        if isinstance(effect, Wait):
            world.network.wait(self, effect)
            return True, None
        if isinstance(effect, Begin):
            return False, Work(self, effect)
        assert isinstance(effect, Finish), effect
        if effect.work.finished:
            return False, True
        effect.work.waiting = self.token
        world.later(effect.timeout / self.owner.rate, self.resume, self.token, False)
        return True, None

    def _receive(self, pending: Pending) -> tuple[bool, Any]:
        session = self.session
        if pending.complete:
            return False, pending.replies
        if pending not in session.open:
            session.dead = False
            raise StoreUnavailable("the connection was lost")
        session.open[pending] = self.token
        return True, None

    def _doze(self, seconds: float) -> tuple[bool, Any]:
        if self.woken:
            self.woken = False
            return False, None
        self.drowsy = True
        self.world.later(self.spent + seconds / self.owner.rate, self.resume, self.token)
        return True, None

    def _with_feed(self, operation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The operation, with its dealings with the feed done."""
        value, error = None, None
        while True:
            try:
                effect = operation.send(value) if error is None else operation.throw(error)
            except StopIteration:
                return
            value, error = None, None
            try:
                if isinstance(effect, Join):
                    yield from self._join()
                elif isinstance(effect, Leave):
                    self._leave()
                elif isinstance(effect, Take):
                    value = yield from self._take(effect.timeout)
                else:
                    value = yield effect
            except BaseException as trouble:
                error = trouble

    def _join(self) -> Generator[Any, Any, None]:
        feed: SimulatedFeed = self.owner.feeds[self.partition]
        self.member = Member(self.world.settings.buffer_size, lambda: self.wake(lasting=False))
        yield from feed.join(self.member)

    #: Which feed it joins.
    partition = 0

    def _leave(self) -> None:
        if self.member is not None:
            self.owner.feeds[self.partition].leave(self.member)
            self.member = None

    def _take(self, timeout: float) -> Generator[Any, Any, Any]:
        assert self.member is not None
        found = self.member.take()
        if found is None and not self.woken and timeout > 0:
            yield Pause(timeout)
            found = self.member.take()
        self.woken = False
        return found


class Work:
    """Lanes of a reactor, some at a time."""

    def __init__(self, task: Task, what: Begin) -> None:
        self.task = task
        self.waiting = -1
        self._left = [_Lane(self, operation) for operation in what.operations]
        self._active = 0
        self._limit = what.limit
        task._lanes = list(self._left)
        self._begin_more()

    @property
    def finished(self) -> bool:
        return not self._active and not self._left

    def lane_ended(self) -> None:
        self._active -= 1
        self._begin_more()
        if self.finished:
            self.task.world.later(0.0, self.task.resume, self.waiting, True)

    def _begin_more(self) -> None:
        while self._left and self._active < self._limit:
            self._active += 1
            self.task.world.later(0.0, self._left.pop(0).resume)


class _Lane:
    def __init__(self, work: Work, operation: Generator[Any, Any, None]) -> None:
        self.work = work
        self.operation = operation

    def kill(self) -> None:
        try:
            self.operation.throw(Killed())
        except (Killed, StopIteration):
            pass

    def resume(self, value: Any = None, error: BaseException | None = None) -> None:
        task = self.work.task
        world, owner = task.world, task.owner
        if task.ended or not owner.alive:
            return
        if owner.frozen_until > world.now:
            world.later(owner.frozen_until - world.now, self.resume, value, error)
            return
        try:
            effect = self.operation.send(value) if error is None else self.operation.throw(error)
        except StopIteration:
            self.work.lane_ended()
            return
        assert isinstance(effect, Invoke)
        value, error = None, None
        try:
            value = effect.function(*effect.args)
        except Violation:
            raise
        except Exception as cause:
            error = cause
        world.later(world.effect_time(), self.resume, value, error)


class SimulatedFeed:
    """The feed of one partition in one process; see `runner.sync.feed.Feed`."""

    def __init__(self, owner: Owner, info: StoreInfo, keys: PartitionKeys) -> None:
        self._owner = owner
        self._keys = keys
        self._core = FeedCore(info, keys, owner.world.settings)
        self._running = False

    def join(self, member: Member) -> Generator[Any, Any, None]:
        if not self._running:
            position, event_id = yield from last_event(self._keys)
            if not self._running:
                self._core.stand_at(position, event_id)
                self._running = True
                Task(self._owner, f"feed{self._keys.partition}", self._read())
        self._core.members.append(member)

    def leave(self, member: Member) -> None:
        if member in self._core.members:
            self._core.members.remove(member)

    def _read(self) -> Generator[Any, Any, None]:
        try:
            while self._core.members:
                self._core.advance((yield Wait(self._core.read_commands(), self._owner.world.settings.block)))
            self._running = False
        except DataError as damage:
            self._fail(damage)
        except StoreUnavailable as trouble:
            self._fail(f"the live feed failed: {trouble}")

    def _fail(self, trouble: str | DataError) -> None:
        self._running = False
        self._core.drop_all(trouble)


class Network:
    """Between tasks and the store."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = Faults()
        #: Counts the times that every connection was cut.
        self.era = 0
        self._under_way: dict[Request, None] = {}
        self._waiting: dict[Request, None] = {}

    def execute(self, task: Task, commands: list[Any]) -> None:
        """A round trip on any connection, repeated by the driver or not."""
        self._attempt(Request(task, task.token, commands, self.world.now, self.era))

    def wait(self, task: Task, what: Wait) -> None:
        request = Request(task, task.token, what.commands, self.world.now, self.era)
        request.until = self.world.now + what.seconds
        self._attempt(request)

    def send(self, task: Task, commands: list[Any]) -> Pending:
        world, session = self.world, task.session
        pending = Pending(commands)
        if session.dead:
            if world.random.random() < 0.5:
                session.dead = False
                raise StoreUnavailable("the connection was lost")
            return pending  # it went into a dead connection
        request = Request(task, -1, commands, world.now, self.era, pending, session.generation)
        world.check_departure(task, commands)
        session.open[pending] = None
        if not session.fault:
            session.fault = self._fate()
            if session.fault:
                world.later(self._timeout(), self._break, task, session.generation)
        latency = task.spent + self._latency()
        if session.fault == "held":
            latency = world.random.uniform(0.1, 8.0)
        session.last_arrival = max(session.last_arrival, world.now + latency)
        request.mute = bool(session.fault)
        if session.fault != "lost":
            world.later(session.last_arrival - world.now, self._arrive, request)
        return pending

    def cut(self, who: Callable[[Owner], bool] = lambda owner: True, *, whole: bool = False) -> None:
        """Break connections; with ``whole`` what is on its way is lost mostly."""
        if whole:
            self.era += 1
        for owner in self.world.owners:
            if owner.alive and who(owner):
                for task in list(owner.tasks):
                    self._break(task, task.session.generation)
        for request in [request for request in self._under_way if who(request.task.owner)]:
            self._fail(request)

    def end_waits(self) -> None:
        """Let every blocked read fail."""
        for request in [request for request in self._under_way if request.until]:
            self._fail(request)

    def heed_writes(self) -> None:
        """Answer the feeds that wait for what has come."""
        for request in list(self._waiting):
            if self.world.store.execute(request.commands[0]) is not None:
                del self._waiting[request]
                self._answer(request)

    def _attempt(self, request: Request) -> None:
        world = self.world
        self._under_way[request] = None
        fate = self._fate()
        depart = request.task.spent
        if fate:
            world.later(depart + self._timeout(), self._fail, request)
        if fate == "lost":
            return
        late = Request(request.task, -1, request.commands, request.started, request.era, mute=True)
        delay = world.random.uniform(0.1, 8.0) if fate == "held" else depart + self._latency()
        world.later(delay, self._arrive, late if fate else request)

    def _arrive(self, request: Request) -> None:
        world = self.world
        if request.answered:
            return
        if request.era != self.era:
            if world.random.random() < 0.7:
                return  # it was lost with the old server
            request.mute = True
        if request.until > world.now and world.store.execute(request.commands[0]) is None:
            self._waiting[request] = None
            world.later(request.until - world.now, self._give_up, request)
            return
        self._answer(request)

    def _give_up(self, request: Request) -> None:
        if request in self._waiting:
            del self._waiting[request]
            self._answer(request)

    def _answer(self, request: Request) -> None:
        world = self.world
        replies = [world.run_command(request.task, command, request.mute) for command in request.commands]
        if request.mute:
            return
        if request.pending is None:
            request.answered = True
            world.later(self._latency(), self._deliver, request, replies)
            return
        session = request.task.session
        session.last_answer = max(session.last_answer, world.now + self._latency())
        world.later(session.last_answer - world.now, self._deliver_sent, request, replies)

    def _deliver(self, request: Request, replies: list[Any]) -> None:
        if request in self._under_way:
            del self._under_way[request]
            request.task.resume(request.token, replies)

    def _deliver_sent(self, request: Request, replies: list[Any]) -> None:
        session, pending = request.task.session, request.pending
        assert pending is not None
        if request.generation == session.generation and pending in session.open:
            pending.replies[:] = replies
            token = session.open.pop(pending)
            if token is not None:
                request.task.resume(token, pending.replies)

    def _fail(self, request: Request) -> None:
        """The caller sees that there is no answer; the driver may try again by itself."""
        if request not in self._under_way:
            return
        del self._under_way[request]
        request.answered = True
        self._waiting.pop(request, None)
        world, task = self.world, request.task
        if task.ended:
            return
        if not request.until and world.random.random() < 0.6 and world.now - request.started < 5.0:
            again = Request(task, request.token, request.commands, request.started, self.era)
            world.later(world.random.uniform(0.01, 0.3), self._attempt_again, again)
        else:
            task.resume(request.token, None, StoreUnavailable("no answer from the server"))

    def _attempt_again(self, request: Request) -> None:
        if request.task.owner.alive and not request.task.ended:
            request.era = self.era
            self._attempt(request)

    def _break(self, task: Task, generation: int) -> None:
        session = task.session
        if session.generation != generation:
            return
        session.generation += 1
        session.fault = ""
        waiting = [token for token in session.open.values() if token is not None]
        session.dead = not waiting
        session.open.clear()
        for token in waiting:
            task.resume(token, None, StoreUnavailable("the connection was lost"))

    def _fate(self) -> str:
        chance, faults = self.world.random.random(), self.faults
        for name, likely in (("lost", faults.lost), ("reply lost", faults.reply_lost), ("held", faults.held)):
            chance -= likely
            if chance < 0:
                return name
        return ""

    def _latency(self) -> float:
        if self.faults.slow and self.world.random.random() < self.faults.slow:
            return self.world.random.uniform(0.0, 0.6)
        return self.world.random.expovariate(1000)

    def _timeout(self) -> float:
        return self.world.random.choice((0.001, 0.02, 1.0)) * self.world.random.random() + 0.0005


class World:
    """See the head of this module. What is checked all the time is in `run_command` and its neighbours."""

    def __init__(
        self, seed: int, settings: Settings, partitions: int = 1, sources: Mapping[str, str] | None = None
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.settings = settings
        self.now = 0.0
        #: What the server's clock has jumped by, in seconds.
        self.jump = 0.0
        self.store = SimulatedStore(self._server_time, sources)
        self.network = Network(self)
        self.current: Task | None = None
        self.owners: list[Owner] = []
        #: Seconds that an effect may take at most; most take milliseconds.
        self.slow_effects = 0.0
        #: History or time was changed behind the runners' backs: leases prove nothing any more.
        self.disturbed = False
        #: Writes were taken back.
        self.forked = False
        #: Each accepted commit: how many writes there were, build, token, owner.
        self.accepted: list[tuple[int, bytes, bytes, bytes]] = []
        #: The highest fencing token that was given for each build, in any history.
        self.tokens: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self._trace: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=TRACE)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self.info = StoreInfo("sim", EPOCH, tuple(PartitionKeys("sim", number) for number in range(partitions)))
        for keys in self.info.keys:
            self.store.execute(load("log/create").call([keys.meta, keys.log], 2, partitions, EPOCH, ""))
        self.first_write = len(self.store.journal)

    # -- time -----------------------------------------------------------------------------------

    def later(self, delay: float, what: Callable[..., None], *args: Any) -> None:
        self._serial += 1
        heappush(self._queue, (self.now + max(0.0, delay), self._serial, what, args))

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen until it is time to end."""
        queue, still = self._queue, 0
        while not until():
            when, _, what, args = heappop(queue)
            still = 0 if when > self.now else still + 1
            if still > BUSY:
                self.fail("somebody is busy without end, and waits for nothing")
            self.now = max(self.now, when)
            try:
                what(*args)
            except Violation:
                raise
            except Exception as crash:
                self.fail(f"something was raised that nobody expected: {crash!r}", crash)

    def spend(self, seconds: float) -> None:
        """A handler takes time."""
        if self.current is not None:
            self.current.spent += seconds

    def effect_time(self) -> float:
        if self.slow_effects and self.random.random() < 0.05:
            return self.random.uniform(0.0, self.slow_effects)
        return self.random.expovariate(100)

    def _server_time(self) -> int:
        return DAWN + int((self.now + self.jump) * 1e6)

    # -- what happens, and what must not ----------------------------------------------------------

    def note(self, text: str, *args: Any) -> None:
        """For the trace of a failure."""
        self._trace.append((self.now, text, args))

    def fail(self, text: str, cause: BaseException | None = None) -> NoReturn:
        lines = [f"  {when:9.4f}  {what.format(*args)}" for when, what, args in self._trace]
        raise Violation(
            f"seed {self.seed}, at {self.now:.4f}: {text}\nwhat came before:\n" + "\n".join(lines)
        ) from cause

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def run_command(self, task: Task, command: Any, late: bool) -> Any:
        """Run a command that has come to the store."""
        first = command[0]
        if not isinstance(first, Script):
            return self.store.execute(command)
        if first.name == "progress/commit":
            return self._commit(task, command, late)
        writes = len(self.store.journal)
        reply = self._execute(command)
        self.note("{} {}{} -> {}", task.name, first.name, " (no answer gets through)" if late else "", reply)
        if first.name == "progress/claim" and reply[0] == b"ok":
            self._check_token(command[3], int(reply[3]))
        if first.name == "log/append" and len(self.store.journal) > writes:
            self.network.heed_writes()
        return reply

    def _check_token(self, build: str, token: int) -> None:
        """A fencing token is higher than all before, also those that a failover took back, if the clock is later."""
        highest = self.tokens.get(build, 0)
        if token <= highest < self._server_time():
            self.fail(f"the fencing token {token} of {build} is not higher than {highest}")
        self.tokens[build] = max(highest, token)

    def _execute(self, command: Any) -> Any:
        try:
            return self.store.execute(command)
        except ReplyError as error:
            self.fail(f"the store answered {error} to {command}")

    def _commit(self, task: Task, command: Any, late: bool) -> Any:
        """Checkpoints go forward only, and under one claim one owner commits."""
        key = command[2].encode()
        before = int(self.store.db.get(key, {}).get(b"position", 0))
        writes = len(self.store.journal)
        reply = self._execute(command)
        args = command[2 + command[1] :]
        owner, token = str(args[0]).encode(), str(args[1]).encode()
        self.note("{} commit {} {}->{}{} -> {}", task.name, command[2], args[3], args[5],
                  " (no answer gets through)" if late else "", reply)  # fmt: skip
        self.count(f"commit {reply[0].decode()}")
        if len(self.store.journal) == writes:
            return reply
        after = int(self.store.db[key].get(b"position", 0))
        if after < before:
            self.fail(f"the checkpoint of {command[2]} went back from {before} to {after}")
        for _, other, its_token, its_owner in self.accepted:
            if other == key and its_token == token and its_owner != owner:
                self.fail(f"two owners committed to {command[2]} under token {token.decode()}")
        self.accepted.append((writes, key, token, owner))
        return reply

    def check_departure(self, task: Task, commands: list[Any]) -> None:
        """Nobody sends a commit after its lease ran out by its own clock, as long as clocks can be relied upon."""
        for command in commands:
            if isinstance(command[0], Script) and command[0].name == "progress/commit":
                self.check_lease(command[2], command[2 + command[1]], f"{task.name} sends a commit")

    def check_lease(self, build: str, owner: str, what: str) -> None:
        """Whoever acts as the owner has the lease, or nobody has."""
        if self.disturbed:
            return
        holder = self.store.db.get(build.encode(), {}).get(b"owner")
        if holder is not None and holder.decode() != owner:
            self.fail(f"{what} to {build}, which {holder.decode()} has by now, not {owner}")

    # -- history --------------------------------------------------------------------------------

    def take_back(self, writes: int, only: Callable[[bytes], bool] | None = None) -> None:
        """The store loses its last writes, or what they did to some keys."""
        writes = min(writes, len(self.store.journal) - self.first_write)
        if only is None:
            self.store.take_back(writes)
            left = len(self.store.journal)
            self.accepted = [one for one in self.accepted if one[0] < left]
        else:
            self.store.take_back(writes, only)
            self.first_write = len(self.store.journal)  # what is left is no state that there ever was
            self.accepted = [(0, *one[1:]) for one in self.accepted]
        self.forked = self.disturbed = True
