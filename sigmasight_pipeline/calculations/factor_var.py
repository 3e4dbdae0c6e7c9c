"""Value at risk of the positions a portfolio holds now, from the factor model rather than from its own past returns.

What belongs here: a portfolio's joint factor exposures and what their covariance and the symbols' own noise make of
them. What does not: the betas (``style_betas``), the covariances (``factor_moments``) and value at risk of past returns
(``return_metrics``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.exposures import held, portfolio_sessions, with_delta_adjusted
from sigmasight_pipeline.calculations.factor_moments import FactorMoments, stored_moments
from sigmasight_pipeline.calculations.money import CENTS
from sigmasight_pipeline.calculations.pearson import Floats, IntArray
from sigmasight_pipeline.calculations.return_metrics import Z_95
from sigmasight_pipeline.calculations.style_betas import StyleBetas, style_betas
from sigmasight_pipeline.calculations.timeline import day_numbers, open_sessions

_KEYS = ["session_date", "portfolio_id"]


def factor_value_at_risk(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    instruments: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    factors: pl.DataFrame,
    factor_correlations: pl.DataFrame,
    regression_window: int = 252,
    min_observations: int = 60,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One-day value at risk at 95 % of what each active portfolio holds at each open session since its inception.

    factor_var_95 = 1.6449 sqrt(x' Sigma x + sum over symbols of (X_s e_s)^2) / net asset value, a positive fraction of
    net asset value: X_s is the sum of the symbol's delta-adjusted exposures, x_k = sum of X_s b_sk with the joint betas
    b on the style factors, e_s the standard deviation of their residuals, Sigma the daily covariance of the style
    factors (``factor_correlations``, equal weights). PRIVATE positions are outside. A portfolio without positions has
    0. factor_var_status: factor_without_data (no covariance of a style factor), low_coverage (the positions with a
    joint beta are less than `min_coverage` of the gross delta-adjusted exposure, where one that is unknown weighs with
    its market value), no_net_asset_value; NULL each. Positions without a joint beta are left out.

    Columns session_date, portfolio_id, factor_var_95, factor_var_status, ordered by the first two. `returns` and
    `yields` are rows of the `regression_window` sessions ending with each session, the other session tables of the
    sessions. Raises exposures.MissingGreeksError and timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    owners = positions.select("position_id", held_symbol=pl.coalesce("underlying_symbol", "symbol"))
    cents = pl.col("delta_adjusted").to_physical().cast(pl.Int64)
    size = pl.coalesce(cents, pl.col("exposure").to_physical().cast(pl.Int64)).abs()
    symbols = (
        with_delta_adjusted(held(position_values).join(wanted, on=_KEYS, how="semi"), positions, position_greeks)
        .filter(pl.col("investment_class") != "PRIVATE")
        .join(owners, on="position_id")
        .group_by(*_KEYS, symbol="held_symbol")
        .agg(exposure=cents.sum(), size=size.sum(), known=size.filter(cents.is_not_null()).sum())
        .sort(*_KEYS, "symbol")
    )
    ends = timeline.positions(sessions)
    betas = style_betas(
        timeline=timeline,
        calendar=calendar,
        ends=ends,
        symbols=symbols.get_column("symbol").to_list(),
        factors=factors,
        returns=returns,
        yields=yields,
        instruments=instruments,
        regression_window=regression_window,
        min_observations=min_observations,
    )
    row = np.searchsorted(timeline.days[ends], day_numbers(symbols.get_column("session_date")))
    column = np.searchsorted(np.array(betas.symbols, dtype=object), symbols.get_column("symbol").to_numpy())
    groups = (
        wanted.join(portfolio_snapshots.select(*_KEYS, "net_asset_value"), on=_KEYS, how="left", maintain_order="left")
        .join(symbols.group_by(_KEYS).agg(count=pl.len()), on=_KEYS, how="left", maintain_order="left")
        .with_columns(pl.col("count").fill_null(0))
    )
    moments = stored_moments(factor_correlations)
    figures = symbols.select("exposure", "size", "known").to_numpy()
    values, statuses = [], []
    start = 0
    for session, value, count in groups.select("session_date", "net_asset_value", "count").iter_rows():
        own = slice(start, start + count)
        start += count
        found, status = _value_at_risk(
            figures[own], betas, row[own], column[own], _style_covariance(moments.get(session), betas), min_coverage
        )
        if found is not None and not (value is not None and value > 0):
            found, status = None, "no_net_asset_value"
        values.append(None if found is None else found / float(value))
        statuses.append(status)
    return wanted.with_columns(
        pl.Series("factor_var_95", values, dtype=pl.Float64),
        pl.Series("factor_var_status", statuses, dtype=pl.String),
    )


def _value_at_risk(
    figures: IntArray,
    betas: StyleBetas,
    row: IntArray,
    column: IntArray,
    covariance: Floats | None,
    min_coverage: float,
) -> tuple[float | None, str]:
    """US dollars lost, and why there is no figure.

    `figures` has a row per symbol: cents of exposure, of the positions' absolute sizes, and of those known.
    """
    if not len(figures):
        return 0.0, "ok"
    if covariance is None:
        return None, "factor_without_data"
    beta, noise = betas.beta[row, column], betas.residual_std[row, column]
    usable = ~np.isnan(noise) & ~np.isnan(beta).any(axis=1)
    known, gross = int(figures[usable, 2].sum()), int(figures[:, 1].sum())
    if known < min_coverage * gross:
        return None, "low_coverage"
    exposure = figures[usable, 0] / CENTS
    x = [math.fsum(exposure * beta[usable, factor]) for factor in range(beta.shape[1])]
    systematic = math.fsum((np.outer(x, x) * covariance).ravel())
    specific = math.fsum((exposure * noise[usable]) ** 2)
    return Z_95 * math.sqrt(max(systematic, 0.0) + specific), "ok"


def _style_covariance(moments: FactorMoments | None, betas: StyleBetas) -> Floats | None:
    """Daily covariance of the style factors in the order of `betas`; None where one of them has none."""
    if moments is None or not betas.names or not set(betas.names) <= set(moments.names):
        return None
    places = [moments.names.index(name) for name in betas.names]
    covariance = moments.covariance[np.ix_(places, places)]
    return None if np.isnan(covariance).any() else covariance
