"""Inputs that nobody would think of, by seed: each kind has its inputs, and what must hold for every one of them."""
