"""Which topics in the data may be resolved: whoever appends events decides what stands there.

The library finds a class by its topic, and imports the module for that. So an appender could make an application import
any module, and make an object of any class. Here a topic in the data is resolved only if

- its module is allowed, or the application registered the topic (`eventsourcing.utils.register_topic`); and
- it names a class of events, or of aggregates where an aggregate is expected.

Without a setting, modules that are imported already are allowed. ``RUNNER_TOPICS`` names modules and packages; then
these alone are allowed, and imported when they are needed.

Topics stand in three places: beside each event, in the event that begins an aggregate, and in snapshots.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from eventsourcing import utils
from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanSnapshotAggregate, HasOriginatorIDVersion
from eventsourcing.persistence import Mapper, StoredEvent
from eventsourcing.utils import TopicError, resolve_topic

from ...text import visible

M = TypeVar("M", bound=Mapper[Any])

#: The module of the library's own events, for applications that define none themselves.
LIBRARY = "eventsourcing.domain"

#: What the application has registered. A private name: the adapter is for the releases that it was tested with.
_registered: dict[str, Any] = utils._topic_cache


class TopicRules:
    """The modules whose classes may be found by topic; None = those that are imported."""

    def __init__(self, modules: Iterable[str] | None) -> None:
        self._modules = None if modules is None else frozenset((*modules, LIBRARY))
        self._accepted: set[tuple[str, bool]] = set()

    def check(self, topic: object, *, aggregate: bool = False) -> None:
        """Raises TopicError for a topic that may not be resolved. Imports no module that is not allowed."""
        if not isinstance(topic, str):
            raise TopicError(f"a topic must be text, not {visible(repr(topic), 100)}")
        if (topic, aggregate) in self._accepted:
            return
        module = _module_of(topic)
        if module is not None and not self._is_allowed(module):
            raise TopicError(
                f"topic {visible(topic)!r} is not resolved: module {visible(module)!r} is "
                f"{'not imported' if self._modules is None else 'none of RUNNER_TOPICS'}. "
                "Whoever may append events chose it; if it is yours, import it, or name it in RUNNER_TOPICS."
            )
        found = resolve_topic(topic)
        if not (_is_aggregate(found) if aggregate else _is_event(found)):
            what = "aggregates" if aggregate else "events"
            raise TopicError(f"topic {visible(topic)!r} is not resolved: it names no class of {what}")
        self._accepted.add((topic, aggregate))

    def _is_allowed(self, module: str) -> bool:
        if self._modules is None:
            return module in sys.modules
        return any(module == name or module.startswith(f"{name}.") for name in self._modules)


class _CheckedMapper(Mapper[Any]):
    """What stands before the mapper of the application."""

    rules: TopicRules

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        self.rules.check(stored_event.topic)
        event = super().to_domain_event(stored_event)
        if isinstance(event, CanInitAggregate):
            self.rules.check(getattr(event, "originator_topic", None), aggregate=True)
        if isinstance(event, CanSnapshotAggregate):
            self.rules.check(getattr(event, "topic", None), aggregate=True)
        return event


def checked(mapper: type[M], rules: TopicRules) -> type[M]:
    """The class of a mapper that makes no object by a topic which the rules refuse."""
    kind = typing.get_origin(mapper) or mapper
    return type(f"Checked{kind.__name__}", (_CheckedMapper, kind), {"rules": rules})


def _module_of(topic: str) -> str | None:
    """The module that the library would import for a topic, through its aliases; None if it would import none."""
    name, _, path = topic.partition(":")
    attributes, parts = path.split("."), name.split(".")
    if any(f"{name}:{'.'.join(attributes[:count])}" in _registered for count in range(1, len(attributes) + 1)):
        return None
    for count in range(len(parts), 0, -1):
        alias = _registered.get(".".join(parts[:count]))
        if alias is not None:
            return ".".join([alias.__name__, *parts[count:]])
    return name


def _is_event(found: object) -> bool:
    """Whether the library can make an event of it: it wants to know the type of the originator's id."""
    if not isinstance(found, type):
        return False
    if issubclass(found, HasOriginatorIDVersion):
        return True
    return any("originator_id" in getattr(base, "__annotations__", ()) for base in found.__mro__)


def _is_aggregate(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, BaseAggregate)
