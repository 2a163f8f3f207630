"""Benchmarks of speed, memory and interval coverage, compared with references."""
