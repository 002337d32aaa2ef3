"""Metrics of all benchmarks."""
