"""How complete and how alive the stored prices are, session by session.

What belongs here: pure functions that find what is missing or stuck in stored prices. What does not:
judging prices before they are stored (``market_data.screening``), and which severity a finding has
(``checks``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl


def coverage(prices: pl.DataFrame, needed: pl.DataFrame) -> pl.DataFrame:
    """Per session the share of needed symbols that have a close.

    `prices` and `needed` have session_date and symbol. Columns session_date, needed, priced, share (priced
    / needed, 0 to 1), missing (sorted symbols without a close), sorted by session; a session that needs
    nothing has no row.
    """
    held = prices.select("session_date", "symbol", has_close=pl.lit(True)).unique()
    return (
        needed.select("session_date", "symbol")
        .unique()
        .join(held, on=["session_date", "symbol"], how="left")
        .group_by("session_date")
        .agg(
            needed=pl.len().cast(pl.Int32),
            priced=pl.col("has_close").count().cast(pl.Int32),
            missing=pl.col("symbol").filter(pl.col("has_close").is_null()).sort(),
        )
        .with_columns(share=pl.col("priced") / pl.col("needed"))
        .select("session_date", "needed", "priced", "share", "missing")
        .sort("session_date")
    )


def repeated_closes(
    prices: pl.DataFrame, trading_sessions: pl.DataFrame, sessions: Sequence[date], *, repeats: int = 5
) -> pl.DataFrame:
    """Symbols whose close on one of `sessions` is that of the `repeats` - 1 open sessions before it too.

    Such a close is often one that a source repeats because nothing trades any more. `prices` has
    session_date, symbol, close of `sessions` and of `repeats` - 1 sessions before them; `trading_sessions`
    has session_date and is_closed. A missing session ends a repetition. Columns session_date, symbol,
    close, sorted.
    """
    numbered = (
        trading_sessions.filter(~pl.col("is_closed"))
        .select("session_date")
        .sort("session_date")
        .with_row_index("number")
    )
    ordered = (
        prices.select("session_date", "symbol", "close").join(numbered, on="session_date").sort("symbol", "number")
    )
    earlier = repeats - 1
    same = [
        (pl.col("close") == pl.col("close").shift(n).over("symbol"))
        & (pl.col("number") == pl.col("number").shift(n).over("symbol") + n)
        for n in range(1, earlier + 1)
    ]
    return (
        ordered.filter(pl.all_horizontal(same).fill_null(False), pl.col("session_date").is_in(list(sessions)))
        .select("session_date", "symbol", "close")
        .sort("session_date", "symbol")
    )
