"""The synchronous face: stores, views and subscriptions that block, and what runs operations for them in threads."""
