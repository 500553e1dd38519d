"""The format: how data lies in Redis."""
