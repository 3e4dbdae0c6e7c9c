-- Read once, when the database volume is empty: Dagster keeps its own database beside the one of results.
CREATE DATABASE dagster;
