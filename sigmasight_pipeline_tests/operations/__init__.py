"""Launching ranges, the schedule, and how Dagster is set up."""
