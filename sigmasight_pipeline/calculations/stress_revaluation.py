"""What options gain or lose in a scenario, fully re-priced: by how much the model's price moves, and no more than all.

What belongs here: the two prices and their difference, on arrays. What does not: which return a scenario implies for
the underlying (``stress_returns``), pricing and the rule of re-pricing (``option_pricing``), portfolios (``stress``).
"""

from __future__ import annotations

from typing import NamedTuple

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.option_pricing import OptionMarket, OptionTerms, price_change


class Options(NamedTuple):
    """Options held at a session, each array (options,); NaN where unknown."""

    is_call: BoolArray
    spot: FloatArray
    """Price of the underlying, US dollars."""
    strike: FloatArray
    time: FloatArray
    """Years to expiry."""
    rate: FloatArray
    """Continuously compounded, decimal."""
    volatility: FloatArray
    """Annual, decimal."""
    units: FloatArray
    """Quantity x multiplier, negative for short."""
    close: FloatArray
    """What the option is valued at, US dollars per underlying unit."""
    is_american: BoolArray
    """Whether it may be exercised before expiry."""
    dividend_yield: FloatArray
    """Of the underlying, continuously compounded, decimal."""

    @property
    def terms(self) -> OptionTerms:
        """What is fixed whatever the market does."""
        return OptionTerms(self.is_call, self.strike, self.is_american, self.dividend_yield)


def option_pnl(
    options: Options, returns: FloatArray, volatility_shift: FloatArray, rate_shift: FloatArray
) -> FloatArray:
    """P&L of each option in each scenario, US dollars, signed by the side held; (scenarios, options).

    `returns` (scenarios, options) are those of the underlying, at least -1; `volatility_shift`, (scenarios,) or by
    option too, is relative (1.5: +150 %), above -1; `rate_shift`, likewise, is added to the rate, decimal. The option
    becomes worth max(0, close + model(S (1 + r), volatility (1 + shift), rate + shift, T) - model(S, volatility, rate,
    T)), so that no shock gives exactly 0, whatever the market says it is worth, and a long option loses no more than it
    is worth, nor does a short one gain more. NaN where an input is. Source: calculations.md section 9.
    """
    now = OptionMarket(options.spot, options.time, options.rate, options.volatility)
    then = OptionMarket(
        options.spot * (1.0 + returns),
        options.time,
        options.rate + _by_option(rate_shift),
        options.volatility * (1.0 + _by_option(volatility_shift)),
    )
    pnl: FloatArray = options.units * price_change(options.close, options.terms, now, then)
    return pnl


def _by_option(shift: FloatArray) -> FloatArray:
    """A shift by scenario as one that broadcasts over options."""
    return shift if shift.ndim == 2 else shift[:, None]
