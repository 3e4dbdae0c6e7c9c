"""Data-quality rules: schema rules before a write, domain rules after it, and how both become Dagster check results."""
