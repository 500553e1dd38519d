"""The wire: the only package that imports ``redis``. Addresses, commands, and the client's errors as this package's."""
