"""Domain rules of ``pnl_attribution``: components that add up, rows that must be there, and how much they leave.

What belongs here: rules on this table as written. What does not: rules on the P&L it splits up (``checks.valuation``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.attribution import REMAINDERS
from sigmasight_pipeline.calculations.portfolio_lives import of_alive
from sigmasight_pipeline.checks.rules import Judged, Rule, findings

LARGE_RESIDUAL = 0.1
"""Share of gross exposure that what no component explains may be before it is reported."""

RESIDUALS = (REMAINDERS["PUBLIC"], REMAINDERS["OPTIONS"])
"""Components for what the others leave; the mark of a PRIVATE position has no others."""

_POSITION = ["session_date", "position_id"]
_KEYS = ["session_date", "portfolio_id"]


def _valued(judged: Judged) -> pl.DataFrame:
    """``position_values`` of portfolios at the run's sessions."""
    rows = judged.inputs["position_values"].filter(pl.col("session_date").is_in(list(judged.sessions)))
    return of_alive(rows, judged.inputs["portfolios"])


def _adds_up(judged: Judged) -> pl.DataFrame:
    sums = judged.frame.group_by(_POSITION).agg(explained=pl.col("pnl").sum())
    wrong = _valued(judged).join(sums, on=_POSITION).filter(pl.col("explained") != pl.col("daily_pnl"))
    return findings(
        wrong,
        pl.format(
            "position {} ({}): components add up to {}, the day's P&L is {}",
            "position_id",
            "symbol",
            pl.col("explained").cast(pl.String),
            pl.col("daily_pnl").cast(pl.String),
        ),
    )


ADDS_UP = Rule("adds_up", "ERROR", "The components of every position add up to its daily P&L, to the cent.", _adds_up)


def _rows(judged: Judged) -> pl.DataFrame:
    remainder = pl.col("component").is_in(["trade", *REMAINDERS.values()])
    counted = judged.frame.group_by(*_POSITION, "portfolio_id").agg(remainders=remainder.sum())
    valued = _valued(judged)
    return pl.concat(
        [
            findings(
                valued.join(counted, on=_POSITION, how="anti"),
                pl.format("position {} ({}) has no row", "position_id", "symbol"),
            ),
            findings(
                counted.join(valued, on=_POSITION, how="anti"),
                pl.format("position {} has rows without a value", "position_id"),
            ),
            findings(
                counted.filter(pl.col("remainders") != 1),
                pl.format("position {} has {} components that take the rest", "position_id", "remainders"),
            ),
        ]
    )


POSITION_ROWS = Rule(
    "expected_positions",
    "ERROR",
    "Every position with a value has components, one of them what the others leave, and no other position has.",
    _rows,
)


def _residual(judged: Judged) -> pl.DataFrame:
    left = pl.col("pnl").cast(pl.Float64).abs()
    sums = judged.frame.filter(pl.col("component").is_in(RESIDUALS)).group_by(_KEYS).agg(left=left.sum())
    gross = _valued(judged).group_by(_KEYS).agg(gross=pl.col("exposure").cast(pl.Float64).abs().sum())
    large = sums.join(gross, on=_KEYS).filter(pl.col("left") > LARGE_RESIDUAL * pl.col("gross"))
    return findings(
        large,
        pl.format(
            "portfolio {}: {} of P&L is left unexplained, on a gross exposure of {}",
            "portfolio_id",
            pl.col("left").round(2),
            pl.col("gross").round(2),
        ),
    )


RESIDUAL = Rule(
    "residual",
    "WARN",
    f"What the components leave, position by position, is at most {LARGE_RESIDUAL:.0%} of the gross exposure.",
    _residual,
)

PNL_ATTRIBUTION: Sequence[Rule] = (ADDS_UP, POSITION_ROWS, RESIDUAL)
