"""Correlations of many series against pandas and SciPy, and that a pair's bits are its own."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sigmasight_pipeline.calculations.pearson import BLOCK, LEAST_VARIATION, column_sums, correlation_matrix, p_values

Floats = NDArray[np.float64]


def panel(seed: int, sessions: int, series: int, gaps: float) -> Floats:
    """Correlated log returns, a share `gaps` of them missing."""
    random = np.random.default_rng(seed)
    values = 0.01 * random.standard_t(4, (sessions, series)) + 0.01 * random.normal(size=(sessions, 1))
    values[random.random(values.shape) < gaps] = np.nan
    return values


def planted(values: Floats, fault: str) -> Floats:
    """`values` with one of the ways real series are odd."""
    sessions = len(values)
    match fault:
        case "bad tick":
            values[5, 0] = 4.6
        case "bad tick the partner lacks":
            values[5, 0], values[5, 1] = 13.8, np.nan
            values[6, 1], values[6, 0] = -13.8, np.nan
        case "constant":
            values[:, 0] = 0.0002
        case "constant but for a session the partner lacks":
            values[:, 0], values[7, 0], values[7, 1] = 0.1 / 3, 0.5, np.nan
        case "nearly constant":
            values[:, 0] = 0.0002 + 1e-9 * np.arange(sessions) * values[:, 1]
        case "short history":
            values[: sessions - 25, 0] = np.nan
            values[: sessions - 19, 1] = np.nan
        case "no overlap":
            values[::2, 0], values[1::2, 1] = np.nan, np.nan
        case "nothing":
            values[:, 0] = np.nan
        case "duplicate":
            values[:, 0] = values[:, 1]
        case "mirror":
            values[:, 0] = -2 * values[:, 1]
        case "large mean":
            values[:, 0] = 5.0 + values[:, 0]
        case "tiny":
            values[:, 0] *= 1e-150
    return values


FAULTS = (
    "none",
    "bad tick",
    "bad tick the partner lacks",
    "constant",
    "constant but for a session the partner lacks",
    "nearly constant",
    "short history",
    "no overlap",
    "nothing",
    "duplicate",
    "mirror",
    "large mean",
    "tiny",
)


def exactly(x: Floats, y: Floats, min_common: int) -> float:
    """The correlation by rational arithmetic."""
    pairs = [(Fraction(a), Fraction(b)) for a, b in zip(x, y, strict=True) if not np.isnan(a + b)]
    if len(pairs) < min_common:
        return np.nan
    mean_x, mean_y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    product = sum((a - mean_x) * (b - mean_y) for a, b in pairs)
    squares = sum((a - mean_x) ** 2 for a, _ in pairs) * sum((b - mean_y) ** 2 for _, b in pairs)
    return math.copysign(math.sqrt(product**2 / squares), product)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("sessions", "gaps"), [(90, 0.0), (90, 0.05), (60, 0.5), (252, 0.02)])
def test_equal_to_pandas_pairwise(fault: str, sessions: int, gaps: float) -> None:
    values = planted(panel(sessions, sessions, 12, gaps), fault)
    found, common = correlation_matrix(values, min_common=20)
    with np.errstate(under="ignore"):
        expected = pd.DataFrame(values).corr(min_periods=20).to_numpy(copy=True)
    if fault == "tiny":  # pandas underflows where the scale is what differs
        expected = pd.DataFrame(values / np.nanmax(np.abs(values), axis=0)).corr(min_periods=20).to_numpy()
    if fault == "nearly constant":  # pandas keeps five digits less than there are
        expected[0] = expected[:, 0] = [exactly(values[:, 0], values[:, other], 20) for other in range(12)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=f"{fault}, {sessions} sessions")
    seen = (~np.isnan(values)).astype(int)
    assert (common == seen.T @ seen).all()
    assert (np.isnan(found) | (found == found.T)).all()
    assert set(np.diagonal(found)[~np.isnan(np.diagonal(found))]) <= {1.0}
    assert np.nanmax(np.abs(found)) <= 1.0


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_p_values_equal_scipy(gaps: float) -> None:
    values = planted(panel(7, 90, 8, gaps), "duplicate")
    found, common = correlation_matrix(values, min_common=3)
    p = p_values(found, common)
    for i in range(8):
        for j in range(8):
            both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
            expected = stats.pearsonr(values[both, i], values[both, j])
            assert found[i, j] == pytest.approx(expected.statistic, abs=1e-12), (i, j)
            assert p[i, j] == pytest.approx(expected.pvalue, abs=1e-12), (i, j, found[i, j])


@pytest.mark.parametrize(
    ("correlation", "common", "expected"),
    [
        (0.5, 20, 0.024769558804109703),  # scipy.stats.t.sf(0.5 * sqrt(18 / 0.75), 18) * 2
        (-0.5, 20, 0.024769558804109703),
        (0.0, 20, 1.0),
        (1.0, 20, 0.0),
        (-1.0, 3, 0.0),
        (0.5, 2, np.nan),
        (np.nan, 20, np.nan),
    ],
)
def test_p_value(correlation: float, common: int, expected: float) -> None:
    found = p_values(np.array([correlation]), np.array([common]))[0]
    assert found == pytest.approx(expected, abs=1e-15, nan_ok=True), (correlation, common)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.6]), st.data())
def test_the_bits_of_a_pair_are_its_own(seed: int, gaps: float, data: st.DataObject) -> None:
    """Whatever series are there, in whatever order and number, over several blocks."""
    values = panel(seed, 90, BLOCK + 40, gaps)
    for column, fault in enumerate(FAULTS):
        planted(values[:, 2 * column : 2 * column + 2], fault)
    found, common = correlation_matrix(values, min_common=20)
    chosen = np.random.default_rng(seed).permutation(values.shape[1])[: data.draw(st.integers(1, BLOCK + 39))]
    part, part_common = correlation_matrix(values[:, chosen], min_common=20)
    np.testing.assert_array_equal(part, found[np.ix_(chosen, chosen)])
    np.testing.assert_array_equal(part_common, common[np.ix_(chosen, chosen)])


def test_both_ways_of_computing_are_reached_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    values = panel(3, 90, 30, 0.1)
    exact, _ = correlation_matrix(values, min_common=20)
    monkeypatch.setattr("sigmasight_pipeline.calculations.pearson.LEAST_VARIATION", np.inf)
    careful, _ = correlation_matrix(values, min_common=20)
    np.testing.assert_allclose(careful, exact, rtol=0, atol=1e-13)
    assert not np.array_equal(careful, exact)
    assert np.inf > LEAST_VARIATION


def test_column_sums_do_not_depend_on_the_columns() -> None:
    values = panel(5, 252, 7, 0.0)
    whole = column_sums(values)
    assert [column_sums(values[:, [column]])[0] for column in range(7)] == whole.tolist()


@pytest.mark.parametrize(("sessions", "series"), [(5, 0), (1, 1), (2, 3)])
def test_too_little_to_correlate(sessions: int, series: int) -> None:
    found, common = correlation_matrix(np.zeros((sessions, series)), min_common=3)
    assert found.shape == common.shape == (series, series)
    assert np.isnan(found).all()
