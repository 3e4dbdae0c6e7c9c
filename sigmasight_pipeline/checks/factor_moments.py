"""Domain rules of factor moments: pairs that must be there, symmetry, the diagonal, common sessions.

What belongs here: rules on ``factor_correlations`` as written. What does not: rules on the scenarios made of them
(``checks.stress``), and bounds a row can be judged by alone (``checks.schema``: correlations within -1 and 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.factor_moments import Weighting
from sigmasight_pipeline.calculations.factor_returns import regressed_factors
from sigmasight_pipeline.checks.rules import Judged, Rule, findings


def _pairs(judged: Judged) -> pl.DataFrame:
    names = regressed_factors(judged.inputs["factors"]).select("factor")
    days = pl.DataFrame({"session_date": list(judged.sessions)}, schema={"session_date": pl.Date()})
    expected = (
        days.join(pl.DataFrame({"weighting": [str(one) for one in Weighting]}), how="cross")
        .join(names.rename({"factor": "factor_1"}), how="cross")
        .join(names.rename({"factor": "factor_2"}), how="cross")
    )
    gone = expected.join(judged.frame, on=expected.columns, how="anti")
    return findings(gone, pl.format("{} and {} have no row ({})", "factor_1", "factor_2", "weighting"))


PAIRS_PRESENT = Rule(
    "one_row_per_pair",
    "ERROR",
    "Every ordered pair of active factors with a return has a row per weighting and session.",
    _pairs,
)


def _asymmetric(judged: Judged) -> pl.DataFrame:
    figures = ["correlation", "covariance"]
    mirrored = judged.frame.select("session_date", "weighting", *figures, factor_1="factor_2", factor_2="factor_1")
    keys = ["session_date", "weighting", "factor_1", "factor_2"]
    compared = judged.frame.filter(pl.col("factor_1") < pl.col("factor_2")).join(mirrored, on=keys, suffix="_mirrored")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_mirrored")) for name in figures)
    return findings(
        compared.filter(differs),
        pl.format("{} and {} differ by their order ({})", "factor_1", "factor_2", "weighting"),
    )


SYMMETRIC = Rule("symmetric", "ERROR", "Moments of a pair do not depend on its order, to the bit.", _asymmetric)

UNIT_DIAGONAL = Rule(
    "unit_diagonal",
    "ERROR",
    "A factor's correlation with itself is exactly 1.",
    lambda judged: findings(
        judged.frame.filter(
            pl.col("factor_1") == pl.col("factor_2"), pl.col("status") == "ok", pl.col("correlation").ne_missing(1.0)
        ),
        pl.format(
            "{} correlates with itself by {} ({})", "factor_1", pl.col("correlation").cast(pl.String), "weighting"
        ),
    ),
)


def _observations(judged: Judged) -> pl.DataFrame:
    """A pair has in common at most what each of its factors has, and a factor at most the sessions there were."""
    opened = judged.inputs["calendar"].filter(~pl.col("is_closed")).select("session_date").sort("session_date")
    numbered = opened.with_columns(sessions=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
    keys = ["session_date", "weighting"]
    own = judged.frame.filter(pl.col("factor_1") == pl.col("factor_2")).select(*keys, "factor_1", own="n_obs")
    compared = (
        judged.frame.join(own, on=[*keys, "factor_1"])
        .join(own.rename({"factor_1": "factor_2"}), on=[*keys, "factor_2"], suffix="_2")
        .join(numbered, on="session_date")
        .with_columns(most=pl.min_horizontal("own", "own_2", "sessions"))
    )
    least = judged.limits["min_observations"]
    wrong = (pl.col("n_obs") > pl.col("most")) | ((pl.col("status") == "ok") & (pl.col("n_obs") < least))
    return findings(
        compared.filter(wrong),
        pl.format("{} and {}: n_obs {} of {} ({})", "factor_1", "factor_2", "n_obs", "most", "weighting"),
    )


OBSERVATIONS = Rule(
    "observations",
    "ERROR",
    "A pair rests on no more sessions than each of its factors has and there were, and on no fewer than the minimum "
    "where it has moments.",
    _observations,
)

USABLE_FACTORS = Rule(
    "usable_factors",
    "WARN",
    "Every active factor has moments.",
    lambda judged: findings(
        judged.frame.filter(
            pl.col("factor_1") == pl.col("factor_2"), pl.col("weighting") == Weighting.EQUAL, pl.col("status") != "ok"
        ),
        pl.format("{}: {}", "factor_1", "status"),
    ),
)

FACTOR_CORRELATIONS: Sequence[Rule] = (PAIRS_PRESENT, SYMMETRIC, UNIT_DIAGONAL, OBSERVATIONS, USABLE_FACTORS)
