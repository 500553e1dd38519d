"""The log as a plain list of events: what appends to a store of one partition must answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from runner import ANY, STREAM_EXISTS, AppendResult, NewEvent, RunnerError, WrongExpectedVersion
from runner.errors import BookmarkConflict, EventIdReused

#: How many of a stream's last events are searched for the ids of an append with the right version, at most.
TAIL = 100

Group = tuple[str, list[NewEvent], Any]


@dataclass
class Model:
    """The store as a plain list of events, and what it answers."""

    log: list[tuple[str, UUID]] = field(default_factory=list)
    bookmarks: dict[str, int] = field(default_factory=dict)

    def places(self, stream: str) -> list[int]:
        """The positions of a stream's events."""
        return [position for position, (name, _) in enumerate(self.log, 1) if name == stream]

    def version(self, stream: str) -> int:
        return len(self.places(stream))

    def append_all(self, groups: list[Group], bookmark: tuple[str, int] | None = None) -> list[AppendResult]:
        checked = [self._check(group) for group in groups]
        known = [group for group, found in zip(groups, checked, strict=True) if found is not None]
        if known and len(known) < sum(1 for group in groups if group[1]):
            raise EventIdReused(known[0][0], "")
        if bookmark is not None:
            name, position = bookmark
            stands = self.bookmarks.get(name, 0)
            if position < stands or (position == stands and not known):
                raise BookmarkConflict(name, position, stands)
            self.bookmarks[name] = position
        if known:
            return [
                found or AppendResult(group[0], self.version(group[0]), 0, 0, 0, duplicate=True)
                for group, found in zip(groups, checked, strict=True)
            ]
        return [self._write(stream, events) for stream, events, _ in groups]

    def append_each(self, groups: list[Group]) -> list[AppendResult | RunnerError]:
        outcomes: list[AppendResult | RunnerError] = []
        for group in groups:
            try:
                outcomes += self.append_all([group])
            except RunnerError as error:
                outcomes.append(error)
        return outcomes

    def _write(self, stream: str, events: list[NewEvent]) -> AppendResult:
        first = len(self.log) + 1 if events else 0
        self.log += [(stream, event.id) for event in events]
        return AppendResult(stream, self.version(stream), first, len(self.log) if events else 0, 0, duplicate=False)

    def _check(self, group: Group) -> AppendResult | None:
        """The result of the earlier run of this append, or None where it is to be written."""
        stream, events, expected = group
        version, places = self.version(stream), self.places(stream)
        if expected is STREAM_EXISTS and version == 0:
            raise WrongExpectedVersion(stream, expected, 0)
        ids = [event.id for event in events]
        if expected in (ANY, STREAM_EXISTS):
            found = [place for mine in ids for place in places if self.log[place - 1][1] == mine]
            numbers = [places.index(place) for place in found]
            if numbers and numbers != list(range(numbers[0], numbers[0] + len(ids))):
                raise EventIdReused(stream, "")
        elif expected == version:
            found = []
            if any(self.log[place - 1][1] in ids for place in places[-min(len(ids), TAIL) :]) and ids:
                raise EventIdReused(stream, "")
        else:
            at = places[expected : expected + len(ids)] if expected < version else []
            same = [self.log[place - 1][1] == mine for place, mine in zip(at, ids, strict=False)]
            found = list(itertools.compress(at, itertools.takewhile(bool, same)))
            if not found:
                raise WrongExpectedVersion(stream, expected, version)
        if found and len(found) < len(ids):
            raise EventIdReused(stream, "")
        return (
            AppendResult(stream, places.index(found[-1]) + 1, found[0], found[-1], 0, duplicate=True) if found else None
        )


def info_of(outcome: Any, *, with_duplicate: bool) -> Any:
    """What the store and the model must agree on."""
    if isinstance(outcome, list):
        return [info_of(one, with_duplicate=with_duplicate) for one in outcome]
    if isinstance(outcome, WrongExpectedVersion):
        return "wrong version", outcome.stream, outcome.actual
    if isinstance(outcome, BookmarkConflict):
        return "bookmark", outcome.name, outcome.position, outcome.actual
    if isinstance(outcome, EventIdReused):
        return "reused", outcome.stream
    assert isinstance(outcome, AppendResult), outcome
    return outcome if with_duplicate else msgspec.structs.replace(outcome, duplicate=False)


def outcome_of(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except (WrongExpectedVersion, BookmarkConflict, EventIdReused) as error:
        return error
