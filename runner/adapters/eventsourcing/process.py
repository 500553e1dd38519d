"""The process recorder: records events and tracking of another application in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import ProcessRecorder, StoredEvent

from .recorders import RunnerApplicationRecorder
from .tracking import RunnerTrackingRecorder


class RunnerProcessRecorder(RunnerTrackingRecorder, RunnerApplicationRecorder, ProcessRecorder):
    """Records events together with tracking, both or neither; tracking alone where there are no events."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Record the events, and ``tracking`` if it is given. Returns the notification ids.

        Raises IntegrityError for a version that exists or would leave a gap, and for tracking that does not rise.
        """
        return self._insert(stored_events, kwargs.get("tracking"))
