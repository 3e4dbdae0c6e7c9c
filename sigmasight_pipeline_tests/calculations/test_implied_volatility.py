"""Implied volatilities against published values, 150-digit prices, and the prices they are the inverse of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sigmasight_pipeline.calculations import implied_volatility as inversion
from sigmasight_pipeline.calculations.black_scholes import price
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatilityStatus, implied_volatility
from sigmasight_pipeline_tests.calculations.test_black_scholes import (
    EPSILON,
    EXACT_GRID,
    HAUG,
    HULL,
    OPTION,
    Options,
    exact_price,
    is_out_of_the_money,
    option_id,
    random_options,
    rows_of,
)

# source, kind, price, spot, strike, time, rate, implied volatility, tolerance
PUBLISHED_IMPLIED = [
    (HULL + "section 15.11", "C", 1.875, 21.0, 20.0, 0.25, 0.10, 0.235, 5e-4),
    (HAUG + "p. 2 inverted (vega 11)", "C", 2.1334, 60.0, 65.0, 0.25, 0.08, 0.30, 5e-6),
]


@pytest.mark.parametrize(
    ("source", "kind", "value", "spot", "strike", "time", "rate", "volatility", "tolerance"), PUBLISHED_IMPLIED
)
def test_published_implied_volatilities(
    source: str,
    kind: str,
    value: float,
    spot: float,
    strike: float,
    time: float,
    rate: float,
    volatility: float,
    tolerance: float,
) -> None:
    computed, status = implied_volatility(kind == "C", value, spot, strike, time, rate)
    assert status == ImpliedVolatilityStatus.OK, source
    assert computed == pytest.approx(volatility, abs=tolerance, rel=0), source


@pytest.mark.parametrize("option", EXACT_GRID, ids=option_id)
def test_the_inverse_of_150_digit_prices(option: Options) -> None:
    exact = float(exact_price(**option))
    inverted, status = implied_volatility(price=exact, **_without_volatility(option))
    if status == ImpliedVolatilityStatus.NO_TIME_VALUE:
        assert not is_out_of_the_money(option)
    else:
        assert status == ImpliedVolatilityStatus.OK
        # Rounding the price itself costs relative precision only, which out of the money is all there is.
        allowed = 1e-9 if is_out_of_the_money(option) else _allowed_error(value=exact, **option)
        assert abs(inverted - option["volatility"]) <= allowed


def _allowed_error(
    *, is_call: bool, spot: Any, strike: Any, time: Any, rate: Any, volatility: Any, dividend_yield: Any, value: Any
) -> Any:
    """1e-9, or what the rounding of the price and of the discounted spot and strike does to the volatility."""
    del is_call
    total = volatility * np.sqrt(time)
    d1 = (np.log(spot / strike) + (rate - dividend_yield) * time) / total + total / 2
    vega = spot * np.exp(-dividend_yield * time - d1 * d1 / 2) * np.sqrt(time / (2 * np.pi))
    with np.errstate(divide="ignore", over="ignore"):
        return np.maximum(1e-9, EPSILON * (value + spot + strike) / vega)


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
def test_statuses(expected: str, changes: Options) -> None:
    option: Options = {"is_call": True, "price": 10.0, "spot": 90.0, "strike": 100.0, "time": 1.0, "rate": 0.02}
    volatility, status = implied_volatility(**(option | changes))
    assert ImpliedVolatilityStatus(int(status)).code == expected
    assert np.isfinite(volatility) == (expected == "ok")
    assert expected != "ok" or volatility > 0


def test_every_status_has_a_row() -> None:
    # `insensitive` is said by what uses a volatility, of one that was inverted well (``option_volatility``)
    said_elsewhere = {ImpliedVolatilityStatus.INSENSITIVE.code}
    assert {status.code for status in ImpliedVolatilityStatus} - said_elsewhere == {code for code, _ in STATUSES}


def _without_volatility(options: Options) -> Options:
    return {name: values for name, values in options.items() if name != "volatility"}


def test_round_trip_over_a_wide_grid() -> None:
    options = random_options(100_000, seed=11)
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
def test_an_option_never_depends_on_its_batch(count: int) -> None:
    options = random_options(count, seed=5)
    missing = np.arange(count) % 7 == 0
    quoted = _without_volatility(options) | {"price": np.where(missing, np.nan, price(**options))}
    batch = implied_volatility(**quoted)
    assert len(set(batch.status)) >= 3
    for row in (*range(150), count - 1):
        alone = implied_volatility(**rows_of(quoted, row))
        assert_array_equal(alone.volatility, batch.volatility[row])
        assert alone.status == batch.status[row]
        # Every length and every alignment a vector unit could treat differently, and a strided view.
        for some in (slice(row, row + row % 19 + 1), slice(row % 5, row + 40, 3)):
            part = implied_volatility(**rows_of(quoted, some))
            assert_array_equal(part.volatility, batch.volatility[some])
            assert_array_equal(part.status, batch.status[some])


@pytest.mark.parametrize("factor", [1e-3, 0.2, 0.5, 3.0, 100.0])
def test_the_bracket_saves_a_bad_first_guess(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    options = random_options(20_000, seed=3)
    quoted = _without_volatility(options) | {"price": price(**options)}
    expected = implied_volatility(**quoted)
    good_guess = inversion._bachelier_guess
    monkeypatch.setattr(inversion, "_bachelier_guess", lambda x, value: factor * good_guess(x, value))
    found = implied_volatility(**quoted)
    assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.volatility, expected.volatility, rtol=1e-9, atol=1e-12)
    slow = implied_volatility(**quoted, max_iterations=2)
    assert (slow.status == ImpliedVolatilityStatus.NOT_CONVERGED).any()


def test_arguments_broadcast() -> None:
    strikes = np.array([[90.0], [100.0], [110.0]])
    times = np.array([0.1, 0.5, 1.0, 2.0])
    volatilities, statuses = implied_volatility(
        True, price(True, 100.0, strikes, times, 0.02, 0.3), 100.0, strikes, times, 0.02
    )
    assert volatilities.shape == statuses.shape == (3, 4)
    assert volatilities == pytest.approx(np.full((3, 4), 0.3), abs=1e-12)
    assert implied_volatility(True, [], 100.0, 90.0, 1.0, 0.02).volatility.shape == (0,)


@settings(max_examples=300, deadline=None)
@given(is_call=st.booleans(), share=st.floats(1e-200, 1, exclude_max=True), **OPTION)
def test_any_price_within_its_bounds_is_matched_by_its_volatility(
    is_call: bool, share: float, volatility: float, **option: Any
) -> None:
    del volatility
    floor, ceiling = price(is_call, volatility=0.0, **option), price(is_call, volatility=1e9, **option)
    value = floor + share * (ceiling - floor)
    inverted, status = implied_volatility(is_call, value, **option)
    if status == ImpliedVolatilityStatus.OK:
        matched = price(is_call, volatility=inverted, **option)
        assert matched == pytest.approx(value, abs=float(8 * EPSILON * (floor + ceiling)), rel=1e-11)
    else:
        limits = {
            ImpliedVolatilityStatus.NO_TIME_VALUE: value - floor,
            ImpliedVolatilityStatus.ABOVE_UPPER_BOUND: ceiling - value,
        }
        assert limits[ImpliedVolatilityStatus(int(status))] <= 16 * EPSILON * (floor + ceiling)
