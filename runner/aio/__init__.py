"""The asynchronous face: the files of `runner.sync`, awaited. They run the same operations."""
