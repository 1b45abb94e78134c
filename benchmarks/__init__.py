"""Benchmarks: ``regatta bench`` or ``make bench``. See ``docs/benchmarks.md``."""
