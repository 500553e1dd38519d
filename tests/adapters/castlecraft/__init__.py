"""The tests that castlecraft-engineer publishes, on our stores in memory and on a real server."""
