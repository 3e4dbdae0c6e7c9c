"""Black-Scholes-Merton for European options on whole arrays: price and Greeks.

What belongs here: the formulas themselves, per underlying unit, on NumPy arrays that broadcast, and what the inversion
(``implied_volatility``) shares with them. What does not: which volatility, rate or price an option is given
(``option_volatility``), and anything about positions (``position_greeks``).

Units everywhere: prices in currency per underlying unit, `time` in years, `rate` and `dividend_yield`
continuously compounded decimals, `volatility` annual decimal (0.2 is 20 %).

Prices are of the normalised out-of-the-money option (Jäckel, "Let's Be Rational", Wilmott 2015):
with the discounted spot S' = S exp(-qT) and strike K' = K exp(-rT), x = -abs(ln(S'/K')) and
s = volatility sqrt(T),

    time value / sqrt(S'K') = b(x, s) = exp(x/2) N(x/s + s/2) - exp(-x/2) N(x/s - s/2),

the same number for a call and a put. So put-call parity holds by construction, and an option worth next to
nothing keeps its relative precision where S'N(d1) - K'N(d2) has only rounding noise left. The result of an
element depends on its own inputs alone, to the bit, however many others share the call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray

SQRT_2 = float(np.sqrt(2.0))
SQRT_2_PI = float(np.sqrt(2.0 * np.pi))

DAYS_PER_YEAR = 365.0
"""Calendar days of a year: the unit of `time`, and of theta."""

POINTS = 100.0
"""Percentage points of 1: vega is per volatility point, rho per percentage point of the rate."""

BLOCK = 4_096
"""Options computed at a time, so that the working arrays stay in the processor's cache."""


class Greeks(NamedTuple):
    """Sensitivities of the price of one underlying unit of long options, in the broadcast shape of the arguments."""

    delta: FloatArray
    """Per 1.00 of the underlying."""
    gamma: FloatArray
    """Change of delta per 1.00 of the underlying."""
    theta: FloatArray
    """Per calendar day that passes."""
    vega: FloatArray
    """Per volatility point (0.01)."""
    rho: FloatArray
    """Per percentage point (0.01) of the continuously compounded rate."""


def price(
    is_call: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
) -> FloatArray:
    """Value of European options per underlying unit, in the broadcast shape of the arguments.

    `is_call` is true for calls, false for puts. Zero time gives the intrinsic value, zero volatility that of
    the discounted forward. NaN where an input is not finite, spot or strike is not positive, or time or
    volatility is negative. Source: Merton (1973); Hull, "Options, Futures, and Other Derivatives", ch. 17.
    """
    is_call, (spots, strikes, years, rates, volatilities, yields), shape = flattened(
        is_call, spot, strike, time, rate, volatility, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    with np.errstate(all="ignore"):
        bounds = Bounds.of(contracts)
        valid = contracts.priced(volatilities)
        s = volatilities * np.sqrt(years)
        terms = Terms.of(bounds.x, np.where(s > 0.0, s, 1.0))
        density = 0.5 * bounds.scale * np.exp(terms.exponent)
        small = bounds.x * -2.0 >= s * s
        time_value = np.where(
            small,
            np.maximum(density * (terms.near - terms.far), 0.0),
            bounds.upper - bounds.intrinsic - density * (terms.near + terms.far),
        )
        value = bounds.intrinsic + np.where(s > 0.0, time_value, 0.0)
        value = np.where(valid, np.minimum(value, bounds.upper), np.nan)
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
    """Greeks of European options per underlying unit, in the broadcast shape of the arguments; units as mibian's.

    With phi = 1 for a call and -1 for a put, n and N the normal density and distribution:
    delta = phi exp(-qT) N(phi d1), gamma = exp(-qT) n(d1) / (S volatility sqrt(T)),
    vega = S exp(-qT) n(d1) sqrt(T) / 100, rho = phi T K exp(-rT) N(phi d2) / 100,
    theta = (q S delta - phi r K exp(-rT) N(phi d2) - S exp(-qT) n(d1) volatility / (2 sqrt(T))) / 365.

    Expired (zero time): all 0. Zero volatility: the limits, those of the discounted forward in the money and 0
    out of it; gamma at the money forward has none and is infinite. NaN where `price` is NaN.
    Source: Hull, "Options, Futures, and Other Derivatives", ch. 19; Haug, "The Complete Guide to Option Pricing
    Formulas", ch. 2.
    """
    is_call, (spots, strikes, years, rates, volatilities, yields), shape = flattened(
        is_call, spot, strike, time, rate, volatility, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    result = np.empty((len(Greeks._fields), spots.size))
    with np.errstate(all="ignore"):
        for start in range(0, spots.size, BLOCK):
            part = slice(start, start + BLOCK)
            _differentiate(contracts.part(part), volatilities[part], result[:, part])
    return Greeks(*(row.reshape(shape) for row in result))


def _differentiate(contracts: Contracts, volatility: FloatArray, result: FloatArray) -> None:
    """Write the Greeks of a block into the rows of `result`, (5, options)."""
    is_call, spot, strike, time, rate, dividend_yield = contracts
    sign = 2.0 * is_call - 1.0
    root = np.sqrt(time)
    s = volatility * root
    carry = np.exp(-dividend_yield * time)
    log_moneyness = np.log(spot / strike) + (rate - dividend_yield) * time
    h = log_moneyness / s
    h[(log_moneyness == 0.0) & (s == 0.0)] = 0.0
    d1 = h + 0.5 * s
    density = carry / SQRT_2_PI * np.exp(-0.5 * d1 * d1)
    dollar_density = spot * density
    delta = sign * carry * ndtr(sign * d1)
    owed = sign * strike * np.exp(-rate * time) * ndtr(sign * (h - 0.5 * s))
    gamma = density / (spot * s)
    gamma[density == 0.0] = 0.0
    decay = 0.5 * dollar_density * volatility / root
    result[0] = delta
    result[1] = gamma
    result[2] = (dividend_yield * spot * delta - rate * owed - decay) / DAYS_PER_YEAR
    result[3] = dollar_density * root / POINTS
    result[4] = owed * time / POINTS
    result[:, time == 0.0] = 0.0
    result[:, ~contracts.priced(volatility)] = np.nan


def flattened(is_call: ArrayLike, *values: ArrayLike) -> tuple[BoolArray, list[FloatArray], tuple[int, ...]]:
    """Flags and values broadcast together, each one-dimensional and contiguous, and the shape they had.

    Contiguous, because NumPy may take another code path, with another last bit, through a strided array.
    """
    arrays = np.broadcast_arrays(
        np.asarray(is_call, dtype=np.bool_), *(np.asarray(value, dtype=np.float64) for value in values)
    )
    flags, *numbers = (np.ascontiguousarray(array).reshape(-1) for array in arrays)
    return flags, numbers, arrays[0].shape


class Contracts(NamedTuple):
    """Options without their price and volatility, one-dimensional and contiguous."""

    is_call: BoolArray
    spot: FloatArray
    strike: FloatArray
    time: FloatArray
    rate: FloatArray
    dividend_yield: FloatArray

    def part(self, rows: slice | BoolArray | NDArray[np.int64]) -> Contracts:
        """The options of `rows`."""
        numbers = (self.spot, self.strike, self.time, self.rate, self.dividend_yield)
        return Contracts(self.is_call[rows], *(number[rows] for number in numbers))

    def valid(self) -> BoolArray:
        """Whether the numbers are finite, and spot and strike positive."""
        numbers = (self.spot, self.strike, self.time, self.rate, self.dividend_yield)
        finite: BoolArray = np.logical_and.reduce([np.isfinite(number) for number in numbers])
        return finite & (self.spot > 0.0) & (self.strike > 0.0)

    def priced(self, volatility: FloatArray) -> BoolArray:
        """Whether they have a price at `volatility`: valid, and neither time nor volatility negative or infinite."""
        return self.valid() & np.isfinite(volatility) & (self.time >= 0.0) & (volatility >= 0.0)


class Bounds(NamedTuple):
    """What is known of an option whatever its volatility."""

    x: FloatArray
    """-abs(ln(S'/K'))."""
    intrinsic: FloatArray
    """Value at volatility 0."""
    upper: FloatArray
    """Value at infinite volatility."""
    scale: FloatArray
    """sqrt(S'K'), the unit of b."""

    @classmethod
    def of(cls, contracts: Contracts) -> Bounds:
        """The bounds of each option."""
        is_call, spot, strike, time, rate, dividend_yield = contracts
        discounted_spot = spot * np.exp(-dividend_yield * time)
        discounted_strike = strike * np.exp(-rate * time)
        gain = discounted_spot - discounted_strike
        return cls(
            x=-np.abs(np.log(spot / strike) + (rate - dividend_yield) * time),
            intrinsic=np.maximum(np.where(is_call, gain, -gain), 0.0),
            upper=np.where(is_call, discounted_spot, discounted_strike),
            scale=np.sqrt(discounted_spot) * np.sqrt(discounted_strike),
        )


class Terms(NamedTuple):
    """The parts of b(x, s), with h = x/s and t = s/2; none overflows or loses relative precision.

    b = exp(exponent) (near - far) / 2 where h + t <= 0, else exp(x/2) - b = exp(exponent) (near + far) / 2.
    """

    near: FloatArray
    far: FloatArray
    exponent: FloatArray

    @classmethod
    def of(cls, x: FloatArray, s: FloatArray) -> Terms:
        """The terms at each x and s > 0."""
        h = x / s
        t = 0.5 * s
        return cls(
            near=erfcx(np.abs(h + t) / SQRT_2),
            far=erfcx((t - h) / SQRT_2),
            exponent=-0.5 * (h * h + t * t),
        )
