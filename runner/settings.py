"""Every number a user may turn, in one frozen object, and the limits that are not for turning."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidInput

#: The store's name unless another is given: the first part of all its keys.
DEFAULT_NAME = "es"

#: One append is one script run, and a script blocks the server: 10,000 small events take about 0.1 s.
MAX_APPEND_EVENTS = 10_000

#: Replication and AOF buffers carry an append whole.
MAX_APPEND_BYTES = 8 * 1024 * 1024

#: A payload of nothing but empty maps grows some seventy times when it is decoded.
MAX_EVENT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """How a store, its subscriptions and its runners behave. Times are seconds unless the name says otherwise."""

    #: Events a read asks for at a time. Measured from 100 to 5,000: with more than 500 the memory of a batch is
    #: given back to the system and asked for again each time, and the time per event rises.
    page_size: int = 500
    #: Events a live subscription may hold before it is sent back to reading. Four pages.
    buffer_size: int = 2000
    #: How long one blocked XREAD waits. Short enough to notice a dead server and a stop soon.
    block: float = 1.0
    #: Socket timeout of everything that does not block, and the margin added to what does.
    socket_timeout: float = 5.0
    #: How long a request is repeated while the server cannot be reached. All requests are idempotent.
    retry_for: float = 5.0
    #: Packed rows a projection keeps in memory to save reading them again; 50,000 small rows are about 10 MB.
    cache_rows: int = 50_000
    #: How often a runner says that it is there, and looks whether history is still what it was.
    heartbeat: float = 2.0
    #: How long a runner that has gone silent keeps its projections; then another takes them over.
    lease: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
                raise InvalidInput(f"setting {name} must be a number that is not negative, not {value!r}")
            if value == float("inf") and name != "retry_for":
                raise InvalidInput(f"setting {name} must be finite")
        for name in ("page_size", "buffer_size", "block", "socket_timeout", "heartbeat", "lease"):
            if getattr(self, name) == 0:
                raise InvalidInput(f"setting {name} must be more than 0")
        if self.page_size > 10_000:
            raise InvalidInput(f"setting page_size must be at most 10000, not {self.page_size}")

    @property
    def beat(self) -> float:
        """How often a lease is renewed: with each heartbeat, and at a third of its time at the latest."""
        return min(self.heartbeat, self.lease / 3)


DEFAULTS = Settings()
