"""Implied volatility of American options on whole arrays: the inverse of ``american_options.price``.

What belongs here: the inversion and its statuses. What does not: the European inversion it starts from
(``implied_volatility``), and which price is inverted or what is taken instead (``option_volatility``).

The result of an element depends on its own inputs alone, to the bit, however many others share the call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sigmasight_pipeline.calculations import american_options
from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.black_scholes import Contracts, flattened
from sigmasight_pipeline.calculations.implied_volatility import (
    ROUNDING,
    ImpliedVolatility,
    ImpliedVolatilityStatus,
    implied_volatility,
)

LOWEST = 0.005
HIGHEST = 10.0
"""Volatilities looked for, decimal: what lies outside is no volatility of a traded option."""

TOLERANCE = 1e-12
"""The search ends within this of the volatility, relative above 1."""

MAX_STEPS = 150


def american_volatility(
    is_call: ArrayLike,
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
) -> ImpliedVolatility:
    """Volatility at which the American option is worth `price`, with a status per element, in the broadcast shape.

    NO_TIME_VALUE where `price` is at or below the exercise value of an option in the money: a range of small
    volatilities, or none, gives that. BELOW_INTRINSIC where it lies above that value and below what the option is worth
    at volatility 0, ABOVE_UPPER_BOUND at or above the strike of a put, the spot of a call. The other statuses are
    those of ``implied_volatility.implied_volatility``, whose result this is, to the bit, where early exercise is worth
    nothing. An American option is worth at least the European one, so that one's volatility bounds the search above.
    """
    is_call, (prices, spots, strikes, years, rates, yields), shape = flattened(
        is_call, price, spot, strike, time, rate, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    european = implied_volatility(is_call, prices, spots, strikes, years, rates, yields)
    volatility, status = european.volatility.copy(), european.status.copy()
    with np.errstate(all="ignore"):
        exercise = american_options.exercise_value(is_call, spots, strikes)
        judged = (status != ImpliedVolatilityStatus.BAD_INPUT) & (status != ImpliedVolatilityStatus.EXPIRED)
        ended = judged & (exercise > 0.0) & (prices <= exercise * (1.0 + ROUNDING))
        over = judged & ~ended & (prices >= np.where(is_call, spots, strikes) * (1.0 - ROUNDING))
        volatility[ended | over] = np.nan
        status[ended] = ImpliedVolatilityStatus.NO_TIME_VALUE
        status[over] = ImpliedVolatilityStatus.ABOVE_UPPER_BOUND
        searched = np.flatnonzero(judged & ~ended & ~over & american_options.exercise_may_pay(contracts))
        found, outcome = _searched(contracts.part(searched), prices[searched], volatility[searched])
        volatility[searched] = found
        status[searched] = np.where(outcome < 0, status[searched], outcome)
    return ImpliedVolatility(volatility.reshape(shape), status.reshape(shape))


def _searched(contracts: Contracts, prices: FloatArray, european: FloatArray) -> tuple[FloatArray, NDArray[np.int8]]:
    """The volatility of each option and its status, -1 where that of the European inversion holds.

    `european` is the volatility at which the European option has the price, NaN where none does.
    """

    def excess(rows: IntArray | BoolArray | slice, volatility: FloatArray) -> FloatArray:
        is_call, spot, strike, time, rate, dividend_yield = contracts.part(rows)
        worth = american_options.price(is_call, spot, strike, time, rate, volatility, dividend_yield)
        return worth - prices[rows]

    everything = slice(0, prices.size)
    high = np.where(np.isfinite(european), european, HIGHEST)
    above = excess(everything, high)
    noise = ROUNDING * (prices + contracts.spot + contracts.strike)
    volatility, outcome = european.copy(), np.full(prices.size, -1, dtype=np.int8)
    # no premium at the European volatility: that is the one
    open_ended = ~(np.isfinite(european) & (np.abs(above) <= noise))
    out_of_reach = open_ended & (above < -noise)
    outcome[out_of_reach] = ImpliedVolatilityStatus.NOT_CONVERGED
    volatility[open_ended] = np.nan
    low = np.minimum(np.full(prices.size, LOWEST), 0.5 * high)
    below = np.full(prices.size, np.nan)
    sought = open_ended & ~out_of_reach
    if sought.any():
        below[sought] = excess(sought, low[sought])
        too_low = sought & (below > 0.0)
        outcome[too_low] = ImpliedVolatilityStatus.BELOW_INTRINSIC
        rows = np.flatnonzero(sought & ~too_low)
        volatility[rows] = _root(lambda part, x: excess(rows[part], x), low[rows], high[rows], below[rows], above[rows])
        outcome[rows] = np.where(
            np.isfinite(volatility[rows]), ImpliedVolatilityStatus.OK, ImpliedVolatilityStatus.NOT_CONVERGED
        )
    return volatility, outcome


def _root(
    excess: Callable[[IntArray, FloatArray], FloatArray],
    low: FloatArray,
    high: FloatArray,
    below: FloatArray,
    above: FloatArray,
) -> FloatArray:
    """Where `excess` of each element is 0, from `low` (excess `below` <= 0) to `high` (`above` >= 0); NaN if not met.

    False position with the end that stays weighted down (Anderson and Björck 1973), halved where it goes slowly. An
    excess of 0 at both ends' side of a flat stretch counts as below: the volatility found is the largest one.
    """
    result = np.full(low.size, np.nan)
    moving = np.arange(low.size)
    for step in range(MAX_STEPS):
        width = high - low
        done = width <= TOLERANCE * np.maximum(high, 1.0)
        result[moving[done]] = high[done]
        left = ~done
        if not left.any():
            break
        moving, low, high, below, above = moving[left], low[left], high[left], below[left], above[left]
        share = below / (below - above)
        middle = low + np.where(np.isfinite(share), np.clip(share, 0.0, 1.0), 0.5) * (high - low)
        # every third step halves: a curved price would let one end stay for long
        middle = np.where((step % 3 == 2) | ~((middle > low) & (middle < high)), 0.5 * (low + high), middle)
        value = excess(moving, middle)
        met = np.abs(value) <= np.finfo(np.float64).eps
        rises = value > 0.0
        kept_low = np.where(above > 0.0, 1.0 - value / above, 0.5)
        kept_high = np.where(below < 0.0, 1.0 - value / below, 0.5)
        below = np.where(rises, below * np.where(kept_low > 0.0, kept_low, 0.5), value)
        above = np.where(rises, value, above * np.where(kept_high > 0.0, kept_high, 0.5))
        low, high = np.where(rises & ~met, low, middle), np.where(rises | met, middle, high)
    return result
