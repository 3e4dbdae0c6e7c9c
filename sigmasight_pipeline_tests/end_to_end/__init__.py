"""The product as its user runs it: real Dagster runs on a real PostgreSQL server."""
