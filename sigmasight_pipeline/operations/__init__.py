"""Launching ranges of sessions, the schedule, and how Dagster is set up: operations calculate nothing."""
