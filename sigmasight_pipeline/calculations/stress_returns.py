"""What a scenario implies for every symbol: returns conditional on the shocked factors, as arrays of one session.

What belongs here: formulas of implied returns, effective shocks and the diagnostics of a scenario, on NumPy arrays.
What does not: P&L (``stress``), options (``stress_revaluation``), moments and betas (``factor_moments``,
``factor_model``).

Univariate betas overlap, so shocks are not added up. The market, where it is shocked among others, is honoured exactly;
the other shocks are noisy views on what the market leaves unexplained, and the noise grows until their joint size is
plausible. With S the shocked factors, m the market and o the others, Sigma the covariance of factor returns, and
c_ik = beta_ik Sigma_kk the covariance of symbol i with factor k:

    e = s_o - (Sigma_om / Sigma_mm) s_m,  V = Sigma_oo - Sigma_om Sigma_mo / Sigma_mm,  g_i = c_io - beta_im Sigma_mo,
    r_i = beta_im s_m + g_i (V + lam diag V)^-1 e

Without the market among several shocks, e = s, V = Sigma_SS, g_i = c_iS and no first term. A single shock is beta x
shock. Source: calculations.md section 9; conditional normal expectation with view uncertainty as in Black and
Litterman, "Global Portfolio Optimization", Financial Analysts Journal 48 (1992).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, nan, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Floats = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LEAST_LAM = 0.05
SIZE_LIMIT = 2.0
"""The shocks kept may be this many times the largest single squared z in size (squared Mahalanobis distance)."""

IMPLAUSIBLE_RATIO = 5.0
SESSIONS_PER_YEAR = 252

LEAST_RETURN = -1.0
"""Nothing loses more than all of its value."""

_LEAST_SHARE = 1e-12
"""A factor of which the market leaves less than this share of variance says nothing of its own."""


class Diagnostics(NamedTuple):
    """How plausible a scenario is; NaN where unknown. Annualised: distances are in standard deviations of a year."""

    lam: float
    """Noise given to the shocks other than the market's, as a share of their variance; 0 for a single shock."""
    condition_number: float
    """Of the correlation matrix of the shocked factors; NaN where that is singular."""
    mahalanobis: float
    """sqrt(s' Sigma_SS^-1 s); NaN where Sigma_SS is singular."""
    max_z: float
    """Largest absolute shock in its own standard deviations."""

    @property
    def implausible(self) -> bool | None:
        """Whether the distance is above five times the largest shock; None where it is unknown."""
        return None if np.isnan(self.mahalanobis) else bool(self.mahalanobis > IMPLAUSIBLE_RATIO * self.max_z)


NO_DIAGNOSTICS = Diagnostics(nan, nan, nan, nan)


class Propagation(NamedTuple):
    """A scenario solved against the moments of a session: what one unit of covariance is worth.

    `factors` are the numbers of the shocked factors, ascending, the market first where it is anchored; `weights` what
    their coefficients are multiplied by: beta x shock for the anchored market and for a single shock, g or c x
    (V + lam diag V)^-1 e for the others. `anchored`: the market is one of several shocks; `single`: there is one.
    """

    factors: IntArray
    weights: Floats
    anchored: bool
    single: bool
    diagnostics: Diagnostics


def single_shock(factor: int, shock: float, diagnostics: Diagnostics = NO_DIAGNOSTICS) -> Propagation:
    """One shock alone: returns are beta x shock, and no moments are needed."""
    return Propagation(np.array([factor]), np.array([shock]), anchored=False, single=True, diagnostics=diagnostics)


def propagate(shocks: Mapping[int, float], covariance: Floats, *, market: int | None) -> Propagation | None:
    """Solve one scenario: `shocks` by factor number, decimal; `covariance` (factors, factors) per session.

    `market` is the number of the market factor. None where a covariance of the shocked factors is NaN or a variance is
    0: a factor without data. `shocks` must not be empty.
    """
    if len(shocks) == 1:
        ((factor, shock),) = shocks.items()
        own = float(covariance[factor, factor])
        if not own > 0.0:
            return None
        size = abs(shock) / sqrt(own * SESSIONS_PER_YEAR)
        return single_shock(factor, shock, Diagnostics(0.0, 1.0, size, size))
    chosen = np.array(sorted(shocks), dtype=np.int64)
    s = np.array([shocks[number] for number in chosen])
    sigma = covariance[np.ix_(chosen, chosen)]
    variance = np.diagonal(sigma)
    if not (np.isfinite(sigma).all() and (variance > 0.0).all()):
        return None
    z = s / np.sqrt(variance)
    anchored = market in shocks
    if market is not None and anchored:
        m = int(np.searchsorted(chosen, market))
        others = np.delete(np.arange(len(chosen)), m)
        slope = sigma[others, m] / sigma[m, m]
        e = s[others] - slope * s[m]
        v = sigma[np.ix_(others, others)] - np.outer(slope, sigma[m, others])
        kept = np.diagonal(v) > _LEAST_SHARE * variance[others]
        others, e, v = others[kept], e[kept], v[np.ix_(kept, kept)]
    else:
        m, others, e, v = -1, np.arange(len(chosen)), s, sigma
    lam, weights = _weigh(e, v, z, float(z[m]) if anchored else 0.0)
    if anchored:
        others, weights = np.concatenate([[m], others]), np.concatenate([[s[m]], weights])
    return Propagation(
        chosen[others], weights, anchored=anchored, single=False, diagnostics=_diagnostics(sigma, z, lam)
    )


def _weigh(e: Floats, v: Floats, z: Floats, z_market: float) -> tuple[float, Floats]:
    """lam and (V + lam diag V)^-1 e.

    With A = D^-1/2 V D^-1/2 (D = diag V) = Q diag(a) Q' and y = Q' D^-1/2 e, what is kept of the shocks has the size
    e*' V^-1 e* = sum of a y^2 / (a + lam)^2: falling in lam, so that the smallest lam keeping to the limit is found on
    one variable.
    """
    if not len(e):
        return LEAST_LAM, e
    scale = np.sqrt(np.diagonal(v))
    a, q = np.linalg.eigh(v / np.outer(scale, scale))
    a = np.maximum(a, 0.0)
    y = q.T @ (e / scale)
    lam = LEAST_LAM
    largest = float(np.abs(z).max())
    if largest > 0.0:
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


def _diagnostics(sigma: Floats, z: Floats, lam: float) -> Diagnostics:
    deviation = np.sqrt(np.diagonal(sigma))
    values, vectors = np.linalg.eigh(sigma / np.outer(deviation, deviation))
    max_z = float(np.abs(z).max()) / sqrt(SESSIONS_PER_YEAR)
    if values[0] <= _LEAST_SHARE * values[-1]:
        return Diagnostics(lam, nan, nan, max_z)
    distance = sqrt(float(((vectors.T @ z) ** 2 / values).sum()) / SESSIONS_PER_YEAR)
    return Diagnostics(lam, float(values[-1] / values[0]), distance, max_z)


class Implied(NamedTuple):
    """What scenarios imply for symbols, each array (rows, symbols); NaN where a coefficient is missing."""

    parts: Floats
    """One row per scenario and shocked factor: the return through that factor, before the floor."""
    raw: Floats
    """One row per scenario: the sum of its parts."""


def implied_returns(
    scenarios: Sequence[Propagation], beta: Floats, covariance: Floats, proxy_of: IntArray, *, market: int | None
) -> Implied:
    """Returns of every symbol in every scenario, before the floor at -1.

    `beta` (symbols, factors) are univariate betas, NaN where there is none; `covariance` (factors, factors) as given to
    `propagate`; `proxy_of` (symbols,) is the number of the factor a symbol is the proxy of, -1 for none: its covariance
    with factor k is then that of the factor, but for a single shock, which is always beta x shock. Parts are in the
    order of the scenarios and of their `factors`. A symbol's figures do not depend on the other symbols, to the bit.
    """
    counts = np.array([len(scenario.factors) for scenario in scenarios], dtype=np.int64)
    if not counts.sum():
        return Implied(np.empty((0, len(beta))), np.zeros((len(scenarios), len(beta))))
    is_proxy = proxy_of >= 0
    with_factors = np.where(is_proxy[:, None], covariance[proxy_of], beta * np.diagonal(covariance))
    if market is None:
        on_market, residual = np.full(len(beta), nan), np.full(beta.shape, nan)
    else:
        on_market = with_factors[:, market] / covariance[market, market]
        residual = with_factors - on_market[:, None] * covariance[market]
    # one row per coefficient a scenario may take: beta, c, g, and the market's beta
    coefficients = np.concatenate([beta.T, with_factors.T, residual.T, on_market[None, :]])
    factors = beta.shape[1]
    rows = np.concatenate([scenario.factors + _kind(scenario) * factors for scenario in scenarios])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    anchors = starts[[scenario.anchored for scenario in scenarios]]
    rows[anchors] = 3 * factors
    parts = coefficients[rows] * np.concatenate([scenario.weights for scenario in scenarios])[:, None]
    raw = np.zeros((len(scenarios), len(beta)))
    for number in range(int(counts.max())):
        having = np.flatnonzero(counts > number)
        raw[having] += parts[starts[having] + number]
    return Implied(parts, raw)


def _kind(scenario: Propagation) -> int:
    return 0 if scenario.single else 2 if scenario.anchored else 1


def floored(raw: Floats) -> Floats:
    """Returns raised to -1 where they are below; NaN stays."""
    return np.maximum(raw, LEAST_RETURN)


def effective_shocks(scenarios: Sequence[Propagation], covariance: Floats, *, market: int | None) -> Floats:
    """Shock of every factor implied by every scenario, (scenarios, factors), before any floor; NaN where unknown.

    A factor is treated as its own proxy: the anchored market, and a single shock, come back exactly.
    """
    variance = np.diagonal(covariance)
    usable = variance > 0.0
    slopes = np.where(usable, covariance / np.where(usable, variance, 1.0), nan)
    np.fill_diagonal(slopes, np.where(usable, 1.0, nan))
    return implied_returns(scenarios, slopes, covariance, np.arange(len(covariance)), market=market).raw
