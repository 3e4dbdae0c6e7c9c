"""What there is to say against a scenario itself, whatever anybody holds.

What belongs here: judging rows of ``stress_scenario_diagnostics`` and ``stress_scenario_shocks``, for the rules on
``stress_test_results`` and for whoever lists scenarios. What does not: those rules (``checks.stress``).

Every function returns (session_date, scenario_id, told), one row per thing it objects to.
"""

from __future__ import annotations

import polars as pl

LEAST_HONOURED = 0.5
"""A stated shock of which less is applied, or the opposite, is not honoured."""

LEAST_COMMON = 0.8
"""Share of the betas' window the moments of a scenario should rest on."""

NOT_HONOURED = "stated shocks not honoured"

_KEYS = ["session_date", "scenario_id"]


def implausible(diagnostics: pl.DataFrame, _shocks: pl.DataFrame) -> pl.DataFrame:
    """Scenarios whose shocks do not fit together."""
    told = pl.format(
        "its shocks are {} standard deviations away together, the largest {}",
        pl.col("mahalanobis").round(1),
        pl.col("max_z").round(1),
    )
    return diagnostics.filter("implausible").select(*_KEYS, told=told)


def not_honoured(diagnostics: pl.DataFrame, shocks: pl.DataFrame) -> pl.DataFrame:
    """Stated shocks of vectors that are applied with the other sign or with less than half their size."""
    vectors = diagnostics.filter(kind="vector").select(*_KEYS, "mahalanobis")
    is_total = pl.col("relative").is_null()
    told = pl.format(
        "{}, {} is stated as {}{} and applied as {} (the shocks are {} standard deviations away together); make them "
        "fit together, state confidence: exact, or say why in accepted",
        pl.lit(NOT_HONOURED),
        "factor",
        pl.coalesce("relative", "stated").round(4),
        pl.when(is_total).then(pl.lit("")).otherwise(pl.lit(" beyond what the market implies")),
        pl.when(is_total)
        .then("effective")
        .otherwise(pl.col("effective") - pl.col("stated") + pl.col("relative"))
        .round(4),
        pl.col("mahalanobis").round(1).cast(pl.String).fill_null("unknown"),
    )
    return shocks.filter(pl.col("honoured_share") < LEAST_HONOURED).join(vectors, on=_KEYS).select(*_KEYS, told=told)


def short_moments(diagnostics: pl.DataFrame, shocks: pl.DataFrame) -> pl.DataFrame:
    """Scenarios of several factors that have too little of the betas' window in common; one alone needs no moments."""
    several = shocks.group_by(_KEYS).agg(count=pl.len()).filter(pl.col("count") > 1)
    short = diagnostics.filter(pl.col("moments_n_obs") < LEAST_COMMON * pl.col("window_sessions"))
    told = pl.format("its factors have {} of {} sessions in common", "moments_n_obs", "window_sessions")
    return short.join(several, on=_KEYS, how="semi").select(*_KEYS, told=told)


def all_of_them(diagnostics: pl.DataFrame, shocks: pl.DataFrame) -> pl.DataFrame:
    """Everything there is to say, in order of session and scenario."""
    rules = (not_honoured, implausible, short_moments)
    return pl.concat(rule(diagnostics, shocks) for rule in rules).sort(_KEYS, maintain_order=True)
