"""Errors that tell of another writer, who was there first. Nothing was written."""

from __future__ import annotations

from .root import RunnerError


class Conflict(RunnerError):
    """Another writer was there first. Nothing was written."""


class WrongExpectedVersion(Conflict):
    """The stream's version is not the expected one. ``expected`` and ``actual`` are versions."""

    def __init__(self, stream: str, expected: object, actual: int) -> None:
        super().__init__(
            f"stream {stream!r}: expected version {expected or 'NO_STREAM'}, actual version {actual}",
            hint="Read the stream again, decide again, and append with the version that was read.",
        )
        self.stream = stream
        self.expected = expected
        self.actual = actual


class BookmarkConflict(Conflict):
    """A bookmark (see `append_many`) must move forward; this append would not move it."""

    def __init__(self, name: str, position: int, actual: int) -> None:
        super().__init__(
            f"bookmark {name!r} stands at {actual} and cannot move to {position}",
            hint="Skip this position: another process has handled it already.",
        )
        self.name = name
        self.position = position
        self.actual = actual


class CommitRefused(Conflict):
    """Another runner took the projection over, or its checkpoint was moved. The commit was not written."""

    def __init__(self, projection: str, partition: int, detail: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}): commit refused, {detail}",
            hint="See in `runner status` which runner drives the projection; start this one again if it should.",
        )
        self.projection = projection
        self.partition = partition


class ProjectionHeld(Conflict):
    """Another runner drives the projection, and renews its lease. ``holder`` is its machine and process."""

    def __init__(self, projection: str, partition: int, holder: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}) is driven by another runner, {holder or 'unnamed'}",
            hint="Stop that runner, or let it do the work: `runner status` shows how far it is.",
        )
        self.projection = projection
        self.partition = partition
        self.holder = holder


class BuildReplaced(Conflict):
    """Code of another version made the live build: that code is newer, or it has replaced this code.

    ``build`` is the version of this code, ``live`` the live build.
    """

    def __init__(self, projection: str, partition: int, build: str, live: str) -> None:
        super().__init__(
            f"projection {projection!r} (partition {partition}): the live build is {live!r}; "
            f"this code is build {build!r}, which is older or was replaced",
            hint=f"Run the code of build {live!r}. To go back to build {build!r} on purpose: "
            f"`runner rollback {projection}`, or `runner rebuild {projection}` if that build is not kept any more.",
        )
        self.projection = projection
        self.partition = partition
        self.build = build
        self.live = live
