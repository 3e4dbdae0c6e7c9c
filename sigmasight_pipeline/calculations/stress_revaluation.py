"""What options gain or lose in a scenario, fully re-priced: model against model.

What belongs here: the two prices and their difference, on arrays. What does not: which return a scenario implies for
the underlying (``stress_returns``), the pricing formula (``black_scholes``), and portfolios (``stress``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sigmasight_pipeline.calculations import black_scholes

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Options(NamedTuple):
    """Options held at a session, each array (options,); NaN where unknown."""

    is_call: BoolArray
    spot: Floats
    """Price of the underlying, US dollars."""
    strike: Floats
    time: Floats
    """Years to expiry."""
    rate: Floats
    """Continuously compounded, decimal."""
    volatility: Floats
    """Annual, decimal."""
    units: Floats
    """Quantity x multiplier, negative for short."""


def option_pnl(
    options: Options,
    returns: Floats,
    volatility_shift: Floats,
    rate_shift: Floats,
    *,
    dividend_yield: float = 0.0,
) -> Floats:
    """P&L of each option in each scenario, US dollars, signed by the side held; (scenarios, options).

    `returns` (scenarios, options) are those of the underlying, at least -1; `volatility_shift` (scenarios,) is relative
    (1.5: +150 %), above -1; `rate_shift` (scenarios,) is added to the rate, decimal. With BS the Black-Scholes-Merton
    price: units x (BS(S (1 + r), volatility (1 + shift), rate + shift, T) - BS(S, volatility, rate, T)), so that no
    shock gives exactly 0, whatever the market says the option is worth. An underlying that loses everything leaves a
    call worth 0 and a put worth its discounted strike. NaN where an input is. Source: calculations.md section 9.
    """

    def priced(spot: Floats, rate: Floats, volatility: Floats) -> Floats:
        return black_scholes.price(
            options.is_call, spot, options.strike, options.time, rate, volatility, dividend_yield
        )

    rate = options.rate + rate_shift[:, None]
    spot = options.spot * (1.0 + returns)
    worthless = spot == 0.0
    volatility = options.volatility * (1.0 + volatility_shift[:, None])
    shocked = priced(np.where(worthless, options.spot, spot), rate, volatility)
    at_zero = np.where(options.is_call, 0.0, options.strike * np.exp(-rate * options.time))
    shocked = np.where(worthless & np.isfinite(shocked), at_zero, shocked)
    pnl: Floats = options.units * (shocked - priced(options.spot, options.rate, options.volatility)[None, :])
    return pnl
