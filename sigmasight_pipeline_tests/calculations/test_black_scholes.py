"""Prices against published values, mibian, 150-digit arithmetic and their own laws."""

from __future__ import annotations

import itertools
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import mibian
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sigmasight_pipeline.calculations.black_scholes import price

EPSILON = float(np.finfo(np.float64).eps)

HULL = "Hull, Options, Futures, and Other Derivatives, 9th ed., "
HAUG = "Haug, The Complete Guide to Option Pricing Formulas, 1998, "

Options = dict[str, Any]
"""An option, or arrays of them, by the arguments of `price`."""

# source, kind, spot, strike, time, rate, volatility, dividend yield, value, tolerance. Half a unit of the last
# digit; Haug's tables (pp. 24, 27) are computed with a polynomial for N(x): a whole unit, as QuantLib takes them.
PUBLISHED = [
    (HULL + "example 15.6", "C", 42.0, 40.0, 0.5, 0.10, 0.20, 0.0, 4.76, 5e-3),
    (HULL + "example 15.6", "P", 42.0, 40.0, 0.5, 0.10, 0.20, 0.0, 0.81, 5e-3),
    (HULL + "example 17.1", "C", 930.0, 900.0, 2 / 12, 0.08, 0.20, 0.03, 51.83, 5e-3),
    (HAUG + "p. 2, Black-Scholes", "C", 60.0, 65.0, 0.25, 0.08, 0.30, 0.0, 2.1334, 5e-5),
    (HAUG + "p. 4, Merton", "P", 100.0, 95.0, 0.5, 0.10, 0.20, 0.05, 2.4648, 5e-5),
    (HAUG + "p. 5, Black 76 (q = r)", "C", 19.0, 19.0, 0.75, 0.10, 0.28, 0.10, 1.7011, 5e-5),
    (HAUG + "p. 5, Black 76 (q = r)", "P", 19.0, 19.0, 0.75, 0.10, 0.28, 0.10, 1.7011, 5e-5),
    (HAUG + "p. 6, Garman-Kohlhagen", "C", 1.56, 1.60, 0.5, 0.06, 0.12, 0.08, 0.0291, 5e-5),
    (HAUG + "p. 8, generalized", "P", 75.0, 70.0, 0.5, 0.10, 0.35, 0.05, 4.0870, 5e-5),
    (HAUG + "p. 24", "C", 90.0, 100.0, 0.1, 0.10, 0.15, 0.10, 0.0205, 1e-4),
    (HAUG + "p. 24", "C", 100.0, 100.0, 0.1, 0.10, 0.15, 0.10, 1.8734, 1e-4),
    (HAUG + "p. 24", "C", 110.0, 100.0, 0.1, 0.10, 0.25, 0.10, 10.3556, 1e-4),
    (HAUG + "p. 24", "C", 100.0, 100.0, 0.5, 0.10, 0.35, 0.10, 9.3679, 1e-4),
    (HAUG + "p. 24", "P", 90.0, 100.0, 0.1, 0.10, 0.15, 0.10, 9.9210, 1e-4),
    (HAUG + "p. 24", "P", 110.0, 100.0, 0.1, 0.10, 0.15, 0.10, 0.0408, 1e-4),
    (HAUG + "p. 24", "P", 90.0, 100.0, 0.5, 0.10, 0.35, 0.10, 14.4452, 1e-4),
    (HAUG + "p. 27", "C", 42.0, 40.0, 0.75, 0.04, 0.35, 0.08, 5.0975, 1e-4),
]


@pytest.mark.parametrize(
    ("source", "kind", "spot", "strike", "time", "rate", "volatility", "dividend_yield", "value", "tolerance"),
    PUBLISHED,
)
def test_published_prices(
    source: str,
    kind: str,
    spot: float,
    strike: float,
    time: float,
    rate: float,
    volatility: float,
    dividend_yield: float,
    value: float,
    tolerance: float,
) -> None:
    computed = price(kind == "C", spot, strike, time, rate, volatility, dividend_yield)
    assert computed == pytest.approx(value, abs=tolerance, rel=0), source


DIGITS = 150


@cache
def _pi() -> Decimal:
    """Machin: pi / 4 = 4 arctan(1/5) - arctan(1/239)."""

    def arctan_of_inverse(number: int) -> Decimal:
        power, total, place = Decimal(1) / number, Decimal(0), 1
        while power > Decimal(10) ** -(DIGITS + 5):
            total += power / place if place % 4 == 1 else -power / place
            power, place = power / number**2, place + 2
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))


def _normal_cdf(x: Decimal) -> Decimal:
    """N(x) = 1/2 + n(x) (x + x^3/3 + x^5/(3*5) + ...)."""
    term = total = x
    odd = 1
    while abs(term) > Decimal(10) ** -DIGITS:
        odd += 2
        term *= x * x / odd
        total += term
    return Decimal("0.5") + total * (-x * x / 2).exp() / (2 * _pi()).sqrt()


def exact_price(
    is_call: bool, spot: Any, strike: Any, time: Any, rate: Any, volatility: Any, dividend_yield: Any
) -> Decimal:
    """The textbook formula on the exact values of the given numbers, to far more digits than cancel."""
    with localcontext() as context:
        context.prec = DIGITS
        numbers = (spot, strike, time, rate, volatility, dividend_yield)
        s, k, t, r, v, q = (Decimal(number) for number in numbers)
        d1 = ((s / k).ln() + (r - q + v * v / 2) * t) / (v * t.sqrt())
        d2 = d1 - v * t.sqrt()
        call = s * (-q * t).exp() * _normal_cdf(d1) - k * (-r * t).exp() * _normal_cdf(d2)
        return call if is_call else call - s * (-q * t).exp() + k * (-r * t).exp()


EXACT_GRID = [
    {
        "is_call": is_call,
        "spot": 100.0,
        "strike": 100.0 * moneyness,
        "time": time,
        "rate": 0.03,
        "volatility": volatility,
        "dividend_yield": dividend_yield,
    }
    for is_call, moneyness, (time, volatility), dividend_yield in itertools.product(
        (True, False),
        (0.3, 0.8, 0.999, 1.0, 1.05, 1.6, 3.0),
        ((1 / 365, 0.6), (30 / 365, 0.25), (1.0, 0.2), (1.0, 3.0), (10.0, 0.08), (10.0, 3.0)),
        (0.0, 0.02),
    )
    if abs(np.log(moneyness)) < 14 * volatility * np.sqrt(time)
]


def option_id(option: Options) -> str:
    """A short name of an option of the grid."""
    return " ".join(map(str, option.values()))


def is_out_of_the_money(option: Options) -> bool:
    """By the forward."""
    forward = option["spot"] * np.exp((option["rate"] - option["dividend_yield"]) * option["time"])
    return bool(option["is_call"] == (forward < option["strike"]))


def rounding_of(option: Options, exact: Decimal) -> float:
    """Out of the money every digit counts; in the money the discounted spot and strike are rounded."""
    return 2e-12 * float(exact) if is_out_of_the_money(option) else 2 * EPSILON * (option["spot"] + option["strike"])


@pytest.mark.parametrize("option", EXACT_GRID, ids=option_id)
def test_price_against_150_digits(option: Options) -> None:
    exact = exact_price(**option)
    assert exact > 0
    assert abs(Decimal(float(price(**option))) - exact) <= rounding_of(option, exact)


@pytest.mark.parametrize("dividend_yield", [0.0, 0.03])
def test_mibian_agrees(dividend_yield: float) -> None:
    """mibian takes rate and volatility in percent and whole days; a yield reaches it as S e^(-qT)."""
    random = np.random.default_rng(7)
    for _ in range(100):
        spot, days = random.uniform(5, 500), int(random.integers(1, 1500))
        strike, rate = spot * random.uniform(0.5, 1.8), random.uniform(-0.01, 0.08)
        volatility = random.uniform(0.05, 1.2)
        paid_out = spot * np.exp(-dividend_yield * days / 365)
        peer = mibian.BS([paid_out, strike, rate * 100, days], volatility=volatility * 100)
        inputs = (spot, strike, days / 365, rate, volatility, dividend_yield)
        assert price(True, *inputs) == pytest.approx(peer.callPrice, abs=1e-12 * (spot + strike)), inputs
        assert price(False, *inputs) == pytest.approx(peer.putPrice, abs=1e-12 * (spot + strike)), inputs


@pytest.mark.parametrize(
    ("is_call", "spot", "strike", "time", "volatility", "expected"),
    [
        (True, 110.0, 100.0, 0.0, 0.2, 10.0),
        (False, 110.0, 100.0, 0.0, 0.2, 0.0),
        (True, 100.0, 100.0, 0.0, 0.2, 0.0),
        (False, 90.0, 100.0, 0.0, 0.0, 10.0),
        (True, 110.0, 100.0, 1.0, 0.0, 110 * np.exp(-0.02) - 100 * np.exp(-0.05)),
        (False, 110.0, 100.0, 1.0, 0.0, 0.0),
        (False, 90.0, 100.0, 1.0, 0.0, 100 * np.exp(-0.05) - 90 * np.exp(-0.02)),
        (True, 110.0, 100.0, 1.0, 1e-200, 110 * np.exp(-0.02) - 100 * np.exp(-0.05)),
        (True, 110.0, 100.0, 1.0, 1e200, 110 * np.exp(-0.02)),
        (False, 110.0, 100.0, 1.0, 1e200, 100 * np.exp(-0.05)),
        (True, np.nan, 100.0, 1.0, 0.2, np.nan),
        (True, np.inf, 100.0, 1.0, 0.2, np.nan),
        (True, 0.0, 100.0, 1.0, 0.2, np.nan),
        (True, -1.0, 100.0, 1.0, 0.2, np.nan),
        (True, 100.0, 0.0, 1.0, 0.2, np.nan),
        (True, 100.0, 100.0, -1.0, 0.2, np.nan),
        (True, 100.0, 100.0, 1.0, -0.2, np.nan),
        (True, 100.0, 100.0, 1.0, np.nan, np.nan),
    ],
)
def test_limits_and_bad_input_of_price(
    is_call: bool, spot: float, strike: float, time: float, volatility: float, expected: float
) -> None:
    computed = price(is_call, spot, strike, time, 0.05, volatility, 0.02)
    assert computed == pytest.approx(expected, rel=1e-14, nan_ok=True)


def random_options(count: int, seed: int) -> Options:
    """Options over moneyness 0.3-3, one day to ten years, volatilities 1-300 %."""
    random = np.random.default_rng(seed)
    spot = random.uniform(1, 1000, count)
    return {
        "is_call": random.random(count) < 0.5,
        "spot": spot,
        "strike": spot * np.exp(random.uniform(np.log(0.3), np.log(3), count)),
        "time": np.exp(random.uniform(np.log(1 / 365), np.log(10), count)),
        "rate": random.uniform(-0.01, 0.10, count),
        "volatility": np.exp(random.uniform(np.log(0.01), np.log(3), count)),
        "dividend_yield": random.uniform(0, 0.05, count),
    }


def rows_of(options: Options, rows: Any) -> Options:
    return {name: values[rows] for name, values in options.items()}


@pytest.mark.parametrize("count", [1_000, 1_000_000])
def test_an_option_never_depends_on_its_batch(count: int) -> None:
    options = random_options(count, seed=5)
    value = price(**options)
    for row in (*range(150), count - 1):
        assert_array_equal(price(**rows_of(options, row)), value[row])
        # Every length and every alignment a vector unit could treat differently, and a strided view.
        for some in (slice(row, row + row % 19 + 1), slice(row % 5, row + 40, 3)):
            assert_array_equal(price(**rows_of(options, some)), value[some])


def test_arguments_broadcast() -> None:
    assert price(True, 100.0, [[90.0], [100.0]], [0.1, 0.5, 1.0], 0.02, 0.3).shape == (2, 3)
    assert price(True, 100.0, 90.0, 1.0, 0.02, 0.3).shape == ()
    assert price(True, [], 90.0, 1.0, 0.02, 0.3).shape == (0,)


OPTION = {
    "spot": st.floats(0.01, 1e5),
    "strike": st.floats(0.01, 1e5),
    "time": st.floats(1e-4, 30),
    "rate": st.floats(-0.05, 0.3),
    "volatility": st.floats(1e-3, 10),
    "dividend_yield": st.floats(0, 0.2),
}


@settings(max_examples=300, deadline=None)
@given(**OPTION)
def test_put_call_parity_and_bounds(**option: float) -> None:
    call, put = price(True, **option), price(False, **option)
    spot = option["spot"] * np.exp(-option["dividend_yield"] * option["time"])
    strike = option["strike"] * np.exp(-option["rate"] * option["time"])
    assert call - put == pytest.approx(spot - strike, abs=4 * EPSILON * (spot + strike), rel=0)
    assert max(spot - strike, 0) <= call <= spot
    assert max(strike - spot, 0) <= put <= strike


@settings(max_examples=300, deadline=None)
@given(is_call=st.booleans(), step=st.floats(1e-6, 1), **OPTION)
def test_monotone_in_volatility_spot_and_strike(is_call: bool, step: float, **option: float) -> None:
    value = price(is_call, **option)
    rounding = 8 * EPSILON * (option["spot"] + option["strike"]) * np.exp(0.05 * option["time"])
    towards_the_money = 1 if is_call else -1
    for name, direction in (("volatility", 1), ("spot", towards_the_money), ("strike", -towards_the_money)):
        moved = price(is_call, **(option | {name: option[name] * (1 + step)}))
        assert direction * (moved - value) >= -rounding, name
