"""Volatility and model value of every held position: the engine behind ``position_greeks``.

What belongs here: laying the volatility engine's rows, one per contract, out to the positions that hold it.
What does not: volatilities and model prices (``option_volatility``).

Greeks and delta-adjusted exposure are not computed yet: NULL, with status `not_built`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.exposures import GREEKS
from sigmasight_pipeline.calculations.holdings import holdings
from sigmasight_pipeline.calculations.money import MONEY, PRICE, from_units, nearest_units


def position_greeks(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
    option_model: pl.DataFrame,
    contract_days: pl.DataFrame,
) -> pl.DataFrame:
    """One row per position still held at an open session of `sessions`, PRIVATE ones excepted.

    Columns are those of ``position_greeks`` without provenance, ordered by session_date and position_id. The
    exit session has no row. `option_model` is what ``option_volatility.model_options`` made of
    `contract_days` (``contract_days.contract_days``), from which the underlying price is taken; options
    without a row there have NULLs. Stocks have no volatility. The other frames are as for
    ``valuation.position_values``. Raises NonWholeSplitRatioError and timeline.SessionWindowError.
    """
    held = holdings(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        actions=actions,
        instruments=instruments,
    ).filter(~pl.col("is_exit"))
    public = positions.filter(pl.col("investment_class") != "PRIVATE").select("position_id")
    keys = ["contract", "session_date"]
    price = option_model.get_column("model_price")
    units = nearest_units(price.fill_null(0.0), PRICE)
    modelled = option_model.select(
        *keys,
        "volatility",
        "vol_source",
        "vol_status",
        "implied_volatility",
        "risk_free_rate",
        "rate_source",
        "time_to_expiry",
        from_units(units, PRICE, "model_price").set(price.is_null(), None),
    ).join(contract_days.select(*keys, underlying_price="underlying_price_exact"), on=keys, how="left")
    return (
        held.join(public, on="position_id", how="semi", maintain_order="left")
        .join(modelled, on=keys, how="left", maintain_order="left")
        .select(
            "session_date",
            "position_id",
            "portfolio_id",
            *(pl.lit(None, dtype=pl.Float64).alias(greek) for greek in GREEKS),
            *(pl.lit(None, dtype=pl.Float64).alias(f"{greek}_per_share") for greek in GREEKS),
            pl.lit("not_built").alias("status"),
            "volatility",
            "vol_source",
            "vol_status",
            "implied_volatility",
            pl.col("underlying_price").cast(PRICE),
            "risk_free_rate",
            "rate_source",
            "time_to_expiry",
            "model_price",
            pl.lit(None, dtype=MONEY).alias("delta_adjusted_exposure"),
        )
    )
