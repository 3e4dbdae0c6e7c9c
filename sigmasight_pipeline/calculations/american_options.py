"""American options on whole arrays: price and Greeks.

What belongs here: calls and puts as traded, made of the European value and the early-exercise premium. What does not:
the exercise boundary (``early_exercise``), the European formula (``black_scholes``) and the inversion
(``american_volatility``).

Units are those of ``black_scholes``. The result of an element depends on its own inputs alone, to the bit, however many
others share the call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sigmasight_pipeline.calculations import black_scholes
from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.black_scholes import DAYS_PER_YEAR, POINTS, Contracts, Greeks, flattened
from sigmasight_pipeline.calculations.early_exercise import Premiums, Puts, premium_changes, premiums, two_sided

BLOCK = 512
"""Options computed at a time, so that the working arrays stay in the processor's cache."""

VOLATILITY_STEP = 1e-4
RATE_STEP = 1e-5
"""Steps by which the premium's share of vega and rho is measured; the European share is in closed form."""


def price(
    is_call: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
) -> FloatArray:
    """Value of American options per underlying unit, in the broadcast shape of the arguments.

    Never below the exercise value nor below ``black_scholes.price``; equal to the latter, to the bit, where early
    exercise is worth nothing (a call at a dividend yield not above 0 and a rate not below 0). NaN where that is. Source
    and accuracy: ``early_exercise.premiums``.
    """
    is_call, (spots, strikes, years, rates, volatilities, yields), shape = flattened(
        is_call, spot, strike, time, rate, volatility, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    value = black_scholes.price(is_call, spots, strikes, years, rates, volatilities, yields)
    with np.errstate(all="ignore"):
        for start in range(0, spots.size, BLOCK):
            part = slice(start, start + BLOCK)
            early = _Early.of(contracts.part(part), volatilities[part], value[part])
            if early is not None:
                value[part][early.rows], _ = early.worth(value[part][early.rows], premiums(early.puts))
    return value.reshape(shape)


def greeks(
    is_call: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
) -> Greeks:
    """Greeks of American options per underlying unit, in the broadcast shape of the arguments; units as mibian's.

    Those of `price_and_greeks`.
    """
    return price_and_greeks(is_call, spot, strike, time, rate, volatility, dividend_yield)[1]


def price_and_greeks(
    is_call: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
) -> tuple[FloatArray, Greeks]:
    """``price`` and its derivatives, in the broadcast shape of the arguments; units as mibian's.

    At its exercise value an option has delta 1 (call) or -1 (put) and no other Greek. Theta follows from the others by
    the Black-Scholes equation, which holds wherever the option is kept. Expired (zero time): all Greeks 0. NaN where
    ``price`` is NaN.
    """
    is_call, (spots, strikes, years, rates, volatilities, yields), shape = flattened(
        is_call, spot, strike, time, rate, volatility, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    european = black_scholes.greeks(is_call, spots, strikes, years, rates, volatilities, yields)
    value = black_scholes.price(is_call, spots, strikes, years, rates, volatilities, yields)
    result = np.stack(european)
    with np.errstate(all="ignore"):
        for start in range(0, spots.size, BLOCK):
            part = slice(start, start + BLOCK)
            _differentiate(contracts.part(part), volatilities[part], value[part], result[:, part])
    return value.reshape(shape), Greeks(*(row.reshape(shape) for row in result))


def exercise_value(is_call: ArrayLike, spot: ArrayLike, strike: ArrayLike) -> FloatArray:
    """What exercising now brings: spot - strike for a call, strike - spot for a put, not below 0; US dollars."""
    gain = np.asarray(spot, dtype=np.float64) - np.asarray(strike, dtype=np.float64)
    value: FloatArray = np.maximum(np.where(is_call, gain, -gain), 0.0)
    return value


def exercise_may_pay(contracts: Contracts) -> BoolArray:
    """Whether exercise before expiry can be worth anything: what it earns is interest, of a call dividends."""
    earns = np.where(contracts.is_call, contracts.dividend_yield, contracts.rate)
    costs = np.where(contracts.is_call, contracts.rate, contracts.dividend_yield)
    may: BoolArray = (earns > 0.0) | (costs < np.minimum(earns, 0.0))
    return may


class _Early(NamedTuple):
    """The options of a block whose early exercise may be worth something, arrays (options,)."""

    rows: BoolArray
    """Which of the block they are."""
    contracts: Contracts
    puts: Puts
    """The same as puts of strike 1: a call is a put with spot and strike, rate and dividend yield exchanged."""
    scale: FloatArray
    """What one such put stands for: the strike, of a call the spot."""

    @classmethod
    def of(cls, contracts: Contracts, volatility: FloatArray, european: FloatArray) -> _Early | None:
        """Of the options at `volatility`, whose European value is `european`; None where there is none."""
        rows = exercise_may_pay(contracts) & np.isfinite(european) & (contracts.time > 0.0)
        if not rows.any():
            return None
        chosen = contracts.part(rows)
        is_call, spot, strike, time, rate, dividend_yield = chosen
        scale = np.where(is_call, spot, strike)
        earns, costs = np.where(is_call, dividend_yield, rate), np.where(is_call, rate, dividend_yield)
        return cls(
            rows, chosen, Puts(np.where(is_call, strike, spot) / scale, time, earns, costs, volatility[rows]), scale
        )

    def worth(self, european: FloatArray, premium: Premiums) -> tuple[FloatArray, BoolArray]:
        """What they are worth with the `premium`, and which are in the money and worth that and nothing more."""
        exercise = exercise_value(self.contracts.is_call, self.contracts.spot, self.contracts.strike)
        value = np.where(premium.exercised, exercise, european + self.scale * premium.value)
        return np.maximum(value, exercise), (value <= exercise) & (exercise > 0.0)


def _differentiate(contracts: Contracts, volatility: FloatArray, value: FloatArray, result: FloatArray) -> None:
    """Make American ones of the European values in `value` (options,) and Greeks in `result` (5, options)."""
    early = _Early.of(contracts, volatility, value)
    if early is None:
        return
    rows, (is_call, spot, strike, _, rate, dividend_yield), puts, scale = early
    # where there are two boundaries the step leads away from the rates at which there is one
    step = np.where(two_sided(puts), -RATE_STEP, RATE_STEP)
    financed = puts._replace(
        rate=np.where(is_call, puts.rate, puts.rate + step),
        dividend_yield=np.where(is_call, puts.dividend_yield + step, puts.dividend_yield),
    )
    bumped = puts._replace(volatility=puts.volatility + VOLATILITY_STEP)
    base, (by_volatility, by_rate) = premium_changes(puts, (bumped, financed))
    value[rows], exercised = early.worth(value[rows], base)
    moneyness = puts.moneyness
    delta = result[0, rows] + np.where(is_call, base.value - moneyness * base.slope, base.slope)
    gamma = result[1, rows] + np.where(is_call, moneyness * moneyness / spot, 1.0 / strike) * base.curvature
    gamma = np.maximum(gamma, 0.0)
    vega = result[3, rows] + scale * by_volatility / VOLATILITY_STEP / POINTS
    rho = result[4, rows] + scale * by_rate / step / POINTS
    variance = volatility[rows] ** 2 * spot * spot
    decay = rate * value[rows] - (rate - dividend_yield) * spot * delta - 0.5 * variance * gamma
    kept = np.stack([delta, gamma, decay / DAYS_PER_YEAR, np.maximum(vega, 0.0), rho])
    kept[:, exercised] = 0.0
    kept[0, exercised] = np.where(is_call, 1.0, -1.0)[exercised]
    result[:, rows] = kept
