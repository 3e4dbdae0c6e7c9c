"""Who contributes to the risk of today's book: each position's part of its portfolio's expected shortfall.

What belongs here: the engine of ``position_risk_contributions``. What does not: the simulation (``simulation``) and the
portfolio's figures (``simulated_risk``).

An expected shortfall is homogeneous of degree one in the positions, so Euler's theorem splits it without a rest: a
position's component is minus its mean P&L over the sessions the portfolio's shortfall is the mean of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Unpack

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.money import CENTS, MONEY, allocated, from_units
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.simulated_risk import status_of
from sigmasight_pipeline.calculations.simulation import Simulation, SimulationFrames, SimulationRules, simulations

_COLUMNS = {
    "session_date": pl.Date(),
    "position_id": pl.Int64(),
    "portfolio_id": pl.Int64(),
    "market_value": pl.Int64(),
    "component": pl.Int64(),
    "total": pl.Int64(),
    "status": pl.String(),
}


class MissingSimulationError(ValueError):
    """A portfolio has positions at a session and no row of ``portfolio_simulated_risk``, or that of another run."""

    def __init__(self, portfolio_id: int, session: date) -> None:
        super().__init__(
            f"portfolio {portfolio_id} has no simulated risk at {session} that fits its positions; compute "
            "portfolio_simulated_risk of these sessions with the same settings first"
        )


def position_risk_contributions(
    *,
    sessions: Sequence[date],
    rules: SimulationRules,
    portfolio_simulated_risk: pl.DataFrame,
    **frames: Unpack[SimulationFrames],
) -> pl.DataFrame:
    """One row per PUBLIC or OPTIONS position held at an open session of `sessions`.

    Columns are those of ``position_risk_contributions`` without provenance, ordered by session_date and position_id.
    component_es_975: minus the position's mean simulated P&L over the portfolio's tail sessions, US dollars: positive
    where it loses with the portfolio, negative where it hedges; rounded so that the components of a portfolio add up to
    its expected_shortfall_975_dollars to the cent (``money.allocated``). share_of_es_975: of that, NULL where it is
    0. marginal_es_975: component / market value, the shortfall that one more dollar in the position brings, NULL for a
    worthless one. status: ok; not_simulated (no return or no delta-adjusted exposure: left out of the portfolio's
    figures), or low_coverage and insufficient_history of the portfolio, NULL each.

    `portfolio_simulated_risk` are the rows that engine gave for these sessions and frames. Raises
    MissingSimulationError and what ``simulation.simulations`` does.
    """
    known = {
        (day, portfolio_id): (dollars, tail)
        for day, portfolio_id, dollars, tail in portfolio_simulated_risk.select(
            "session_date", "portfolio_id", "expected_shortfall_975_dollars", "tail_sessions"
        ).iter_rows()
    }
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for simulation in simulations(sessions=sessions, rules=rules, **frames):
        if len(simulation.covered):
            dollars, tail = known.get((simulation.session, simulation.portfolio_id), (None, None))
            for name, values in _columns(simulation, status_of(simulation, rules), dollars, tail).items():
                columns[name] += values
    found = pl.DataFrame(columns, schema=_COLUMNS)
    component = pl.col("component")
    share = pl.when(pl.col("total") != 0).then(component / pl.col("total"))
    marginal = pl.when(pl.col("market_value") != 0).then(component / pl.col("market_value"))
    return found.select(
        "session_date",
        "position_id",
        "portfolio_id",
        from_units(found["component"].fill_null(0).to_numpy(), MONEY, "component_es_975").set(
            found["component"].is_null(), None
        ),
        share.alias("share_of_es_975"),
        marginal.alias("marginal_es_975"),
        "status",
    ).sort("session_date", "position_id")


def _columns(simulation: Simulation, status: str, dollars: Decimal | None, tail: str | None) -> dict[str, list[Any]]:
    """The rows of one portfolio and session; money in cents."""
    count = len(simulation.covered)
    columns: dict[str, list[Any]] = {
        "session_date": [simulation.session] * count,
        "position_id": simulation.holdings.position_id.tolist(),
        "portfolio_id": [simulation.portfolio_id] * count,
        "market_value": simulation.holdings.market_value.tolist(),
    }
    if status in ("low_coverage", "insufficient_history"):
        return columns | {"component": [None] * count, "total": [None] * count, "status": [status] * count}
    place = {day: row for row, day in enumerate(simulation.sessions)}
    worst = [] if tail is None else [date.fromisoformat(day) for day in json.loads(tail)]
    if dollars is None or not worst or not set(worst) <= set(place):
        raise MissingSimulationError(simulation.portfolio_id, simulation.session)
    total = int(dollars * CENTS)
    pnl = simulation.pnl(np.array([place[day] for day in worst]))
    cents = allocated((-column_sums(pnl) / len(pnl)).tolist(), total)
    components: list[int | None] = [None] * count
    for row, component in zip(np.flatnonzero(simulation.covered).tolist(), cents, strict=True):
        components[row] = component
    return columns | {
        "component": components,
        "total": [total] * count,
        "status": ["not_simulated" if part is None else "ok" for part in components],
    }
