"""Tests of the data-quality rules."""
