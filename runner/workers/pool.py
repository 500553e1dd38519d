"""The worker pool: makes workers, knows the live one of each partition, and ends them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..effects.clock import Clock
from ..errors import InvalidInput, RunnerError
from ..log.info import StoreFacts
from ..progress.lease import Runner
from ..projections.handlers import Handlers
from ..projections.projection import Projection, by_stream
from ..projections.reactor import Reactor
from ..settings import Settings
from .assignment import IDLE, Seat
from .context import Context, Notify
from .coordinator import Steward, refused
from .projection_worker import Folding
from .reactor_worker import Reacting
from .worker import Group

#: What can be run.
Runnable = Projection | Reactor


def check_runnables(facts: StoreFacts, given: Sequence[Runnable]) -> None:
    """Raise InvalidInput for projections and reactors that cannot run together on a store."""
    names: set[str] = set()
    for one in given:
        if not isinstance(one, Handlers):
            raise InvalidInput(f"only Projection and Reactor objects can be run, not {type(one).__name__}: {one!r}")
        if one.name in names:
            raise InvalidInput(f"two projections are named {one.name!r}; each needs a name of its own")
        names.add(one.name)
        if facts.partitions > 1 and isinstance(one, Projection) and one.key is not by_stream:
            raise InvalidInput(
                f"projection {one.name!r} has a key of its own, and the store {facts.partitions} partitions: "
                "each partition would hold a part of every row",
                hint="Key it by stream, or use a store with one partition.",
            )
    if not given:
        raise InvalidInput("there is no projection to run")


class LiveGroups:
    """Which group is the live one of each partition. Groups ask it where to hand their projections over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, tuple[Group, Callable[[], None]]] = {}

    def hand_over(self, group: Group, wake: Callable[[], None]) -> bool:
        """Become the live group, or move into the one there is: then True, and ``group`` has no projections left."""
        with self._lock:
            found = self._live.setdefault(group.keys.partition, (group, wake))
            if found[0] is group:
                return False
            seats, group.seats = group.seats, []
            found[0].take_in(seats)
            found[1]()
            return True

    def end(self, group: Group) -> bool:
        """Stop being the live group; False when projections have come in meanwhile and must be served first."""
        with self._lock:
            if group.seat_newcomers():
                return False
            self._forget(group)
            return True

    def forget(self, group: Group) -> None:
        """A group that failed takes nobody in any more; whoever is on the way in fails with it."""
        with self._lock:
            group.seat_newcomers()
            self._forget(group)

    def _forget(self, group: Group) -> None:
        if self._live.get(group.keys.partition, (None,))[0] is group:
            del self._live[group.keys.partition]


class Crew:
    """What both kinds of engine share: the seats, the steward, and how groups are made and end."""

    def __init__(
        self,
        facts: StoreFacts,
        given: Sequence[Runnable],
        settings: Settings,
        clock: Clock,
        *,
        live: bool,
        patience: float,
        notify: Notify,
        seat_them: Callable[[list[Seat[Any]]], None],
    ) -> None:
        check_runnables(facts, given)
        self.live = live
        self.stopping = False
        runner = Runner(secrets.token_hex(8), facts, settings.lease)
        self.context = Context(
            runner, settings, clock, notify, patience
        )  # fmt: skip
        #: Everything to run in every partition, whatever becomes of it.
        self.seats: list[Seat[Any]] = [Seat(one, keys) for keys in facts.keys for one in given]
        self.steward = Steward(self.seats, self.context, seat_them)
        self.live_groups = LiveGroups()
        self.groups: list[Group] = []

    def new_group(
        self,
        seats: list[Seat[Any]],
        delay: float,
        wake: Callable[[], None],
        spin_off: Callable[[Seat[Any], float], None],
        on_loss: Callable[[], None],
    ) -> Group:
        """A group for seats that are held."""
        alone = seats[0].alone
        group = (Reacting if alone else Folding)(
            seats[0].keys,
            seats,
            self.context,
            hand_over=(lambda group: False) if alone else (lambda group: self.live_groups.hand_over(group, wake)),
            spin_off=spin_off,
            on_loss=on_loss,
            delay=delay,
        )
        self.groups.append(group)
        group.stopping = self.stopping  # looked at last: `stop` finds the group, or has been called before this
        return group

    def ended(self, group: Group) -> bool:
        """Whether a group has nothing left to do."""
        if not self.live_groups.end(group):
            return False
        self.groups.remove(group)
        return True

    def crashed(self, group: Group, crash: BaseException) -> None:
        """A group ended as none should."""
        self.live_groups.forget(group)
        for seat in group.seats:
            seat.failure = seat.failure or as_runner_error(crash)
        self.groups.remove(group)

    def stop(self) -> None:
        """Let the steward and every group end after what they are at."""
        self.stopping = self.steward.stopping = True
        for group in list(self.groups):
            group.stopping = True

    @property
    def failures(self) -> list[RunnerError]:
        """Why projections stopped, or could not be run to the end."""
        if not self.live and not self.stopping:
            for seat in self.seats:
                if seat.failure is None and seat.state != IDLE:
                    seat.failure = refused(seat)
        return [seat.failure for seat in self.seats if seat.failure is not None]


def as_runner_error(crash: BaseException) -> RunnerError:
    """What ended a group, as an error of this package."""
    return crash if isinstance(crash, RunnerError) else RunnerError(f"the runner failed: {crash!r}")
