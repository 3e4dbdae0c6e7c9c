"""What a portfolio is exposed to at each session: sides, kinds, counts and concentration by symbol.

What belongs here: sums over the positions held by a portfolio. What does not: values of single positions
(``valuation``) and net asset value, cash and returns (``snapshots``).

Delta-adjusted exposure and Greeks of portfolios are not computed yet: NULL, with greeks_status `not_built`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.money import CENTS, MONEY, AmountOverflowError
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.timeline import open_sessions

LARGEST_SQUARE_ROOT = 1.3e19
"""The square of a sum of cents up to this fits 128 bits."""

COUNTS = ("position_count", "long_count", "short_count", "option_count", "stock_count", "private_count")
GREEKS = ("delta", "gamma", "theta", "vega", "rho")

_KEYS = ["session_date", "portfolio_id"]


def portfolio_sessions(sessions: Sequence[date], calendar: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """Every (session_date, portfolio_id) that must have a result: open sessions, active, from inception on.

    Ordered by session_date and portfolio_id. Raises timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    days = timeline.dates.gather(timeline.positions(sessions)).alias("session_date").to_frame()
    active = portfolios.filter("active").select("portfolio_id", "inception_date")
    return (
        days.join(active, how="cross")
        .filter(pl.col("session_date") >= pl.col("inception_date"))
        .select(_KEYS)
        .sort(_KEYS)
    )


def held(position_values: pl.DataFrame) -> pl.DataFrame:
    """The rows of positions still held at their session: all but those of the exit session."""
    return position_values.filter(~pl.col("price_source").is_in(EXIT_SOURCES))


def portfolio_exposures(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
) -> pl.DataFrame:
    """One row per active portfolio and open session of `sessions` since its inception, also without
    positions.

    Columns are those of ``portfolio_exposures`` without provenance, ordered by session_date and portfolio_id.
    `position_values` are the rows of these sessions (others change nothing); `positions` gives quantity (its
    sign is the side) and investment class. Concentration is by symbol: w = abs(sum of the symbol's exposure)
    / sum of these; hhi = sum of w^2; NULL, with concentration_status no_exposure, where the sum is 0. Sums
    and the sum of squares are exact integers, so no figure depends on the order of rows. Raises
    AmountOverflowError and timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    facts = positions.select("position_id", "investment_class", side=pl.col("quantity").cast(pl.Float64).sign())
    rows = held(position_values).join(facts, on="position_id")
    exposure, kind = pl.col("exposure"), pl.col("investment_class")
    sides = rows.group_by(_KEYS).agg(
        long_exposure=exposure.filter(exposure > 0).sum(),
        short_exposure=exposure.filter(exposure < 0).sum(),
        stock_exposure=exposure.abs().filter(kind == "PUBLIC").sum(),
        option_exposure=exposure.abs().filter(kind == "OPTIONS").sum(),
        private_exposure=exposure.abs().filter(kind == "PRIVATE").sum(),
        notional=pl.when(pl.col("notional").is_not_null().all()).then(pl.col("notional").sum()),
        notional_known=pl.col("notional").is_not_null().all(),
        position_count=pl.len(),
        long_count=(pl.col("side") > 0).sum(),
        short_count=(pl.col("side") < 0).sum(),
        option_count=(kind == "OPTIONS").sum(),
        stock_count=(kind == "PUBLIC").sum(),
        private_count=(kind == "PRIVATE").sum(),
    )
    amounts = ("long", "short", "stock", "option", "private")
    exposures = wanted.join(sides, on=_KEYS, how="left", maintain_order="left").with_columns(
        pl.col(f"{name}_exposure").fill_null(0).cast(MONEY) for name in amounts
    )
    notional = pl.col("notional").fill_null(0)
    return exposures.join(_concentration(rows), on=_KEYS, how="left", maintain_order="left").select(
        *_KEYS,
        "long_exposure",
        "short_exposure",
        (pl.col("long_exposure") - pl.col("short_exposure")).cast(MONEY).alias("gross_exposure"),
        (pl.col("long_exposure") + pl.col("short_exposure")).cast(MONEY).alias("net_exposure"),
        "stock_exposure",
        "option_exposure",
        "private_exposure",
        pl.when(pl.col("notional_known").fill_null(value=True)).then(notional).cast(MONEY).alias("notional"),
        *(pl.lit(None, dtype=MONEY).alias(f"delta_adjusted_{side}") for side in ("long", "short", "gross", "net")),
        *(pl.lit(None, dtype=pl.Float64).alias(greek) for greek in GREEKS),
        pl.lit("not_built").alias("greeks_status"),
        *(pl.col(name).fill_null(0).cast(pl.Int32) for name in COUNTS),
        "hhi",
        "effective_positions",
        "top_1_weight",
        "top_3_weight",
        "top_10_weight",
        pl.when(pl.col("hhi").is_null())
        .then(pl.lit("no_exposure"))
        .otherwise(pl.lit("ok"))
        .alias("concentration_status"),
    )


def _concentration(rows: pl.DataFrame) -> pl.DataFrame:
    """Concentration by symbol of each (session, portfolio) that has any exposure."""
    cents = pl.col("exposure").to_physical().cast(pl.Int128)
    size = pl.col("size")
    by_symbol = (
        rows.group_by(*_KEYS, "symbol")
        .agg(size=cents.sum().abs())
        .sort(*_KEYS, "size", descending=[False, False, True])
    )
    result = by_symbol.group_by(_KEYS, maintain_order=True).agg(
        total=size.sum(),
        squares=(size * size).sum(),
        top_1=size.head(1).sum(),
        top_3=size.head(3).sum(),
        top_10=size.head(10).sum(),
    )
    largest = result.get_column("total").cast(pl.Float64).max()
    if isinstance(largest, float) and largest > LARGEST_SQUARE_ROOT:
        raise AmountOverflowError("the exposure of a portfolio", largest / CENTS)
    total = pl.col("total").cast(pl.Float64)
    hhi = pl.col("squares").cast(pl.Float64) / (pl.col("total") * pl.col("total")).cast(pl.Float64)
    return result.filter(pl.col("total") > 0).select(
        *_KEYS,
        hhi=hhi,
        effective_positions=1 / hhi,
        top_1_weight=pl.col("top_1").cast(pl.Float64) / total,
        top_3_weight=pl.col("top_3").cast(pl.Float64) / total,
        top_10_weight=pl.col("top_10").cast(pl.Float64) / total,
    )
