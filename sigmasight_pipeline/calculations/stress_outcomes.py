"""Every scenario of one session, solved: implied returns of the book's symbols, and what is told of the scenario.

What belongs here: choosing how each kind of scenario becomes returns (a single shock, a propagation, a replay), and
gathering them as arrays. What does not: the formulas (``stress_returns``), windows (``stress_replays``), positions and
money (``stress_book``, ``stress_totals``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan, nan

import numpy as np

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.stress_factors import Scenario, ScenarioFactors
from sigmasight_pipeline.calculations.stress_moments import SessionMoments
from sigmasight_pipeline.calculations.stress_replays import Replayed, Window, WindowStatus
from sigmasight_pipeline.calculations.stress_returns import (
    Confidence,
    Propagation,
    Shocks,
    Unsolved,
    added_up,
    effective_shocks,
    implied_parts,
    propagate,
    single_shock,
)

SPECIFIC = "specific_return"
"""What a symbol's own return in a replay is beyond the model's."""


class VolatilitySource(StrEnum):
    """Where the shift of option volatilities comes from."""

    STATED = "stated"
    INDEX = "index"
    """The relative change of the stored volatility index in the window of a replay."""
    NONE = "none"
    """A replay whose window has no volatility index: volatilities stay."""


@dataclass(frozen=True, eq=False)
class Solved:
    """One scenario at one session; arrays over symbols unless named otherwise.

    `status` is ok or why there are no returns. `parts` (factors, symbols) are returns through each of `part_names`, of
    a replay also what is the symbol's own; `raw` their sum, before any floor; `own` tells whose return is that of the
    window; `effective` (factors,) are implied by the scenario. NaN where unknown.
    """

    status: str
    raw: FloatArray
    own: BoolArray
    effective: FloatArray
    volatility_shift: float
    volatility_source: VolatilitySource
    rate_shift: float = 0.0
    propagation: Propagation | None = None
    parts: FloatArray | None = None
    part_names: tuple[str, ...] = ()
    window: Window | None = None

    @property
    def is_solved(self) -> bool:
        """Whether it has returns."""
        return self.status == WindowStatus.OK

    @property
    def totals(self) -> Mapping[int, float]:
        """Total shocks by factor number."""
        if self.propagation is None:
            return {}
        one = self.propagation
        return dict(zip(one.shocks.factors.tolist(), one.stated.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class SessionScenarios:
    """What the scenarios of one session are solved with: `beta` (symbols, factors), whether a factor `has_data`, its
    `moments` (None where only single shocks are asked for), and which factor's proxy each symbol is (-1: none)."""

    factors: ScenarioFactors
    beta: FloatArray
    has_data: BoolArray
    moments: SessionMoments | None
    proxy_of: IntArray

    def vector(self, scenario: Scenario, shocks: Shocks | None) -> Solved:
        """Stated shocks; `shocks` None where a factor is not here."""
        shift = 0.0 if scenario.volatility_shift is None else scenario.volatility_shift
        if shocks is None:
            return self._unsolved(Unsolved.FACTOR_WITHOUT_DATA, shift, VolatilitySource.STATED)
        propagation = self._propagated(shocks, scenario.confidence)
        if isinstance(propagation, Unsolved):
            return self._unsolved(propagation, shift, VolatilitySource.STATED)
        parts, effective = self._implied(propagation)
        return Solved(
            WindowStatus.OK,
            self._raw(parts, effective, propagation),
            np.zeros(len(self.beta), dtype=bool),
            effective,
            shift,
            VolatilitySource.STATED,
            sum(scenario.shocks.get(self.factors.names[number], 0.0) for number in self.factors.rates),
            propagation,
            parts,
            self._names(propagation),
        )

    def replay(self, scenario: Scenario, window: Window, happened: Replayed | None) -> Solved:
        """What `happened` in a window, None where its status is not ok: a symbol's own return, or the model's."""
        shift, source = _shift(scenario, happened)
        if happened is None:
            return self._unsolved(window.status, shift, source, window)
        own = ~np.isnan(happened.symbols)
        tried = self._propagated(self._real_shocks(happened), Confidence.REPLAY)
        propagation = None if isinstance(tried, Unsolved) else tried
        parts, names = np.zeros((0, len(self.beta))), tuple[str, ...]()
        model, effective = np.full(len(self.beta), nan), np.full(len(self.factors.names), nan)
        if propagation is not None:
            parts, effective = self._implied(propagation)
            model, names = self._raw(parts, effective, propagation), self._names(propagation)
        # a part the model does not know is in what is the symbol's own
        known = np.where(own & np.isnan(model), 0.0, parts)
        raw = np.where(own, happened.symbols, model)
        specific = np.where(own, raw - (added_up(known) if len(known) else 0.0), 0.0)
        return Solved(
            WindowStatus.OK,
            raw,
            own,
            effective,
            shift,
            source,
            float(np.nansum(happened.factors[list(self.factors.rates)])),
            propagation,
            np.concatenate([known, specific[None, :]]),
            (*names, SPECIFIC),
            window,
        )

    def _propagated(self, shocks: Shocks, confidence: Confidence) -> Propagation | Unsolved:
        if not len(shocks.factors):
            return Unsolved.FACTOR_WITHOUT_DATA
        if len(shocks.factors) == 1:
            factor = int(shocks.factors[0])
            if not self.has_data[factor]:
                return Unsolved.FACTOR_WITHOUT_DATA
            return single_shock(factor, float(shocks.values[0]), self.moments)
        if self.moments is None:
            raise ValueError("several shocks need moments")
        return propagate(shocks, self.moments, market=self.factors.market, confidence=confidence)

    def _real_shocks(self, happened: Replayed) -> Shocks:
        """The factors' real returns, of those that have enough of the window ending with the session to go by."""
        usable = ~np.isnan(happened.factors)
        if self.moments is not None:
            usable &= (self.moments.observations >= self.moments.min_observations) & ~self.moments.constant
        chosen = np.flatnonzero(usable)
        return Shocks(chosen, happened.factors[chosen], np.zeros(len(chosen), dtype=bool))

    def _implied(self, propagation: Propagation) -> tuple[FloatArray, FloatArray]:
        """Returns by part of the symbols, and the effective shock of every factor."""
        symbols = len(self.beta)
        parts = implied_parts(propagation, self.beta, self.moments, market=self.factors.market)
        effective = (
            np.full(len(self.factors.names), nan)
            if self.moments is None
            else effective_shocks(propagation, parts, symbols)
        )
        own = parts[:, :symbols]
        if not propagation.single:
            is_proxy = self.proxy_of >= 0
            own = np.where(is_proxy, parts[:, symbols + np.maximum(self.proxy_of, 0)], own)
        return own, effective

    def _raw(self, parts: FloatArray, effective: FloatArray, propagation: Propagation) -> FloatArray:
        raw = added_up(parts)
        if propagation.single:
            return raw
        return np.where(self.proxy_of >= 0, effective[np.maximum(self.proxy_of, 0)], raw)

    def _names(self, propagation: Propagation) -> tuple[str, ...]:
        return tuple(self.factors.names[factor] for factor in propagation.factors)

    def _unsolved(self, status: str, shift: float, source: VolatilitySource, window: Window | None = None) -> Solved:
        symbols, factors = len(self.beta), len(self.factors.names)
        return Solved(
            str(status), np.full(symbols, nan), np.zeros(symbols, bool), np.full(factors, nan), shift, source,
            window=window,
        )  # fmt: skip


def _shift(scenario: Scenario, happened: Replayed | None) -> tuple[float, VolatilitySource]:
    if scenario.volatility_shift is not None:
        return scenario.volatility_shift, VolatilitySource.STATED
    if happened is None or isnan(happened.volatility_shift):
        return 0.0, VolatilitySource.NONE
    return happened.volatility_shift, VolatilitySource.INDEX


def stacked_returns(scenarios: Sequence[Solved], symbols: int) -> FloatArray:
    """Implied returns before the floor, (scenarios, symbols)."""
    return np.array([one.raw for one in scenarios], dtype=np.float64).reshape(len(scenarios), symbols)
