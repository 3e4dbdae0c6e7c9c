"""What a scenario implies for every symbol: returns conditional on the shocked factors, as arrays of one session.

What belongs here: formulas of implied returns, effective shocks and the diagnostics of a scenario, on NumPy arrays.
What does not: P&L (``stress``), options (``stress_revaluation``), moments and betas (``stress_moments``,
``factor_model``), and what really happened in a window (``stress_replays``).

Univariate betas overlap, so shocks are not added up. The market, where it is shocked among others, is honoured exactly;
the other shocks are views on what the market leaves unexplained, noisy ones unless stated to be exact, and the noise
grows until their joint size is plausible. With S the shocked factors, m the market, o the others, Sigma the covariance
of factor returns on the sessions common to m and S, and s_k = (Sigma_km / Sigma_mm) s_m + relative_k for a shock stated
relative to the market's:

    e = s_o - (Sigma_om / Sigma_mm) s_m,  V = Sigma_oo - Sigma_om Sigma_mo / Sigma_mm,
    v_o = f_o - (Sigma_om / Sigma_mm) f_m,  u_i = return of symbol i - beta_im f_m,
    g_io = cov(u_i, v_o) / var(v_o) x V_oo on the sessions on which i has a return,
    r_i = beta_im s_m + g_i (V + lam diag V)^-1 e

Without the market among several shocks, e = s, V = Sigma_SS, v_o = f_o, u_i is the return itself and there is no first
term. A single shock is beta x shock. Source: calculations.md section 9; conditional normal expectation with view
uncertainty as in Black and Litterman, "Global Portfolio Optimization", Financial Analysts Journal 48 (1992).
"""

from __future__ import annotations

from enum import StrEnum
from math import exp, log, nan, sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.stress_moments import CommonMoments, SessionMoments

LEAST_LAM = 0.05
SIZE_LIMIT = 2.0
"""The shocks kept may be this many times the largest single squared z in size (squared Mahalanobis distance)."""

IMPLAUSIBLE_RATIO = 5.0
WORST_CONDITION = 1e8
"""Exact shocks are refused beyond this condition number of the correlation matrix: their solution would be noise."""

SESSIONS_PER_YEAR = 252

LEAST_RETURN = -1.0
"""Nothing loses more than all of its value."""

_LEAST_SHARE = 1e-12
"""A factor of which the market leaves less than this share of variance says nothing of its own."""


class Confidence(StrEnum):
    """How far the shocks other than the market's are believed."""

    NOISY = "noisy"
    """Pulled towards what the others make likely, until their joint size is plausible."""
    EXACT = "exact"
    """Honoured as stated."""
    REPLAY = "replay"
    """They really happened: the least noise, whatever their size."""


class Unsolved(StrEnum):
    """Why a scenario has no implied returns at a session."""

    FACTOR_WITHOUT_DATA = "factor_without_data"
    INSUFFICIENT_HISTORY = "insufficient_history"
    """The factors it shocks have too few sessions in common."""
    ILL_CONDITIONED = "ill_conditioned"
    """Exact shocks of factors that are nearly the same."""


class Shocks(NamedTuple):
    """Stated shocks by factor, ascending: `factors` are numbers, `values` decimal, and `relative` tells which of them
    are beyond what the market's shock implies."""

    factors: IntArray
    values: FloatArray
    relative: BoolArray


class Diagnostics(NamedTuple):
    """How plausible a scenario is; NaN where unknown. Annualised: distances are in standard deviations of a year."""

    lam: float
    """Noise given to the shocks other than the market's, as a share of their variance; 0 for a single shock."""
    condition_number: float
    """Of the correlation matrix of the shocked factors; NaN where that is singular."""
    mahalanobis: float
    """sqrt(s' Sigma_SS^-1 s); NaN where Sigma_SS is singular."""
    max_z: float
    """Largest absolute shock in its own standard deviations, of a relative one in those the market leaves."""

    @property
    def implausible(self) -> bool | None:
        """Whether the distance is above five times the largest shock; None where it is unknown."""
        return None if np.isnan(self.mahalanobis) else bool(self.mahalanobis > IMPLAUSIBLE_RATIO * self.max_z)


NO_DIAGNOSTICS = Diagnostics(nan, nan, nan, nan)


class Propagation(NamedTuple):
    """A scenario solved against the moments of a session.

    `factors` are the numbers of the shocked factors that say something, the market first where it is anchored;
    `weights` what their coefficients are multiplied by: the market's shock or the single one, (V + lam diag V)^-1 e for
    the others. `stated` are total shocks by factor of `shocks`, relative ones included; `anchored`: the market is one
    of several shocks; `moments` None for a single shock, which needs none; `exact`: all are honoured.
    """

    shocks: Shocks
    stated: FloatArray
    factors: IntArray
    weights: FloatArray
    anchored: bool
    exact: bool
    diagnostics: Diagnostics
    n_obs: int
    moments: CommonMoments | None = None

    @property
    def single(self) -> bool:
        """Whether it is one shock alone."""
        return self.moments is None


def single_shock(factor: int, shock: float, moments: SessionMoments | None = None) -> Propagation:
    """One shock alone: returns are beta x shock. `moments` tell how large it is, where they can."""
    shocks = Shocks(np.array([factor]), np.array([shock]), np.array([False]))
    diagnostics, n_obs = NO_DIAGNOSTICS, 0
    if moments is not None:
        variance, n_obs = float(moments.variances[factor]), int(moments.observations[factor])
        size = abs(shock) / sqrt(variance * SESSIONS_PER_YEAR) if variance > 0.0 else nan
        diagnostics = Diagnostics(0.0, 1.0, size, size)
    return Propagation(shocks, shocks.values, shocks.factors, shocks.values, False, True, diagnostics, n_obs)


def propagate(
    shocks: Shocks, moments: SessionMoments, *, market: int | None, confidence: Confidence = Confidence.NOISY
) -> Propagation | Unsolved:
    """Solve a scenario of several shocks against the moments of a session; `market` is the number of that factor.

    Where it cannot be solved, the reason. Relative shocks need the market among the factors.
    """
    chosen = shocks.factors
    needed = chosen.tolist()
    if market is not None and market not in needed and moments.observations[market] >= moments.min_observations:
        needed.append(market)
    common = moments.common(needed)
    if (moments.observations[chosen] < moments.min_observations).any() or moments.constant[chosen].any():
        return Unsolved.FACTOR_WITHOUT_DATA
    if common.n_obs < max(moments.min_observations, 2):
        return Unsolved.INSUFFICIENT_HISTORY
    sigma = common.covariance[chosen[:, None], chosen]
    variance = sigma.diagonal()
    if not (np.isfinite(sigma).all() and (variance > 0.0).all()):
        # a factor that only stands still on the sessions it shares with the others
        return Unsolved.FACTOR_WITHOUT_DATA
    anchored = market is not None and market in chosen
    m = int(np.searchsorted(chosen, market)) if anchored and market is not None else -1
    others = np.delete(np.arange(len(chosen)), m) if anchored else np.arange(len(chosen))
    slope = sigma[:, m] / sigma[m, m] if anchored else np.zeros(len(chosen))
    left = sigma - np.outer(slope, sigma[m]) if anchored else sigma
    market_shock = float(shocks.values[m]) if anchored else 0.0
    excess = np.where(shocks.relative, shocks.values, shocks.values - slope * market_shock)
    stated = np.where(shocks.relative, slope * market_shock + shocks.values, shocks.values)
    own = left.diagonal()
    kept = others[own[others] > _LEAST_SHARE * variance[others]]
    residual = np.where(own > 0.0, own, nan)
    z = np.where(shocks.relative, shocks.values / np.sqrt(residual), shocks.values / np.sqrt(variance))
    diagnostics = _diagnostics(sigma, stated / np.sqrt(variance), z)
    if confidence is Confidence.EXACT and not diagnostics.condition_number <= WORST_CONDITION:
        return Unsolved.ILL_CONDITIONED
    lam, weights = _weigh(
        excess[kept],
        left[kept[:, None], kept],
        float(np.nanmax(np.abs(z))),
        float(z[m]) if anchored else 0.0,
        confidence,
    )
    factors = chosen[kept]
    if anchored:
        factors, weights = np.concatenate([[chosen[m]], factors]), np.concatenate([[market_shock], weights])
    return Propagation(
        shocks,
        stated,
        factors,
        weights,
        anchored,
        confidence is Confidence.EXACT,
        diagnostics._replace(lam=lam),
        common.n_obs,
        common,
    )


def _weigh(
    e: FloatArray, v: FloatArray, largest: float, z_market: float, confidence: Confidence
) -> tuple[float, FloatArray]:
    """lam and (V + lam diag V)^-1 e; `largest` is the largest absolute z of the scenario.

    With A = D^-1/2 V D^-1/2 (D = diag V) = Q diag(a) Q' and y = Q' D^-1/2 e, what is kept of the shocks has the size
    e*' V^-1 e* = sum of a y^2 / (a + lam)^2: falling in lam, so that the smallest lam keeping to the limit is found on
    one variable.
    """
    lam = 0.0 if confidence is Confidence.EXACT else LEAST_LAM
    if not len(e):
        return lam, e
    scale = np.sqrt(np.diagonal(v))
    a, q = np.linalg.eigh(v / np.outer(scale, scale))
    a = np.maximum(a, 0.0)
    y = q.T @ (e / scale)
    if confidence is Confidence.NOISY and largest > 0.0:
        # in units of the largest shock, so that lam does not depend on the size of the scenario
        terms = list(zip(a.tolist(), (a * (y / largest) ** 2).tolist(), strict=True))
        limit = SIZE_LIMIT - (z_market / largest) ** 2

        def excess(log_lam: float) -> float:
            noise = exp(log_lam)
            return float(sum(term / (value + noise) ** 2 for value, term in terms) - limit)

        lowest = log(LEAST_LAM)
        if excess(lowest) > 0.0:
            # sum of a y^2 / lam^2 is more than the size, so this lam keeps to the limit; 1 is for rounding
            highest = 0.5 * log(sum(term for _, term in terms) / limit) + 1.0
            lam = exp(brentq(excess, lowest, highest, xtol=1e-15, rtol=1e-15))
    return lam, (q @ (y / (a + lam))) / scale


def _diagnostics(sigma: FloatArray, total_z: FloatArray, z: FloatArray) -> Diagnostics:
    """`total_z` are the total shocks in their own standard deviations, `z` relative ones in those the market leaves."""
    deviation = np.sqrt(np.diagonal(sigma))
    values, vectors = np.linalg.eigh(sigma / np.outer(deviation, deviation))
    max_z = float(np.nanmax(np.abs(z))) / sqrt(SESSIONS_PER_YEAR)
    if values[0] <= _LEAST_SHARE * values[-1]:
        return Diagnostics(nan, nan, nan, max_z)
    distance = sqrt(float(((vectors.T @ total_z) ** 2 / values).sum()) / SESSIONS_PER_YEAR)
    return Diagnostics(nan, float(values[-1] / values[0]), distance, max_z)


def implied_parts(
    scenario: Propagation, beta: FloatArray, moments: SessionMoments | None, *, market: int | None
) -> FloatArray:
    """Return of every name through every factor of the scenario, before any floor: (factors, symbols and factors).

    `beta` (symbols, factors) are univariate betas, NaN where there is none; rows are in the order of
    `scenario.factors`, columns those of the panel of `moments` (without: symbols alone). NaN where a name has too few
    returns. A name's figures do not depend on the others, to the bit.
    """
    if scenario.moments is None:
        (factor,) = scenario.factors
        slopes = beta[:, factor] if moments is None else np.concatenate([beta[:, factor], moments.slopes[:, factor]])
        single: FloatArray = (slopes * scenario.weights[0])[None, :]
        return single
    if moments is None:
        raise ValueError("several shocks need the moments they were solved against")
    symbols, sigma = moments.symbols, scenario.moments.covariance
    factors = scenario.factors
    columns = symbols + sigma.shape[0]
    parts = np.full((len(factors), columns), nan)
    others = factors[1:] if scenario.anchored else factors
    on_market = np.zeros(columns)
    if scenario.anchored and market is not None:
        on_market = np.concatenate([beta[:, market], moments.slopes[:, market]])
        parts[0] = on_market
    residual = _residual(scenario.moments, others, market if scenario.anchored else None, on_market)
    parts[len(factors) - len(others) :] = residual
    # a factor the scenario shocks moves by its own moments, and so does its proxy
    for factor in scenario.shocks.factors:
        column = symbols + factor
        slope = np.zeros(len(others))
        if scenario.anchored and market is not None:
            parts[0, column] = 1.0 if factor == market else sigma[factor, market] / sigma[market, market]
            slope = sigma[others, market] / sigma[market, market]
            parts[1:, column] = 0.0 if factor == market else sigma[factor, others] - slope * sigma[factor, market]
        else:
            parts[:, column] = sigma[factor, others]
    parts *= scenario.weights[:, None]
    return parts


def _residual(moments: CommonMoments, others: IntArray, market: int | None, on_market: FloatArray) -> FloatArray:
    """g of every name on the factors `others`: (others, symbols and factors); NaN where a name has too few returns."""
    sigma = moments.covariance
    g = np.full((len(others), len(on_market)), nan)
    variance = np.diagonal(sigma)[others].copy()
    slope = np.zeros(len(others))
    if market is not None:
        slope = sigma[others, market] / sigma[market, market]
        variance -= slope * sigma[market, others]
    for own in moments.own:
        crossed = own.crossed[others]
        own_variance = np.diagonal(own.factors)[others].copy()
        if market is not None:
            with_market, market_variance = own.factors[others, market], own.factors[market, market]
            own_variance += slope * (slope * market_variance - 2.0 * with_market)
            # cov(u_i, v_o) = cov(r_i, f_o) - slope cov(r_i, f_m) - beta_im cov(f_m, v_o)
            crossed = crossed - slope[:, None] * own.crossed[market]
            crossed = crossed - (with_market - slope * market_variance)[:, None] * on_market[own.members]
        usable = own_variance > _LEAST_SHARE * np.diagonal(own.factors)[others]
        ratio = np.divide(variance, own_variance, out=np.full(len(others), nan), where=usable)
        g[:, own.members] = crossed * ratio[:, None]
    return g


def effective_shocks(scenario: Propagation, parts: FloatArray, symbols: int) -> FloatArray:
    """Shock of every factor the scenario implies, (factors,), before any floor; NaN where unknown.

    `parts` are those of the scenario. The anchored market, a single shock and exact shocks come back as stated.
    """
    effective: FloatArray = added_up(parts)[symbols:].copy()
    if scenario.exact:
        effective[scenario.shocks.factors] = scenario.stated
    return effective


def added_up(parts: FloatArray) -> FloatArray:
    """Sum of the rows of (factors, names), first to last, so that a name's bits do not depend on the others."""
    total: FloatArray = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def floored(raw: FloatArray) -> FloatArray:
    """Returns raised to -1 where they are below; NaN stays."""
    return np.maximum(raw, LEAST_RETURN)
