"""All numbers that a user may set, in one frozen object, and the limits that are fixed."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidInput

#: The default name of a store. The name is the first part of all its keys.
DEFAULT_NAME = "es"

#: One append is one script run, and a script blocks the server: 10,000 small events take about 0.1 s.
MAX_APPEND_EVENTS = 10_000

#: Replication and AOF buffers hold a whole append.
MAX_APPEND_BYTES = 8 * 1024 * 1024

#: A decoded payload is larger: one of nothing but empty maps grows some seventy times.
MAX_EVENT_BYTES = 1024 * 1024


#: The largest counts: a page is read in one script run, and what is buffered or cached is held in memory.
LARGEST_COUNTS = {"page_size": 10_000, "buffer_size": 10**9, "cache_rows": 10**9, "max_connections": 10_000}

#: A year in seconds. A longer time is a mistake, and sockets take no time without an end.
LONGEST_TIME = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Settings:
    """How a store, its subscriptions and its runners behave. Times are seconds unless the name says otherwise."""

    #: How many events a read asks for. Measured from 100 to 5,000: with more than 500 the memory of a batch is given
    #: back to the system and asked for again each time, and the time per event rises.
    page_size: int = 500
    #: How many events a live subscription may hold before it is sent back to reading. Four pages.
    buffer_size: int = 2000
    #: How long one blocked XREAD waits. Short enough to notice a dead server and a stop soon.
    block: float = 1.0
    #: The socket timeout of requests that do not block, and the margin that is added to those that block.
    socket_timeout: float = 5.0
    #: How long a request is repeated while the server cannot be reached. All requests are idempotent.
    retry_for: float = 5.0
    #: How many connections the requests of a store share; a request waits while all are in use. Measured from 4 to 64:
    #: one process of Python keeps no more than 16 busy over a local network.
    max_connections: int = 16
    #: How many packed rows a projection caches in memory; 50,000 small rows are about 10 MB.
    cache_rows: int = 50_000
    #: How often a runner renews its leases and compares history with its checkpoints.
    heartbeat: float = 2.0
    #: How long a runner that has gone silent keeps its projections; then another takes them over.
    lease: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value, is_count = getattr(self, name), name in LARGEST_COUNTS
            if not isinstance(value, int if is_count else (int, float)) or isinstance(value, bool) or not value >= 0:
                kind = "whole number" if is_count else "number"
                raise InvalidInput(f"setting {name} must be a {kind} that is not negative, not {value!r}")
            if name == "retry_for" and value == float("inf"):
                continue
            largest = LARGEST_COUNTS.get(name, LONGEST_TIME)
            if value > largest:
                raise InvalidInput(f"setting {name} must be at most {largest}, not {value}")
        for name in ("page_size", "buffer_size", "max_connections", "block", "socket_timeout", "heartbeat", "lease"):
            if getattr(self, name) == 0:
                raise InvalidInput(f"setting {name} must be more than 0")

    @property
    def beat(self) -> float:
        """Seconds between two renewals of a lease: ``heartbeat``, or a third of ``lease`` if that is less."""
        return min(self.heartbeat, self.lease / 3)


DEFAULTS = Settings()
