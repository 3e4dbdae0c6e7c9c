"""Inputs nobody thought of: mutated files and settings, by seed."""
