"""All errors that leave the package, by whose fault they are.

::

    RunnerError
    ├── InvalidInput            the caller: a name, a payload, a number, a projection
    │   ├── InvalidName
    │   ├── PayloadError            a value that cannot be stored
    │   ├── AppendTooLarge
    │   ├── EventIdReused           known ids and new ones in one append
    │   ├── StoreNotFound           a store that was never made
    │   └── ProjectionError         a projection or plug-in that is not well made
    ├── Conflict                another writer was there first
    │   ├── WrongExpectedVersion
    │   ├── BookmarkConflict        a bookmark would stand still or go back
    │   ├── CommitRefused           another runner owns the projection, or moved its checkpoint
    │   ├── ProjectionHeld          another runner that is alive drives the projection
    │   └── BuildReplaced           code of another version has taken the projection over
    ├── StoreTrouble            the server
    │   ├── StoreUnavailable        not reachable, loading, failing over: try again
    │   ├── NotConfirmed            too few replicas confirmed an append in time: repeat it
    │   ├── StoreClosed             this process closed the store, the server is not at fault
    │   └── StoreRefused            out of memory, no permission, wrong password: a person is needed
    ├── DataError               the stored data
    │   ├── LogCorrupt              positions or numbers are broken
    │   ├── LogTrimmed              events that were asked for were trimmed
    │   ├── HistoryDiverged         the log is not the one that was projected
    │   │   └── LogTruncated            the log ends before the event of a checkpoint
    │   ├── StoreReplaced           the store is not the one that was opened
    │   ├── RecordDamaged           a record beside the log is not what was written
    │   └── UndecodableEvent
    ├── HandlerFailed           a projection's handler raised
    ├── WaitTimeout             a projection has not applied an append, or is not live, in time
    └── SubscriptionDropped     a subscription ended with a reason

Each carries a ``hint``: one sentence that says what to do next (it may be empty). Each can be pickled and copied, with
all its fields; as with every exception, the traceback and the chained cause stay in the process.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Sequence
from typing import Any

#: So many names of what is there are told, where something is not.
MOST_TOLD = 10

#: Longer texts of exceptions are cut to so many characters, since they are stored, sent with heartbeats and printed.
LONGEST_TEXT = 1_000


class RunnerError(Exception):
    """The root of the tree. ``hint`` says what to do; the text alone says what happened."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def with_hint(self) -> str:
        """What happened, and what to do."""
        return f"{self} ({self.hint})" if self.hint else str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args), vars(self)


def _made_again(kind: type[RunnerError], args: tuple[Any, ...]) -> RunnerError:
    """An error with a text of its own: what ``kind`` makes its text of is not asked for again."""
    return kind.__new__(kind, *args)


# -- the caller ---------------------------------------------------------------------------------


class InvalidInput(RunnerError, ValueError):
    """An argument that is not valid. Nothing was written."""


class InvalidName(InvalidInput):
    """A stream, category, projection or store name that is not allowed."""


class PayloadError(InvalidInput):
    """A value in an event or a row that cannot be stored; the text names its path and type."""


class AppendTooLarge(InvalidInput):
    """An append over the limit of events or bytes. Nothing was sent."""


class EventIdReused(InvalidInput):
    """An append holds known and new ids of its stream, or one id twice. Nothing was written.

    With an index of ids (see `runner.log.id_index`), also: an append holds an id of any stream of the partition.
    """

    def __init__(self, stream: str, detail: str) -> None:
        super().__init__(
            f"append to stream {stream!r} refused: {detail}; nothing was written",
            hint="Give each new event its own id, or repeat the first append exactly as it was.",
        )
        self.stream = stream


class StoreNotFound(InvalidInput):
    """There is no such store, and none was to be made.

    ``place`` is where it was looked for; ``name`` is empty if no store of any name is there. ``others`` are the names
    of those that are there, as far as they could be seen.
    """

    def __init__(self, name: str, place: str, others: Sequence[str] = (), meant: str = "") -> None:
        which = f"store {name!r}" if name else "store"
        told = ", ".join(others[:MOST_TOLD]) + (f" and {len(others) - MOST_TOLD} more" if others[MOST_TOLD:] else "")
        seen = f"; there are: {told}" if others else ""
        super().__init__(
            f"there is no {which} at {place}{seen}",
            hint=(f"Did you mean {meant!r}? " if meant else "") + "`runner init` makes a store.",
        )
        self.name = name
        self.place = place
        self.others = tuple(others)


class ProjectionError(InvalidInput):
    """A projection, a plug-in or a handler's answer that is not well formed."""


# -- another writer -----------------------------------------------------------------------------


class Conflict(RunnerError):
    """Another writer was there first. Nothing was written."""


class WrongExpectedVersion(Conflict):
    """The stream's version is not the expected one. ``expected`` and ``actual`` are versions."""

    def __init__(self, stream: str, expected: object, actual: int) -> None:
        super().__init__(
            f"stream {stream!r}: expected version {expected or 'NO_STREAM'}, actual version {actual}",
            hint="Read the stream again, decide again, and append with the version that was read.",
        )
        self.stream = stream
        self.expected = expected
        self.actual = actual


class BookmarkConflict(Conflict):
    """A bookmark (see `append_many`) must move forward; this append would not move it."""

    def __init__(self, name: str, position: int, actual: int) -> None:
        super().__init__(
            f"bookmark {name!r} stands at {actual} and cannot move to {position}",
            hint="Skip this position: another process has handled it already.",
        )
        self.name = name
        self.position = position
        self.actual = actual


class CommitRefused(Conflict):
    """Another runner took the projection over, or its checkpoint was moved. The commit was not written."""

    def __init__(self, projection: str, partition: int, detail: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}): commit refused, {detail}",
            hint="See in `runner status` which runner drives the projection; start this one again if it should.",
        )
        self.projection = projection
        self.partition = partition


class ProjectionHeld(Conflict):
    """Another runner drives the projection, and renews its lease. ``holder`` is its machine and process."""

    def __init__(self, projection: str, partition: int, holder: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}) is driven by another runner, {holder or 'unnamed'}",
            hint="Stop that runner, or let it do the work: `runner status` shows how far it is.",
        )
        self.projection = projection
        self.partition = partition
        self.holder = holder


class BuildReplaced(Conflict):
    """Code of another version made the live build: that code is newer, or it has replaced this code.

    ``build`` is the version of this code, ``live`` the live build.
    """

    def __init__(self, projection: str, partition: int, build: str, live: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}): the live build is {live!r}; "
            f"this code is build {build!r}, which is older or was replaced",
            hint=f"Run the code of build {live!r}. To go back to build {build!r} on purpose: "
            f"`runner rollback {projection}`, or `runner rebuild {projection}` if that build is not kept any more.",
        )
        self.projection = projection
        self.partition = partition
        self.build = build
        self.live = live


# -- the server ---------------------------------------------------------------------------------


class StoreTrouble(RunnerError):
    """The server did not do what it was asked. ``passing``: the same request may succeed later."""

    passing = True


class StoreUnavailable(StoreTrouble):
    """The server cannot be reached or is not ready. What was sent may or may not have run."""


class NotConfirmed(StoreTrouble):
    """Too few replicas confirmed an append in time. It ran on the primary, and a failover may still take it away.

    ``results`` are those of the append on the primary (``result`` is the first of them), ``wanted`` and ``confirmed``
    are numbers of replicas.
    """

    def __init__(self, results: Sequence[Any], wanted: int, confirmed: int) -> None:
        super().__init__(
            f"{confirmed} of {wanted} replicas confirmed the append in time: "
            "its events may exist, and repeating the same append is safe",
            hint="Repeat the append with the same events until it is confirmed; `INFO replication` shows the replicas.",
        )
        self.results = tuple(results)
        self.wanted = wanted
        self.confirmed = confirmed

    @property
    def result(self) -> Any:
        """The first `AppendResult`; None after an append of no streams that moved a bookmark."""
        return self.results[0] if self.results else None


#: Refusals that end when the server has memory, disk or replicas again, or when its password and that of the client are
#: the same again. Nothing was executed.
PASSING_REFUSALS = frozenset({"OOM", "MISCONF", "NOREPLICAS", "WRONGPASS", "NOAUTH"})


#: Refusals of a command that the user may not use, or that was renamed.
NOT_ALLOWED = frozenset({"NOPERM", "ERR"})


class StoreClosed(StoreTrouble):
    """The store was closed by this process."""

    passing = False

    def __init__(self) -> None:
        super().__init__(
            "the store was closed", hint="Open it again, or close it later, when nothing uses it any more."
        )


class StoreRefused(StoreTrouble):
    """The server answered with an error that needs a person; ``code`` is its first word."""

    def __init__(self, message: str, *, code: str = "ERR", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.passing = code in PASSING_REFUSALS


# -- what the log holds -------------------------------------------------------------------------


class DataError(RunnerError):
    """The stored data is not as it should be."""


class LogCorrupt(DataError):
    """Positions or numbers are not contiguous, or log and index do not agree."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Run `runner verify` to see every finding; restore from a backup.")


class LogTrimmed(DataError):
    """Events that were asked for were trimmed from the log. ``floor`` is the last position that is gone."""

    def __init__(self, after: int, floor: int, *, hint: str = "") -> None:
        super().__init__(
            f"events after {after} were asked for, but the log is trimmed up to position {floor}",
            hint=hint or f"Read after position {floor}.",
        )
        self.floor = floor


class HistoryDiverged(DataError):
    """The event of a checkpoint is not in the log any more: history was rewritten.

    ``candidate`` is the build that stands there, if it is one that is made beside the live build.
    """

    def __init__(
        self, projection: str, partition: int, position: int, detail: str, *, candidate: str | None = None
    ) -> None:
        which = f"partition {partition}" + ("" if candidate is None else f", candidate {candidate!r}")
        accept = (
            "accept this log, and make the view again: `runner reset` the projection."
            if candidate is None
            else f"accept this log: `runner rebuild {projection}` makes the candidate anew."
        )
        super().__init__(
            f"projection {projection!r} ({which}) stands at position {position}, but {detail}",
            hint="The log was restored, flushed or lost its tail, perhaps in a failover. Restore the log that was "
            f"projected; or {accept}",
        )
        self.projection = projection
        self.partition = partition
        self.position = position
        self.candidate = candidate


class LogTruncated(HistoryDiverged):
    """The log ends before the event of a checkpoint: it lost its tail. ``end`` is its last position."""

    def __init__(
        self, projection: str, partition: int, position: int, end: int, *, candidate: str | None = None
    ) -> None:
        super().__init__(projection, partition, position, f"the log ends at {end}", candidate=candidate)
        self.end = end


class StoreReplaced(DataError):
    """The store was flushed or restored since it was opened. Nothing was written."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"store {store!r} is not the one that was opened: it was flushed or restored; nothing was written",
            hint="Find out who flushed or restored it. Then open it again: if it is empty, that makes a new store.",
        )


class RecordDamaged(DataError):
    """A record beside the log, such as a checkpoint, is not what was written. ``keys``: one of these holds it."""

    def __init__(self, message: str, *keys: str, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Run `runner verify` to see every finding, and what to do about it.")
        self.keys = keys


class UndecodableEvent(DataError):
    """An entry of the log, or its payload, that cannot be decoded. ``position`` is its place.

    ``stream``, ``number`` and ``type`` are those of the entry if they can be read; else empty or 0.
    """

    def __init__(self, position: int, detail: str, *, stream: str = "", number: int = 0, event_type: str = "") -> None:
        of = f" (of stream {stream!r})" if stream else ""
        super().__init__(
            f"the event at position {position}{of} cannot be decoded: {detail}",
            hint="Restore the event from a backup, or let the projection's on_error policy park or skip such events.",
        )
        self.position = position
        self.stream = stream
        self.number = number
        self.type = event_type


# -- handlers and subscriptions -----------------------------------------------------------------


class HandlerFailed(RunnerError):
    """A handler of a projection or reactor raised; the cause is chained. The row keeps its last good state.

    In a copy that was pickled the cause is a RuntimeError with its text, if the cause itself cannot be pickled.
    """

    #: The traceback of the cause, in a copy, whose cause has none.
    _traceback = ""

    def __init__(
        self,
        projection: str,
        position: int,
        stream: str,
        number: int,
        event_type: str,
        cause: BaseException,
        kind: str = "projection",
    ) -> None:
        super().__init__(
            f"{kind} {projection!r} failed at position {position} "
            f"({event_type!r}, event {number} of {stream!r}): {type(cause).__name__}: {text_of(cause)}",
            hint=f"Correct the handler and start again: the {kind} goes on with this event.",
        )
        self.projection = projection
        self.position = position
        self.stream = stream
        self.number = number
        self.type = event_type
        self.cause = cause

    @property
    def cause_text(self) -> str:
        """The cause's text in one line."""
        return text_of(self.cause)

    @property
    def traceback(self) -> str:
        """The cause's traceback, as text; never raises."""
        if self._traceback:
            return self._traceback
        try:
            text = "".join(traceback.format_exception(self.cause))
            return text.encode(errors="backslashreplace").decode()  # it is stored, and half a character cannot be
        except Exception as worse:
            return f"(the traceback cannot be shown: {type(worse).__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        made_again, args, fields = super().__reduce__()
        return made_again, args, fields | {"cause": _portable(self.cause), "_traceback": self.traceback}


class WaitTimeout(RunnerError):
    """A projection has not applied an append in time, or is not live in time. ``state`` says what it is doing.

    ``position`` is the position that the wait was for, and ``lag`` how many events are missing. Both are None if the
    wait was for the projection to be live.
    """

    def __init__(
        self, projection: str, partition: int, position: int | None, lag: int | None, state: str, error: str = ""
    ) -> None:
        missing = "is not live in time" if position is None else f"has not applied position {position} in time"
        lags = "" if lag is None else f"it lags {counted(lag, 'event')}, and "
        super().__init__(
            f"projection {projection!r} (partition {partition}) {missing}: {lags}its state is {state!r}"
            + (f" ({error})" if error else ""),
            hint="Correct the cause, then start its runner again." if state == "stopped"
            else "Wait longer, or see `runner status`.",
        )  # fmt: skip
        self.projection = projection
        self.partition = partition
        self.position = position
        self.lag = lag
        self.state = state


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 event", "2 events"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def text_of(cause: BaseException) -> str:
    """An exception's text in one line, cut if it is long; never raises."""
    try:
        text = str(cause)
    except Exception as worse:
        text = f"(its text cannot be shown: {type(worse).__name__})"
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT])


def _portable(cause: BaseException) -> BaseException:
    """The exception, or what stands for it if it does not come back from pickle as it is."""
    try:
        back = pickle.loads(pickle.dumps(cause))
        if type(back) is type(cause) and str(back) == str(cause):
            return cause
    except Exception:
        pass
    return RuntimeError(f"{type(cause).__name__}: {text_of(cause)}")


class SubscriptionDropped(RunnerError):
    """The subscription ended; every event before it was delivered. ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"subscription dropped: {reason}", hint="Subscribe again after the last event seen.")
        self.reason = reason
