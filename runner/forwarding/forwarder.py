"""Forwarding: a reactor that hands each event to another system, at least once and in order within a stream.

::

    books = Forwarder("books-to-celery", category="book", transport=CeleryTransport(app, task="library.book_event"),
                      on_error=Retry(times=5, then=ParkStream()))

A message is a map that JSON can hold::

    {"id": "…", "stream": "book-1", "number": 1, "position": 7, "partition": 0, "type": "Lent",
     "data": {"reader": "Ada"}, "metadata": null, "recorded_at": "2026-01-31T12:00:00+00:00",
     "idempotency_key": "books-to-celery:book-1:…"}

Data and metadata are in the form of `runner.format.json_lines`, whose `from_json` restores values that JSON lacks. An
event that was under way when the process was killed is sent again under the same ``idempotency_key``; the receiver must
remember the keys that it has handled, or handle an event twice without harm.

Promised: the next event of a stream is sent after the transport has taken the one before. **Not** promised: that the
other system keeps the order, or keeps the message. Celery's workers handle several messages at a time, and
a broker confirms stored messages only when told to: for RabbitMQ by
``broker_transport_options={"confirm_publish": True}``.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import InvalidInput
from ..format.events import RecordedEvent
from ..format.json_lines import to_json
from ..projections.functions import check_function
from ..projections.policies import DEFAULT, OnError
from ..projections.reactor import AT_A_TIME, Reactor

#: A map that JSON can hold; one is sent for each event.
Message = dict[str, Any]


class Transport(Protocol):
    """Takes messages to another system. Several threads may call it at a time, each for another stream."""

    def send(self, message: Message) -> Any:
        """Hand one message over. The message counts as sent once this returns (or the returned awaitable ends).

        If this raises, the forwarder's policy decides.
        """


class Forwarder(Reactor):
    """A reactor that sends each event of a category, or of all categories, to a transport.

    Raises InvalidInput, InvalidName or ProjectionError.
    """

    def __init__(
        self,
        name: str,
        *,
        transport: Transport,
        category: str | None = None,
        on_error: OnError = DEFAULT,
        at_a_time: int = AT_A_TIME,
        start: str = "beginning",
    ) -> None:
        super().__init__(name, category=category, on_error=on_error, at_a_time=at_a_time, start=start)
        if not callable(getattr(transport, "send", None)) or isinstance(transport, type):
            raise InvalidInput(f"forwarder {name!r}: a transport has a method send(message); {transport!r} has not")
        check_function(transport.send, f"forwarder {name!r}: the transport's", "(message)")
        self.transport = transport
        self.when(self._forward)

    def _forward(self, event: RecordedEvent, key: str) -> Any:
        return self.transport.send(message_of(event, key))


def message_of(event: RecordedEvent, key: str) -> Message:
    """The message for an event. Raises UndecodableEvent, or DataError for data that is nested too deeply."""
    return {
        "id": str(event.id),
        "stream": event.stream,
        "number": event.number,
        "position": event.position,
        "partition": event.partition,
        "type": event.type,
        "data": to_json(event.data),
        "metadata": to_json(event.metadata),
        "recorded_at": event.recorded_at.isoformat(),
        "idempotency_key": key,
    }
