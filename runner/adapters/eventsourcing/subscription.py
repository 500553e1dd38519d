"""The library's subscription over one of ours: history, then the live feed, which wakes it."""

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
    """Notifications above ``gt``, of ``topics`` if some are given. Nothing is read before the first is asked for.

    One thread iterates; any thread may stop it, which wakes that thread at once. Connections that are lost are made
    again; after an error that the server's absence caused one can go on iterating.
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
        """End the iteration. Waits for nothing: the library also calls it from ``__del__``, thus from anywhere."""
        super().stop()
        self._events.unsubscribe()
        if self._reading.acquire(blocking=False):  # no thread iterates, which would leave the feed
            try:
                self._events.__exit__(None, None, None)
            finally:
                self._reading.release()

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        """Stop, and leave the feed, once the thread that iterates has noticed."""
        super().__exit__(*args, **kwargs)
        with self._reading:
            self._events.__exit__(None, None, None)

    def __next__(self) -> Notification:
        """The next notification, waited for. Raises a PersistenceError."""
        with self._reading, translated():
            for event in self._events:
                if not self._wanted or event.type in self._wanted:
                    return notification_of(event)
        raise StopIteration
