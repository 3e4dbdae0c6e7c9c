"""The price of an option under its exercise style, and what it is worth after the market has moved.

What belongs here: one entry for whoever prices options, European and American alike, and the rule by which a quoted
option is re-priced. What does not: the formulas (``black_scholes``, ``american_options``), which volatility or dividend
yield an option is given (``option_volatility``), and scenarios (``stress_revaluation``).

Units are those of ``black_scholes``: prices in US dollars per underlying unit, years, decimals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sigmasight_pipeline.calculations import american_options, black_scholes
from sigmasight_pipeline.calculations.american_volatility import american_volatility
from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.black_scholes import Greeks, flattened
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatility, implied_volatility


@dataclass(frozen=True)
class OptionTerms:
    """What an option is, whatever the market does; arrays that broadcast together, (options,) as a rule."""

    is_call: BoolArray
    strike: FloatArray
    """US dollars per underlying unit."""
    is_american: BoolArray
    """Whether it may be exercised before expiry."""
    dividend_yield: FloatArray
    """Of the underlying, continuously compounded, decimal."""

    def at(self, rows: BoolArray | npt.NDArray[np.int64]) -> OptionTerms:
        """Some of the options; every array must be (options,)."""
        return OptionTerms(self.is_call[rows], self.strike[rows], self.is_american[rows], self.dividend_yield[rows])


class OptionMarket(NamedTuple):
    """What an option's price follows; arrays that broadcast with the terms, more sessions or scenarios in front."""

    spot: npt.ArrayLike
    """Price of the underlying, US dollars, not negative."""
    years: npt.ArrayLike
    """To expiry."""
    rate: npt.ArrayLike
    """Continuously compounded, decimal."""
    volatility: npt.ArrayLike
    """Annual, decimal."""


def option_price(
    terms: OptionTerms, spot: npt.ArrayLike, years: npt.ArrayLike, rate: npt.ArrayLike, volatility: npt.ArrayLike
) -> FloatArray:
    """Value per underlying unit, in the shape of terms and arguments broadcast together (leading axes are free).

    An underlying at 0 stays there: a call is worth 0, a put its strike, discounted from expiry unless it may be
    exercised now and waiting costs. NaN where an input is, or is out of range as in ``black_scholes.price``.
    """
    american, is_call, (spots, strikes, time, rates, volatilities, yields), shape = _laid_out(
        terms, spot, years, rate, volatility
    )
    worthless = spots == 0.0
    alive = np.where(worthless, strikes, spots)
    value = black_scholes.price(is_call, alive, strikes, time, rates, volatilities, yields)
    inputs = (is_call, alive, strikes, time, rates, volatilities, yields)
    value[american] = american_options.price(*(values[american] for values in inputs))
    if worthless.any():
        waited = strikes * np.exp(-rates * time)
        owed = np.where(american, np.maximum(strikes, waited), waited)
        value = np.where(worthless & np.isfinite(value), np.where(is_call, 0.0, owed), value)
    return value.reshape(shape)


def option_greeks(
    terms: OptionTerms, spot: npt.ArrayLike, years: npt.ArrayLike, rate: npt.ArrayLike, volatility: npt.ArrayLike
) -> Greeks:
    """Greeks per underlying unit of what `option_price` prices, in the same shape; units as mibian's.

    NaN where the price is, and where the underlying is not worth more than 0.
    """
    american, is_call, (spots, strikes, time, rates, volatilities, yields), shape = _laid_out(
        terms, spot, years, rate, volatility
    )
    inputs = (is_call, spots, strikes, time, rates, volatilities, yields)
    result = np.stack(black_scholes.greeks(*inputs))
    result[:, american] = np.stack(american_options.greeks(*(values[american] for values in inputs)))
    return Greeks(*(row.reshape(shape) for row in result))


def implied_by_price(
    terms: OptionTerms, price: npt.ArrayLike, spot: npt.ArrayLike, years: npt.ArrayLike, rate: npt.ArrayLike
) -> ImpliedVolatility:
    """The volatility at which `option_price` is `price`, with a status each, in the same shape.

    By ``american_volatility`` or ``implied_volatility``, as the exercise style says.
    """
    american, is_call, (spots, strikes, time, rates, prices, yields), shape = _laid_out(terms, spot, years, rate, price)
    inputs = (is_call, prices, spots, strikes, time, rates, yields)
    volatility, status = np.empty(prices.size), np.empty(prices.size, dtype=np.int8)
    for rows, inverted in ((american, american_volatility), (~american, implied_volatility)):
        volatility[rows], status[rows] = inverted(*(values[rows] for values in inputs))
    return ImpliedVolatility(volatility.reshape(shape), status.reshape(shape))


def _laid_out(
    terms: OptionTerms, *market: npt.ArrayLike
) -> tuple[BoolArray, BoolArray, list[FloatArray], tuple[int, ...]]:
    """is_american, is_call and spot, strike, years, rate, volatility, yield as flat arrays, and the shape they had."""
    spot, years, rate, volatility = market
    numbers = (spot, terms.strike, years, rate, volatility, terms.dividend_yield)
    shape = np.broadcast_shapes(*(np.shape(values) for values in (terms.is_call, terms.is_american, *numbers)))
    is_call, values, shape = flattened(np.broadcast_to(terms.is_call, shape), *numbers)
    american = np.ascontiguousarray(np.broadcast_to(terms.is_american, shape)).reshape(-1)
    return american, is_call, values, shape


def price_change(close: npt.ArrayLike, terms: OptionTerms, now: OptionMarket, then: OptionMarket) -> FloatArray:
    """How much a quoted option gains from `now` to `then` per underlying unit: max(-close, model(then) - model(now)).

    `close` is what it is worth now, not negative. The model's error of today cancels, nothing is lost beyond what the
    option is worth, and where nothing moves the change is exactly 0. NaN where an input is. Source: calculations.md
    section 9.
    """
    moved = option_price(terms, *then) - option_price(terms, *now)
    change: FloatArray = np.maximum(-np.asarray(close, dtype=np.float64), moved)
    return change


def repriced(close: npt.ArrayLike, terms: OptionTerms, now: OptionMarket, then: OptionMarket) -> FloatArray:
    """What a quoted option is worth at `then`: max(0, close + model(then) - model(now)), US dollars per unit."""
    worth: FloatArray = np.asarray(close, dtype=np.float64) + price_change(close, terms, now, then)
    return worth
