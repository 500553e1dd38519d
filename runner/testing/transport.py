"""A transport for tests of forwarders."""

from __future__ import annotations

import json

from ..forwarding import Message


class FakeTransport:
    """Keeps the messages that were sent, in order, as a receiver would read them."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        """Keep the message. Raises TypeError for a value that JSON cannot hold."""
        self.sent.append(json.loads(json.dumps(message)))
