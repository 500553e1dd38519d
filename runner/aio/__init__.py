"""The asynchronous face: thin drivers for the same operations, the same machine and the same groups."""
