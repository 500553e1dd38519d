"""The synchronous face: blocking stores, views and subscriptions, and the parts that run operations in threads."""
