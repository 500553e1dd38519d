"""The conformance suites of eventsource-py, run with our adapter."""
