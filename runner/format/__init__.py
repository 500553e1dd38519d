"""The format: how data is stored in Redis."""
