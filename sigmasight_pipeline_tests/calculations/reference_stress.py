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
    shocks: Mapping[int, float], sigma: Floats, beta: Floats, proxies: Mapping[int, int], market: int | None
) -> Solution:
    """`sigma` (factors, factors); `beta` (symbols, factors); `proxies`: symbol to the factor it stands for."""
    chosen = sorted(shocks)
    z = {k: shocks[k] / sqrt(sigma[k, k]) for k in chosen}
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

    lam, limit = 0.05, 2 * max_z**2
    if size(lam) > limit:
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
