"""The errors of this package, raised as errors of the library, which the library's applications catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventsourcing import persistence as theirs

from ... import errors as ours

#: Pairs of this package's error and the library's error; the first pair that fits counts.
_AS_THEIRS: tuple[tuple[type[ours.RunnerError], type[theirs.PersistenceError]], ...] = (
    (ours.Conflict, theirs.IntegrityError),
    (ours.InvalidInput, theirs.DataError),
    (ours.StoreClosed, theirs.InterfaceError),
    (ours.DataError, theirs.InternalError),
    (ours.RunnerError, theirs.OperationalError),
)


@contextmanager
def translated() -> Iterator[None]:
    """Inside this block, an error of this package is raised as a `PersistenceError`; the original is its cause."""
    try:
        yield
    except ours.RunnerError as error:
        kind = next(theirs_ for ours_, theirs_ in _AS_THEIRS if isinstance(error, ours_))
        raise kind(error.with_hint) from error
