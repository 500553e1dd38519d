"""Errors of the stored data."""

from __future__ import annotations

from .root import RunnerError


class DataError(RunnerError):
    """The stored data is not as it should be."""


class LogCorrupt(DataError):
    """Positions or numbers are not contiguous, or log and index do not agree."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Run `runner verify` to see every finding; restore from a backup.")


class LogTrimmed(DataError):
    """Events that were asked for were trimmed from the log. ``floor`` is the last position that is gone."""

    def __init__(self, after: int, floor: int, *, hint: str = "") -> None:
        super().__init__(
            f"events after {after} were asked for, but the log is trimmed up to position {floor}",
            hint=hint or f"Read after position {floor}.",
        )
        self.floor = floor


class HistoryDiverged(DataError):
    """The event of a checkpoint is not in the log any more: history was rewritten.

    ``candidate`` is the build that stands there, if it is one that is made beside the live build.
    """

    def __init__(
        self, projection: str, partition: int, position: int, detail: str, *, candidate: str | None = None
    ) -> None:
        which = f"partition {partition}" + ("" if candidate is None else f", candidate {candidate!r}")
        accept = (
            "accept this log, and make the view again: `runner reset` the projection."
            if candidate is None
            else f"accept this log: `runner rebuild {projection}` makes the candidate anew."
        )
        super().__init__(
            f"projection {projection!r} ({which}) stands at position {position}, but {detail}",
            hint="The log was restored, flushed or lost its tail, perhaps in a failover. Restore the log that was "
            f"projected; or {accept}",
        )
        self.projection = projection
        self.partition = partition
        self.position = position
        self.candidate = candidate


class LogTruncated(HistoryDiverged):
    """The log ends before the event of a checkpoint: it lost its tail. ``end`` is its last position."""

    def __init__(
        self, projection: str, partition: int, position: int, end: int, *, candidate: str | None = None
    ) -> None:
        super().__init__(projection, partition, position, f"the log ends at {end}", candidate=candidate)
        self.end = end


class StoreReplaced(DataError):
    """The store was flushed or restored since it was opened. Nothing was written."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"store {store!r} is not the one that was opened: it was flushed or restored; nothing was written",
            hint="Find out who flushed or restored it. Then open it again: if it is empty, that makes a new store.",
        )


class RecordDamaged(DataError):
    """A record beside the log, such as a checkpoint, is not what was written. ``keys``: one of these holds it."""

    def __init__(self, message: str, *keys: str, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Run `runner verify` to see every finding, and what to do about it.")
        self.keys = keys


class UndecodableEvent(DataError):
    """An entry of the log, or its payload, that cannot be decoded. ``position`` is its place.

    ``stream``, ``number`` and ``type`` are those of the entry if they can be read; else empty or 0.
    """

    def __init__(self, position: int, detail: str, *, stream: str = "", number: int = 0, event_type: str = "") -> None:
        of = f" (of stream {stream!r})" if stream else ""
        super().__init__(
            f"the event at position {position}{of} cannot be decoded: {detail}",
            hint="Restore the event from a backup, or let the projection's on_error policy park or skip such events.",
        )
        self.position = position
        self.stream = stream
        self.number = number
        self.type = event_type
