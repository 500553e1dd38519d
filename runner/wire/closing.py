"""Closing connections of an event loop."""

from __future__ import annotations

import asyncio
from typing import Any


async def drop(connection: Any) -> None:
    """Close a connection at once.

    The client library would wait for the server's end of TLS, which a frozen server does not send.
    """
    writer = getattr(connection, "_writer", None)
    if isinstance(writer, asyncio.StreamWriter):  # a store in memory has another one
        writer.transport.abort()
    await connection.disconnect(nowait=True)
