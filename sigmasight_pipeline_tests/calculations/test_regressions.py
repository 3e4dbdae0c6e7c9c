"""Regressions against statsmodels on awkward data, and the same to the last bit whatever is computed with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS

from sigmasight_pipeline.calculations.regressions import (
    RegressionParameterError,
    Regressions,
    two_sided_p_values,
    univariate_regressions,
)

Floats = NDArray[np.float64]

WINDOW, MINIMUM = 252, 60
FIGURES = ("beta", "alpha", "std_error", "t_stat", "p_value", "r_squared", "residual_volatility")
TOLERANCE = 1e-10


def regress(y: Floats, x: Floats, last: list[int] | None = None, *, window: int = WINDOW) -> Regressions:
    """Regressions of the columns of y on those of x, at the last row unless others are named."""
    ends = [len(y) - 1] if last is None else last
    return univariate_regressions(y, x, ends, window=window, min_observations=min(MINIMUM, window))


def statsmodels(y: Floats, x: Floats) -> dict[str, float]:
    """The same figures of one pair, missing values dropped by statsmodels."""
    fit = OLS(y, np.column_stack([np.ones(len(x)), x]), missing="drop").fit()
    return {
        "beta": fit.params[1],
        "alpha": fit.params[0],
        "std_error": fit.bse[1],
        "t_stat": fit.tvalues[1],
        "p_value": fit.pvalues[1],
        "r_squared": fit.rsquared,
        "residual_volatility": fit.mse_resid**0.5,
        "n_obs": fit.nobs,
    }


def market(count: int = WINDOW, seed: int = 1) -> tuple[Floats, Floats]:
    """Returns of three stocks and two factors, as a market's are."""
    random = np.random.default_rng(seed)
    x = random.normal(0.0004, 0.01, (count, 2))
    x[:, 1] = 0.8 * x[:, 0] + 0.4 * x[:, 1]
    y = x[:, :1] * np.array([0.3, 1.0, 1.7]) + random.normal(0, 0.015, (count, 3))
    return y, x


Change = Callable[[Floats, Floats], None]


def gaps(y: Floats, x: Floats) -> None:
    random = np.random.default_rng(2)
    y[random.random(y.shape) < 0.2] = np.nan
    x[random.random(len(x)) < 0.1, 1] = np.nan


def young(y: Floats, x: Floats) -> None:
    y[:-61, 0], y[:-60, 1], y[:-100, 2] = np.nan, np.nan, np.nan


def bad_tick(y: Floats, x: Floats) -> None:
    y[100, 0], y[101, 1] = 999.0, -0.9999


def bad_factor_tick(y: Floats, x: Floats) -> None:
    x[50, 1] = 9.0


def near_perfect(y: Floats, x: Floats) -> None:
    noise = np.random.default_rng(3).normal(0, 1, len(y))
    y[:, 0] = 1.3 * x[:, 0] + 2e-4 * noise  # unexplained 1e-4 of the variance
    y[:, 1] = x[:, 0] + 1e-6 * noise  # 1e-8
    y[:, 2] = -2.0 * x[:, 0] + 1e-7 * noise  # 1e-10


def drifting(y: Floats, x: Floats) -> None:
    """The mean is a thousand times the deviations: one-pass sums lose six digits."""
    y += 10.0
    x[:, 1] += 5.0


def yields(y: Floats, x: Floats) -> None:
    """Yield changes in decimal: a basis point and less."""
    x *= 0.05
    y -= 200.0 * x[:, :1]


def half_empty(y: Floats, x: Floats) -> None:
    """Factor and stocks take turns: each alone has enough, together hardly."""
    x[:120, 1] = np.nan
    y[185:, 1] = np.nan


def unrelated(y: Floats, x: Floats) -> None:
    """Nothing is explained, so that rounding decides the sign of r squared."""
    x[:, 0] = np.resize([0.01, -0.01], len(x))
    for symbol in range(3):
        y[:, symbol] = 7.3 + 0.001 * (2, 3, 1)[symbol] * np.resize([1.0, 1.0, -1.0, -1.0], len(y))
        y[: -(76, 92, 96)[symbol], symbol] = np.nan


CASES: dict[str, Change] = {
    "complete": lambda y, x: None,
    "gaps": gaps,
    "young symbols": young,
    "one bad tick": bad_tick,
    "bad tick of a factor": bad_factor_tick,
    "near-perfect fits": near_perfect,
    "large means": drifting,
    "yield changes": yields,
    "few in common": half_empty,
    "unrelated": unrelated,
}


def assert_agrees(found: Regressions, y: Floats, x: Floats, session: int = 0) -> None:
    """Every pair of the session agrees with statsmodels: to 1e-10 of the figure, or of the unit it is measured in."""
    for factor in range(x.shape[1]):
        for symbol in range(y.shape[1]):
            expected = statsmodels(y[:, symbol], x[:, factor])
            assert found.n_obs[session, factor, symbol] == expected["n_obs"]
            units = {
                "beta": expected["std_error"],
                "alpha": expected["residual_volatility"],
                "t_stat": 1.0,
                "p_value": 1.0,
                "r_squared": 1.0,
            }
            assert 0.0 <= found.r_squared[session, factor, symbol] <= 1.0
            for name in FIGURES:
                got, want = getattr(found, name)[session, factor, symbol], expected[name]
                assert abs(got - want) <= TOLERANCE * max(abs(want), units.get(name, 0.0)), (
                    f"{name} of symbol {symbol} on factor {factor} is {got!r}, statsmodels finds {want!r}"
                )


@pytest.mark.parametrize("case", CASES)
def test_statsmodels_agrees(case: str) -> None:
    y, x = market()
    CASES[case](y, x)
    assert_agrees(regress(y, x), y, x)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(60, 300),
    st.floats(0.0, 0.3),
    st.floats(-6.0, 2.0),
    st.floats(-3.0, 1.0),
)
def test_statsmodels_agrees_at_every_scale(seed: int, count: int, missing: float, scale: float, noise: float) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_t(3, (count, 2)) * 10.0**scale
    y = x @ random.normal(0, 2, (2, 3)) + random.standard_t(3, (count, 3)) * 10.0 ** (scale + noise)
    y[random.random(y.shape) < missing] = np.nan
    found = regress(y, x)
    window = slice(max(0, count - WINDOW), count)
    if np.isfinite(y[window]).sum(axis=0).min() >= MINIMUM:
        assert_agrees(found, y[window], x[window])


@pytest.mark.parametrize(("observations", "estimated"), [(59, False), (60, True), (61, True)])
def test_the_minimum_of_observations(observations: int, *, estimated: bool) -> None:
    y, x = market()
    y[: WINDOW - observations, 1] = np.nan
    found = regress(y, x)
    assert found.n_obs[0, :, 1].tolist() == [observations] * 2
    for name in FIGURES:
        figures = getattr(found, name)
        assert np.isfinite(figures[0, :, 1]).all() == estimated, name
        assert np.isfinite(figures[0][:, [0, 2]]).all(), name


CONSTANTS = {"zero": 0.0, "a cent": 0.01, "a third": 1 / 3, "large": 1e4}


@pytest.mark.parametrize("value", CONSTANTS.values(), ids=CONSTANTS)
@pytest.mark.parametrize("rounding", [0.0, 1e-15], ids=["exactly", "but for rounding"])
def test_a_constant_series(value: float, rounding: float) -> None:
    """On a constant factor nothing is estimated; a constant series has beta 0 and nothing left to explain."""
    if value > 1.0 and rounding:
        rounding = 0.0
    y, x = market()
    y[:, 0] = value + rounding * np.resize([0.0, 1.0], len(y))
    y[::3, 0] = np.nan
    x[:, 1] = value + rounding * np.resize([0.0, 1.0], len(y))
    found = regress(y, x)
    for name in FIGURES:
        figures = getattr(found, name)[0]
        assert np.isnan(figures[1]).all(), name
        assert np.isfinite(figures[0, 1:]).all(), name
    pair = {name: getattr(found, name)[0, 0, 0] for name in FIGURES}
    assert (pair["beta"], pair["std_error"], pair["residual_volatility"]) == (0.0, 0.0, 0.0)
    assert pair["alpha"] == pytest.approx(value, abs=1e-14)
    assert np.isnan([pair["t_stat"], pair["p_value"], pair["r_squared"]]).all()
    assert found.n_obs[0, 0, 0] == WINDOW - len(y[::3])


@pytest.mark.parametrize("slope", [1.0, 2.0, -0.5, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.001])
def test_a_perfect_fit(slope: float, shift: float) -> None:
    """A proxy on itself, and what is a multiple of it: beta to the last bits, no residual, no t statistic, p 0."""
    y, x = market()
    y[:, 1] = slope * x[:, 0] + shift
    y[5, 1] = np.nan
    found = regress(y, x)
    pair = {name: getattr(found, name)[0, 0, 1] for name in FIGURES}
    assert pair["beta"] == pytest.approx(slope, rel=1e-14)
    assert pair["alpha"] == pytest.approx(shift, abs=1e-16)
    assert [pair[name] for name in ("std_error", "residual_volatility", "p_value", "r_squared")] == [0, 0, 0, 1]
    assert np.isnan(pair["t_stat"])
    if slope == 1.0 and not shift:
        assert pair["beta"] == 1.0


def test_a_bad_tick_stays_in_its_own_pairs_and_windows() -> None:
    y, x = market(600)
    last = list(range(251, 600))
    clean = regress(y, x, last)
    spoilt = y.copy()
    spoilt[300, 1] = 1e9
    found = regress(spoilt, x, last)
    for name in FIGURES:
        before, after = getattr(clean, name), getattr(found, name)
        np.testing.assert_array_equal(after[:, :, [0, 2]], before[:, :, [0, 2]], err_msg=name)
        np.testing.assert_array_equal(after[: 300 - 251, :, 1], before[: 300 - 251, :, 1], err_msg=name)
        np.testing.assert_array_equal(after[300 + 252 - 251 :, :, 1], before[300 + 252 - 251 :, :, 1], err_msg=name)
        assert (after[49:301, :, 1] != before[49:301, :, 1]).all(), name


def assert_same(found: Regressions, expected: Regressions, places: tuple[object, ...] = (), what: str = "") -> None:
    """Equal to the last bit, `found` read at `places`."""
    for field in fields(Regressions):
        got, want = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(got[np.ix_(*places)] if places else got, want, err_msg=f"{what}: {field.name}")


def wide(sessions: int = 270, symbols: int = 131, factors: int = 5) -> tuple[Floats, Floats]:
    """More symbols than a block, some with gaps and near-perfect fits, and factors with different gaps."""
    random = np.random.default_rng(7)
    x = random.normal(0, 0.01, (sessions, factors)) + random.normal(0, 0.01, (sessions, 1))
    y = x[:, :1] * random.uniform(0, 2, symbols) + random.normal(0, 0.01, (sessions, symbols))
    y[:, 3] = x[:, 1]
    y[:, 4] = x[:, 2] + 1e-5 * y[:, 0]
    y[:200, 5], y[:220, 6], y[30, 7], y[:, 8] = np.nan, np.nan, np.nan, 0.0
    y[random.random(sessions) < 0.1, 9] = np.nan
    x[100, 2], x[random.random(sessions) < 0.05, 4] = np.nan, np.nan
    return y, x


LAST = [0, 40, 130, 251, 252, 263, 269]


def test_a_range_is_its_sessions() -> None:
    y, x = wide()
    together = regress(y, x, LAST)
    for place, row in enumerate(LAST):
        alone = regress(y, x, [row])
        assert_same(together, alone, ([place], range(5), range(131)), f"row {row}")
        cut = slice(max(0, row - WINDOW + 1), row + 1)
        assert_same(regress(y[cut], x[cut]), alone, what=f"only the window of row {row}")


@pytest.mark.parametrize("symbols", [1, 2, 31, 32, 33, 64, 130])
def test_a_symbol_does_not_depend_on_the_others(symbols: int) -> None:
    y, x = wide()
    everything = regress(y, x, LAST)
    chosen = np.random.default_rng(symbols).permutation(131)[:symbols]
    assert_same(
        everything, regress(np.asfortranarray(y[:, chosen]), x, LAST), (range(len(LAST)), range(5), chosen), "symbols"
    )


@pytest.mark.parametrize("order", [[0], [1, 0], [4, 2, 0, 1, 3], [3, 3, 3, 3, 3, 3, 3, 3, 0, 4, 2, 1, 0, 0, 4, 4, 4]])
def test_a_factor_does_not_depend_on_the_others(order: list[int]) -> None:
    y, x = wide()
    everything = regress(y, x, LAST)
    assert_same(everything, regress(y, x[:, order], LAST), (range(len(LAST)), order, range(131)), "factors")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([60, 150, 252, 300]))
def test_shapes_do_not_matter(seed: int, window: int) -> None:
    """Some symbols, some factors and one session out of many of each: BLAS sums remainders of its tiles otherwise."""
    random = np.random.default_rng(seed)
    y, x = wide(int(random.integers(101, 420)), int(random.integers(10, 600)), int(random.integers(5, 20)))
    rows, factors, symbols = len(y), x.shape[1], y.shape[1]
    last = np.unique(random.integers(0, rows, 5))
    chosen = (
        random.integers(0, len(last), 1),
        random.permutation(factors)[: random.integers(1, factors + 1)],
        random.permutation(symbols)[: random.integers(1, symbols + 1)],
    )
    end = int(last[chosen[0]][0])
    begin = max(0, end - window + 1)
    part = regress(y[begin : end + 1, chosen[2]], x[begin : end + 1, chosen[1]], [end - begin], window=window)
    assert_same(regress(y, x, last.tolist(), window=window), part, chosen, f"{y.shape} {x.shape} {end}")


def test_memory_order_does_not_matter() -> None:
    y, x = wide()
    assert_same(regress(np.asfortranarray(y), np.asfortranarray(x), LAST), regress(y, x, LAST))


def test_later_rows_change_nothing() -> None:
    y, x = wide()
    changed_y, changed_x = y.copy(), x.copy()
    changed_y[131:], changed_x[131:] = 0.5, np.nan
    assert_same(regress(changed_y, changed_x, [0, 40, 130]), regress(y, x, [0, 40, 130]))


def test_nothing_to_compute() -> None:
    y, x = wide()
    assert regress(y, x, []).beta.shape == (0, 5, 131)
    assert regress(y[:, :0], x, [251]).beta.shape == (1, 5, 0)
    assert regress(y, x[:, :0], [251]).beta.shape == (1, 0, 131)


@pytest.mark.parametrize(("window", "minimum"), [(252, 2), (252, 0), (60, 61), (252, -1)])
def test_parameters_that_do_not_fit(window: int, minimum: int) -> None:
    y, x = market()
    with pytest.raises(RegressionParameterError, match=f"minimum of {minimum} observations"):
        univariate_regressions(y, x, [251], window=window, min_observations=minimum)


@pytest.mark.parametrize("window", [20, 150, 252, 600])
def test_other_windows(window: int) -> None:
    y, x = market(700)
    found = univariate_regressions(y, x, [699], window=window, min_observations=3)
    assert_agrees(found, y[-window:], x[-window:])


@pytest.mark.parametrize("dof", [1, 2, 5, 39, 40, 58, 100, 250, 1000])
def test_p_values(dof: int) -> None:
    t = np.concatenate([np.linspace(0, 12, 2001), [20.0, 50.0, 1e3, 1e6]])
    found = two_sided_p_values(t**2 / dof, np.full(len(t), float(dof)))
    expected = 2 * stats.t.sf(t, dof)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    visible = expected > 1e-9
    np.testing.assert_allclose(found[visible], expected[visible], rtol=1e-7)
    assert found[0] == 1.0
    assert np.isnan(two_sided_p_values(np.array([np.nan]), np.array([250.0])))


CLOSED_FORMS: dict[int, Callable[[Floats], Floats]] = {
    1: lambda t: 1.0 - 2.0 / np.pi * np.arctan(t),
    2: lambda t: 1.0 - t / np.sqrt(2.0 + t * t),
    4: lambda t: 1.0 - t / np.sqrt(4.0 + t * t) * (1.0 + 2.0 / (4.0 + t * t)),
}
"""Student's distribution of few degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""


@pytest.mark.parametrize("dof", CLOSED_FORMS)
def test_p_values_near_one(dof: int) -> None:
    """A small t keeps its digits: 1 / (1 + t^2 / dof) has lost them, and p was off by 8e-9 and more."""
    t = np.concatenate([[0.0], np.logspace(-16, 0, 65)])
    found = two_sided_p_values(t**2 / dof, np.full(len(t), float(dof)))
    np.testing.assert_allclose(found, CLOSED_FORMS[dof](t), rtol=0, atol=1e-15)
