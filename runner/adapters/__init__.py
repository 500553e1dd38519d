"""Adapters: they fit the interfaces of other libraries. Each library has a package here and an extra.

No other part of the package imports an adapter. An application imports the one that it needs.
"""
