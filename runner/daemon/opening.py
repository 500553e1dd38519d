"""Opening the store of a runner process, whose server may not be there yet."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..effects.backoff import Backoff
from ..errors import StoreUnavailable
from ..sync.store import EventStore
from ..wire.clock import SYSTEM_CLOCK
from ..wire.log import log

#: How often the same reason is logged, in seconds.
TELL_AGAIN = 60.0


class Ended(BaseException):
    """A signal came before the runner was at work."""


def open_when_there(open_store: Callable[[], EventStore]) -> EventStore:
    """Open a store, and try again for as long as its server does not answer. Logs why it does not.

    Raises every other error of ``open_store``.
    """
    backoff = Backoff(math.inf, SYSTEM_CLOCK)
    told, told_at = "", 0.0
    while True:
        try:
            store = open_store()
        except StoreUnavailable as error:
            if str(error) != told or time.monotonic() - told_at >= TELL_AGAIN:
                told, told_at = str(error), time.monotonic()
                fields = {"error": told, "next": "waiting for the server"}
                log.warning("%s; waiting for the server. %s", error, error.hint, extra={"fields": fields})
            time.sleep(backoff.after(error))
        else:
            if told:
                log.info("the server answers")
            return store


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM and SIGINT raise Ended in the block, unless the daemon takes them: then its batch is finished first."""

    def end(number: int, _: FrameType | None) -> None:
        raise Ended(signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
