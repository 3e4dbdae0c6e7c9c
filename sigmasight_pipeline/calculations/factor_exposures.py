"""Dollars of factor exposure of positions and portfolios, and the interest-rate beta of every position.

What belongs here: laying the betas of symbols out to the positions that hold them, and their sums. What does not:
estimating betas (``factor_model``) and delta-adjusted exposure (``position_greeks``, ``exposures``).

Betas belong to symbols. An option takes those of its underlying; a symbol continued under a new name takes those of
the name it trades under at the session, as its prices do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.division import ratio
from sigmasight_pipeline.calculations.exposures import (
    held,
    portfolio_sessions,
    with_delta_adjusted,
    with_trading_symbol,
)
from sigmasight_pipeline.calculations.factor_model import KNOWN_BETAS
from sigmasight_pipeline.calculations.money import MONEY, from_units, nearest_units

_KEYS = ["session_date", "portfolio_id"]
_POSITION = ["session_date", "position_id"]
_PRIVATE = pl.col("investment_class") == "PRIVATE"


def position_factor_exposures(
    *,
    sessions: Sequence[date],
    factors: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
) -> pl.DataFrame:
    """One row per position held at a session of `sessions` and active factor; none at the exit session.

    Columns are those of ``position_factor_exposures`` without provenance, ordered by session_date, position_id and
    factor. `factors` are rows of ``factor_definitions``; the other frames are rows of the tables of those names, of
    these sessions where they have any (others change nothing).

    exposure_dollar = delta-adjusted exposure x beta, rounded half-even to the cent, signed, US dollars per 1.00 of
    factor return (of yield for Interest_Rate). PRIVATE positions are outside the model: no beta, exposure 0. quality
    is, in this order: private; factor_without_data (nothing estimated for the factor at the session, and always for a
    characteristic, which has no betas and no dollars); no_beta (no row for the symbol); the beta's own quality where
    that is not known; no_delta_adjusted_exposure (a fallback row; the beta is shown); ok, or constant (beta and
    exposure 0). Every one but private, ok and constant has no exposure. Raises exposures.MissingGreeksError and
    AmountOverflowError.
    """
    wanted = held(position_values.filter(pl.col("session_date").is_in(list(sessions))))
    adjusted = with_delta_adjusted(wanted, positions, position_greeks).select(*_POSITION, "delta_adjusted")
    rows = with_trading_symbol(wanted, positions, instruments).join(adjusted, on=_POSITION, maintain_order="left")
    laid_out = rows.join(factors.filter("active").select("factor", "kind").sort("factor"), how="cross")
    found = _with_betas(laid_out, symbol_factor_betas, ["beta"]).with_columns(
        quality=pl.when(pl.col("quality").is_in(KNOWN_BETAS) & pl.col("delta_adjusted").is_null())
        .then(pl.lit("no_delta_adjusted_exposure"))
        .otherwise(pl.col("quality"))
    )
    is_ok = found.get_column("quality").is_in(KNOWN_BETAS)
    dollars = (pl.col("delta_adjusted").cast(pl.Float64) * pl.col("beta")).alias("the factor exposure of a position")
    units = nearest_units(found.select(pl.when(is_ok).then(dollars).otherwise(0.0)).to_series(), MONEY)
    known = pl.Series(is_ok | (found.get_column("quality") == "private"))
    return found.select(
        *_POSITION,
        "factor",
        "portfolio_id",
        "beta",
        pl.when(known).then(from_units(units, MONEY)).alias("exposure_dollar"),
        "quality",
    )


def position_interest_rate_betas(
    *,
    sessions: Sequence[date],
    factors: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
) -> pl.DataFrame:
    """The beta on the active factor of kind rate of every position held at a session of `sessions`.

    Columns are those of ``position_interest_rate_betas`` without provenance, ordered by session_date and
    position_id; the frames are as for `position_factor_exposures`. symbol is the one the beta belongs to: an option's
    underlying, under the name it trades under at the session; of PRIVATE positions their own. n_obs is 0 where there
    is no estimate. quality: private, factor_without_data, no_beta, or the estimate's own.
    """
    rate = factors.filter("active", pl.col("kind") == "rate").sort("display_order").head(1)
    rows = with_trading_symbol(
        held(position_values.filter(pl.col("session_date").is_in(list(sessions)))), positions, instruments
    ).with_columns(factor=pl.lit(rate["factor"].first(), dtype=pl.String), kind=pl.lit("rate"))
    return _with_betas(rows, symbol_factor_betas, ["beta", "std_error", "r_squared", "n_obs"]).select(
        *_POSITION,
        "portfolio_id",
        "symbol",
        pl.col("beta").alias("ir_beta"),
        "std_error",
        "r_squared",
        pl.col("n_obs").fill_null(0),
        "quality",
    )


def book_factor_exposures(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    factors: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    min_coverage: float = 0.8,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Dollars of factor exposure of every portfolio, and of the positions they are made of.

    What `portfolio_factor_exposures` and `position_factor_exposures` return, of the same frames.
    """
    of_positions = position_factor_exposures(
        sessions=sessions,
        factors=factors,
        positions=positions,
        instruments=instruments,
        position_values=position_values,
        position_greeks=position_greeks,
        symbol_factor_betas=symbol_factor_betas,
    )
    of_portfolios = portfolio_factor_exposures(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        factors=factors,
        positions=positions,
        position_values=position_values,
        position_greeks=position_greeks,
        position_factor_exposures=of_positions,
        portfolio_snapshots=portfolio_snapshots,
        min_coverage=min_coverage,
    )
    return of_portfolios, of_positions


def portfolio_factor_exposures(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    factors: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    position_factor_exposures: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One row per portfolio, open session of `sessions` of its life and active factor.

    Columns are those of ``portfolio_factor_exposures`` without provenance, ordered by session_date, portfolio_id and
    factor. The frames are rows of the tables of those names, of these sessions (others change nothing).

    exposure_dollar is the exact sum of the positions', beta = exposure_dollar / net asset value. coverage is the
    share of the gross delta-adjusted exposure of PUBLIC and OPTIONS positions that has a factor exposure, NULL where
    that gross is 0; a position whose delta-adjusted exposure is unknown weighs in it with its market value.
    private_share is that of PRIVATE positions in the gross with theirs. status, in this order: factor_without_data
    (nothing estimated for the factor; always for a characteristic) and low_coverage (a position has none, and
    coverage is below `min_coverage`): exposure and beta NULL; no_positions (no PUBLIC or OPTIONS position): both 0;
    no_net_asset_value (no snapshot, or not positive): beta NULL; ok. Raises exposures.MissingGreeksError and
    timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    adjusted = pl.col("delta_adjusted").abs()
    rows = with_delta_adjusted(
        held(position_values).join(wanted, on=_KEYS, how="semi"), positions, position_greeks
    ).select(*_KEYS, "position_id", private=_PRIVATE, size=pl.coalesce(adjusted, pl.col("exposure").abs()))
    private, size, dollars = pl.col("private"), pl.col("size"), pl.col("exposure_dollar")
    totals = rows.group_by(_KEYS).agg(
        gross=size.filter(~private).sum(),
        private_gross=size.filter(private).sum(),
        positions_total=(~private).sum(),
    )
    covered = ~private & dollars.is_not_null()
    sums = (
        rows.join(position_factor_exposures.drop("portfolio_id"), on=_POSITION)
        .group_by(*_KEYS, "factor")
        .agg(
            covered=size.filter(covered).sum(),
            positions_covered=covered.sum(),
            dollars=dollars.sum(),
            without_data=(pl.col("quality") == "factor_without_data").filter(~private).all(),
        )
    )
    value = portfolio_snapshots.select(*_KEYS, "net_asset_value")
    counts = ["positions_covered", "positions_total"]
    summed = (
        wanted.join(factors.filter("active").select("factor", "kind").sort("factor"), how="cross")
        .join(totals, on=_KEYS, how="left", maintain_order="left")
        .join(sums, on=[*_KEYS, "factor"], how="left", maintain_order="left")
        .join(value, on=_KEYS, how="left", maintain_order="left")
        .with_columns(pl.col("gross", "private_gross", "covered", "dollars", *counts).fill_null(0))
    )
    return (
        summed.with_columns(
            coverage=ratio(summed["covered"], summed["gross"]),
            private_share=ratio(summed["private_gross"], summed["gross"] + summed["private_gross"]),
            beta=ratio(summed["dollars"], summed["net_asset_value"]),
        )
        .with_columns(status=_status(min_coverage))
        .select(
            *_KEYS,
            "factor",
            pl.when(pl.col("status") == "ok")
            .then("beta")
            .when(pl.col("status") == "no_positions")
            .then(0.0)
            .alias("beta"),
            pl.when(~pl.col("status").is_in(["factor_without_data", "low_coverage"]))
            .then(pl.col("dollars"))
            .cast(MONEY)
            .alias("exposure_dollar"),
            "coverage",
            "private_share",
            pl.col(counts).cast(pl.Int32),
            "status",
        )
    )


def _status(min_coverage: float) -> pl.Expr:
    total = pl.col("positions_total")
    without_data = (total > 0) & pl.col("without_data").fill_null(value=False)
    enough = (pl.col("positions_covered") == total) | (pl.col("coverage") >= min_coverage).fill_null(value=False)
    return (
        pl.when((pl.col("kind") == "characteristic") | without_data)
        .then(pl.lit("factor_without_data"))
        .when(total == 0)
        .then(pl.lit("no_positions"))
        .when(~enough)
        .then(pl.lit("low_coverage"))
        .when((pl.col("net_asset_value") > 0).fill_null(value=False))
        .then(pl.lit("ok"))
        .otherwise(pl.lit("no_net_asset_value"))
    )


def _with_betas(rows: pl.DataFrame, betas: pl.DataFrame, figures: Sequence[str]) -> pl.DataFrame:
    """`rows` (session_date, symbol, factor, kind, investment_class) with `figures` of the beta and its quality."""
    usable = (pl.col("kind") != "characteristic") & pl.col("has_data").fill_null(value=False)
    with_data = (
        betas.filter(pl.col("quality") != "factor_without_data")
        .select("session_date", "factor", has_data=pl.lit(value=True))
        .unique()
    )
    return (
        rows.join(
            betas.select("session_date", "symbol", "factor", *figures, "quality"),
            on=["session_date", "symbol", "factor"],
            how="left",
            maintain_order="left",
        )
        .join(with_data, on=["session_date", "factor"], how="left", maintain_order="left")
        .with_columns(
            quality=pl.when(_PRIVATE)
            .then(pl.lit("private"))
            .when(~usable)
            .then(pl.lit("factor_without_data"))
            .otherwise(pl.col("quality").fill_null("no_beta"))
        )
        .with_columns(pl.when(~_PRIVATE & usable).then(pl.col(name)).alias(name) for name in figures)
    )
