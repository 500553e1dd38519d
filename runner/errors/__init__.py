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

from .caller import (
    MOST_TOLD,
    AppendTooLarge,
    EventIdReused,
    InvalidInput,
    InvalidName,
    PayloadError,
    ProjectionError,
    StoreNotFound,
)
from .conflicts import BookmarkConflict, BuildReplaced, CommitRefused, Conflict, ProjectionHeld, WrongExpectedVersion
from .data import (
    DataError,
    HistoryDiverged,
    LogCorrupt,
    LogTrimmed,
    LogTruncated,
    RecordDamaged,
    StoreReplaced,
    UndecodableEvent,
)
from .handlers import HandlerFailed, SubscriptionDropped, WaitTimeout
from .root import LONGEST_TEXT, RunnerError, counted, text_of
from .server import (
    NOT_ALLOWED,
    PASSING_REFUSALS,
    NotConfirmed,
    StoreClosed,
    StoreRefused,
    StoreTrouble,
    StoreUnavailable,
)

__all__ = [
    "AppendTooLarge", "BookmarkConflict", "BuildReplaced", "CommitRefused", "Conflict", "DataError",
    "EventIdReused", "HandlerFailed", "HistoryDiverged", "InvalidInput", "InvalidName", "LONGEST_TEXT",
    "LogCorrupt", "LogTrimmed", "LogTruncated", "MOST_TOLD", "NOT_ALLOWED", "NotConfirmed", "PASSING_REFUSALS",
    "PayloadError", "ProjectionError", "ProjectionHeld", "RecordDamaged", "RunnerError", "StoreClosed",
    "StoreNotFound", "StoreRefused", "StoreReplaced", "StoreTrouble", "StoreUnavailable", "SubscriptionDropped",
    "UndecodableEvent", "WaitTimeout", "WrongExpectedVersion", "counted", "text_of",
]  # fmt: skip
