"""Scenarios and factors as numbers: which factor a shock is of, its moments, and what it does to rates.

What belongs here: scenarios as read from rows, and the active factors in the order the arrays of a stress test have.
What does not: the formulas applied to them (``stress_returns``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from sigmasight_pipeline.calculations.factor_moments import FactorMoments
from sigmasight_pipeline.calculations.factor_returns import RATE_KIND, regressed_factors
from sigmasight_pipeline.calculations.money import IntArray

Floats = npt.NDArray[np.float64]

MARKET = "Market"
"""Key of the factor that is honoured exactly where it is shocked among others."""


class Scenario(NamedTuple):
    """Decimal shocks by factor key (of Interest_Rate: change of the yield), and the relative shift of volatilities."""

    scenario_id: str
    shocks: Mapping[str, float]
    volatility_shift: float = 0.0


def active_scenarios(scenarios: pl.DataFrame) -> list[Scenario]:
    """The active rows of ``stress_test_scenarios`` (shocks as JSON text), in order of scenario_id."""
    rows = scenarios.filter("active").sort("scenario_id").select("scenario_id", "shocks", "volatility_shift")
    return [
        Scenario(scenario_id, {name: float(shock) for name, shock in json.loads(shocks).items()}, float(shift))
        for scenario_id, shocks, shift in rows.iter_rows()
    ]


@dataclass(frozen=True, eq=False)
class ScenarioFactors:
    """The active factors that have returns: `names` ascending, numbered so; `market` None where it is no such
    factor.
    """

    names: tuple[str, ...]
    market: int | None
    style: tuple[int, ...]
    rates: tuple[int, ...]
    proxies: Mapping[str, int]

    @classmethod
    def of(cls, factors: pl.DataFrame) -> ScenarioFactors:
        """From rows of ``factor_definitions``."""
        kinds = list(regressed_factors(factors).select("factor", "kind", "proxy_symbol").iter_rows())
        names = tuple(name for name, _, _ in kinds)
        proxies: dict[str, int] = {}
        for number, (_, _, proxy) in enumerate(kinds):
            # two factors of one proxy have the same moments: the first will do
            if proxy is not None:
                proxies.setdefault(proxy, number)
        return cls(
            names,
            names.index(MARKET) if MARKET in names else None,
            tuple(number for number, (_, kind, _) in enumerate(kinds) if kind == "style"),
            tuple(number for number, (_, kind, _) in enumerate(kinds) if kind == RATE_KIND),
            proxies,
        )

    def number(self, name: str) -> int | None:
        """The number of a factor; None if it is not here."""
        return self.names.index(name) if name in self.names else None

    def shocks(self, scenario: Scenario) -> dict[int, float] | None:
        """The scenario's shocks by factor number; None if it names a factor that is not here."""
        if not set(scenario.shocks) <= set(self.names):
            return None
        return {self.names.index(name): shock for name, shock in sorted(scenario.shocks.items())}

    def rate_shift(self, scenario: Scenario) -> float:
        """What the scenario adds to interest rates, decimal."""
        return sum(scenario.shocks.get(self.names[number], 0.0) for number in self.rates)

    def proxy_of(self, symbols: pl.Series) -> IntArray:
        """The number of the factor each symbol stands for; -1 for none."""
        return np.array([self.proxies.get(symbol, -1) for symbol in symbols], dtype=np.int64)

    def covariance(self, moments: FactorMoments | None) -> Floats:
        """The covariance matrix of `moments` in the order of these factors; NaN where it has none."""
        matrix = np.full((len(self.names),) * 2, nan)
        if moments is not None:
            here = [number for number, name in enumerate(self.names) if name in moments.names]
            there = [moments.names.index(self.names[number]) for number in here]
            matrix[np.ix_(here, here)] = moments.covariance[np.ix_(there, there)]
        return matrix
