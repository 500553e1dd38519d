"""The synchronous face."""
