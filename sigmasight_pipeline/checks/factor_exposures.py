"""Domain rules of factor exposures: rows that must be there, sums that must tie to the cent, coverage.

What belongs here: rules on ``portfolio_factor_exposures`` as written, and on the positions' exposures it was made of.
What does not: rules on betas themselves, and on the exposures they are multiplied with (``checks.exposures``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.exposures import held, with_trading_symbol
from sigmasight_pipeline.calculations.portfolio_lives import alive_at
from sigmasight_pipeline.checks.rules import Judged, Rule, findings, measured

LARGEST_WINSORISED_SHARE = 0.01
"""Of the gross dollars of exposure to a factor: more is no noise."""

WITHOUT_EXPOSURE = ("factor_without_data", "low_coverage")
"""Statuses of a portfolio whose factor exposure is NULL."""

_POSITION = ["session_date", "position_id"]


def _active_factors(judged: Judged) -> pl.DataFrame:
    return judged.inputs["factors"].filter("active").select("factor")


def _moved(judged: Judged) -> pl.DataFrame:
    """Per session, portfolio and factor: dollars of factor exposure as given, and what winsorising moved of them."""
    symbols = with_trading_symbol(
        held(judged.inputs["position_values"]), judged.inputs["positions"], judged.inputs["instruments"]
    )
    raw = judged.inputs["symbol_factor_betas"].select("session_date", "symbol", "factor", "beta_raw")
    dollars = pl.col("exposure_dollar").cast(pl.Float64)
    return (
        judged.inputs["position_factor_exposures"]
        .filter(pl.col("quality") == "ok")
        .join(symbols.select(*_POSITION, "symbol"), on=_POSITION)
        .join(raw, on=["session_date", "symbol", "factor"])
        .group_by("session_date", "portfolio_id", "factor")
        .agg(
            gross=dollars.abs().sum(),
            # a beta of 0 has no dollars to tell its exposure by; winsorising stops there
            moved=(dollars * (1.0 - pl.col("beta_raw") / pl.col("beta"))).filter(pl.col("beta") != 0).sum(),
        )
        .sort("session_date", "portfolio_id", "factor")
    )


WINSORIZED_DOLLARS = Rule(
    "winsorised_dollars",
    "WARN",
    f"Winsorising moves at most {LARGEST_WINSORISED_SHARE:.0%} of a portfolio's dollars of exposure to a factor. What "
    "it moved of each portfolio, summed over factors, is the figure beside the verdict.",
    lambda judged: findings(
        _moved(judged).filter(pl.col("moved").abs() > LARGEST_WINSORISED_SHARE * pl.col("gross")),
        pl.format(
            "portfolio {}: winsorising moved {} US dollars of its exposure to {}, of {} gross",
            "portfolio_id",
            pl.col("moved").round(2),
            "factor",
            pl.col("gross").round(2),
        ),
    ),
    measure=lambda judged: measured(
        _moved(judged)
        .group_by("session_date", "portfolio_id")
        .agg(value=pl.col("moved").abs().sum().round(2))
        .with_columns(figure=pl.format("dollars_moved_portfolio_{}", "portfolio_id"))
    ),
)


def _portfolio_factor_rows(judged: Judged) -> pl.DataFrame:
    expected = alive_at(judged.sessions, judged.inputs["portfolios"], "code").join(_active_factors(judged), how="cross")
    missing = (
        expected.join(judged.frame, on=["session_date", "portfolio_id", "factor"], how="anti")
        .group_by("session_date", "portfolio_id", "code")
        .agg(missing=pl.col("factor").sort().str.join(", "))
    )
    return findings(missing, pl.format("{} has no row of {}", "code", "missing"))


PORTFOLIO_FACTOR_ROWS = Rule(
    "expected_rows",
    "ERROR",
    "Every portfolio has a row for every active factor and session of its life.",
    _portfolio_factor_rows,
)


def _factor_ties(judged: Judged) -> pl.DataFrame:
    keys = ["session_date", "portfolio_id", "factor"]
    sums = judged.inputs["position_factor_exposures"].group_by(keys).agg(expected=pl.col("exposure_dollar").sum())
    given = ~pl.col("status").is_in(WITHOUT_EXPOSURE)
    wrong = (
        judged.frame.join(sums, on=keys, how="left")
        .with_columns(pl.when(given).then(pl.col("expected").fill_null(0)))
        .filter(pl.col("exposure_dollar").ne_missing(pl.col("expected")))
    )
    return findings(
        wrong,
        pl.format(
            "portfolio {}: exposure to {} is {}, of its positions {}",
            "portfolio_id",
            "factor",
            pl.col("exposure_dollar").cast(pl.String).fill_null("none"),
            pl.col("expected").cast(pl.String).fill_null("none"),
        ),
    )


FACTOR_EXPOSURES_TIE = Rule(
    "factor_exposures_tie",
    "ERROR",
    "The factor exposure of a portfolio is the sum of its positions', to the cent; NULL without data or coverage.",
    _factor_ties,
)

FACTOR_COVERAGE = Rule(
    "factor_coverage",
    "WARN",
    "Enough of every portfolio has betas for its factor exposures to be given.",
    lambda judged: findings(
        judged.frame.filter(pl.col("status") == "low_coverage"),
        pl.format(
            "portfolio {}: {} of {} positions, {} of the gross exposure have an exposure to {}",
            "portfolio_id",
            "positions_covered",
            "positions_total",
            pl.format("{}%", (pl.col("coverage") * 100).round(1)).fill_null("nothing"),
            "factor",
        ),
    ),
)

PORTFOLIO_FACTOR_EXPOSURES: Sequence[Rule] = (
    PORTFOLIO_FACTOR_ROWS,
    FACTOR_EXPOSURES_TIE,
    WINSORIZED_DOLLARS,
    FACTOR_COVERAGE,
)
