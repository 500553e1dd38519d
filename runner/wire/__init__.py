"""The only rooms that import ``redis``: addresses, its errors in our words, and the two drivers."""
