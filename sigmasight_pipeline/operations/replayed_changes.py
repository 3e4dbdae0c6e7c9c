"""Changes of old prices that replays of scenarios are made from, however far back they lie.

What belongs here: telling which recorded changes lie in the window of a replay. What does not: which results are older
than a change (``operations.restatement``) and what happens in a window (``calculations.stress_replays``).

A window ends long before the sessions it is replayed at, so no look-back reaches it; what depends on it is the return
of its sessions and the scenarios alone.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from sigmasight_pipeline.storage import scenarios
from sigmasight_pipeline.storage.database import Database

REPLAYED = "replayed_returns"
"""Stands for the table of such a change."""

DEPENDENTS = ("daily_returns", "stress_test_results")
"""Assets to be computed anew for one."""

_TABLES = ("daily_prices", "treasury_yields")


def replayed(database: Database, recorded: pl.DataFrame) -> pl.DataFrame:
    """Those of the `recorded` changes that replays are made from, as changes of REPLAYED that reach every session.

    In a window that was replayed or could not be, both closes included; of the market's proxy any session where a worst
    stretch is searched for.
    """
    windows = scenarios.windows(database)
    searched = scenarios.searched_symbols(database)
    days = recorded.select("session_date").unique()
    inside = days.join_where(
        windows, pl.col("session_date") >= pl.col("window_from"), pl.col("session_date") <= pl.col("window_to")
    )
    in_window = pl.col("session_date").is_in(inside["session_date"].unique().implode())
    is_market = (pl.col("table_name") == "daily_prices") & pl.col("symbol").is_in(searched)
    return recorded.filter(
        pl.col("table_name").is_in(_TABLES), in_window | is_market.fill_null(value=False)
    ).with_columns(table_name=pl.lit(REPLAYED), reach=pl.lit(date.max))
