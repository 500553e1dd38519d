"""The process recorder: events, and how far another application was processed, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import ProcessRecorder, StoredEvent

from .recorders import RunnerApplicationRecorder
from .tracking import RunnerTrackingRecorder


class RunnerProcessRecorder(RunnerTrackingRecorder, RunnerApplicationRecorder, ProcessRecorder):
    """Records events together with tracking, both or neither; tracking alone where there are no events."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Record the events, and ``tracking`` if it is given; the notification ids.

        Raises IntegrityError for a version that is there or would leave a gap, or tracking that does not rise.
        """
        return self._insert(stored_events, kwargs.get("tracking"))
