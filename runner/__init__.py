"""An event log on Redis Streams, and the runner that turns it into read models that are never wrong."""

from .aio.store import AsyncEventStore
from .durability import Replicated
from .errors import (
    CommitRefused,
    DataError,
    HandlerFailed,
    InvalidInput,
    NotConfirmed,
    RunnerError,
    StoreTrouble,
    SubscriptionDropped,
    WrongExpectedVersion,
)
from .events import NewEvent, RecordedEvent
from .following import catch_up, follow
from .log.appending import ANY, NO_STREAM, STREAM_EXISTS, AppendResult
from .projection import DELETE, Projection
from .settings import Settings
from .store import EventStore
from .subscribing import ALL, Category
from .views import AsyncView, View

__all__ = [
    "ALL",
    "ANY",
    "DELETE",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AppendResult",
    "AsyncEventStore",
    "AsyncView",
    "Category",
    "CommitRefused",
    "DataError",
    "EventStore",
    "HandlerFailed",
    "InvalidInput",
    "NewEvent",
    "NotConfirmed",
    "Projection",
    "RecordedEvent",
    "Replicated",
    "RunnerError",
    "Settings",
    "StoreTrouble",
    "SubscriptionDropped",
    "View",
    "WrongExpectedVersion",
    "catch_up",
    "follow",
]
