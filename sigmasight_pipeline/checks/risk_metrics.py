"""Domain rules of ``portfolio_risk_metrics`` and ``scenario_accuracy``: rows that must be there, plausible figures.

What belongs here: rules on these tables as written. What does not: bounds a row can be judged by alone
(``checks.schema``), and rules on the returns and exposures they are made of (``checks.valuation``,
``checks.factor_exposures``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.portfolio_lives import alive_at
from sigmasight_pipeline.calculations.return_metrics import SESSIONS_PER_YEAR, Z_95
from sigmasight_pipeline.calculations.risk_metrics import WINDOWS
from sigmasight_pipeline.checks.rules import Judged, Rule, findings

LARGEST_RATIO = 3.0
"""Factor value at risk is of today's positions, the other one of past returns: beyond this many times either way,
the book has changed a lot, or one of them is wrong."""

LARGEST_LEVERAGE_CHANGE = 2.0
"""Returns of sessions on which the book was this many times less, or more, invested than today say nothing of today's:
a book that was bought last week has a calm past."""

LARGEST_NEW_SHARE = 0.25
"""Nor do returns before so much of today's gross exposure was entered: bonds are no yardstick of stocks."""

ROUNDING = 1e-12
"""Two means of the same returns may differ by this much."""

_KEYS = ["session_date", "portfolio_id"]


def _expected(judged: Judged) -> pl.DataFrame:
    """(session_date, portfolio_id, code) of portfolios at the run's sessions of their lives."""
    return alive_at(judged.sessions, judged.inputs["portfolios"], "code")


def _window_rows(judged: Judged) -> pl.DataFrame:
    windows = pl.DataFrame({"window_sessions": WINDOWS}, schema={"window_sessions": pl.Int32()})
    missing = (
        _expected(judged).join(windows, how="cross").join(judged.frame, on=[*_KEYS, "window_sessions"], how="anti")
    )
    named = missing.group_by(*_KEYS, "code").agg(pl.col("window_sessions").sort().cast(pl.String).str.join(", "))
    return findings(named, pl.format("{} has no row of {} sessions", "code", "window_sessions"))


METRIC_ROWS = Rule(
    "expected_rows",
    "ERROR",
    f"Every portfolio has a row for {', '.join(map(str, WINDOWS))} sessions, every session of its life.",
    _window_rows,
)

TAILS_ORDERED = Rule(
    "tails_ordered",
    "ERROR",
    "A loss at 99 % is no smaller than at 95 %, and the mean beyond 95 % no smaller than the loss there.",
    lambda judged: findings(
        judged.frame.filter(
            (pl.col("var_99") < pl.col("var_95") - ROUNDING)
            | (pl.col("hist_var_99") < pl.col("hist_var_95") - ROUNDING)
            | (pl.col("expected_shortfall_95") < pl.col("hist_var_95") - ROUNDING)
        ),
        pl.format("portfolio {}: losses over {} sessions are out of order", "portfolio_id", "window_sessions"),
    ),
)


def _windows(judged: Judged) -> pl.DataFrame:
    """(session_date, portfolio_id, window_sessions, start, least, most): first session of a window, and the book's
    lowest and highest leverage in it as shares of today's."""
    leverage = pl.col("leverage")
    snapshots = judged.inputs["portfolio_snapshots"].sort("portfolio_id", "session_date")
    of_each = [
        snapshots.select(
            *_KEYS,
            window_sessions=pl.lit(window, dtype=pl.Int32),
            start=pl.col("session_date").shift(window - 1).over("portfolio_id"),
            least=leverage.rolling_min(window).over("portfolio_id") / leverage,
            most=leverage.rolling_max(window).over("portfolio_id") / leverage,
        )
        for window in WINDOWS
    ]
    return pl.concat(of_each).drop_nulls("start").filter(pl.col("session_date").is_in(list(judged.sessions)))


def _like_today(judged: Judged) -> pl.DataFrame:
    """(session_date, portfolio_id, window_sessions) of windows in which the book was about what it is today."""
    entered = judged.inputs["positions"].select("position_id", "entry_date")
    exposure = pl.col("exposure").abs().cast(pl.Float64)
    windows = _windows(judged)
    new = (
        windows.join(judged.inputs["position_values"].join(entered, on="position_id"), on=_KEYS)
        .group_by(*_KEYS, "window_sessions")
        .agg(new=exposure.filter(pl.col("entry_date") >= pl.col("start")).sum(), gross=exposure.sum())
        .filter(pl.col("gross") > 0)
        .with_columns(pl.col("new") / pl.col("gross"))
    )
    like_today = (
        (pl.col("least") >= 1 / LARGEST_LEVERAGE_CHANGE)
        & (pl.col("most") <= LARGEST_LEVERAGE_CHANGE)
        & (pl.col("new") <= LARGEST_NEW_SHARE)
    )
    return windows.join(new, on=[*_KEYS, "window_sessions"]).filter(like_today).select(*_KEYS, "window_sessions")


def _factor_var(judged: Judged) -> pl.DataFrame:
    # the mean return is left out, as it is of the factor model's: that of a month is chance
    past = Z_95 * pl.col("volatility") / SESSIONS_PER_YEAR**0.5
    longest = (
        judged.frame.filter((pl.col("volatility") > 0) & (pl.col("factor_var_95") > 0))
        .join(_like_today(judged), on=[*_KEYS, "window_sessions"], how="semi")
        .sort("window_sessions")
        .group_by(_KEYS)
        .last()
        .with_columns(ratio=pl.col("factor_var_95") / past)
        .filter(~pl.col("ratio").is_between(1 / LARGEST_RATIO, LARGEST_RATIO))
    )
    return findings(
        longest,
        pl.format(
            "portfolio {}: value at risk of its positions is {} times what its last {} returns vary by",
            "portfolio_id",
            pl.col("ratio").round(2),
            "window_sessions",
        ),
    )


FACTOR_VAR = Rule(
    "factor_var_sane",
    "WARN",
    f"Value at risk from the factor model is within {LARGEST_RATIO:g} times, either way, 1.645 standard deviations of "
    "the returns of the longest window in which the book was about what it is.",
    _factor_var,
)


def _missing_inputs(judged: Judged) -> pl.DataFrame:
    short = judged.frame.filter(pl.col("status").is_in(["missing_return", "missing_rate"]))
    named = short.group_by(*_KEYS, "status").agg(pl.col("window_sessions").sort().cast(pl.String).str.join(", "))
    return findings(named, pl.format("portfolio {}: {} over {} sessions", "portfolio_id", "status", "window_sessions"))


MISSING_INPUTS = Rule(
    "missing_inputs",
    "WARN",
    "Every window a portfolio is old enough for has the returns and rates all of its figures are made of.",
    _missing_inputs,
)

PORTFOLIO_RISK_METRICS: Sequence[Rule] = (METRIC_ROWS, TAILS_ORDERED, FACTOR_VAR, MISSING_INPUTS)


def _accuracy_rows(judged: Judged) -> pl.DataFrame:
    day = pl.col("session_date")
    last_of_week = (
        judged.inputs["calendar"]
        .filter(~pl.col("is_closed"))
        .group_by(day.dt.iso_year().alias("year"), day.dt.week().alias("week"))
        .agg(day.max())
        .select("session_date")
    )
    expected = _expected(judged).join(last_of_week, on="session_date", how="semi")
    return pl.concat(
        [
            findings(expected.join(judged.frame, on=_KEYS, how="anti"), pl.format("{} has no row", "code")),
            findings(
                judged.frame.join(expected, on=_KEYS, how="anti"),
                pl.format("portfolio {} has a row on a session that ends no week", "portfolio_id"),
            ),
        ]
    )


ACCURACY_ROWS = Rule(
    "expected_rows",
    "ERROR",
    "Every portfolio has a row for the last open session of every ISO week of its life, and no other.",
    _accuracy_rows,
)

SCENARIO_ACCURACY: Sequence[Rule] = (ACCURACY_ROWS,)
