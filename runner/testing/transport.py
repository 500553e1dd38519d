"""A transport for tests of forwarders."""

from __future__ import annotations

import json

from ..forwarding import Message


class FakeTransport:
    """Keeps what was sent, in order, as whoever receives it would read it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(json.loads(json.dumps(message)))
