"""Implied volatility of European options on whole arrays: the inverse of ``black_scholes.price``.

What belongs here: the inversion and its statuses. What does not: prices and Greeks (``black_scholes``), and which
price is inverted or what is taken instead (``option_volatility``).

Units are those of ``black_scholes``. The result of an element depends on its own inputs alone, to the bit, however
many others share the call. Method after Jäckel, "Let's Be Rational", Wilmott 2015.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr, ndtri

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.black_scholes import BLOCK, SQRT_2, SQRT_2_PI, Bounds, Contracts, Terms, flattened

STEP_TOLERANCE = 1e-5
"""A relative step this small ends the iteration: of fourth order, it leaves an error far below rounding."""

BRACKET_TOLERANCE = 1e-15
"""A bracket this narrow (relative where s > 1) ends it too: nothing lies between its ends but rounding."""

ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
"""Relative error of an intrinsic value or upper bound: a smaller time value prices no volatility."""


class ImpliedVolatilityStatus(IntEnum):
    """Outcome of inverting one price; every one but OK goes with a NaN volatility."""

    OK = 0
    BELOW_INTRINSIC = 1
    """Price below the discounted intrinsic value: no volatility gives it."""
    ABOVE_UPPER_BOUND = 2
    """Price at or above what the option can ever be worth (S' for a call, K' for a put)."""
    NO_TIME_VALUE = 3
    """Price equal to the intrinsic value within rounding: any small volatility gives it."""
    EXPIRED = 4
    """Time to expiry zero or negative."""
    BAD_INPUT = 5
    """An input missing or not finite, spot or strike not positive, or price negative."""
    NOT_CONVERGED = 6
    """`max_iterations` used up."""
    INSENSITIVE = 7
    """A tick of the price is worth too many volatility points (``option_volatility``); no inversion gives it itself."""

    @property
    def code(self) -> str:
        """The status as stored in tables: `ok`, `below_intrinsic`, ..."""
        return self.name.lower()


class ImpliedVolatility(NamedTuple):
    """Volatilities, NaN where there is none, and their ImpliedVolatilityStatus as int8."""

    volatility: FloatArray
    status: NDArray[np.int8]


def implied_volatility(
    is_call: ArrayLike,
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike = 0.0,
    *,
    max_iterations: int = 100,
) -> ImpliedVolatility:
    """Volatility at which the option is worth `price`, with a status per element, in the arguments' broadcast shape.

    The inverse of ``black_scholes.price``, accurate to 1e-9, or to what the rounding of `price` itself allows where
    vega is tiny. Below the inflection point s = sqrt(2 abs(x)) the equation is solved for ln b, above it for
    ln(exp(x/2) - b): both are nearly straight close to the solution. The first guess inverts Bachelier's formula
    (below) or scales the normal tail (above); Householder steps of third order follow, inside a bracket that is
    halved where a step would leave it. Two steps are the rule, so `max_iterations` is a safeguard only.
    """
    is_call, (prices, spots, strikes, years, rates, yields), shape = flattened(
        is_call, price, spot, strike, time, rate, dividend_yield
    )
    contracts = Contracts(is_call, spots, strikes, years, rates, yields)
    volatility = np.empty(prices.size)
    status = np.empty(prices.size, dtype=np.int8)
    with np.errstate(all="ignore"):
        for start in range(0, prices.size, BLOCK):
            part = slice(start, start + BLOCK)
            volatility[part], status[part] = _invert(contracts.part(part), prices[part], max_iterations)
    return ImpliedVolatility(volatility.reshape(shape), status.reshape(shape))


def _invert(contracts: Contracts, prices: FloatArray, max_iterations: int) -> tuple[FloatArray, NDArray[np.int8]]:
    """The volatility (NaN where there is none) and the status of each option."""
    bounds = Bounds.of(contracts)
    time_value = prices - bounds.intrinsic
    room = bounds.upper - prices
    # Only the intrinsic value carries rounding: out of the money the price is all time value.
    noise = np.where(bounds.intrinsic > 0.0, ROUNDING * (bounds.intrinsic + bounds.upper), 0.0)
    valid = contracts.valid() & np.isfinite(prices) & (prices >= 0.0)
    valid &= np.isfinite(bounds.x) & np.isfinite(bounds.scale) & (bounds.scale > 0.0)
    status = np.select(
        [
            ~valid,
            contracts.time <= 0.0,
            time_value < -noise,
            time_value <= noise,
            room <= ROUNDING * bounds.upper,
        ],
        [
            ImpliedVolatilityStatus.BAD_INPUT,
            ImpliedVolatilityStatus.EXPIRED,
            ImpliedVolatilityStatus.BELOW_INTRINSIC,
            ImpliedVolatilityStatus.NO_TIME_VALUE,
            ImpliedVolatilityStatus.ABOVE_UPPER_BOUND,
        ],
        ImpliedVolatilityStatus.OK,
    ).astype(np.int8)
    solvable = np.flatnonzero(status == ImpliedVolatilityStatus.OK)
    s = _total_volatility(
        bounds.x[solvable],
        np.log(time_value[solvable]) - np.log(bounds.scale[solvable]),
        np.log(room[solvable]) - np.log(bounds.scale[solvable]),
        max_iterations,
    )
    volatility = np.full(prices.size, np.nan)
    volatility[solvable] = s / np.sqrt(contracts.time[solvable])
    status[solvable[~np.isfinite(s)]] = ImpliedVolatilityStatus.NOT_CONVERGED
    return volatility, status


def _total_volatility(x: FloatArray, log_value: FloatArray, log_room: FloatArray, max_iterations: int) -> FloatArray:
    """s with ln b(x, s) = `log_value` and ln(exp(x/2) - b(x, s)) = `log_room`; NaN where the steps ran out.

    Every step works on the elements still moving; none of them sees another.
    """
    inflection = np.sqrt(-2.0 * x)
    corner = erfcx(np.sqrt(-x))
    log_corner_value = 0.5 * x + np.log(0.5 * (1.0 - corner))
    log_corner_room = 0.5 * x + np.log(0.5 * (1.0 + corner))
    below = log_value < log_corner_value
    above = ~below
    # b(x, s) <= b(0, s) <= s / sqrt(2 pi), which keeps the guess off zero for an option at the money.
    least = SQRT_2_PI * np.exp(log_value[above])
    tail = np.exp(log_room[above] - log_corner_room[above]) * ndtr(-0.5 * inflection[above])
    s = np.empty(x.size)
    s[below] = np.minimum(_bachelier_guess(x[below], log_value[below]), inflection[below])
    s[above] = np.maximum(-2.0 * ndtri(tail), least)
    low = np.where(below, 0.0, np.minimum(inflection, s))
    high = np.where(below, inflection, np.inf)
    target = np.where(below, log_value, log_room)
    side = np.where(below, -1.0, 1.0)

    solution = np.full(x.size, np.nan)
    moving = np.arange(x.size)
    for _ in range(max_iterations):
        excess, newton, factor = _householder_step(x, s, target, side)
        low = np.where(excess < 0.0, s, low)
        high = np.where(excess > 0.0, s, high)
        proposed = s + newton * factor
        inside = (proposed >= low) & (proposed <= high)
        halved = np.where(np.isfinite(high), 0.5 * (low + high), 2.0 * s)
        settled = inside & (np.abs(newton) <= STEP_TOLERANCE * s)
        done = settled | (excess == 0.0) | (high - low <= BRACKET_TOLERANCE * np.maximum(s, 1.0))
        solution[moving[done]] = np.where(settled, proposed, s)[done]
        left = ~done
        if not left.any():
            break
        s = np.where(inside, proposed, halved)
        if done.any():
            moving, x, s, target, side = moving[left], x[left], s[left], target[left], side[left]
            low, high = low[left], high[left]
    return solution


def _householder_step(
    x: FloatArray, s: FloatArray, target: FloatArray, side: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How far ln b (side -1) or -ln(exp(x/2) - b) (side 1) exceeds its target at s, and the step to its zero: Newton's,
    and the factor that makes it Householder's.

    With v = (ln g)' of the solved function g, and q = b''/b' = x^2/s^3 - s/4: (ln g)''/v = q - v and
    (ln g)'''/v = b'''/b' - 3 q v + 2 v^2.
    """
    terms = Terms.of(x, s)
    half = 0.5 * (terms.near + side * terms.far)
    excess = -side * (terms.exponent + np.log(half) - target)
    slope = 1.0 / (SQRT_2_PI * half)
    v = -side * slope
    h_over_s_squared = (x / s / s) ** 2
    q = h_over_s_squared * s - 0.25 * s
    second = q - v
    third = q * q - 3.0 * h_over_s_squared - 0.25 - 3.0 * q * v + 2.0 * v * v
    newton = -excess / slope
    # Close to the solution the factor is close to 1; far off, `third` is a difference of huge numbers, and a factor
    # near 0 would pass for convergence.
    factor = (1.0 + 0.5 * newton * second) / (1.0 + newton * (second + newton * third / 6.0))
    return excess, newton, np.clip(factor, 0.25, 4.0)


def _bachelier_table() -> tuple[FloatArray, FloatArray]:
    """ln G and ln u for G(u) = n(u)/u - N(-u), both ascending in ln G.

    For small s the normalised value is Bachelier's, b = abs(x) G(abs(x)/s).
    """
    log_u = np.linspace(np.log(60.0), np.log(1e-9), 2500)
    u = np.exp(log_u)
    ratio = 1.0 / u - np.sqrt(0.5 * np.pi) * erfcx(u / SQRT_2)
    return -0.5 * u * u + np.log(ratio / SQRT_2_PI), log_u


_LOG_BACHELIER, _LOG_DEPTH = _bachelier_table()


def _bachelier_guess(x: FloatArray, log_value: FloatArray) -> FloatArray:
    """s at which Bachelier's formula gives the normalised value, by table: some per cent off for usual x."""
    wanted = log_value - np.log(-x)
    upper = np.clip(np.searchsorted(_LOG_BACHELIER, wanted), 1, _LOG_BACHELIER.size - 1)
    left, right = _LOG_BACHELIER[upper - 1], _LOG_BACHELIER[upper]
    share = np.clip((wanted - left) / (right - left), 0.0, 1.0)
    return -x / np.exp(_LOG_DEPTH[upper - 1] * (1.0 - share) + _LOG_DEPTH[upper] * share)
