"""How well yesterday's market beta predicted today's P&L, portfolio by portfolio, once a week.

What belongs here: predicted against actual P&L over a window of sessions. What does not: the betas
(``factor_exposures``) and P&L (``snapshots``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.exposures import portfolio_sessions
from sigmasight_pipeline.calculations.factor_returns import return_panel
from sigmasight_pipeline.calculations.grids import grid
from sigmasight_pipeline.calculations.money import MONEY, from_units, nearest_units
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.return_metrics import benchmark_metrics
from sigmasight_pipeline.calculations.stress_factors import MARKET
from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers, open_sessions

_KEYS = ["session_date", "portfolio_id"]
_MONDAY = 3
"""1970-01-01, day 0, was a Thursday: three days after a Monday."""


def week_ends(timeline: Timeline) -> BoolArray:
    """Which open sessions have no later one of the same ISO week in the calendar."""
    week = (timeline.days + _MONDAY) // 7
    return np.append(week[1:] != week[:-1], np.ones(min(len(week), 1), dtype=bool))


def scenario_accuracy(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    factors: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    portfolio_factor_exposures: pl.DataFrame,
    returns: pl.DataFrame,
    accuracy_window: int = 90,
    min_pairs: int = 20,
) -> pl.DataFrame:
    """One row per portfolio and last open session of an ISO week among `sessions`, of its life.

    Columns are those of ``scenario_accuracy`` without provenance, ordered by its key. For each of the last
    `accuracy_window` sessions D: predicted = market beta of D-1 x net asset value of D-1 x the market proxy's
    one-session return on D; actual = P&L of D (flows are no part of it), US dollars. A session before which the
    exposure was 0 (all cash) predicts nothing: it is left out, and counted in pairs_without_exposure. Over the
    other sessions that have both: rmse, correlation, hit_rate (share on which both have the same sign) and bias = mean
    of predicted - actual. Status
    insufficient_history with fewer than `min_pairs`: NULL each; no_variance where one of them does not vary: no
    correlation. `factors` are rows of ``factor_definitions``; `portfolio_snapshots` and `portfolio_factor_exposures`
    rows of the sessions and the `accuracy_window` before the first, `returns` rows of ``daily_returns``.
    Raises AmountOverflowError and timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    last_of_week = timeline.dates.filter(pl.Series(week_ends(timeline))).implode()
    wanted = portfolio_sessions(sessions, calendar, portfolios).filter(pl.col("session_date").is_in(last_of_week))
    predicted, actual, unexposed = _pairs(
        timeline, wanted, factors, portfolio_snapshots, portfolio_factor_exposures, returns
    )
    session = timeline.on_or_before(day_numbers(wanted.get_column("session_date")))
    ids = wanted.get_column("portfolio_id").unique().sort()
    portfolio = np.searchsorted(ids.to_numpy(), wanted.get_column("portfolio_id").to_numpy())
    at = session - accuracy_window + 1 + np.arange(accuracy_window)[:, None]
    x = np.where(at >= 0, predicted[np.maximum(at, 0), portfolio], np.nan)
    both: BoolArray = ~np.isnan(x)
    left_out = ((at >= 0) & unexposed[np.maximum(at, 0), portfolio]).sum(axis=0)
    x, y = np.where(both, x, 0.0), np.where(both, actual[np.maximum(at, 0), portfolio], 0.0)
    against = benchmark_metrics(y, np.where(both, x, np.nan), min_common=min_pairs)
    enough = against.n_obs >= min_pairs
    count = np.maximum(against.n_obs, 1)
    error = x - y
    hits = (both & (np.sign(x) == np.sign(y))).sum(axis=0)
    status = (
        pl.when(pl.Series(~enough))
        .then(pl.lit("insufficient_history"))
        .when(pl.Series(np.isnan(against.correlation)))
        .then(pl.lit("no_variance"))
        .otherwise(pl.lit("ok"))
    )
    return wanted.with_columns(
        _money("rmse", np.sqrt(column_sums(error**2) / count), enough),
        pl.Series("correlation", np.where(enough, against.correlation, np.nan)).fill_nan(None),
        pl.Series("hit_rate", np.where(enough, hits / count, np.nan)).fill_nan(None),
        _money("bias", column_sums(error) / count, enough),
        pl.Series("n_obs", against.n_obs.astype(np.int32)),
        pl.Series("pairs_without_exposure", left_out.astype(np.int32)),
        status=status,
    )


def _pairs(
    timeline: Timeline,
    wanted: pl.DataFrame,
    factors: pl.DataFrame,
    snapshots: pl.DataFrame,
    exposures: pl.DataFrame,
    returns: pl.DataFrame,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Predicted and actual P&L by (session of the timeline, portfolio of `wanted`), US dollars, NaN without a pair;
    and which pairs are none because nothing was exposed.
    """
    ids = wanted.get_column("portfolio_id").unique().sort()
    proxy = factors.filter("active", pl.col("factor") == MARKET).get_column("proxy_symbol").drop_nulls()
    market = return_panel(timeline.dates.to_list(), proxy.to_list(), returns).values
    betas = exposures.filter(pl.col("factor") == MARKET).select(*_KEYS, "beta")
    rows = snapshots.join(betas, on=_KEYS, how="left").with_columns(
        exposure=pl.col("beta") * pl.col("net_asset_value").cast(pl.Float64)
    )
    actual = grid(rows, timeline.dates, "portfolio_id", ids, "daily_pnl")
    before = np.vstack([np.full((1, len(ids)), np.nan), grid(rows, timeline.dates, "portfolio_id", ids, "exposure")])
    known = market[:, :1] if len(proxy) else np.full((len(timeline), 1), np.nan)
    predicted = np.where(np.isnan(actual), np.nan, before[:-1] * known)
    unexposed: BoolArray = ~np.isnan(predicted) & (before[:-1] == 0)
    return np.where(unexposed, np.nan, predicted), actual, unexposed


def _money(name: str, dollars: FloatArray, known: BoolArray) -> pl.Series:
    units = nearest_units(pl.Series(name, np.where(known, dollars, 0.0)), MONEY)
    return from_units(units, MONEY, name).set(pl.Series(~known), None)
