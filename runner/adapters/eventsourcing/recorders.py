"""The recorders of events: they append to the log, and read by originator or in the order of the log.

The library requires that an originator has each version once. These recorders also require versions **without gaps**:
a version is recorded only directly after the version before it. So a version is never recorded twice, even after its
event was trimmed. A recorder reads nothing before it writes: the version gives the event's number (see `naming`), and
the append script refuses a call with a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
    Tracking,
)

from ...effects import StoreOperation
from ...errors import WrongExpectedVersion
from ...format.events import NewEvent, RecordedEvent
from ...format.numbers import check_number
from ...log.append_plan import Append, AppendResult
from ...log.page_size import PageSize
from ...log.reading import (
    StreamPages,
    StreamRange,
    decode_stream,
    halving,
    in_category,
    last_position,
    read_log,
    read_stream_command,
)
from .datastore import RunnerDatastore, RunnerRecorder
from .errors import translated
from .naming import new_event, notification_of, state_of, stream_of, text_of, version_of
from .subscription import RunnerSubscription
from .tracking import append_with


@dataclass(slots=True)
class _Originator:
    """An originator in one call: the first version in the call, and how many events of the originator the call has."""

    text: str
    version: int
    #: The assumed first version of the originator: 0 or 1.
    first: int
    count: int = 0
    #: Whether the other first version was tried as well.
    turned: bool = False

    def stream(self, category: str) -> str:
        return stream_of(category, self.text, self.first)

    def other_stream(self, category: str) -> str:
        return stream_of(category, self.text, 1 - self.first)


@dataclass(slots=True)
class _Run:
    """Consecutive events of one originator in a call; ``before`` counts its earlier events in the call."""

    of: _Originator
    before: int
    events: list[NewEvent] = field(default_factory=list)

    def appends(self, category: str) -> list[Append]:
        expected = self.of.version - self.of.first + self.before
        own: Append = (self.of.stream(category), self.events, expected)
        # An append that begins a stream asserts that the originator's other stream does not exist. Later ones need not.
        return [own, (self.of.other_stream(category), (), 0)] if expected == 0 else [own]


class RunnerAggregateRecorder(RunnerRecorder, AggregateRecorder):
    """Records events in the log, all events of a call or none, and selects the events of an originator."""

    def __init__(self, datastore: RunnerDatastore) -> None:
        super().__init__(datastore)
        #: The first version of the originators seen last. A guess, which decides what is tried first.
        self._usual_first = 1

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Record the events. Raises IntegrityError if a version exists already, or would leave a gap."""
        self._insert(stored_events, None)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of an originator with versions above ``gt``, up to and including ``lte``."""
        if limit is not None and limit <= 0:
            return []
        with translated():
            events = self.datastore.store.run(self._select(text_of(originator_id), gt, lte, desc, limit))
            return [StoredEvent(originator_id, version_of(event), event.type, state_of(event)) for event in events]

    # -- inserting ------------------------------------------------------------------------------

    def _insert(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        """Record events, and tracking with them. Returns the notification ids in the order of the events."""
        with translated():
            runs = self._runs(stored_events)
            while True:
                try:
                    results = self.datastore.store.run(self._append(runs, tracking))
                    break
                except WrongExpectedVersion as conflict:
                    if not self._turn(runs, conflict):
                        raise
        if runs:
            self._usual_first = runs[-1].of.first
        firsts = [result.first_position for result in results if result.position]  # without the results of assertions
        return [first + i for run, first in zip(runs, firsts, strict=True) for i in range(len(run.events))]

    def _runs(self, stored_events: Iterable[StoredEvent]) -> list[_Run]:
        originators: dict[str, _Originator] = {}
        runs: list[_Run] = []
        for stored in stored_events:
            text, version = text_of(stored.originator_id), stored.originator_version
            of = originators.get(text)
            if of is None:
                of = originators[text] = _Originator(text, version, min(version, self._usual_first))
            if version < 0 or version != of.version + of.count:
                raise IntegrityError(
                    f"version {version} of originator {text!r} cannot be recorded: versions count up by one, from 0 or "
                    "from 1, each once; load the aggregate again and decide again"
                )
            if not runs or runs[-1].of is not of:
                runs.append(_Run(of, of.count))
            runs[-1].events.append(new_event(stored.originator_id, stored.topic, stored.state))
            of.count += 1
        return runs

    def _append(self, runs: list[_Run], tracking: Tracking | None) -> StoreOperation[list[AppendResult]]:
        appends = [append for run in runs for append in run.appends(self.datastore.category)]
        return append_with(self.datastore, appends, tracking)

    def _turn(self, runs: list[_Run], conflict: WrongExpectedVersion) -> bool:
        """After a refusal: assume the other first version for the refused originator, if that may be the cause.

        The first version of an originator never changes, so this is done once for each. If the append is refused again,
        another writer was faster.
        """
        category = self.datastore.category
        for of in (run.of for run in runs):
            twin_exists = conflict.stream == of.other_stream(category)
            absent = conflict.stream == of.stream(category) and conflict.actual == 0
            if (twin_exists or absent) and of.version > 0 and not of.turned:
                of.first = 1 - of.first
                of.turned = True
                return True
        return False

    # -- selecting ------------------------------------------------------------------------------

    def _select(
        self, text: str, gt: int | None, lte: int | None, desc: bool, limit: int | None
    ) -> StoreOperation[list[RecordedEvent]]:
        """Read the first page of both streams in one round trip, as either may exist; then the other pages."""
        store, category = self.datastore.store, self.datastore.category
        keys = store.info.of_partition(0)
        ranges = [_range(stream_of(category, text, first), first, gt, lte, desc) for first in (1, 0)]
        wanted = [which for which in ranges if which.to is None or which.to > which.after]
        if not wanted:
            return []
        page_size = store.settings.page_size
        count = page_size if limit is None else min(limit, page_size)
        replies, count = yield from halving(
            lambda count: [read_stream_command(keys, which, count) for which in wanted], count
        )
        for which, reply in zip(wanted, replies, strict=True):
            first = decode_stream(reply, which, keys)
            events = first.events
            if events:
                if len(events) == count or first.cut:
                    left = None if limit is None else limit - len(events)
                    pages = StreamPages(_after(which, events[-1].number), left, page_size)
                    while (page := (yield from pages.next(store.info))) is not None:
                        events += page
                return events
        return []


def _range(stream: str, first: int, gt: int | None, lte: int | None, desc: bool) -> StreamRange:
    """The event numbers of versions above ``gt`` up to ``lte``, if the versions begin at ``first``."""
    after = 0 if gt is None else max(0, gt + 1 - first)
    return StreamRange(stream, after, None if lte is None else max(0, lte + 1 - first), desc)


def _after(which: StreamRange, number: int) -> StreamRange:
    """The rest of a range after the event with this number, in the direction of reading."""
    return replace(which, to=number - 1) if which.backwards else replace(which, after=number)


class RunnerApplicationRecorder(RunnerAggregateRecorder, ApplicationRecorder):
    """Also selects notifications: a notification's id is the event's position in the log."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Record the events. Returns the notification ids. Raises IntegrityError like `RunnerAggregateRecorder`."""
        return self._insert(stored_events, None)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Up to ``limit`` notifications from ``start`` to ``stop``, of these topics if some are given."""
        after = 0 if start is None else max(0, start - 1 if inclusive_of_start else start)
        with translated():
            check_number(after, "start")
            events = self.datastore.store.run(self._select_log(after, limit, stop, frozenset(topics)))
            return [notification_of(event) for event in events]

    def max_notification_id(self) -> int | None:
        """The id of the last notification; None where there is none."""
        return self.datastore.run(last_position(self.datastore.store.info.of_partition(0))) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Notifications with ids above ``gt``, then new ones as they are recorded. See `RunnerSubscription`."""
        return RunnerSubscription(self, self.datastore, gt, topics)

    def _select_log(
        self, after: int, limit: int, stop: int | None, topics: frozenset[str]
    ) -> StoreOperation[list[RecordedEvent]]:
        keys = self.datastore.store.info.of_partition(0)
        ours = in_category(self.datastore.category)
        size = PageSize(self.datastore.store.settings.page_size)
        found: list[RecordedEvent] = []
        while len(found) < limit and (stop is None or after < stop):
            most = None if topics else limit - len(found)
            if stop is not None:
                most = stop - after if most is None else min(most, stop - after)
            page = yield from read_log(keys, after, size, most)
            found += [event for event in page.events if ours(event) and (not topics or event.type in topics)]
            if page.damage is not None and len(found) < limit:
                raise page.damage
            if not page.cut:
                break
            after = page.events[-1].position
        return found[:limit]
