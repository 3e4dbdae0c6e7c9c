"""Whether an estimate used the returns its window has.

What belongs here: comparing the observations an estimate states with those that are stored. What does not: estimating
(``factor_model``), and what is done about an estimate from too few (``operations.gaps``).
"""

from __future__ import annotations

import polars as pl

from sigmasight_pipeline.calculations.timeline import Timeline

SHORT_WINDOWS: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "symbols": pl.Int64(),
    "symbol": pl.String(),
    "used": pl.Int64(),
    "stored": pl.Int64(),
}
"""Sessions with estimates from fewer returns than are stored: of how many symbols, and of one with the fewest used
(`used` of `stored` observations)."""


def short_windows(
    estimated: pl.DataFrame, returns: pl.DataFrame, calendar: pl.DataFrame, *, proxy: str, window: int
) -> pl.DataFrame:
    """Sessions whose regressions on the returns of `proxy` used fewer of them than there are (SHORT_WINDOWS), by date.

    `estimated` has session_date, symbol and n_obs of regressions on that one factor; `returns` session_date and symbol
    of every return from one session to the next, of the sessions estimated and of `window` - 1 before; `calendar` the
    rows of ``trading_sessions``. What is stored is counted as the engine counts: sessions among the last `window` open
    ones on which symbol and proxy both have a return. A NULL n_obs is no estimate and is left alone.
    """
    line = pl.DataFrame({"session_date": Timeline(calendar).dates}).with_columns(number=pl.int_range(pl.len()))
    numbered = returns.join(line, on="session_date")
    common = (
        numbered.join(numbered.filter(pl.col("symbol") == proxy).select("number"), on="number", how="semi")
        .sort("symbol", "number")
        .with_columns(seen=pl.int_range(1, pl.len() + 1).over("symbol"))
        .select("symbol", "number", "seen")
        .sort("number")
    )
    rows = (
        estimated.drop_nulls("n_obs")
        .join(line, on="session_date")
        .with_columns(before=pl.col("number") - window)
        .sort("number")
    )
    through = rows.join_asof(common, on="number", by="symbol", check_sortedness=False)
    until = through.join_asof(
        common.rename({"number": "before", "seen": "earlier"}), on="before", by="symbol", check_sortedness=False
    )
    stored = (pl.col("seen").fill_null(0) - pl.col("earlier").fill_null(0)).cast(pl.Int64)
    return (
        until.select("session_date", "symbol", used=pl.col("n_obs").cast(pl.Int64), stored=stored)
        .filter(pl.col("used") < pl.col("stored"))
        .sort("session_date", "used", "symbol")
        .group_by("session_date", maintain_order=True)
        .agg(
            symbols=pl.len().cast(pl.Int64),
            symbol=pl.col("symbol").first(),
            used=pl.col("used").first(),
            stored=pl.col("stored").first(),
        )
        .select(pl.col(name).cast(kind) for name, kind in SHORT_WINDOWS.items())
    )
