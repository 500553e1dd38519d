"""The library's tests of projections and their runners, with nothing set but the two variables.

Left out is the one of tagged decisions, which needs recorders of another kind ("dynamic consistency boundaries") that
this module does not have.
"""

from __future__ import annotations

import os

from eventsourcing.persistence import InfrastructureFactory, StoredEvent, Tracking
from eventsourcing.tests import projection as published

from runner.adapters.eventsourcing import RunnerProcessRecorder


class Counters(RunnerProcessRecorder, published.EventCountersView):
    """A view whose rows are originators and whose counts are their versions: each step goes with its tracking."""

    def get_created_event_counter(self) -> int:
        return self._count("created")

    def get_subsequent_event_counter(self) -> int:
        return self._count("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._add("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._add("subsequent", tracking)

    def _count(self, name: str) -> int:
        last = self.select_events(name, desc=True, limit=1)
        return last[0].originator_version if last else 0

    def _add(self, name: str, tracking: Tracking) -> None:
        self.insert_events([StoredEvent(name, self._count(name) + 1, "counted", b"")], tracking=tracking)


class TestView(published.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> published.EventCountersView:
        factory = InfrastructureFactory.construct(env=os.environ)
        self.addCleanup(factory.close)
        view = factory.tracking_recorder(Counters)
        assert isinstance(view, Counters)
        return view


class TestAggregateEventCountersProjection(published.AggregateEventCountersProjectionTestCase):
    view_class = Counters


class TestAggregateEventCountersProjectionOnAServer(TestAggregateEventCountersProjection):
    real = True


class TestEventSourcedProjection(published.EventSourcedProjectionTestCase):
    pass


class TestEventSourcedProjectionOnAServer(TestEventSourcedProjection):
    real = True
