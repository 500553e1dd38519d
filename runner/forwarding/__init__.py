"""Forwarding: events to other systems, at least once and in order within a stream."""

from .celery import CeleryTransport
from .forwarder import Forwarder, Message, Transport, message_of

__all__ = ["CeleryTransport", "Forwarder", "Message", "Transport", "message_of"]
