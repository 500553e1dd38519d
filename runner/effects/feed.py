"""What an operation may ask of the live feed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Join:
    """Join the live feed; the outcome is None once the feed has confirmed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the live feed and throw away what the feed brought; the outcome is None."""


@dataclass(frozen=True, slots=True)
class Take:
    """Take what the feed has brought, waiting up to ``timeout`` seconds.

    The outcome is a `runner.subscriptions.feed.Delivery`, or None.
    """

    timeout: float


FeedEffect = Join | Leave | Take
