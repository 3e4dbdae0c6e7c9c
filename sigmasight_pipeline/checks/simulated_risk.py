"""Domain rules of ``portfolio_simulated_risk`` and ``position_risk_contributions``: rows, order of losses, sums.

What belongs here: rules on these tables as written. What does not: bounds a row can be judged by alone
(``checks.schema``), and rules on the returns and Greeks they are made of (``checks.market_data``, ``checks.greeks``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.exposures import held
from sigmasight_pipeline.calculations.portfolio_lives import alive_at
from sigmasight_pipeline.checks.rules import Judged, Rule, findings

ROUNDING = 1e-12
"""Two means of the same P&L may differ by this much of net asset value."""

LARGEST_MODELLED_SHARE = 0.20
"""Of the gross exposure, session by session: beyond it the simulation says more about the factor model than about what
happened."""

_KEYS = ["session_date", "portfolio_id"]
_POSITION = ["session_date", "position_id"]
_CONTRIBUTIONS = "position_risk_contributions"


def _portfolio_rows(judged: Judged) -> pl.DataFrame:
    expected = alive_at(judged.sessions, judged.inputs["portfolios"], "code")
    return findings(expected.join(judged.frame, on=_KEYS, how="anti"), pl.format("{} has no row", "code"))


PORTFOLIO_ROWS = Rule(
    "expected_rows", "ERROR", "Every portfolio has a row, every session of its life.", _portfolio_rows
)

LOSSES_ORDERED = Rule(
    "losses_ordered",
    "ERROR",
    "A loss further out is no smaller: 99 % than 95 %, beyond a level than at it, the worst session than the mean.",
    lambda judged: findings(
        judged.frame.filter(
            (pl.col("var_99") < pl.col("var_95") - ROUNDING)
            | (pl.col("expected_shortfall_95") < pl.col("var_95") - ROUNDING)
            | (pl.col("expected_shortfall_975") < pl.col("expected_shortfall_95") - ROUNDING)
            | (-pl.col("worst_pnl") < pl.col("expected_shortfall_975_dollars"))
        ),
        pl.format("portfolio {}: simulated losses are out of order", "portfolio_id"),
    ),
)

SIMULATED = Rule(
    "book_simulated",
    "WARN",
    "Enough of every portfolio has a history for its positions to be simulated.",
    lambda judged: findings(
        judged.frame.filter(pl.col("status").is_in(["low_coverage", "insufficient_history"])),
        pl.format(
            "portfolio {}: {}, {} of {} positions on {} sessions",
            "portfolio_id",
            "status",
            "positions_covered",
            "positions_total",
            "n_obs",
        ),
    ),
)

MODELLED = Rule(
    "modelled_returns",
    "WARN",
    f"At most {LARGEST_MODELLED_SHARE:.0%} of the exposure, session by session, rests on modelled instead of real "
    "returns.",
    lambda judged: findings(
        judged.frame.filter(pl.col("modelled_share") > LARGEST_MODELLED_SHARE),
        pl.format(
            "portfolio {}: {}% of its simulated exposure is modelled",
            "portfolio_id",
            (pl.col("modelled_share") * 100).round(1),
        ),
    ),
)


def _position_rows(judged: Judged) -> pl.DataFrame:
    private = pl.col("investment_class") == "PRIVATE"
    public = judged.inputs["positions"].filter(~private).select("position_id")
    expected = (
        held(judged.inputs["position_values"])
        .filter(pl.col("session_date").is_in(list(judged.sessions)))
        .join(public, on="position_id", how="semi")
        .select(*_POSITION, "portfolio_id", "symbol")
    )
    written = judged.inputs[_CONTRIBUTIONS]
    return pl.concat(
        [
            findings(
                expected.join(written, on=_POSITION, how="anti"),
                pl.format("position {} ({}) has no row", "position_id", "symbol"),
            ),
            findings(
                written.join(expected, on=_POSITION, how="anti"),
                pl.format("position {} has a row but is not held", "position_id"),
            ),
        ]
    )


POSITION_ROWS = Rule(
    "one_row_per_held_position",
    "ERROR",
    "Every held position that is not PRIVATE has a row for every session, and nothing else has.",
    _position_rows,
)


def _sums(judged: Judged) -> pl.DataFrame:
    summed = judged.inputs[_CONTRIBUTIONS].group_by(_KEYS).agg(of_positions=pl.col("component_es_975").sum())
    total = pl.col("expected_shortfall_975_dollars")
    wrong = (
        judged.frame.select(*_KEYS, "expected_shortfall_975_dollars")
        .drop_nulls()
        .join(summed, on=_KEYS, how="left")
        .with_columns(pl.col("of_positions").fill_null(0))
        .filter(total != pl.col("of_positions"))
    )
    return findings(
        wrong,
        pl.format(
            "portfolio {}: its shortfall is {}, the sum of its positions {}",
            "portfolio_id",
            total.cast(pl.String),
            pl.col("of_positions").cast(pl.String),
        ),
    )


COMPONENTS_ADD_UP = Rule(
    "components_add_up",
    "ERROR",
    "The components of a portfolio's positions add up to its expected shortfall, to the cent.",
    _sums,
)

PORTFOLIO_SIMULATED_RISK: Sequence[Rule] = (
    PORTFOLIO_ROWS,
    LOSSES_ORDERED,
    SIMULATED,
    MODELLED,
    POSITION_ROWS,
    COMPONENTS_ADD_UP,
)
