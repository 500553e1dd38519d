"""A transport for tests of forwarders."""

from __future__ import annotations

import json

from ..forwarding import Message


class FakeTransport:
    """Keeps what was sent, in order, as a receiver would read it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        """Keep the message. Raises TypeError for what JSON cannot hold."""
        self.sent.append(json.loads(json.dumps(message)))
