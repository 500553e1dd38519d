"""Helpers for tests of programs that use the package.

Stores in memory and helpers to look into any store (`stores`); tests of projections and aggregates without a store, in
three lines (`scenario`, `aggregate_scenario`); consistent events (`building`); a clock that stands still (`clock`); a
transport that keeps its messages (`transport`). These need no test framework.

Two modules are for pytest and are not imported from here: `plugin`, whose fixtures pytest finds by itself, and
`contract`, the tests that any event store should pass.
"""

from .aggregate_scenario import AggregateScenario
from .building import EventsFor, events_for
from .clock import FixedClock
from .scenario import Scenario
from .stores import TEST_SETTINGS, all_events, async_memory_store, clear, count, memory_store, streams
from .transport import FakeTransport

__all__ = [
    "TEST_SETTINGS",
    "AggregateScenario",
    "EventsFor",
    "FakeTransport",
    "FixedClock",
    "Scenario",
    "all_events",
    "async_memory_store",
    "clear",
    "count",
    "events_for",
    "memory_store",
    "streams",
]
