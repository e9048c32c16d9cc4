"""Benchmarks that print ratios: each figure against a baseline or an optimum of the same run, with its target."""
