"""A Redis-compatible server of one's own, in a directory: no installation, no port, gone when nobody uses it."""

from .server import Server, find_binary

__all__ = ["Server", "find_binary"]
