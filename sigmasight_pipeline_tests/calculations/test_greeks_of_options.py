"""Greeks against published values, mibian, differences of 150-digit prices, and their own laws."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import mibian
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sigmasight_pipeline.calculations.black_scholes import BLOCK, Greeks, greeks, price
from sigmasight_pipeline_tests.calculations.test_black_scholes import (
    DIGITS,
    EPSILON,
    EXACT_GRID,
    HULL,
    OPTION,
    Options,
    exact_price,
    option_id,
    random_options,
    rows_of,
)

QUANTLIB = "QuantLib test-suite/europeanoption.cpp testGreekValues, from Haug 1998: "

# source, Greek, unit (what ours is multiplied by to get the published one), kind, spot, strike, time, rate, volatility,
# dividend yield, value, half a unit of its last digit
PUBLISHED = [
    (HULL + "example 19.1", "delta", 1, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, 0.522, 5e-4),
    (HULL + "example 19.2, per year", "theta", 365, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, -4.31, 5e-3),
    (HULL + "example 19.2, per calendar day", "theta", 1, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, -0.0118, 5e-5),
    (HULL + "example 19.4", "gamma", 1, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, 0.066, 5e-4),
    (HULL + "example 19.6, per 1.00 of volatility", "vega", 100, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, 12.1, 5e-2),
    (HULL + "example 19.7, per 1.00 of the rate", "rho", 100, "C", 49.0, 50.0, 0.3846, 0.05, 0.20, 0.0, 8.91, 5e-3),
    (QUANTLIB + "futures (q = r)", "delta", 1, "C", 105.0, 100.0, 0.5, 0.10, 0.36, 0.10, 0.5946, 5e-5),
    (QUANTLIB + "futures (q = r)", "delta", 1, "P", 105.0, 100.0, 0.5, 0.10, 0.36, 0.10, -0.3566, 5e-5),
    (QUANTLIB + "stock", "gamma", 1, "C", 55.0, 60.0, 0.75, 0.10, 0.30, 0.0, 0.0278, 5e-5),
    (QUANTLIB + "stock", "gamma", 1, "P", 55.0, 60.0, 0.75, 0.10, 0.30, 0.0, 0.0278, 5e-5),
    (QUANTLIB + "stock", "vega", 100, "C", 55.0, 60.0, 0.75, 0.10, 0.30, 0.0, 18.9358, 5e-5),
    (QUANTLIB + "stock", "vega", 100, "P", 55.0, 60.0, 0.75, 0.10, 0.30, 0.0, 18.9358, 5e-5),
    (QUANTLIB + "index, per year", "theta", 365, "P", 430.0, 405.0, 1 / 12, 0.07, 0.20, 0.05, -31.1924, 5e-5),
    (QUANTLIB + "index, per calendar day", "theta", 1, "P", 430.0, 405.0, 1 / 12, 0.07, 0.20, 0.05, -0.0855, 5e-5),
    (QUANTLIB + "stock", "rho", 100, "C", 72.0, 75.0, 1.0, 0.09, 0.19, 0.0, 38.7325, 5e-5),
]


@pytest.mark.parametrize(
    (
        "source",
        "greek",
        "unit",
        "kind",
        "spot",
        "strike",
        "time",
        "rate",
        "volatility",
        "dividend_yield",
        "value",
        "off",
    ),
    PUBLISHED,
    ids=[f"{row[0]} {row[1]} {row[3]}" for row in PUBLISHED],
)
def test_published_greeks(
    source: str,
    greek: str,
    unit: float,
    kind: str,
    spot: float,
    strike: float,
    time: float,
    rate: float,
    volatility: float,
    dividend_yield: float,
    value: float,
    off: float,
) -> None:
    computed = greeks(kind == "C", spot, strike, time, rate, volatility, dividend_yield)._asdict()
    assert computed[greek] * unit == pytest.approx(value, abs=off, rel=0), source


@pytest.mark.parametrize("dividend_yield", [0.0, 0.03])
def test_mibian_agrees(dividend_yield: float) -> None:
    """mibian takes rate and volatility in percent and whole days. A yield reaches it as S e^(-qT): its delta and gamma
    are then chained to S, and its theta lacks what the yield adds."""
    random = np.random.default_rng(7)
    for _ in range(200):
        spot, days = random.uniform(5, 500), int(random.integers(1, 1500))
        strike, rate = spot * random.uniform(0.5, 1.8), random.uniform(-0.01, 0.08)
        volatility = random.uniform(0.05, 1.2)
        carry = np.exp(-dividend_yield * days / 365)
        peer = mibian.BS([spot * carry, strike, rate * 100, days], volatility=volatility * 100)
        inputs = (spot, strike, days / 365, rate, volatility, dividend_yield)
        for is_call, side in ((True, "call"), (False, "put")):
            ours = greeks(is_call, *inputs)
            delta = getattr(peer, f"{side}Delta") * carry
            theirs = Greeks(
                delta=delta,
                gamma=peer.gamma * carry**2,
                theta=getattr(peer, f"{side}Theta") + dividend_yield * spot * delta / 365,
                vega=peer.vega,
                rho=getattr(peer, f"{side}Rho"),
            )
            assert ours == pytest.approx(theirs, rel=1e-11, abs=1e-14), (is_call, *inputs)


def differences(option: Options) -> tuple[Decimal, ...]:
    """Central differences of 150-digit prices, bumped by 1e-30 of each input; as exact as a double can tell."""
    with localcontext() as context:
        context.prec = DIGITS
        exact: Options = {name: value if name == "is_call" else Decimal(value) for name, value in option.items()}

        def bumped(name: str, steps: int) -> Decimal:
            return exact_price(**(exact | {name: exact[name] + steps * bump}))

        def slope(name: str) -> Decimal:
            return (bumped(name, 1) - bumped(name, -1)) / (2 * bump)

        bump = Decimal("1e-30")
        gamma = (bumped("spot", 1) - 2 * bumped("spot", 0) + bumped("spot", -1)) / bump**2
        return slope("spot"), gamma, -slope("time") / 365, slope("volatility") / 100, slope("rate") / 100


@pytest.mark.parametrize("option", EXACT_GRID, ids=option_id)
def test_greeks_are_differences_of_prices(option: Options) -> None:
    computed, expected = greeks(**option), differences(option)
    for name, ours, exact in zip(Greeks._fields, computed, expected, strict=True):
        # theta is a difference of what the yield brings, what the rate costs and the decay of the time value
        cancelled = 4 * EPSILON * (option["spot"] + option["strike"]) / 365 if name == "theta" else 0.0
        assert float(ours) == pytest.approx(float(exact), rel=2e-12, abs=cancelled), name


CALL_AT_LIMIT = 110 * np.exp(-0.02), 100 * np.exp(-0.05)
"""Discounted spot and strike of the calls below, a year from expiry."""
NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0)
FORWARD = (np.exp(-0.02), 0.0, (0.02 * CALL_AT_LIMIT[0] - 0.05 * CALL_AT_LIMIT[1]) / 365, 0.0, CALL_AT_LIMIT[1] / 100)
BAD = (np.nan,) * 5
PUT_FORWARD = (
    -np.exp(-0.02),
    0.0,
    (0.05 * CALL_AT_LIMIT[1] - 0.02 * 90 * np.exp(-0.02)) / 365,
    0.0,
    -CALL_AT_LIMIT[1] / 100,
)

LIMITS: list[tuple[str, Options, tuple[float, ...]]] = [
    ("expired in the money", {"time": 0.0}, NOTHING),
    ("expired out of the money", {"time": 0.0, "is_call": False}, NOTHING),
    ("expired at the money", {"time": 0.0, "spot": 100.0}, NOTHING),
    ("expired, no volatility", {"time": 0.0, "volatility": 0.0}, NOTHING),
    ("no volatility, in the money", {"volatility": 0.0}, FORWARD),
    ("no volatility, out of the money", {"volatility": 0.0, "is_call": False}, NOTHING),
    ("no volatility, put in the money", {"volatility": 0.0, "is_call": False, "spot": 90.0}, PUT_FORWARD),
    ("hardly any volatility", {"volatility": 1e-200}, FORWARD),
    ("a volatility that vanishes with time", {"volatility": 5e-324, "time": 1.0}, FORWARD),
    ("endless volatility", {"volatility": 1e200}, (np.exp(-0.02), 0.0, 0.02 * CALL_AT_LIMIT[0] / 365, 0.0, 0.0)),
    ("far in the money", {"spot": 1e9}, (np.exp(-0.02), 0.0, (2e7 * np.exp(-0.02) - 5 * np.exp(-0.05)) / 365, 0.0,
                                         np.exp(-0.05))),
    ("far out of the money", {"spot": 1e-9}, NOTHING),
    ("no volatility, at the money forward", {"volatility": 0.0, "spot": 100.0, "rate": 0.02},
     (np.exp(-0.02) / 2, np.inf, 0.0, np.exp(-0.02) / np.sqrt(2 * np.pi), np.exp(-0.02) / 2)),
    ("negative volatility", {"volatility": -0.2}, BAD),
    ("unknown volatility", {"volatility": np.nan}, BAD),
    ("infinite volatility", {"volatility": np.inf}, BAD),
    ("zero strike", {"strike": 0.0}, BAD),
    ("negative strike", {"strike": -1.0}, BAD),
    ("zero spot", {"spot": 0.0}, BAD),
    ("infinite spot", {"spot": np.inf}, BAD),
    ("unknown spot", {"spot": np.nan}, BAD),
    ("expiry before the session", {"time": -1 / 365}, BAD),
    ("unknown time", {"time": np.nan}, BAD),
    ("unknown rate", {"rate": np.nan}, BAD),
    ("unknown yield", {"dividend_yield": np.nan}, BAD),
    ("expired, unknown spot", {"time": 0.0, "spot": np.nan}, BAD),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_limits_and_bad_input(changes: Options, expected: tuple[float, ...]) -> None:
    option = {
        "is_call": True, "spot": 110.0, "strike": 100.0, "time": 1.0, "rate": 0.05, "volatility": 0.2,
        "dividend_yield": 0.02,
    } | changes  # fmt: skip
    assert greeks(**option) == pytest.approx(expected, rel=1e-13, abs=0, nan_ok=True), option


@pytest.mark.parametrize("count", [1_000, 3 * BLOCK + 1, 1_000_000])
def test_an_option_never_depends_on_its_batch(count: int) -> None:
    options = random_options(count, seed=5)
    options["time"][::11] = 0.0
    options["volatility"][::13] = 0.0
    options["spot"][::17] = np.nan
    batch = greeks(**options)
    for row in (*range(150), count - 1):
        assert_array_equal(greeks(**rows_of(options, row)), _at(batch, row))
        # Every length and every alignment a vector unit could treat differently, and a strided view.
        for some in (slice(row, row + row % 19 + 1), slice(row % 5, row + 40, 3)):
            assert_array_equal(greeks(**rows_of(options, some)), _at(batch, some))


def _at(batch: Greeks, rows: Any) -> list[Any]:
    return [values[rows] for values in batch]


def test_no_option_of_a_wide_grid_overflows() -> None:
    computed = greeks(**random_options(200_000, seed=11))
    for name, values in computed._asdict().items():
        assert np.isfinite(values).all(), name
    assert (np.abs(computed.delta) <= 1).all()
    assert (computed.gamma >= 0).all()
    assert (computed.vega >= 0).all()


def test_arguments_broadcast() -> None:
    assert greeks(True, 100.0, [[90.0], [100.0]], [0.1, 0.5, 1.0], 0.02, 0.3).rho.shape == (2, 3)
    assert greeks(True, 100.0, 90.0, 1.0, 0.02, 0.3).delta.shape == ()
    assert greeks(True, [], 90.0, 1.0, 0.02, 0.3).gamma.shape == (0,)


@settings(max_examples=200, deadline=None)
@given(**OPTION)
def test_put_call_parity(**option: float) -> None:
    """Long call and short put is the forward: S e^(-qT) - K e^(-rT)."""
    call, put = greeks(True, **option), greeks(False, **option)
    carry = np.exp(-option["dividend_yield"] * option["time"])
    spot, strike = option["spot"] * carry, option["strike"] * np.exp(-option["rate"] * option["time"])
    assert call.delta - put.delta == pytest.approx(carry, abs=4 * EPSILON, rel=0)
    assert call.gamma == put.gamma
    assert call.vega == put.vega
    assert call.rho - put.rho == pytest.approx(strike * option["time"] / 100, rel=4 * EPSILON)
    forward_theta = (option["dividend_yield"] * spot - option["rate"] * strike) / 365
    rounding = 8 * EPSILON * (spot + strike + abs(float(call.theta)) + abs(float(put.theta)))
    assert call.theta - put.theta == pytest.approx(forward_theta, abs=float(rounding), rel=0)


@settings(max_examples=200, deadline=None)
@given(is_call=st.booleans(), **OPTION)
def test_greeks_solve_the_black_scholes_equation(is_call: bool, **option: float) -> None:
    """theta + (r - q) S delta + volatility^2 S^2 gamma / 2 = r V, per year."""
    spot, rate, dividend_yield = option["spot"], option["rate"], option["dividend_yield"]
    value, found = price(is_call, **option), greeks(is_call, **option)
    terms = (
        365 * found.theta,
        (rate - dividend_yield) * spot * found.delta,
        0.5 * option["volatility"] ** 2 * spot**2 * found.gamma,
        -rate * value,
    )
    # a rounded d1 moves the density by d1^2 of its size
    rounding = 1e-11 * float(sum(map(abs, terms)) + 1e-3 * (spot + option["strike"]))
    assert sum(terms) == pytest.approx(0.0, abs=rounding), terms
