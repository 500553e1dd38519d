"""Projections and reactors: what users write, and the fold."""
