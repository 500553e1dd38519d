"""Projections and reactors as users write them, and the fold."""
