"""Forwarding to Celery: each event as a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from ..errors import InvalidInput
from .forwarder import Message

#: Idempotency keys are made into Celery's task ids in this name space.
_TASKS = UUID("7d7ad0f2-6b0c-5c0e-9f0b-0f6f1b2f6f43")


class CeleryTransport:
    """Sends each message as a Celery task, by the task's name: no worker code is imported. Needs the extra ``celery``.

    ``app`` is a Celery app, or its settings: ``{"broker_url": "amqp://…"}``. The task is called with the message as its
    only argument; its id is made from the idempotency key, so it is the same when the event is sent again. Options,
    such as ``queue="books"``, go to ``send_task``. Results are ignored. Raises InvalidInput.
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
        """Publish the task, and return when the broker's client has taken it. Raises what Celery raises."""
        task_id = str(uuid5(_TASKS, message["idempotency_key"]))  # a hash: a key may be longer than brokers allow
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
