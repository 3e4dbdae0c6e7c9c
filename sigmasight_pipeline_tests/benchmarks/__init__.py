"""Benchmarks: stages of the pipeline timed against named peers in the same process (`make bench`)."""
