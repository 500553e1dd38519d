"""Forwarding: a reactor that hands each event to another system, at least once and in order within a stream.

::

    books = Forwarder("books-to-celery", category="book", transport=CeleryTransport(app, task="library.book_event"),
                      on_error=Retry(times=5, then=ParkStream()))

What it sends is a map that JSON can hold::

    {"id": "…", "stream": "book-1", "number": 1, "position": 7, "partition": 0, "type": "Lent",
     "data": {"reader": "Ada"}, "metadata": null, "recorded_at": "2026-01-31T12:00:00+00:00",
     "idempotency_key": "books-to-celery:book-1:…"}

Data and metadata are in the form of `runner.jsonl`, whose `from_json` gives back what JSON lacks. An event that was
under way when the process was killed is sent again under the same ``idempotency_key``; whoever receives it keeps the
keys that it has handled, or does what may be done twice.

Promised: the next event of a stream is sent after the transport has taken the one before. **Not** promised: that what
is behind the transport keeps that order, or keeps the message. Celery's workers handle several messages at a time, and
a broker confirms what it has stored only when told to: for RabbitMQ by
``broker_transport_options={"confirm_publish": True}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID, uuid5

from .errors import InvalidInput
from .events import RecordedEvent
from .jsonl import to_json
from .policies import DEFAULT, Policy
from .reactor import AT_A_TIME, Reactor

#: What is sent: a map that JSON can hold.
Message = dict[str, Any]

#: Idempotency keys are made into Celery's task ids in this name space.
_TASKS = UUID("7d7ad0f2-6b0c-5c0e-9f0b-0f6f1b2f6f43")


class Transport(Protocol):
    """Takes messages to another system. Several threads may use it at a time, each for another stream."""

    def send(self, message: Message) -> Any:
        """Hand one message over; once it returns (or what it returned was awaited) the message counts as sent.

        Whatever it raises is met by the forwarder's policy.
        """


class Forwarder(Reactor):
    """Sends each event of a category, or of all, to a transport. Everything else is as with any `Reactor`.

    Raises InvalidInput, InvalidName or ProjectionError.
    """

    def __init__(
        self,
        name: str,
        *,
        transport: Transport,
        category: str | None = None,
        on_error: Policy = DEFAULT,
        at_a_time: int = AT_A_TIME,
        start: str = "beginning",
    ) -> None:
        super().__init__(name, category=category, on_error=on_error, at_a_time=at_a_time, start=start)
        if not callable(getattr(transport, "send", None)) or isinstance(transport, type):
            raise InvalidInput(f"forwarder {name!r}: a transport has a method send(message); {transport!r} has not")
        self.transport = transport
        self.when(self._forward)

    def _forward(self, event: RecordedEvent, key: str) -> Any:
        return self.transport.send(message_of(event, key))


def message_of(event: RecordedEvent, key: str) -> Message:
    """What is sent for an event. Raises UndecodableEvent, or DataError for data that is nested too deeply."""
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


class CeleryTransport:
    """Sends each message as a Celery task, by its name: nothing of the worker is imported. Needs the extra ``celery``.

    ``app`` is a Celery app, or its settings: ``{"broker_url": "amqp://…"}``. The task is called with the message as its
    only argument; its id is made from the idempotency key, so it is the same when the event is sent again. Options
    go to ``send_task``, as ``queue="books"``. Results are not asked for.
    """

    def __init__(self, app: Any, *, task: str, **options: Any) -> None:
        if not isinstance(task, str) or not task:
            raise InvalidInput(f"a task is called by its name, as 'library.book_event', not by {task!r}")
        self.app = _make_app(app) if isinstance(app, Mapping) else app
        if not callable(getattr(self.app, "send_task", None)):
            raise InvalidInput(f"CeleryTransport takes a Celery app or a map of its settings, not {app!r}")
        self.task = task
        self._options = {"ignore_result": True} | options

    def send(self, message: Message) -> None:
        task_id = str(uuid5(_TASKS, message["idempotency_key"]))  # a key may be longer than brokers allow
        self.app.send_task(self.task, args=[message], task_id=task_id, **self._options)


def _make_app(settings: Mapping[str, Any]) -> Any:
    try:
        from celery import Celery
    except ImportError:
        raise InvalidInput(
            "celery is not installed", hint="Install the extra: pip install 'redis-streams-runner[celery]'."
        ) from None
    app = Celery("runner", set_as_current=False)
    app.conf.update(settings)
    return app
