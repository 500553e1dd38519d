"""An event log on Redis Streams, and the runner that turns it into read models that are never wrong.

Public are the names of ``__all__`` and the modules `runner.errors`, `runner.testing`, `runner.aggregates`,
`runner.forwarding`, `runner.operations` and those of `runner.adapters`. Everything else may change in any release.
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from .aio.engine import AsyncFollowing
from .aio.store import AsyncEventStore
from .aio.subscription import AsyncSubscription
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
from .projections.projection import DELETE, Delete, Projection
from .projections.reactor import Reactor
from .settings import Settings
from .subscriptions.sources import ALL, Category
from .sync.engine import Following
from .sync.store import EventStore
from .sync.subscription import Subscription
from .sync.view import View

try:
    __version__ = _version("redis-streams-runner")
except _NotInstalled:  # run from a copy of the sources
    __version__ = "0+unknown"

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
    # Subscriptions; `subscribe` makes them.
    "ALL",
    "AsyncSubscription",
    "Category",
    "Subscription",
    # Projections and reactors, and what they do when an event fails.
    "DELETE",
    "Delete",
    "ParkStream",
    "Projection",
    "Reactor",
    "Retry",
    "Skip",
    "Stop",
    # Running them in this process; `follow` makes a `Following`.
    "AsyncFollowing",
    "Following",
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

_PUBLIC_MODULES = ("adapters", "aggregates", "errors", "forwarding", "operations", "testing")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PUBLIC_MODULES, "__version__"])
