"""Implied returns a second time: section 9 of the calculations written out symbol by symbol, with plain inverses.

What belongs here: an oracle that shares no code with ``stress_returns``. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import bisect

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Solution(NamedTuple):
    """Implied returns by symbol, before the floor, and the diagnostics of the scenario."""

    returns: list[float]
    lam: float
    condition_number: float
    mahalanobis: float
    max_z: float


def solve(
    stated: Mapping[int, float | Mapping[str, float]],
    sigma: Floats,
    beta: Floats,
    proxies: Mapping[int, int],
    market: int | None,
    confidence: str = "noisy",
) -> Solution:
    """`sigma` (factors, factors); `beta` (symbols, factors) of full histories; `proxies`: symbol to the factor it
    stands for; a shock is a number or {"relative": number}."""
    chosen = sorted(stated)
    relative = {k: shock["relative"] for k, shock in stated.items() if isinstance(shock, Mapping)}
    shocks = {k: float(shock) for k, shock in stated.items() if not isinstance(shock, Mapping)}
    for k, beyond in relative.items():
        assert market is not None
        shocks[k] = sigma[k, market] / sigma[market, market] * shocks[market] + beyond
    z = {k: shocks[k] / sqrt(sigma[k, k]) for k in chosen}
    for k, beyond in relative.items():
        assert market is not None
        z[k] = beyond / sqrt(sigma[k, k] - sigma[k, market] ** 2 / sigma[market, market])
    max_z = max(abs(value) for value in z.values())
    corr = np.array([[sigma[i, j] / sqrt(sigma[i, i] * sigma[j, j]) for j in chosen] for i in chosen])
    s = np.array([shocks[k] for k in chosen])
    distance = sqrt(s @ np.linalg.inv(sigma[np.ix_(chosen, chosen)] * 252) @ s)
    condition = float(np.linalg.cond(corr))
    if len(chosen) == 1:
        k = chosen[0]
        returns = [float(own[k]) * shocks[k] for own in beta]
        return Solution(returns, 0.0, condition, distance, max_z / sqrt(252))

    def covariance(symbol: int, factor: int) -> float:
        if symbol in proxies:
            return float(sigma[proxies[symbol], factor])
        return float(beta[symbol, factor]) * float(sigma[factor, factor])

    m = market if market in shocks else None
    others = [k for k in chosen if k != m]
    if m is None:
        e = np.array([shocks[k] for k in others])
        v = sigma[np.ix_(others, others)]
    else:
        e = np.array([shocks[k] - sigma[k, m] / sigma[m, m] * shocks[m] for k in others])
        v = np.array([[sigma[i, j] - sigma[i, m] * sigma[m, j] / sigma[m, m] for j in others] for i in others])
    d = np.diag(np.diag(v))

    def size(lam: float) -> float:
        star = v @ np.linalg.inv(v + lam * d) @ e
        anchor = 0.0 if m is None else z[m] ** 2
        return float(anchor + star @ np.linalg.inv(v) @ star)

    lam, limit = {"exact": 0.0}.get(confidence, 0.05), 2 * max_z**2
    if confidence == "noisy" and size(lam) > limit:
        high = lam
        while size(high) > limit:
            high *= 2
        lam = bisect(lambda value: size(value) - limit, high / 2, high, xtol=1e-15, rtol=1e-14)
    weights = np.linalg.inv(v + lam * d) @ e
    returns = []
    for symbol in range(len(beta)):
        if m is None:
            returns.append(float(sum(covariance(symbol, k) * w for k, w in zip(others, weights, strict=True))))
            continue
        beta_m = covariance(symbol, m) / sigma[m, m]
        g = [covariance(symbol, k) - beta_m * sigma[m, k] for k in others]
        returns.append(float(beta_m * shocks[m] + sum(a * w for a, w in zip(g, weights, strict=True))))
    return Solution(returns, lam, condition, distance, max_z / sqrt(252))


def own_sessions(
    returns: Floats, factors: Floats, market: int, others: list[int], market_shock: float, weights: Floats
) -> float:
    """Implied return of one symbol with the market among several shocks, from its series alone: on the sessions it has
    a return, what the market does not explain of it regressed on what the market does not explain of each factor.

    `factors` (sessions, factors) are complete, `returns` (sessions,) NaN where there is none; `weights` as in `solve`.
    """
    sigma = np.cov(factors.T)
    slope = sigma[others, market] / sigma[market, market]
    v = factors[:, others] - factors[:, [market]] * slope
    seen = ~np.isnan(returns)
    beta = np.polyfit(factors[seen, market], returns[seen], 1)[0]
    u = returns[seen] - beta * factors[seen, market]
    total = beta * market_shock
    for place, weight in enumerate(weights):
        on_own = np.polyfit(v[seen, place], u, 1)[0]
        total += on_own * np.var(v[:, place], ddof=1) * weight
    return float(total)
