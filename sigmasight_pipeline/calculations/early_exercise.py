"""What the right to exercise early adds to the value of a European put, on whole arrays.

What belongs here: the exercise boundary of puts and the premium it brings. What does not: options as traded and their
Greeks (``american_options``), and the European part of the value (``black_scholes``).

The boundary is that of Andersen, Lake and Offengenden, "High-performance American option pricing", Journal of
Computational Finance 20(1), 2016: ln(B/X)^2 is a polynomial in the square root of time to expiry, given by its values
at Chebyshev nodes, and is found by iterating the fixed-point system "A" of that paper; the premium is Kim's integral
(1990). Where waiting can pay on both sides, below a lower boundary too, there are two boundaries (Andersen and Lake
2021) and a binomial tree takes over: such rates do not occur on US listings, but must not give nonsense.

All puts here have strike 1. `moneyness` is spot / strike, `time` in years and positive, `rate` and `dividend_yield`
continuously compounded decimals, `volatility` an annual decimal and positive. Arrays are one-dimensional and
contiguous. A call is a put with spot and strike, and rate and dividend yield, exchanged. The result of an element
depends on its own inputs alone, to the bit: sums are written out, as NumPy's depend on the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.black_scholes import SQRT_2_PI

NODES = 4
"""Times to expiry, beside 0, at which the boundary is solved."""

SOLVING_POINTS = 5
"""Points of the integrals in the equation of the boundary."""

PREMIUM_POINTS = 10
"""Points of the integral over the boundary that is the premium."""

ITERATIONS = 3
"""Fixed-point steps from the first guess."""

STEPS_NEARBY = 2
"""Fixed-point steps from the boundary in a market close by."""

TREE_STEPS = 301
"""Steps of the tree where there are two boundaries; odd, as Leisen and Reimer's tree wants."""

LARGEST_DISTANCE = 60.0
"""Standard deviations between price and strike at which the tree stays: beyond, its chances of a step up and down round
to 1 and 0, and the price to no number."""

NO_RATE = 1e-8
"""A rate this small is none: receiving the strike early earns nothing."""

LOWEST_VOLATILITY = 1e-3
"""A smaller volatility has the premium of this one: the equations divide by it."""


class Puts(NamedTuple):
    """Puts of strike 1, arrays (options,)."""

    moneyness: FloatArray
    time: FloatArray
    rate: FloatArray
    dividend_yield: FloatArray
    volatility: FloatArray

    def at(self, rows: BoolArray | slice) -> Puts:
        """Some of them."""
        return Puts(*(values[rows] for values in self))


class Premiums(NamedTuple):
    """What early exercise adds to puts of strike 1, and its derivatives by the moneyness; arrays (options,)."""

    value: FloatArray
    slope: FloatArray
    curvature: FloatArray
    exercised: BoolArray
    """Whether the moneyness is at or below the boundary: the put is worth its exercise value and nothing else."""


class _Quadrature(NamedTuple):
    """Gauss-Legendre points of integrals over the time until the premium flows, of boundaries at some times to expiry.

    `root`: square root of that time as a share of the square root of the time to expiry; `weight` of each point, per
    year of it; `shares`: by point and node, what the polynomial's value at the node weighs at the point, (times, 1).
    """

    root: list[float]
    weight: list[float]
    shares: list[list[FloatArray]]

    @classmethod
    def of(cls, times: FloatArray, points: int) -> _Quadrature:
        """Of boundaries at `times`, square roots of shares of the longest time to expiry."""
        abscissa, weight = np.polynomial.legendre.leggauss(points)
        root = 0.5 * (1.0 + abscissa)
        places = times * np.sqrt(1.0 - root[:, None] ** 2)
        shares = _WEIGHTS / (places[:, :, None] - _ROOTS)
        shares /= shares.sum(axis=2, keepdims=True)
        # the polynomial is 0 at time 0, so that node has no share
        by_point = [[np.ascontiguousarray(node)[:, None] for node in point.T[1:]] for point in shares]
        return cls(root.tolist(), (weight * root).tolist(), by_point)


def _chebyshev() -> tuple[FloatArray, FloatArray]:
    """Square roots of the nodes' times as shares of the longest one, 0 included, and their barycentric weights."""
    roots = 0.5 * (1.0 - np.cos(np.arange(NODES + 1) * np.pi / NODES))
    weights = np.where(np.arange(NODES + 1) % 2, -1.0, 1.0)
    weights[[0, -1]] *= 0.5
    return roots, weights


_ROOTS, _WEIGHTS = _chebyshev()
_SOLVING = _Quadrature.of(_ROOTS[1:], SOLVING_POINTS)
_PREMIUM = _Quadrature.of(_ROOTS[-1:], PREMIUM_POINTS)


def premiums(puts: Puts) -> Premiums:
    """The early-exercise premium of each put, never negative; NaN where an input is.

    Within 1e-3 of the strike of QuantLib over times up to three years, rates and yields from -2 to 15 % and
    volatilities from 5 to 150 %, and within 1e-4 on 95 % of that. Exactly 0 where exercise before expiry is worth
    nothing: rate not positive and dividend yield not below it. Source: Andersen, Lake and Offengenden (2016).
    """
    return premium_changes(puts, ())[0]


def premium_changes(puts: Puts, others: Sequence[Puts]) -> tuple[Premiums, list[FloatArray]]:
    """The premium of each put, as `premiums` gives it, and how much more it is of each of `others`.

    The `others` are the same puts in another market, close by: their boundary is found from that of `puts` in a few
    steps, which are taken for `puts` too, so that what is left of the error cancels.
    """
    puts, *others = (put._replace(volatility=np.maximum(put.volatility, LOWEST_VOLATILITY)) for put in (puts, *others))
    # stock that costs money to hold is worth delivering early even where the strike earns nothing
    costs_to_hold = puts.dividend_yield < -NO_RATE
    earns = (puts.rate > NO_RATE) | ((puts.rate >= -NO_RATE) & costs_to_hold)
    count = len(puts.time)
    result = Premiums(np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, dtype=np.bool_))
    changes = [np.zeros(count) for _ in others]
    for chosen, method in ((earns, _by_boundary), (two_sided(puts), _by_tree)):
        if chosen.any():
            found, moved = method(puts.at(chosen), [other.at(chosen) for other in others])
            for whole, part in zip((*result, *changes), (*found, *moved), strict=True):
                whole[chosen] = part
    return result, changes


def two_sided(puts: Puts) -> BoolArray:
    """Whether early exercise pays between two boundaries only: a negative rate, and a dividend yield below it."""
    two: BoolArray = (puts.rate < -NO_RATE) & (puts.dividend_yield < puts.rate)
    return two


def _by_boundary(puts: Puts, others: Sequence[Puts]) -> tuple[Premiums, list[FloatArray]]:
    """`premium_changes` where there is one boundary."""
    puts, *others = (put._replace(rate=np.maximum(put.rate, NO_RATE)) for put in (puts, *others))
    boundary, ceiling = _boundary(puts)
    found = _integrated(puts, boundary, ceiling)
    if not others:
        return found, []
    start, *ends = (_value(put, *_boundary(put, start=boundary)) for put in (puts, *others))
    return found, [end - start for end in ends]


def _integrated(puts: Puts, boundary: FloatArray, ceiling: FloatArray) -> Premiums:
    """Kim's integral of what is earned while exercised: the interest on the strike less the dividends of the stock."""
    moneyness, time, rate, dividend_yield, volatility = puts
    squares = np.log(boundary / ceiling) ** 2
    log_moneyness, drift = np.log(moneyness / ceiling), rate - dividend_yield
    value, slope, curvature = (np.zeros(len(time)) for _ in range(3))
    longest = volatility * np.sqrt(time)
    for root, weight, shares in zip(_PREMIUM.root, _PREMIUM.weight, _PREMIUM.shares, strict=True):
        until = time * root**2
        deviation = longest * root
        far = (log_moneyness + _distance(squares, shares)[0] + drift * until) / deviation - 0.5 * deviation
        near = far + deviation
        interest = time * weight * rate * np.exp(-rate * until)
        dividends = time * weight * dividend_yield * np.exp(-dividend_yield * until)
        interest_density = interest / SQRT_2_PI * np.exp(-0.5 * far * far) / deviation
        dividend_density = dividends / SQRT_2_PI * np.exp(-0.5 * near * near) / deviation
        held = dividends * ndtr(-near)
        value += interest * ndtr(-far) - moneyness * held
        slope += dividend_density - interest_density / moneyness - held
        curvature += interest_density * (1.0 + far / deviation) / moneyness
        curvature += dividend_density * (1.0 - near / deviation)
    return Premiums(np.maximum(value, 0.0), slope, curvature / moneyness, moneyness <= boundary[-1])


def _value(puts: Puts, boundary: FloatArray, ceiling: FloatArray) -> FloatArray:
    """The integral alone, without its derivatives, and without the floor at 0."""
    moneyness, time, rate, dividend_yield, volatility = puts
    squares = np.log(boundary / ceiling) ** 2
    log_moneyness, drift = np.log(moneyness / ceiling), rate - dividend_yield
    value = np.zeros(len(time))
    longest = volatility * np.sqrt(time)
    for root, weight, shares in zip(_PREMIUM.root, _PREMIUM.weight, _PREMIUM.shares, strict=True):
        until = time * root**2
        deviation = longest * root
        far = (log_moneyness + _distance(squares, shares)[0] + drift * until) / deviation - 0.5 * deviation
        earned = rate * np.exp(-rate * until) * ndtr(-far)
        paid = dividend_yield * np.exp(-dividend_yield * until) * ndtr(-far - deviation)
        value += time * weight * (earned - moneyness * paid)
    return value


def _boundary(puts: Puts, *, start: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """The boundary at each node's time to expiry (nodes, options), and right before expiry: X; in strikes.

    In `STEPS_NEARBY` steps from `start`, a boundary close by, where that is given.
    """
    _, longest, rate, dividend_yield, volatility = puts
    pays_more = dividend_yield > rate
    ceiling = np.where(pays_more, rate / np.where(pays_more, dividend_yield, 1.0), 1.0)
    floor = _perpetual(rate, dividend_yield, volatility)
    time = longest * _ROOTS[1:, None] ** 2
    drift = (rate - dividend_yield) * time
    deviation = volatility * np.sqrt(time)
    interest, carry = np.exp(-rate * time), SQRT_2_PI * np.exp(-dividend_yield * time)
    boundary = _first_guess(drift, deviation, ceiling, floor) if start is None else np.clip(start, floor, ceiling)
    log_ceiling = np.log(ceiling)
    flows = _flows(time, rate, dividend_yield, deviation)
    for _ in range(ITERATIONS if start is None else STEPS_NEARBY):
        relative = np.log(boundary / ceiling)
        squares = relative * relative
        far = (relative + log_ceiling + drift) / deviation - 0.5 * deviation
        near = far + deviation
        density = np.exp(-0.5 * far * far) / deviation
        top = interest * density
        bottom = carry * (np.exp(-0.5 * near * near) / SQRT_2_PI / deviation + ndtr(near))
        for point, (root, shares) in enumerate(zip(_SOLVING.root, _SOLVING.shares, strict=True)):
            earned, paid, spread, per_spread = flows[point]
            far = (relative + _distance(squares, shares) + drift * root**2) * per_spread - 0.5 * spread
            near = far + spread
            far *= far
            far *= -0.5
            top += earned * np.exp(far) * per_spread
            bottom += paid * (np.exp(-0.5 * near * near) * per_spread / SQRT_2_PI + ndtr(near))
        solved = top / bottom
        boundary = np.clip(np.where(np.isfinite(solved), solved, boundary), floor, ceiling)
    return boundary, ceiling


def _flows(
    time: FloatArray, rate: FloatArray, dividend_yield: FloatArray, deviation: FloatArray
) -> list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """By point: what strike and stock earn there, discounted, and the deviation until then and one over it."""
    found: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = []
    for root, weight in zip(_SOLVING.root, _SOLVING.weight, strict=True):
        until, spread = time * root**2, deviation * root
        earned = weight * time * rate * np.exp(-rate * until)
        paid = SQRT_2_PI * weight * time * dividend_yield * np.exp(-dividend_yield * until)
        found.append((earned, paid, spread, 1.0 / spread))
    return found


def _distance(squares: FloatArray, shares: list[FloatArray]) -> FloatArray:
    """How far below X the boundary is at a point, -ln(B/X), from its squares at the nodes (nodes, options)."""
    square = shares[0] * squares[0]
    for share, node in zip(shares[1:], squares[1:], strict=True):
        square += share * node
    distance: FloatArray = np.sqrt(np.maximum(square, 0.0))
    return distance


def _perpetual(rate: FloatArray, dividend_yield: FloatArray, volatility: FloatArray) -> FloatArray:
    """The boundary of a put that never expires: below every other one. Source: Merton (1973)."""
    variance = volatility * volatility
    half = (rate - dividend_yield) / variance - 0.5
    spread = np.sqrt(half * half + 2.0 * rate / variance)
    # the negative root of the characteristic equation, without the difference of two large numbers
    root = np.where(half > 0.0, -(half + spread), -2.0 * rate / variance / (spread - half))
    floor: FloatArray = root / (root - 1.0)
    return floor


def _first_guess(drift: FloatArray, deviation: FloatArray, ceiling: FloatArray, floor: FloatArray) -> FloatArray:
    """From the boundary at expiry towards the perpetual one, as Bjerksund and Stensland (1993) interpolate a call's."""
    start, end = 1.0 / ceiling, 1.0 / floor
    pace = np.maximum(2.0 * deviation - drift, 0.3 * deviation)
    reached = -np.expm1(-pace * start / np.maximum(end - start, 1e-12))
    return np.clip(1.0 / (start + (end - start) * reached), floor, ceiling)


def _by_tree(puts: Puts, others: Sequence[Puts]) -> tuple[Premiums, list[FloatArray]]:
    """`premium_changes` where there are two boundaries."""
    found = _tree(puts)
    return found, [_tree(other).value - found.value for other in others]


def _tree(puts: Puts) -> Premiums:
    """The premium by a binomial tree: its value with exercise at every node less its value without.

    Slope and curvature are those of the parabola through the three nodes after two steps. Source: Leisen and Reimer,
    "Binomial models for option valuation", Applied Mathematical Finance 3, 1996.
    """
    moneyness, time, rate, dividend_yield, volatility = puts
    step = time / TREE_STEPS
    deviation = volatility * np.sqrt(time)
    middle = (np.log(moneyness) + (rate - dividend_yield) * time) / deviation
    middle = np.clip(middle, -LARGEST_DISTANCE, LARGEST_DISTANCE)
    up_chance = _leisen_reimer(middle - 0.5 * deviation)
    growth = np.exp((rate - dividend_yield) * step)
    up = growth * _leisen_reimer(middle + 0.5 * deviation) / up_chance
    down = (growth - up_chance * up) / (1.0 - up_chance)
    rise, fall = np.exp(-rate * step) * up_chance, np.exp(-rate * step) * (1.0 - up_chance)
    powers = np.arange(TREE_STEPS + 1)[:, None]
    european = np.maximum(1.0 - moneyness * up**powers * down ** (TREE_STEPS - powers), 0.0)
    american = european
    near: list[tuple[FloatArray, FloatArray]] = []
    for left in range(TREE_STEPS - 1, -1, -1):
        powers = np.arange(left + 1)[:, None]
        spot = moneyness * up**powers * down ** (left - powers)
        european = rise * european[1:] + fall * european[:-1]
        american = np.maximum(rise * american[1:] + fall * american[:-1], 1.0 - spot)
        if left == 2:
            near.append((spot, american - european))
    [(spot, extra)] = near
    lower = (extra[1] - extra[0]) / (spot[1] - spot[0])
    curvature = 2.0 * ((extra[2] - extra[1]) / (spot[2] - spot[1]) - lower) / (spot[2] - spot[0])
    slope = lower + 0.5 * curvature * (2.0 * moneyness - spot[0] - spot[1])
    value = np.maximum(american[0] - european[0], 0.0)
    return Premiums(value, slope, curvature, american[0] <= 1.0 - moneyness)


def _leisen_reimer(deviations: FloatArray) -> FloatArray:
    """The normal distribution as the chance of a binomial one (Peizer and Pratt's second inversion)."""
    scaled = deviations / (TREE_STEPS + 1.0 / 3.0 + 0.1 / (TREE_STEPS + 1.0))
    spread = np.sqrt(0.25 - 0.25 * np.exp(-scaled * scaled * (TREE_STEPS + 1.0 / 6.0)))
    return 0.5 + np.sign(deviations) * spread
