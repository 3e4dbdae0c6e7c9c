"""Corporate actions as a source tells them, on the sessions they take effect.

What belongs here: moving ex-dates that are no open session. What does not: what an action does to prices, quantities or
returns (``calculations``).
"""

from __future__ import annotations

import polars as pl

from sigmasight_pipeline.calculations.timeline import Timeline


def on_sessions(actions: pl.DataFrame, trading_sessions: pl.DataFrame) -> pl.DataFrame:
    """`actions` (columns ``source.ACTIONS``) with each ex-date moved to its session, and `moved_from` (NULL if not).

    Two dividends of a symbol that fall on one session are added up; two splits are multiplied.
    """
    moved = Timeline(trading_sessions).moved(actions.with_columns(told="ex_date"), "ex_date")
    keys = ["symbol", "ex_date", "kind"]
    return (
        moved.sort("told")
        .group_by(keys, maintain_order=True)
        .agg(
            split_from=pl.when(pl.col("kind").first() == "split").then(_product("split_from")),
            split_to=pl.when(pl.col("kind").first() == "split").then(_product("split_to")),
            cash_amount=pl.when(pl.col("kind").first() == "dividend").then(pl.col("cash_amount").sum()),
            pay_date=pl.col("pay_date").max(),
            moved_from=pl.col("told").filter(pl.col("told") != pl.col("ex_date")).first(),
        )
        .with_columns(pl.col("split_from", "split_to", "cash_amount").cast(pl.Decimal(20, 6)))
        .sort(keys)
    )


def _product(name: str) -> pl.Expr:
    # nearly always one row; a product of two ratios stays exact in six decimals
    return pl.col(name).cast(pl.Float64).product().cast(pl.Decimal(20, 6))
