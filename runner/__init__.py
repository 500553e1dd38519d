"""An event log on Redis Streams, and the runner that turns it into read models that are never wrong."""

from .aio.store import AsyncEventStore
from .aio.view import AsyncView
from .errors import (
    CommitRefused,
    DataError,
    HandlerFailed,
    InvalidInput,
    NotConfirmed,
    RunnerError,
    StoreTrouble,
    SubscriptionDropped,
    WaitTimeout,
    WrongExpectedVersion,
)
from .following import catch_up, follow, state_at
from .format.events import NewEvent, RecordedEvent
from .log.append_plan import ANY, NO_STREAM, STREAM_EXISTS, AppendResult
from .log.durability import Replicated
from .projections.policies import ParkStream, Retry, Skip, Stop
from .projections.projection import DELETE, Projection
from .projections.reactor import Reactor
from .settings import Settings
from .subscriptions.sources import ALL, Category
from .sync.store import EventStore
from .sync.view import View

__all__ = [
    # Stores: appending and reading.
    "AsyncEventStore",
    "EventStore",
    "Replicated",
    "Settings",
    # Events, and what is said about an append.
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AppendResult",
    "NewEvent",
    "RecordedEvent",
    # Subscriptions.
    "ALL",
    "Category",
    # Projections and reactors, and what they do when an event fails.
    "DELETE",
    "ParkStream",
    "Projection",
    "Reactor",
    "Retry",
    "Skip",
    "Stop",
    "catch_up",
    "follow",
    "state_at",
    # Views.
    "AsyncView",
    "View",
    # Errors; `runner.errors` has them all.
    "CommitRefused",
    "DataError",
    "HandlerFailed",
    "InvalidInput",
    "NotConfirmed",
    "RunnerError",
    "StoreTrouble",
    "SubscriptionDropped",
    "WaitTimeout",
    "WrongExpectedVersion",
]
