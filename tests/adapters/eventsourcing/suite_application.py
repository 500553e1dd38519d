"""The library's tests of applications, with nothing set but the two variables."""

from __future__ import annotations

import pytest
from eventsourcing.tests import application as published
from eventsourcing.utils import get_topic

from runner.adapters.eventsourcing import RunnerFactory


class TestExampleApplication(published.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(RunnerFactory)


class TestExampleApplicationOnAServer(TestExampleApplication):
    real = True


class TestApplication(published.ApplicationTestCase):
    real = True

    # It looks at a warning that the library gives, which is an error here.
    @pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
    def test_application_log(self) -> None:
        super().test_application_log()
