"""Scenarios and factors as numbers: which factor a shock is of, and what it does to rates.

What belongs here: scenarios as read from rows, and the active factors in the order the arrays of a stress test have.
What does not: the formulas applied to them (``stress_returns``), and which window a replay is of (``stress_replays``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import IntArray
from sigmasight_pipeline.calculations.factor_returns import RATE_KIND, regressed_factors
from sigmasight_pipeline.calculations.stress_returns import Confidence, Shocks

MARKET = "Market"
"""Key of the factor that is honoured exactly where it is shocked among others."""

RELATIVE = "relative"
"""Key of a shock in JSON that is beyond what the market's shock implies."""


class ScenarioKind(StrEnum):
    """What a scenario is."""

    VECTOR = "vector"
    """Stated shocks."""
    REPLAY = "replay"
    """What really happened between the closes of two sessions."""
    WORST = "worst"
    """What really happened in the market's worst stretch so far."""


@dataclass(frozen=True)
class Scenario:
    """A scenario: decimal shocks by factor key (of Interest_Rate: change of the yield), and the relative shift of
    volatilities (None: that of the volatility index in the window of a replay).

    `relative` names the factors whose shock is beyond what the market's implies.
    """

    scenario_id: str
    shocks: Mapping[str, float] = field(default_factory=dict)
    volatility_shift: float | None = 0.0
    kind: ScenarioKind = ScenarioKind.VECTOR
    relative: frozenset[str] = frozenset()
    confidence: Confidence = Confidence.NOISY
    replay_from: date | None = None
    replay_to: date | None = None
    worst_sessions: int | None = None

    @property
    def is_vector(self) -> bool:
        """Whether its shocks are stated."""
        return self.kind is ScenarioKind.VECTOR


def active_scenarios(scenarios: pl.DataFrame) -> list[Scenario]:
    """The active rows of ``stress_test_scenarios`` (shocks as JSON text), in order of scenario_id."""
    return [_scenario(row) for row in scenarios.filter("active").sort("scenario_id").iter_rows(named=True)]


def _scenario(row: Mapping[str, object]) -> Scenario:
    kind = ScenarioKind(str(row["kind"]))
    stated = json.loads(str(row["shocks"]))
    shift = row["volatility_shift"]
    first, last, worst = row["replay_from"], row["replay_to"], row["worst_sessions"]
    return Scenario(
        str(row["scenario_id"]),
        {name: float(shock[RELATIVE] if isinstance(shock, dict) else shock) for name, shock in stated.items()},
        float(shift) if isinstance(shift, int | float) else None,
        kind,
        frozenset(name for name, shock in stated.items() if isinstance(shock, dict)),
        Confidence(str(row["confidence"])) if kind is ScenarioKind.VECTOR else Confidence.REPLAY,
        first if isinstance(first, date) else None,
        last if isinstance(last, date) else None,
        worst if isinstance(worst, int) else None,
    )


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

    def shocks(self, scenario: Scenario) -> Shocks | None:
        """The stated shocks of a vector by factor number; None if it names a factor that is not here."""
        if not set(scenario.shocks) <= set(self.names):
            return None
        named = sorted(scenario.shocks)
        return Shocks(
            np.array([self.names.index(name) for name in named], dtype=np.int64),
            np.array([scenario.shocks[name] for name in named]),
            np.array([name in scenario.relative for name in named], dtype=bool),
        )

    def proxy_of(self, symbols: pl.Series) -> IntArray:
        """The number of the factor each symbol stands for; -1 for none."""
        return np.array([self.proxies.get(symbol, -1) for symbol in symbols], dtype=np.int64)
