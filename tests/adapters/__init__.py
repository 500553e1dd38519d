"""The adapters, each in front of the tests that its library publishes.

``test_<library>.py`` runs ``<library>/suite_*.py`` in a process of its own, with an end: a store that is wrong makes
some of those tests wait for ever.
"""
