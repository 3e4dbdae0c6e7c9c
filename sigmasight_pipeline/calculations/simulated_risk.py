"""Risk of today's book: value at risk and expected shortfall of the positions held, on returns that really happened.

What belongs here: the engine of ``portfolio_simulated_risk``, which fills ``position_risk_contributions`` from the same
simulation, and figures of a portfolio's simulated P&L. What does not: the simulation (``simulation``), how a shortfall
is split over positions (``risk_contributions``), and figures of the portfolio's own past returns (``risk_metrics``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Unpack

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.money import CENTS, LARGEST_UNITS, MONEY, AmountOverflowError
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.return_metrics import TAIL_95, TAIL_99, percentile, worst_count
from sigmasight_pipeline.calculations.risk_contributions import Contributions
from sigmasight_pipeline.calculations.simulation import (
    Simulation,
    SimulationFrames,
    SimulationRules,
    simulations,
    totals,
)

TAIL_975 = 0.025

SHARES = ("var_95", "var_99", "expected_shortfall_95", "expected_shortfall_975")
"""Figures that are shares of net asset value."""

_SCHEMA = {
    "session_date": pl.Date(),
    "portfolio_id": pl.Int64(),
    **dict.fromkeys(SHARES, pl.Float64()),
    "expected_shortfall_975_dollars": MONEY,
    "linear_expected_shortfall_975_dollars": MONEY,
    "worst_pnl": MONEY,
    "worst_session": pl.Date(),
    "tail_sessions": pl.String(),
    "coverage": pl.Float64(),
    "modelled_share": pl.Float64(),
    "positions_covered": pl.Int32(),
    "positions_total": pl.Int32(),
    "n_obs": pl.Int32(),
    "window_sessions": pl.Int32(),
    "status": pl.String(),
}


def portfolio_simulated_risk(
    *, sessions: Sequence[date], rules: SimulationRules, **frames: Unpack[SimulationFrames]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Risk of the positions held, by portfolio, and each position's part of it.

    The first table has the columns of ``portfolio_simulated_risk`` without provenance, one row per portfolio and
    open session of `sessions` of its life, ordered by its key. The positions are put through the returns of the
    last `rules.simulation_window` sessions (``simulation.simulations``), options re-priced. With the P&L of these n_obs
    sessions, losses positive: var_95 and var_99 are minus the percentile (linear), expected_shortfall_95 and _975 minus
    the mean of the floor(tail (n - 1)) + 1 worst, shares of net asset value, one day. expected_shortfall_975_dollars
    the last in US dollars, the linear one with every option by its delta alone (the difference is gamma); worst_pnl and
    worst_session the worst session; tail_sessions (JSON) those the 97.5 % shortfall is the mean of, worst first.
    coverage: share of the gross delta-adjusted exposure of PUBLIC and OPTIONS positions that is simulated;
    modelled_share: of it, session by session, what a ridge value stood in for.

    status: no_positions (nothing but cash or PRIVATE: every loss 0, nothing worst); low_coverage (less than
    `rules.min_coverage` simulated) and insufficient_history (fewer than `rules.min_observations` sessions): NULL
    figures; no_net_asset_value: dollars without shares; ok.

    The second table has those of ``position_risk_contributions``, one row per PUBLIC or OPTIONS position held then, by
    its key. component_es_975: minus the position's mean P&L over the portfolio's tail sessions, US dollars: positive
    where it loses with the portfolio, negative where it hedges; rounded so that the components of a portfolio add up to
    its expected_shortfall_975_dollars to the cent (``money.allocated``). status: ok; not_simulated (no return or no
    delta-adjusted exposure: left out of the portfolio's figures), or low_coverage and insufficient_history of the
    portfolio, NULL each.

    Raises what ``simulation.simulations`` does, and AmountOverflowError.
    """
    found: list[dict[str, Any]] = []
    contributions = Contributions()
    for simulation in simulations(sessions=sessions, rules=rules, **frames):
        found.append(_row(simulation, rules, contributions))
    return pl.DataFrame(found, schema=_SCHEMA), contributions.table()


def shortfall_rows(total: FloatArray, tail: float) -> IntArray:
    """The rows of `total` (sessions,) an expected shortfall is the mean of: the worst first, of equals the oldest."""
    return np.argsort(total, kind="stable")[: worst_count(len(total), tail)]


def expected_shortfall(total: FloatArray, tail: float) -> float:
    """Minus the mean of the worst of `total` (sessions,), added worst first."""
    worst = total[shortfall_rows(total, tail)]
    # from 0: no loss is 0, not minus 0
    return (0.0 - float(column_sums(worst[:, None])[0])) / len(worst)


def money(dollars: float, what: str) -> Decimal:
    """US dollars to the cent, half-even. Raises AmountOverflowError."""
    cents = dollars * CENTS
    if not abs(cents) <= LARGEST_UNITS:
        raise AmountOverflowError(what, dollars)
    return Decimal(round(cents)).scaleb(-2)


def status_of(simulation: Simulation, rules: SimulationRules) -> str:
    """Whether a simulation gives figures, and if not why."""
    if not len(simulation.holdings.position_id):
        return "no_positions"
    if not simulation.sessions or simulation.covered_gross < rules.min_coverage * simulation.gross:
        return "low_coverage"
    if len(simulation.sessions) < rules.min_observations:
        return "insufficient_history"
    value = simulation.net_asset_value
    return "ok" if value is not None and value > 0 else "no_net_asset_value"


def _row(simulation: Simulation, rules: SimulationRules, contributions: Contributions) -> dict[str, Any]:
    """The portfolio's row; those of its positions go to `contributions`."""
    status = status_of(simulation, rules)
    row: dict[str, Any] = {
        "session_date": simulation.session,
        "portfolio_id": simulation.portfolio_id,
        "coverage": simulation.covered_gross / simulation.gross if simulation.gross else None,
        "positions_covered": int(simulation.covered.sum()),
        "positions_total": len(simulation.covered),
        "n_obs": len(simulation.sessions),
        "window_sessions": rules.simulation_window,
        "status": status,
    }
    if status == "no_positions":
        nothing = Decimal(0)
        return row | dict.fromkeys(SHARES, 0.0) | dict.fromkeys(_DOLLARS, nothing)
    if status in ("low_coverage", "insufficient_history"):
        contributions.without_figures(simulation, status)
        return row
    pnl = simulation.pnl()
    total = totals(pnl)
    tail = shortfall_rows(total, TAIL_975)
    shortfall = expected_shortfall(total, TAIL_975)
    dollars = money(shortfall, "the expected shortfall of a portfolio")
    contributions.split(simulation, pnl[tail], dollars)
    row |= {
        "modelled_share": simulation.modelled_share,
        "expected_shortfall_975_dollars": dollars,
        "linear_expected_shortfall_975_dollars": money(
            expected_shortfall(totals(simulation.linear()), TAIL_975), "the expected shortfall of a portfolio"
        ),
        "worst_pnl": money(float(total[tail[0]]), "the worst simulated P&L of a portfolio"),
        "worst_session": simulation.sessions[tail[0]],
        "tail_sessions": json.dumps([simulation.sessions[place].isoformat() for place in tail]),
    }
    value = simulation.net_asset_value
    if status == "ok" and value is not None:
        ordered = np.sort(total)[:, None]
        losses = (
            0.0 - float(percentile(ordered, TAIL_95)[0]),
            0.0 - float(percentile(ordered, TAIL_99)[0]),
            expected_shortfall(total, TAIL_95),
            shortfall,
        )
        row |= {name: loss / value for name, loss in zip(SHARES, losses, strict=True)}
    return row


_DOLLARS = ("expected_shortfall_975_dollars", "linear_expected_shortfall_975_dollars", "worst_pnl")
