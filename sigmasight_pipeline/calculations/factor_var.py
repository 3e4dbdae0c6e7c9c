"""Value at risk of the positions a portfolio holds now, from the factor model rather than from its own past returns.

What belongs here: a portfolio's joint factor exposures and what their covariance and the symbols' own noise make of
them. What does not: the betas (``style_betas``), covariances (``factor_moments``) and value at risk of past returns
(``return_metrics``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.exposures import held, portfolio_sessions, with_delta_adjusted
from sigmasight_pipeline.calculations.factor_moments import window_moments
from sigmasight_pipeline.calculations.money import CENTS, MONEY, allocated
from sigmasight_pipeline.calculations.return_metrics import Z_95
from sigmasight_pipeline.calculations.style_betas import StyleBetas, style_betas
from sigmasight_pipeline.calculations.timeline import day_numbers, open_sessions

SPECIFIC = "specific"
"""Name of the part that is the symbols' own noise."""

_KEYS = ["session_date", "portfolio_id"]

_RESULT = {
    "factor_var_95": pl.Float64(),
    "factor_var_status": pl.String(),
    "factor_var_dollars": MONEY,
    "factor_var_contributions": pl.String(),
}


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
    regression_window: int = 252,
    min_observations: int = 60,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One-day value at risk at 95 % of what each portfolio holds at each open session of its life.

    factor_var_95 = 1.6449 sqrt(x' Sigma x + sum over symbols of (X_s e_s)^2) / net asset value, a positive fraction of
    net asset value: X_s is the sum of the symbol's delta-adjusted exposures, x_k = sum of X_s b_sk with the joint betas
    b on the style factors, e_s the standard deviation of their residuals, Sigma the daily covariance of the style
    factors on the sessions of the `regression_window` common to them, equal weights. PRIVATE positions are outside. A
    portfolio without positions has 0. factor_var_status: factor_without_data (no covariance of a style factor),
    low_coverage (the positions with a joint beta are less than `min_coverage` of the gross delta-adjusted exposure,
    where one that is unknown weighs with its market value), no_net_asset_value; NULL each. Positions without a joint
    beta are left out.

    factor_var_dollars is the same loss in US dollars to the cent, known without a net asset value too.
    factor_var_contributions (JSON, an object of dollars by style factor, and `specific`) splits it after Euler: the
    loss is homogeneous of degree one in x and X, so 1.6449 x_k (Sigma x)_k / sqrt(...) and 1.6449 sum (X_s e_s)^2 /
    sqrt(...) add up to it; negative for a factor that hedges. Cents that rounding leaves go where it cut most
    (``money.allocated``), so that they add up exactly.

    Columns session_date, portfolio_id, factor_var_95, factor_var_status, factor_var_dollars, factor_var_contributions,
    ordered by the first two. `returns` and `yields` are rows of the `regression_window` sessions ending with each
    session, the other session tables of the sessions. Raises exposures.MissingGreeksError and
    timeline.SessionWindowError.
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
    covariances = {
        timeline.dates[int(end)]: _style_covariance(betas, int(end), regression_window, min_observations)
        for end in ends
    }
    figures = symbols.select("exposure", "size", "known").to_numpy()
    results = []
    start = 0
    for session, value, count in groups.select("session_date", "net_asset_value", "count").iter_rows():
        own = slice(start, start + count)
        start += count
        loss = _value_at_risk(figures[own], betas, row[own], column[own], covariances[session], min_coverage)
        results.append(_row(loss, betas.names, value))
    return pl.concat([wanted, pl.DataFrame(results, schema=_RESULT, orient="row")], how="horizontal")


@dataclass(frozen=True)
class _Loss:
    """Value at risk in US dollars and its Euler parts: by style factor, and of the symbols' own noise last; None where
    there is no figure, for the reason `status`."""

    dollars: float | None
    parts: Sequence[float]
    status: str


def _row(loss: _Loss, names: Sequence[str], net_asset_value: Decimal | None) -> dict[str, object]:
    """The columns of one portfolio and session."""
    status, share = loss.status, None
    if loss.dollars is not None and not (net_asset_value is not None and net_asset_value > 0):
        status = "no_net_asset_value"
    elif loss.dollars is not None and net_asset_value is not None:
        share = loss.dollars / float(net_asset_value)
    if loss.dollars is None:
        return {"factor_var_95": None, "factor_var_status": status}
    cents = allocated(loss.parts)
    parts = {name: part / CENTS for name, part in zip((*names, SPECIFIC), cents, strict=True)}
    return {
        "factor_var_95": share,
        "factor_var_status": status,
        "factor_var_dollars": Decimal(sum(cents)).scaleb(-2),
        "factor_var_contributions": json.dumps(parts),
    }


def _value_at_risk(
    figures: IntArray,
    betas: StyleBetas,
    row: IntArray,
    column: IntArray,
    covariance: FloatArray | None,
    min_coverage: float,
) -> _Loss:
    """What the positions of one portfolio and session lose.

    `figures` has a row per symbol: cents of exposure, of the positions' absolute sizes, and of those known.
    """
    nothing = [0.0] * (len(betas.names) + 1)
    if not len(figures):
        return _Loss(0.0, nothing, "ok")
    if covariance is None:
        return _Loss(None, (), "factor_without_data")
    beta, noise = betas.beta[row, column], betas.residual_std[row, column]
    usable = ~np.isnan(noise) & ~np.isnan(beta).any(axis=1)
    known, gross = int(figures[usable, 2].sum()), int(figures[:, 1].sum())
    if known < min_coverage * gross:
        return _Loss(None, (), "low_coverage")
    exposure = figures[usable, 0] / CENTS
    x = [math.fsum(exposure * beta[usable, factor]) for factor in range(beta.shape[1])]
    by_factor = [math.fsum(covariances * x) * own for covariances, own in zip(covariance, x, strict=True)]
    specific = math.fsum((exposure * noise[usable]) ** 2)
    variance = max(math.fsum(by_factor), 0.0) + specific
    if not variance > 0.0:
        return _Loss(0.0, nothing, "ok")
    deviation = math.sqrt(variance)
    return _Loss(Z_95 * deviation, [Z_95 * part / deviation for part in (*by_factor, specific)], "ok")


def _style_covariance(betas: StyleBetas, end: int, window: int, min_observations: int) -> FloatArray | None:
    """Daily covariance of the style factors over the window ending with the session numbered `end`, on the sessions
    common to them; None where one of them has none."""
    returns = betas.returns[max(end - window + 1, 0) : end + 1]
    found = window_moments(returns, np.ones(len(returns)), min_observations=min_observations).covariance
    return None if not betas.names or np.isnan(found).any() else found
