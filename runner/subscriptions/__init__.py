"""Subscriptions: history, then the live feed."""
