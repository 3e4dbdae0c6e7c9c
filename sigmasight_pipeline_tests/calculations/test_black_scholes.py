"""Prices and implied volatilities against published values, mibian, 150-digit arithmetic and their own laws."""

from __future__ import annotations

import itertools
from decimal import Decimal, localcontext
from functools import cache

import mibian
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sigmasight_pipeline.calculations import black_scholes
from sigmasight_pipeline.calculations.black_scholes import (
    ImpliedVolatilityStatus,
    implied_volatility,
    price,
)

EPSILON = float(np.finfo(np.float64).eps)

HULL = "Hull, Options, Futures, and Other Derivatives, 9th ed., "
HAUG = "Haug, The Complete Guide to Option Pricing Formulas, 1998, "

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
def test_published_prices(source, kind, spot, strike, time, rate, volatility, dividend_yield, value, tolerance):
    computed = price(kind == "C", spot, strike, time, rate, volatility, dividend_yield)
    assert computed == pytest.approx(value, abs=tolerance, rel=0), source


# source, kind, price, spot, strike, time, rate, implied volatility, tolerance
PUBLISHED_IMPLIED = [
    (HULL + "section 15.11", "C", 1.875, 21.0, 20.0, 0.25, 0.10, 0.235, 5e-4),
    (HAUG + "p. 2 inverted (vega 11)", "C", 2.1334, 60.0, 65.0, 0.25, 0.08, 0.30, 5e-6),
]


@pytest.mark.parametrize(
    ("source", "kind", "value", "spot", "strike", "time", "rate", "volatility", "tolerance"), PUBLISHED_IMPLIED
)
def test_published_implied_volatilities(source, kind, value, spot, strike, time, rate, volatility, tolerance):
    computed, status = implied_volatility(kind == "C", value, spot, strike, time, rate)
    assert status == ImpliedVolatilityStatus.OK, source
    assert computed == pytest.approx(volatility, abs=tolerance, rel=0), source


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


def _exact_price(is_call, spot, strike, time, rate, volatility, dividend_yield) -> Decimal:
    """The textbook formula on the exact values of the given floats, to far more digits than cancel."""
    with localcontext() as context:
        context.prec = DIGITS
        numbers = (spot, strike, time, rate, volatility, dividend_yield)
        s, k, t, r, v, q = (Decimal(float(number)) for number in numbers)
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


@pytest.mark.parametrize("option", EXACT_GRID, ids=lambda option: " ".join(map(str, option.values())))
def test_price_and_its_inverse_against_150_digits(option):
    exact = _exact_price(**option)
    assert exact > 0
    forward = option["spot"] * np.exp((option["rate"] - option["dividend_yield"]) * option["time"])
    out_of_the_money = option["is_call"] == (forward < option["strike"])
    # Out of the money every digit counts; in the money the discounted spot and strike are rounded.
    rounding = 2e-12 * float(exact) if out_of_the_money else 2 * EPSILON * (option["spot"] + option["strike"])
    assert abs(Decimal(float(price(**option))) - exact) <= rounding

    inverted, status = implied_volatility(price=float(exact), **_without_volatility(option))
    if status == ImpliedVolatilityStatus.NO_TIME_VALUE:
        assert not out_of_the_money
    else:
        assert status == ImpliedVolatilityStatus.OK
        # Rounding the price itself costs relative precision only, which out of the money is all there is.
        allowed = 1e-9 if out_of_the_money else _allowed_error(value=float(exact), **option)
        assert abs(inverted - option["volatility"]) <= allowed


def _allowed_error(*, is_call, spot, strike, time, rate, volatility, dividend_yield, value):
    """1e-9, or what the rounding of the price and of the discounted spot and strike does to the volatility."""
    del is_call
    total = volatility * np.sqrt(time)
    d1 = (np.log(spot / strike) + (rate - dividend_yield) * time) / total + total / 2
    vega = spot * np.exp(-dividend_yield * time - d1 * d1 / 2) * np.sqrt(time / (2 * np.pi))
    with np.errstate(divide="ignore", over="ignore"):
        return np.maximum(1e-9, EPSILON * (value + spot + strike) / vega)


@pytest.mark.parametrize("dividend_yield", [0.0, 0.03])
def test_mibian_agrees(dividend_yield):
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
def test_limits_and_bad_input_of_price(is_call, spot, strike, time, volatility, expected):
    computed = price(is_call, spot, strike, time, 0.05, volatility, 0.02)
    assert computed == pytest.approx(expected, rel=1e-14, nan_ok=True)


STATUSES = [
    ("ok", {"price": 10.0}),
    ("ok", {"price": 5e-324}),
    ("ok", {"price": 89.999}),
    ("ok", {"spot": 150.0, "price": 60.0}),
    ("below_intrinsic", {"spot": 150.0, "price": 49.0}),
    ("below_intrinsic", {"is_call": False, "spot": 50.0, "price": 40.0}),
    ("no_time_value", {"price": 0.0}),
    ("no_time_value", {"rate": 0.0, "spot": 150.0, "price": 50.0}),
    ("no_time_value", {"rate": 0.0, "spot": 150.0, "price": np.nextafter(50.0, 51.0)}),
    ("no_time_value", {"rate": 0.0, "spot": 150.0, "price": np.nextafter(50.0, 49.0)}),
    ("above_upper_bound", {"price": 90.0}),
    ("above_upper_bound", {"price": np.nextafter(90.0, 89.0)}),
    ("above_upper_bound", {"price": 1e9}),
    ("above_upper_bound", {"is_call": False, "rate": 0.0, "price": 100.0}),
    ("expired", {"time": 0.0}),
    ("expired", {"time": -1.0}),
    ("bad_input", {"price": -0.01}),
    ("bad_input", {"price": np.nan}),
    ("bad_input", {"price": np.inf}),
    ("bad_input", {"spot": 0.0}),
    ("bad_input", {"spot": np.nan}),
    ("bad_input", {"strike": -100.0}),
    ("bad_input", {"strike": np.inf}),
    ("bad_input", {"time": np.nan}),
    ("bad_input", {"time": 0.0, "price": np.nan}),
    ("bad_input", {"rate": np.nan}),
    ("bad_input", {"rate": -1e6}),
    ("bad_input", {"dividend_yield": np.nan}),
    ("not_converged", {"price": 10.0, "max_iterations": 1}),
]


@pytest.mark.parametrize(("expected", "changes"), STATUSES)
def test_statuses(expected, changes):
    option = {"is_call": True, "price": 10.0, "spot": 90.0, "strike": 100.0, "time": 1.0, "rate": 0.02}
    volatility, status = implied_volatility(**(option | changes))
    assert ImpliedVolatilityStatus(int(status)).code == expected
    assert np.isfinite(volatility) == (expected == "ok")
    assert expected != "ok" or volatility > 0


def test_every_status_has_a_row():
    assert {status.code for status in ImpliedVolatilityStatus} == {code for code, _ in STATUSES}


def _options(count, seed):
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


def _without_volatility(options):
    return {name: values for name, values in options.items() if name != "volatility"}


def test_round_trip_over_a_wide_grid():
    options = _options(100_000, seed=11)
    value = price(**options)
    inverted, status = implied_volatility(price=value, **_without_volatility(options))
    # A volatility is out of reach only where the price, rounded to a double, has no time value left.
    assert set(status) <= {ImpliedVolatilityStatus.OK, ImpliedVolatilityStatus.NO_TIME_VALUE}
    time_value = value - price(**(options | {"volatility": 0.0}))
    error = np.abs(inverted - options["volatility"])
    usual = time_value > 1e-4 * options["spot"]
    assert usual.mean() > 0.35
    assert error[usual].max() < 1e-9
    normal = (status == ImpliedVolatilityStatus.OK) & (value > np.finfo(np.float64).tiny)
    wrong = np.flatnonzero(normal & (error > _allowed_error(value=value, **options)))
    assert not len(wrong), {name: values[wrong[0]] for name, values in options.items()}


@pytest.mark.parametrize("count", [1_000, 1_000_000])
def test_an_option_never_depends_on_its_batch(count):
    options = _options(count, seed=5)
    value = price(**options)
    quoted = _without_volatility(options) | {"price": np.where(np.arange(count) % 7 == 0, np.nan, value)}
    batch = implied_volatility(**quoted)
    assert len(set(batch.status)) >= 3
    for row in (*range(150), count - 1):
        assert_array_equal(price(**_rows(options, row)), value[row])
        alone = implied_volatility(**_rows(quoted, row))
        assert_array_equal(alone.volatility, batch.volatility[row])
        assert alone.status == batch.status[row]
        # Every length and every alignment a vector unit could treat differently, and a strided view.
        for some in (slice(row, row + row % 19 + 1), slice(row % 5, row + 40, 3)):
            part = implied_volatility(**_rows(quoted, some))
            assert_array_equal(price(**_rows(options, some)), value[some])
            assert_array_equal(part.volatility, batch.volatility[some])
            assert_array_equal(part.status, batch.status[some])


def _rows(options, rows):
    return {name: values[rows] for name, values in options.items()}


@pytest.mark.parametrize("factor", [1e-3, 0.2, 0.5, 3.0, 100.0])
def test_the_bracket_saves_a_bad_first_guess(monkeypatch, factor):
    options = _options(20_000, seed=3)
    quoted = _without_volatility(options) | {"price": price(**options)}
    expected = implied_volatility(**quoted)
    good_guess = black_scholes._bachelier_guess
    monkeypatch.setattr(black_scholes, "_bachelier_guess", lambda x, value: factor * good_guess(x, value))
    found = implied_volatility(**quoted)
    assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.volatility, expected.volatility, rtol=1e-9, atol=1e-12)
    slow = implied_volatility(**quoted, max_iterations=2)
    assert (slow.status == ImpliedVolatilityStatus.NOT_CONVERGED).any()


def test_arguments_broadcast():
    strikes = np.array([[90.0], [100.0], [110.0]])
    times = np.array([0.1, 0.5, 1.0, 2.0])
    values = price(True, 100.0, strikes, times, 0.02, 0.3)
    volatilities, statuses = implied_volatility(True, values, 100.0, strikes, times, 0.02)
    assert values.shape == volatilities.shape == statuses.shape == (3, 4)
    assert volatilities == pytest.approx(np.full((3, 4), 0.3), abs=1e-12)
    assert price(True, 100.0, 90.0, 1.0, 0.02, 0.3).shape == ()
    assert implied_volatility(True, [], 100.0, 90.0, 1.0, 0.02).volatility.shape == (0,)


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
def test_put_call_parity_and_bounds(**option):
    call, put = price(True, **option), price(False, **option)
    spot = option["spot"] * np.exp(-option["dividend_yield"] * option["time"])
    strike = option["strike"] * np.exp(-option["rate"] * option["time"])
    assert call - put == pytest.approx(spot - strike, abs=4 * EPSILON * (spot + strike), rel=0)
    assert max(spot - strike, 0) <= call <= spot
    assert max(strike - spot, 0) <= put <= strike


@settings(max_examples=300, deadline=None)
@given(is_call=st.booleans(), step=st.floats(1e-6, 1), **OPTION)
def test_monotone_in_volatility_spot_and_strike(is_call, step, **option):
    value = price(is_call, **option)
    rounding = 8 * EPSILON * (option["spot"] + option["strike"]) * np.exp(0.05 * option["time"])
    towards_the_money = 1 if is_call else -1
    for name, direction in (("volatility", 1), ("spot", towards_the_money), ("strike", -towards_the_money)):
        moved = price(is_call, **(option | {name: option[name] * (1 + step)}))
        assert direction * (moved - value) >= -rounding, name


@settings(max_examples=300, deadline=None)
@given(is_call=st.booleans(), share=st.floats(1e-200, 1, exclude_max=True), **OPTION)
def test_any_price_within_its_bounds_is_matched_by_its_volatility(is_call, share, volatility, **option):
    del volatility
    floor, ceiling = price(is_call, volatility=0.0, **option), price(is_call, volatility=1e9, **option)
    value = floor + share * (ceiling - floor)
    inverted, status = implied_volatility(is_call, value, **option)
    if status == ImpliedVolatilityStatus.OK:
        matched = price(is_call, volatility=inverted, **option)
        assert matched == pytest.approx(value, abs=8 * EPSILON * (floor + ceiling), rel=1e-11)
    else:
        limits = {
            ImpliedVolatilityStatus.NO_TIME_VALUE: value - floor,
            ImpliedVolatilityStatus.ABOVE_UPPER_BOUND: ceiling - value,
        }
        assert limits[ImpliedVolatilityStatus(int(status))] <= 16 * EPSILON * (floor + ceiling)
