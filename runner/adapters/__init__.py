"""Adapters: the event store under the interfaces of other libraries, a module and an extra for each.

Nothing else in the package knows them, and nothing is imported before an application asks for it.
"""
