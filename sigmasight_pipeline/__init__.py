"""Portfolio risk and P&L for long/short equity books with options, as Dagster assets on PostgreSQL."""

__version__ = "0.1.0"
