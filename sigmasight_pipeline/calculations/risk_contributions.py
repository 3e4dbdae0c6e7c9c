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

from sigmasight_pipeline.calculations.money import CENTS, MONEY, allocated
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.simulated_risk import status_of
from sigmasight_pipeline.calculations.simulation import Simulation, SimulationFrames, SimulationRules, simulations

_SCHEMA = {
    "session_date": pl.Date(),
    "position_id": pl.Int64(),
    "portfolio_id": pl.Int64(),
    "component_es_975": MONEY,
    "share_of_es_975": pl.Float64(),
    "marginal_es_975": pl.Float64(),
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
    parts = [pl.DataFrame(schema=_SCHEMA)]
    for simulation in simulations(sessions=sessions, rules=rules, **frames):
        if len(simulation.covered):
            dollars, tail = known.get((simulation.session, simulation.portfolio_id), (None, None))
            parts.append(_rows(simulation, status_of(simulation, rules), dollars, tail))
    return pl.concat(parts).sort("session_date", "position_id")


def _rows(simulation: Simulation, status: str, dollars: Decimal | None, tail: str | None) -> pl.DataFrame:
    count = len(simulation.covered)
    base: dict[str, Any] = {
        "session_date": [simulation.session] * count,
        "position_id": simulation.holdings.position_id,
        "portfolio_id": [simulation.portfolio_id] * count,
    }
    if status in ("low_coverage", "insufficient_history"):
        return _frame(base | {"status": [status] * count})
    place = {day.isoformat(): row for row, day in enumerate(simulation.sessions)}
    if dollars is None or tail is None or not set(json.loads(tail)) <= set(place):
        raise MissingSimulationError(simulation.portfolio_id, simulation.session)
    pnl = simulation.pnl(np.array([place[day] for day in json.loads(tail)]))
    cents = allocated((-column_sums(pnl) / len(pnl)).tolist(), int(dollars * CENTS))
    components: list[int | None] = [None] * count
    for row, component in zip(np.flatnonzero(simulation.covered), cents, strict=True):
        components[row] = component
    worth = simulation.holdings.market_value.tolist()
    total = int(dollars * CENTS)
    return _frame(
        base
        | {
            "component_es_975": [None if part is None else Decimal(part).scaleb(-2) for part in components],
            "share_of_es_975": [None if part is None or not total else part / total for part in components],
            "marginal_es_975": [
                None if part is None or not value else part / value
                for part, value in zip(components, worth, strict=True)
            ],
            "status": ["not_simulated" if part is None else "ok" for part in components],
        }
    )


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    count = len(columns["session_date"])
    return pl.DataFrame({name: columns.get(name, [None] * count) for name in _SCHEMA}, schema=_SCHEMA)
