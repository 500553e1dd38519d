"""Views: where a projection's rows live."""
