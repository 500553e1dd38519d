"""The errors of this package, raised as those of the library, which its applications catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventsourcing import persistence as theirs

from ... import errors as ours

#: Our errors and the library's for them; the first pair that fits counts.
_AS_THEIRS: tuple[tuple[type[ours.RunnerError], type[theirs.PersistenceError]], ...] = (
    (ours.Conflict, theirs.IntegrityError),
    (ours.InvalidInput, theirs.DataError),
    (ours.StoreClosed, theirs.InterfaceError),
    (ours.DataError, theirs.InternalError),
    (ours.RunnerError, theirs.OperationalError),
)


@contextmanager
def translated() -> Iterator[None]:
    """Inside it, what this package raises is raised as a `PersistenceError`; the original is its cause."""
    try:
        yield
    except ours.RunnerError as error:
        kind = next(theirs_ for ours_, theirs_ in _AS_THEIRS if isinstance(error, ours_))
        raise kind(error.with_hint) from error
