"""The event log as operations: opening, appending, reading. Each is a generator that a driver runs."""
