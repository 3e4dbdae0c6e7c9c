"""What options gain or lose on the returns of many sessions: re-priced at each, at the cost of a few prices each.

What belongs here: an option's P&L as a function of its underlying's return, volatility, rate and time unchanged. What
does not: the prices (``option_pricing``), which returns there are, and portfolios (``simulation``).

The European value is in closed form and computed at every return. What early exercise adds to it is small and smooth:
it is priced on a grid of returns and interpolated between, which leaves it within 1e-4 of the strike of its price, a
tenth of what the engine of American prices itself promises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sigmasight_pipeline.calculations.american_options import exercise_value
from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, option_price

LARGEST_RETURN = 0.20
"""The grid reaches from minus to plus this; at larger returns options are priced one by one."""

NODES = 27
"""Returns of the grid, 0 among them; evenly spaced."""

_GRID = np.linspace(-LARGEST_RETURN, LARGEST_RETURN, NODES)
_STEP = 2.0 * LARGEST_RETURN / (NODES - 1)


class HeldOptions(NamedTuple):
    """Options held, arrays (options,); NaN where unknown."""

    is_call: BoolArray
    strike: FloatArray
    is_american: BoolArray
    dividend_yield: FloatArray
    """Of the underlying, continuously compounded, decimal."""
    spot: FloatArray
    """Price of the underlying, US dollars."""
    years: FloatArray
    """To expiry."""
    rate: FloatArray
    """Continuously compounded, decimal."""
    volatility: FloatArray
    """Annual, decimal."""
    close: FloatArray
    """What the option is valued at, US dollars per underlying unit."""
    units: FloatArray
    """Quantity x multiplier, negative for short."""

    @property
    def terms(self) -> OptionTerms:
        """What the options are, whatever the market does."""
        return OptionTerms(self.is_call, self.strike, self.is_american, self.dividend_yield)

    def at(self, rows: slice | IntArray) -> HeldOptions:
        """Some of them."""
        return HeldOptions._make(values[rows] for values in self)


@dataclass(frozen=True, eq=False)
class OptionBook:
    """Options and their early-exercise premiums, `premium` (nodes, options), US dollars per unit, 0 for European."""

    options: HeldOptions
    premium: FloatArray

    @classmethod
    def of(cls, options: HeldOptions) -> OptionBook:
        """Price the premiums of `options` on the grid; an option's depend on its own inputs alone, to the bit.

        A contract that several portfolios hold is priced once.
        """
        premium = np.zeros((NODES, len(options.spot)))
        rows = np.flatnonzero(options.is_american)
        if len(rows):
            held = options.at(rows)
            inputs = (held.is_call, held.strike, held.dividend_yield, held.spot, held.years, held.rate, held.volatility)
            _, first, contract = np.unique(np.stack(inputs), axis=1, return_index=True, return_inverse=True)
            own = held.at(first)
            spot = own.spot * (1.0 + _GRID[:, None])
            premium[:, rows] = (_value(own, spot) - _european(own, spot))[:, contract]
        return cls(options, premium)

    def at(self, rows: slice | IntArray) -> OptionBook:
        """Some of the options."""
        return OptionBook(self.options.at(rows), self.premium[:, rows])

    def pnl(self, returns: FloatArray) -> FloatArray:
        """P&L of each option at each of its underlying's `returns` (sessions, options), US dollars, signed.

        units x max(-close, model(S (1 + r)) - model(S)): a long option loses no more than it is worth, and no move is
        exactly nothing. `returns` are decimals, at least -1. NaN where a return or an input of the option is.
        """
        if not returns.size:
            return np.zeros(returns.shape)
        both = np.concatenate([np.zeros((1, returns.shape[1])), returns])
        value = self._value_at(both)
        change: FloatArray = np.maximum(-self.options.close, value[1:] - value[0])
        return self.options.units * change

    def _value_at(self, returns: FloatArray) -> FloatArray:
        """The model's value per unit at each return."""
        options = self.options
        spot = options.spot * (1.0 + returns)
        value = _european(options, spot) + _interpolated(self.premium, returns)
        value = np.where(
            options.is_american, np.maximum(value, exercise_value(options.is_call, spot, options.strike)), value
        )
        beyond, column = np.nonzero((np.abs(returns) > LARGEST_RETURN) & options.is_american)
        if len(beyond):
            value[beyond, column] = _value(options.at(column), spot[beyond, column])
        return value


def _value(options: HeldOptions, spot: FloatArray) -> FloatArray:
    return option_price(options.terms, spot, options.years, options.rate, options.volatility)


def _european(options: HeldOptions, spot: FloatArray) -> FloatArray:
    terms = replace(options.terms, is_american=np.zeros(len(options.is_american), dtype=bool))
    return option_price(terms, spot, options.years, options.rate, options.volatility)


def _interpolated(nodes: FloatArray, returns: FloatArray) -> FloatArray:
    """`nodes` (NODES, options) at `returns` (sessions, options), by the cubic through the four nodes around each."""
    place = (np.clip(np.nan_to_num(returns), -LARGEST_RETURN, LARGEST_RETURN) + LARGEST_RETURN) / _STEP
    first = np.clip(np.floor(place).astype(np.int64) - 1, 0, NODES - 4)
    t = place - first
    weights = (
        (t - 1.0) * (t - 2.0) * (t - 3.0) / -6.0,
        t * (t - 2.0) * (t - 3.0) / 2.0,
        t * (t - 1.0) * (t - 3.0) / -2.0,
        t * (t - 1.0) * (t - 2.0) / 6.0,
    )
    found = np.zeros(returns.shape)
    for number, weight in enumerate(weights):
        found += weight * np.take_along_axis(nodes, first + number, axis=0)
    return found
