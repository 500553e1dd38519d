"""Figures and their bare baselines, taken in one run with one client; see `runner.bench.figures`."""
