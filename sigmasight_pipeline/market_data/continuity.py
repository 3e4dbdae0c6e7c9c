"""Whether value is continuous through splits: the sign that prices and corporate actions fit each other.

What belongs here: comparing closes before and after a split, of the symbol and of options on it. What does
not: returns, and what happens when a split does not fit (``checks``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from fractions import Fraction

import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.returns import add_gross
from sigmasight_pipeline.symbols import adjusted_occ, parse_option

CONTINUITY: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "previous_date": pl.Date(),
    "session_date": pl.Date(),
    "previous_close": pl.Float64(),
    "close": pl.Float64(),
    "change": pl.Float64(),
    "allowed": pl.Float64(),
    "continuous": pl.Boolean(),
}
"""One row per split and symbol: the last close before the ex-date and the first from it on; `change` is the
change of value between them, decimal, the split applied; `continuous` where its size is at most
`allowed`."""

TICK = 0.01
"""US dollars an option's close may be off by rounding, before and after the split."""


def split_continuity(
    prices: pl.DataFrame, actions: pl.DataFrame, sessions: Collection[date], *, tolerance: float = 0.05
) -> pl.DataFrame:
    """Splits whose first close from the ex-date on falls on one of `sessions`: columns CONTINUITY.

    `prices` has session_date, symbol, close of `sessions` and the last close before; a split without a
    close on either side cannot be judged and has no row. Dividends between the two closes count as value.
    """
    return (
        add_gross(_around_splits(prices, actions), actions)
        .filter(pl.col("session_date").is_in(list(sessions)))
        .with_columns(
            pl.col("previous_close", "close").cast(pl.Float64),
            change=pl.col("gross") / pl.col("previous_close").cast(pl.Float64) - 1.0,
            allowed=pl.lit(tolerance),
        )
        .with_columns(continuous=pl.col("change").abs() <= pl.col("allowed"))
        .select(list(CONTINUITY))
        .sort("symbol", "ex_date")
    )


def option_split_continuity(
    option_prices: pl.DataFrame,
    prices: pl.DataFrame,
    actions: pl.DataFrame,
    sessions: Collection[date],
    *,
    tolerance: float = 0.05,
) -> pl.DataFrame:
    """The same for options on a symbol that splits, `symbol` being the contract as listed before: columns
    CONTINUITY.

    Judged are contracts quoted on the underlying's last session before the split and, with the strike
    divided by the ratio, on its first one from it on. An option's value may change with the underlying's,
    at most one for one: `allowed` = tolerance + (the underlying's change per old share + rounding of both
    closes) / close before. A ratio that is no whole number has no row: such contracts are refused
    elsewhere.
    """
    quoted = option_prices.filter(pl.col("close").is_not_null()).select(
        "session_date", "symbol", pl.col("close").cast(pl.Float64)
    )
    underlyings = {symbol: parse_option(symbol).underlying for symbol in quoted["symbol"].unique()}
    contracts = pl.DataFrame(
        list(underlyings.items()), schema={"contract": pl.String, "symbol": pl.String}, orient="row"
    )
    splits = _around_splits(prices, actions).filter(pl.col("session_date").is_in(list(sessions)))
    pairs = splits.join(contracts, on="symbol").join(
        quoted.rename({"symbol": "contract", "close": "before"}),
        left_on=["contract", "previous_date"],
        right_on=["contract", "session_date"],
    )
    ratios = SplitRatios(actions)
    listed = []
    for contract, symbol, previous, session in pairs.select(
        "contract", "symbol", "previous_date", "session_date"
    ).iter_rows():
        ratio = ratios.ratio(symbol, previous, session)
        if ratio.denominator == 1:
            listed.append((contract, session, _listed_after(contract, ratio), float(ratio)))
    adjusted = pl.DataFrame(
        [row for row in listed if row[2] is not None],
        schema={"contract": pl.String, "session_date": pl.Date, "adjusted": pl.String, "ratio": pl.Float64},
        orient="row",
    ).unique()
    spot, moved = pl.col("close").cast(pl.Float64), pl.col("previous_close").cast(pl.Float64)
    return (
        pairs.join(adjusted, on=["contract", "session_date"])
        .join(
            quoted.rename({"symbol": "adjusted", "close": "after"}),
            on=["adjusted", "session_date"],
        )
        .with_columns(
            change=pl.col("after") * pl.col("ratio") / pl.col("before") - 1.0,
            allowed=tolerance
            + ((spot * pl.col("ratio") - moved).abs() + TICK * (1 + pl.col("ratio"))) / pl.col("before"),
        )
        .select(
            pl.col("contract").alias("symbol"),
            "ex_date",
            "previous_date",
            "session_date",
            pl.col("before").alias("previous_close"),
            pl.col("after").alias("close"),
            "change",
            "allowed",
            continuous=pl.col("change").abs() <= pl.col("allowed"),
        )
        .sort("symbol", "ex_date")
    )


def _around_splits(prices: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Every split with the closes around it: symbol, ex_date, previous_date, previous_close, session_date,
    close."""
    ordered = prices.select("symbol", "session_date", "close").sort("session_date")
    return (
        actions.filter(pl.col("kind") == "split")
        .select("symbol", "ex_date")
        .sort("ex_date")
        .join_asof(
            ordered.rename({"session_date": "previous_date", "close": "previous_close"}),
            left_on="ex_date",
            right_on="previous_date",
            by="symbol",
            strategy="backward",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,
        )
        .join_asof(
            ordered,
            left_on="ex_date",
            right_on="session_date",
            by="symbol",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("previous_date").is_not_null() & pl.col("session_date").is_not_null())
    )


def _listed_after(contract: str, ratio: Fraction) -> str | None:
    """The contract's symbol after a whole split; None where the divided strike has no OCC symbol."""
    try:
        return adjusted_occ(contract, ratio)
    except ValueError:
        return None
