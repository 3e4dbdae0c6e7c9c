"""Whether value is continuous through splits: the sign that prices and corporate actions fit each other.

What belongs here: comparing closes before and after a split, of the symbol and of options on it. What does
not: returns, and what happens when a split does not fit (``checks``).
"""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.returns import add_gross
from sigmasight_pipeline.symbols import SymbolError, adjusted_occ, parse_option

CHANGES = ("symbol", "ex_date", "previous_date", "session_date", "change", "allowed")
"""Columns of one row per split and symbol: the last session before the ex-date with a close, the first from it on,
the change of value between the two (decimal, the split applied), and the largest size of it that counts as
continuous."""

TICK = 0.01
"""US dollars an option's close may be off by rounding, before and after the split."""


def split_breaks(
    *, prices: pl.DataFrame, option_prices: pl.DataFrame, actions: pl.DataFrame, tolerance: float = 0.05
) -> pl.DataFrame:
    """Splits through which value is not continuous: the columns CHANGES and `detail`, a sentence; empty where all fit.

    Arguments as of `share_changes` and `option_changes`.
    """
    return (
        pl.concat(
            [
                share_changes(prices, actions, tolerance=tolerance),
                option_changes(option_prices, prices, actions, tolerance=tolerance),
            ]
        )
        .filter(pl.col("change").abs() > pl.col("allowed"))
        .with_columns(
            detail=pl.format(
                "{}: value changed by {} % through the split of {}, allowed are {} %",
                "symbol",
                (pl.col("change") * 100).round(1),
                "ex_date",
                (pl.col("allowed") * 100).round(1),
            )
        )
        .sort("session_date", "symbol", "ex_date")
    )


def share_changes(prices: pl.DataFrame, actions: pl.DataFrame, *, tolerance: float = 0.05) -> pl.DataFrame:
    """The change of a holding's value through each split of `actions`: columns CHANGES, `allowed` is `tolerance`.

    `prices` has session_date, symbol, close (rows of ``daily_prices``), `actions` rows of ``corporate_actions``. A
    split without a close on either side cannot be judged and has no row. Dividends between the closes count as value.
    """
    return (
        add_gross(_around_splits(prices, actions), actions)
        .with_columns(
            change=pl.col("gross") / pl.col("previous_close").cast(pl.Float64) - 1.0, allowed=pl.lit(tolerance)
        )
        .select(CHANGES)
    )


def option_changes(
    option_prices: pl.DataFrame, prices: pl.DataFrame, actions: pl.DataFrame, *, tolerance: float = 0.05
) -> pl.DataFrame:
    """The same for options on a symbol that splits, `symbol` being the contract as listed before.

    Judged are contracts with a close on the underlying's last session before the split and, the strike divided by the
    ratio, on its first one from it on (rows of ``option_prices``). An option may change with its underlying, at most
    one for one: `allowed` = tolerance + (change of the underlying per old share + rounding of both closes) / close
    before. A ratio that is no whole number has no row: such contracts are refused elsewhere.
    """
    quotes = option_prices.filter(pl.col("close").is_not_null()).select(
        "session_date", "symbol", pl.col("close").cast(pl.Float64)
    )
    contracts = {contract: parse_option(contract).underlying for contract in quotes["symbol"].unique()}
    before = quotes.select(
        pl.col("symbol").replace_strict(contracts, return_dtype=pl.String),
        contract="symbol",
        previous_date="session_date",
        before="close",
    )
    pairs = _around_splits(prices, actions).join(before, on=["symbol", "previous_date"])
    ratios = SplitRatios(actions)
    keys = ["contract", "symbol", "previous_date", "session_date"]
    renamed = [
        (*key, adjusted, float(ratio))
        for key in pairs.select(keys).unique().iter_rows()
        if (adjusted := _listed_after(key[0], ratio := ratios.ratio(*key[1:]))) is not None
    ]
    listed = pl.DataFrame(
        renamed,
        schema={**{name: pairs.schema[name] for name in keys}, "listed": pl.String(), "ratio": pl.Float64()},
        orient="row",
    )
    after = quotes.select("session_date", listed="symbol", after="close")
    spot, previous_spot = pl.col("close").cast(pl.Float64), pl.col("previous_close").cast(pl.Float64)
    slack = (spot * pl.col("ratio") - previous_spot).abs() + TICK * (1 + pl.col("ratio"))
    return (
        pairs.join(listed, on=keys)
        .join(after, on=["listed", "session_date"])
        .with_columns(
            symbol=pl.col("contract"),
            change=pl.col("after") * pl.col("ratio") / pl.col("before") - 1.0,
            allowed=tolerance + slack / pl.col("before"),
        )
        .select(CHANGES)
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
    """The contract's symbol after a split by a whole number; None where it has none."""
    if ratio.denominator != 1:
        return None
    try:
        return adjusted_occ(contract, ratio)
    except SymbolError:  # the divided strike is no listed one: the contract is refused where it is valued
        return None
