"""Who contributes to the risk of today's book: each position's part of its portfolio's expected shortfall.

What belongs here: splitting one portfolio's simulated shortfall over its positions, and the table
``position_risk_contributions`` made of that. What does not: the simulation (``simulation``), and the portfolio's
figures and the engine that makes both tables in one pass (``simulated_risk``).

An expected shortfall is homogeneous of degree one in the positions, so Euler's theorem splits it without a rest: a
position's component is minus its mean P&L over the sessions the portfolio's shortfall is the mean of.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.money import CENTS, MONEY, allocated, from_units
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.simulation import Simulation

_COLUMNS = {
    "session_date": pl.Date(),
    "position_id": pl.Int64(),
    "portfolio_id": pl.Int64(),
    "market_value": pl.Int64(),
    "component": pl.Int64(),
    "total": pl.Int64(),
    "status": pl.String(),
}


class Contributions:
    """Rows of ``position_risk_contributions``, collected portfolio by portfolio."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

    def without_figures(self, simulation: Simulation, status: str) -> None:
        """The positions of a portfolio whose `status` leaves its figures NULL."""
        count = len(simulation.covered)
        self._add(simulation, [None] * count, None, [status] * count)

    def split(self, simulation: Simulation, worst: FloatArray, shortfall: Decimal) -> None:
        """The positions of a portfolio that loses `shortfall` (US dollars, positive) on average where it loses most.

        `worst` (sessions, covered positions) are the positions' P&L there, US dollars.
        """
        total = int(shortfall * CENTS)
        cents = allocated((-column_sums(worst) / len(worst)).tolist(), total)
        components: list[int | None] = [None] * len(simulation.covered)
        for row, component in zip(np.flatnonzero(simulation.covered).tolist(), cents, strict=True):
            components[row] = component
        self._add(simulation, components, total, ["not_simulated" if part is None else "ok" for part in components])

    def _add(
        self, simulation: Simulation, components: list[int | None], total: int | None, statuses: list[str]
    ) -> None:
        """Money in cents."""
        count = len(components)
        self._columns["session_date"] += [simulation.session] * count
        self._columns["position_id"] += simulation.holdings.position_id.tolist()
        self._columns["portfolio_id"] += [simulation.portfolio_id] * count
        self._columns["market_value"] += simulation.holdings.market_value.tolist()
        self._columns["component"] += components
        self._columns["total"] += [total] * count
        self._columns["status"] += statuses

    def table(self) -> pl.DataFrame:
        """Columns of ``position_risk_contributions`` without provenance, by session_date and position_id.

        share_of_es_975: component / the portfolio's shortfall, NULL where that is 0. marginal_es_975: component /
        market value, the shortfall that one more dollar in the position brings, NULL for a worthless one.
        """
        found = pl.DataFrame(self._columns, schema=_COLUMNS)
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
