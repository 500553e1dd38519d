"""The asynchronous face: the modules of `runner.sync`, with ``await``. Both faces run the same operations."""
