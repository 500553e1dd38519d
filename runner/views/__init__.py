"""Views: the rows of projections, and how they are read."""
