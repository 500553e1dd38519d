"""The library's subscription over a subscription of this package: history, then the live feed, which wakes it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from ...subscriptions.sources import Category
from .datastore import RunnerDatastore
from .errors import translated
from .naming import notification_of


class RunnerSubscription(Subscription[ApplicationRecorder]):
    """Notifications with ids above ``gt``, of ``topics`` if some are given. The first iteration begins to read.

    One thread iterates; any thread may call `stop`, which wakes the iterating thread at once. Lost connections are made
    again. After an error of an unreachable server, iteration can go on.
    """

    def __init__(
        self, recorder: ApplicationRecorder, datastore: RunnerDatastore, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._wanted = frozenset(topics)
        self._reading = threading.Lock()
        with translated():
            category = Category(datastore.category)
            self._events = datastore.store.subscribe(category, max(gt or 0, 0), resubscribe=True)

    def stop(self) -> None:
        """End the iteration. Waits for nothing, because the library may call this at any moment, from ``__del__``."""
        super().stop()
        self._events.unsubscribe()
        if self._reading.acquire(blocking=False):  # no thread iterates, so leave the feed here
            try:
                self._events.__exit__(None, None, None)
            finally:
                self._reading.release()

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        """Stop, wait until the iterating thread has noticed, and leave the feed."""
        super().__exit__(*args, **kwargs)
        with self._reading:
            self._events.__exit__(None, None, None)

    def __next__(self) -> Notification:
        """Wait for the next notification. Raises a PersistenceError."""
        with self._reading, translated():
            for event in self._events:
                if not self._wanted or event.type in self._wanted:
                    return notification_of(event)
        raise StopIteration
