"""How complete and how alive the stored prices are, session by session.

What belongs here: pure functions that find what is missing or stuck in stored prices. What does not: judging prices
before they are stored (``market_data.screening``), and which severity a finding has (``checks``).
"""

from __future__ import annotations

import polars as pl


def coverage(prices: pl.DataFrame, needed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Per session the share of needed symbols that have a close, and the (session, symbol) pairs that have none.

    `prices` and `needed` have session_date and symbol. First frame: session_date, needed, priced, coverage (priced /
    needed, 0 to 1), by session; a session that needs nothing has no row. Second: session_date, symbol, sorted.
    """
    key = ["session_date", "symbol"]
    wanted = needed.select(key).unique()
    missing = wanted.join(prices, on=key, how="anti").sort(key)
    shares = (
        wanted.group_by("session_date")
        .agg(needed=pl.len().cast(pl.Int64))
        .join(missing.group_by("session_date").agg(absent=pl.len().cast(pl.Int64)), on="session_date", how="left")
        .with_columns(priced=pl.col("needed") - pl.col("absent").fill_null(0))
        .select("session_date", "needed", "priced", coverage=pl.col("priced") / pl.col("needed"))
        .sort("session_date")
    )
    return shares, missing


def repeated_closes(prices: pl.DataFrame, *, sessions: int = 5) -> pl.DataFrame:
    """Rows of `prices` whose close is that of each of the `sessions` - 1 sessions before it too.

    Such a close is often one that a source repeats because nothing trades any more. `prices` has session_date,
    symbol, close; its sessions are those any symbol has a row for, and a session a symbol misses ends its repetition.
    Columns session_date, symbol, close, sorted.
    """
    number = pl.col("session_date").rank("dense").cast(pl.Int64)
    ordered = prices.select("session_date", "symbol", "close", number=number).sort("symbol", "number")
    same = [
        (pl.col("close") == pl.col("close").shift(back).over("symbol"))
        & (pl.col("number") == pl.col("number").shift(back).over("symbol") + back)
        for back in range(1, sessions)
    ]
    return (
        ordered.filter(pl.all_horizontal(same).fill_null(False))
        .select("session_date", "symbol", "close")
        .sort("session_date", "symbol")
    )
