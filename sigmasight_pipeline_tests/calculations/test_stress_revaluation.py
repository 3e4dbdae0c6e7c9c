"""Re-priced options against mibian, and the limits: no shock, an underlying that is gone, unknown inputs."""

from __future__ import annotations

from math import exp
from typing import Any

import mibian
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.stress_revaluation import Options, option_pnl

NAN = float("nan")


def held(**fields: Any) -> Options:
    """One call at the money, half a year to go, ten contracts held."""
    given_fields: dict[str, Any] = {
        "is_call": True,
        "spot": 100.0,
        "strike": 100.0,
        "time": 0.5,
        "rate": 0.04,
        "volatility": 0.3,
        "units": 1000.0,
        "close": 1e6,
        "is_american": False,
        "dividend_yield": 0.0,
        **fields,
    }
    return Options(*(np.array([given_fields[name]]) for name in Options._fields))


def pnl(options: Options, move: float, volatility: float = 0.0, rate: float = 0.0) -> float:
    found = option_pnl(options, np.array([[move]]), np.array([volatility]), np.array([rate]))
    assert found.shape == (1, 1)
    return float(found[0, 0])


def oracle(options: Options, move: float, volatility: float, rate: float) -> float:
    """mibian takes rate and volatility in percent and whole days."""
    side = "callPrice" if options.is_call[0] else "putPrice"
    days = options.time[0] * 365

    def value(spot: float, level: float, sigma: float) -> float:
        return float(getattr(mibian.BS([spot, options.strike[0], level * 100, days], volatility=sigma * 100), side))

    shocked = value(options.spot[0] * (1 + move), options.rate[0] + rate, options.volatility[0] * (1 + volatility))
    return float(options.units[0] * (shocked - value(options.spot[0], options.rate[0], options.volatility[0])))


CASES = [
    ("call, spot only", held(), -0.2, 0.0, 0.0),
    ("put, spot only", held(is_call=False), -0.2, 0.0, 0.0),
    ("volatility only", held(), 0.0, 1.5, 0.0),
    ("rate only", held(strike=90.0), 0.0, 0.0, 0.01),
    ("everything", held(is_call=False, strike=110.0, time=1.25), -0.35, 1.5, -0.01),
    ("short", held(units=-500.0, strike=120.0), 0.25, 0.8, 0.005),
    ("volatility falls", held(), 0.1, -0.5, 0.0),
]


@pytest.mark.parametrize(("case", "options", "move", "volatility", "rate"), CASES, ids=[case[0] for case in CASES])
def test_pnl_equals_mibian(case: str, options: Options, move: float, volatility: float, rate: float) -> None:
    expected = oracle(options, move, volatility, rate)
    assert pnl(options, move, volatility, rate) == pytest.approx(expected, rel=1e-9, abs=1e-7), case


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(), st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.floats(0.0, 5.0), st.floats(0.01, 3.0),
    st.floats(-1e6, 1e6),
)  # fmt: skip
def test_no_shock_is_exactly_nothing(
    is_call: bool, spot: float, strike: float, time: float, volatility: float, units: float
) -> None:
    options = held(is_call=is_call, spot=spot, strike=strike, time=time, volatility=volatility, units=units)
    assert pnl(options, 0.0) == 0.0


def test_an_underlying_that_loses_everything() -> None:
    """The call is gone, the put is worth its discounted strike."""
    call, put = held(), held(is_call=False)
    worth_call = -pnl(call, -1.0) / 1000
    worth_put = 100 * exp(-0.05 * 0.5) - pnl(put, -1.0, rate=0.01) / 1000
    parity = 100 - 100 * exp(-0.04 * 0.5)
    assert worth_call - worth_put == pytest.approx(parity, rel=1e-12)
    assert pnl(call, -1.0) == pytest.approx(pnl(call, -1.0 + 1e-9), abs=1e-4)
    assert pnl(put, -1.0) == pytest.approx(pnl(put, -1.0 + 1e-9), abs=1e-4)


def test_convexity_helps_the_long_and_hurts_the_short() -> None:
    for is_call in (True, False):
        up, down = pnl(held(is_call=is_call), 0.1), pnl(held(is_call=is_call), -0.1)
        assert up + down > 0
        mirrored = held(is_call=is_call, units=-1000.0)
        assert pnl(mirrored, 0.1) + pnl(mirrored, -0.1) == pytest.approx(-(up + down), rel=1e-12)


def test_parity_holds_in_every_scenario() -> None:
    """Long call and short put move as the forward does: spot less discounted strike."""
    found = pnl(held(), -0.3, 1.5, 0.01) + pnl(held(is_call=False, units=-1000.0), -0.3, 1.5, 0.01)
    forward = 1000 * ((70 - 100 * exp(-0.05 * 0.5)) - (100 - 100 * exp(-0.04 * 0.5)))
    assert found == pytest.approx(forward, rel=1e-10)


@pytest.mark.parametrize("name", ["spot", "strike", "time", "rate", "volatility", "units"])
@pytest.mark.parametrize("move", [0.1, -1.0])
def test_an_unknown_input_gives_no_figure(name: str, move: float) -> None:
    assert np.isnan(pnl(held(**{name: NAN}), move))


def test_an_unknown_return_gives_no_figure() -> None:
    assert np.isnan(pnl(held(), NAN))


def test_scenarios_by_options() -> None:
    options = Options(*(np.concatenate(pair) for pair in zip(held(), held(is_call=False), strict=True)))
    moves = np.array([[0.1, -0.1], [0.0, 0.2], [-1.0, -0.5]])
    shifts, rates = np.array([0.0, 1.0, 0.5]), np.array([0.0, 0.01, -0.01])
    found = option_pnl(options, moves, shifts, rates)
    for row in range(3):
        assert found[row, 0] == pnl(held(), moves[row, 0], shifts[row], rates[row])
        assert found[row, 1] == pnl(held(is_call=False), moves[row, 1], shifts[row], rates[row])


def test_the_dividend_yield_is_used() -> None:
    assert pnl(held(dividend_yield=0.05), 0.1) < pnl(held(), 0.1)
