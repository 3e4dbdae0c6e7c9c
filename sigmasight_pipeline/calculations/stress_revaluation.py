"""What options gain or lose in a scenario, fully re-priced.

What belongs here: an option of a book under the shocks of scenarios, on arrays. What does not: which return a scenario
implies for the underlying (``stress_returns``), the rule by which a quoted option is re-priced and the formulas
(``option_pricing``), and portfolios (``stress``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sigmasight_pipeline.calculations.option_pricing import OptionMarket, OptionTerms, price_change

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Options(NamedTuple):
    """Options held at a session, each array (options,); NaN where unknown."""

    is_call: BoolArray
    is_american: BoolArray
    close: Floats
    """What one is worth per underlying unit at the session, US dollars."""
    spot: Floats
    """Price of the underlying, US dollars."""
    strike: Floats
    time: Floats
    """Years to expiry."""
    rate: Floats
    """Continuously compounded, decimal."""
    volatility: Floats
    """Annual, decimal."""
    dividend_yield: Floats
    """Of the underlying, continuously compounded, decimal."""
    units: Floats
    """Quantity x multiplier, negative for short."""


def option_pnl(options: Options, returns: Floats, volatility_shift: Floats, rate_shift: Floats) -> Floats:
    """P&L of each option in each scenario, US dollars, signed by the side held; (scenarios, options).

    `returns` (scenarios, options) are those of the underlying, at least -1; `volatility_shift` (scenarios,) is relative
    (1.5: +150 %), above -1; `rate_shift` (scenarios,) is added to the rate, decimal. The new price is
    max(0, close + model(S (1 + r), volatility (1 + shift), rate + shift, T) - model(S, volatility, rate, T)), so that
    no shock gives exactly 0, whatever the market says the option is worth, and a long option never loses, nor a short
    one gains, more than it is worth. NaN where an input is. Source: calculations.md section 9.
    """
    terms = OptionTerms(options.is_call, options.strike, options.is_american, options.dividend_yield)
    now = OptionMarket(options.spot, options.time, options.rate, options.volatility)
    then = OptionMarket(
        options.spot * (1.0 + returns),
        options.time,
        options.rate + rate_shift[:, None],
        options.volatility * (1.0 + volatility_shift[:, None]),
    )
    pnl: Floats = options.units * price_change(options.close, terms, now, then)
    return pnl
