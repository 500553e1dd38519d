"""An embedded Redis-compatible server in a directory: no installation, no port; it stops with its last user."""

from .place import has_store
from .server import Server, find_binary

__all__ = ["Server", "find_binary", "has_store"]
