"""Corporate actions as a source tells them, on the sessions they take effect.

What belongs here: moving ex-dates that are no open session. What does not: what an action does to prices, quantities or
returns (``calculations``).
"""

from __future__ import annotations

from decimal import Decimal
from math import prod

import polars as pl

from sigmasight_pipeline.calculations.timeline import Timeline
from sigmasight_pipeline.market_data.source import PRICE

MILLIONTH = Decimal("0.000001")


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
            split_from=_product("split_from"),
            split_to=_product("split_to"),
            cash_amount=pl.when(pl.col("kind").first() == "dividend").then(pl.col("cash_amount").sum()),
            pay_date=pl.col("pay_date").max(),
            moved_from=pl.col("told").filter(pl.col("told") != pl.col("ex_date")).first(),
        )
        .with_columns(pl.col("split_from", "split_to", "cash_amount").cast(PRICE))
        .sort(keys)
    )


def _product(name: str) -> pl.Expr:
    """Product of a group's ratios, exact: nearly always there is only one."""
    ratios = pl.col(name).drop_nulls()
    many = ratios.implode().map_elements(lambda values: prod(values, start=Decimal(1)).quantize(MILLIONTH), PRICE)
    return pl.when(ratios.len() <= 1).then(ratios.first()).otherwise(many.first())
