"""Figures others have published and certified, to the digits they give: NIST's Statistical Reference Datasets.

What belongs here: their data and their values. What does not: figures computed by another library (the modules of each
engine). Source: https://www.itl.nist.gov/div898/strd/ (linear regression: Norris, Longley; univariate summary
statistics: Michelso, Mavro, NumAcc1 to NumAcc4).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.factor_moments import pair_moments, window_moments
from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline.calculations.pearson import correlation_matrix
from sigmasight_pipeline.calculations.regressions import univariate_regressions
from sigmasight_pipeline.calculations.return_metrics import SESSIONS_PER_YEAR, Z_95, return_metrics

Floats = NDArray[np.float64]

# y, x
NORRIS = [
    (0.1, 0.2),
    (338.8, 337.4),
    (118.1, 118.2),
    (888.0, 884.6),
    (9.2, 10.1),
    (228.1, 226.5),
    (668.5, 666.3),
    (998.5, 996.3),
    (449.1, 448.6),
    (778.9, 777.0),
    (559.2, 558.2),
    (0.3, 0.4),
    (0.1, 0.6),
    (778.1, 775.5),
    (668.8, 666.9),
    (339.3, 338.0),
    (448.9, 447.5),
    (10.8, 11.6),
    (557.7, 556.0),
    (228.3, 228.1),
    (998.0, 995.8),
    (888.8, 887.6),
    (119.6, 120.2),
    (0.3, 0.3),
    (0.6, 0.3),
    (557.6, 556.8),
    (339.3, 339.1),
    (888.0, 887.2),
    (998.5, 999.0),
    (778.9, 779.0),
    (10.2, 11.1),
    (117.6, 118.3),
    (228.9, 229.2),
    (668.4, 669.1),
    (449.2, 448.9),
    (0.2, 0.5),
]
NORRIS_CERTIFIED = {
    "alpha": -0.262323073774029,
    "beta": 1.00211681802045,
    "std_error": 0.429796848199937e-03,
    "residual_volatility": 0.884796396144373,
    "r_squared": 0.999993745883712,
    "t_stat": 2331.6058,
}

# employment, and deflator, gross national product, unemployment, armed forces, population, year
LONGLEY = [
    (60323, 83, 234289, 2356, 1590, 107608, 1947),
    (61122, 88.5, 259426, 2325, 1456, 108632, 1948),
    (60171, 88.2, 258054, 3682, 1616, 109773, 1949),
    (61187, 89.5, 284599, 3351, 1650, 110929, 1950),
    (63221, 96.2, 328975, 2099, 3099, 112075, 1951),
    (63639, 98.1, 346999, 1932, 3594, 113270, 1952),
    (64989, 99, 365385, 1870, 3547, 115094, 1953),
    (63761, 100, 363112, 3578, 3350, 116219, 1954),
    (66019, 101.2, 397469, 2904, 3048, 117388, 1955),
    (67857, 104.6, 419180, 2822, 2857, 118734, 1956),
    (68169, 108.4, 442769, 2936, 2798, 120445, 1957),
    (66513, 110.8, 444546, 4681, 2637, 121950, 1958),
    (68655, 112.6, 482704, 3813, 2552, 123366, 1959),
    (69564, 114.2, 502601, 3931, 2514, 125368, 1960),
    (69331, 115.7, 518173, 4806, 2572, 127852, 1961),
    (70551, 116.9, 554894, 4007, 2827, 130081, 1962),
]
LONGLEY_CERTIFIED = [
    15.0618722713733,
    -0.358191792925910e-01,
    -2.02022980381683,
    -1.03322686717359,
    -0.511041056535807e-01,
    1829.15146461355,
]
LONGLEY_RESIDUAL_STD = 304.854073561965

# Michelson's speed of light in hundredths of a thousand km/s above 299
MICHELSO = [
    85,
    74,
    90,
    107,
    93,
    85,
    95,
    98,
    98,
    88,
    100,
    98,
    93,
    65,
    76,
    81,
    100,
    100,
    96,
    96,
    96,
    94,
    96,
    94,
    88,
    80,
    85,
    88,
    90,
    84,
    83,
    79,
    81,
    88,
    88,
    83,
    80,
    79,
    76,
    80,
    88,
    88,
    88,
    86,
    72,
    72,
    62,
    86,
    97,
    95,
    88,
    91,
    85,
    87,
    84,
    84,
    85,
    84,
    84,
    84,
    89,
    81,
    81,
    82,
    80,
    77,
    76,
    74,
    75,
    76,
    91,
    92,
    89,
    86,
    88,
    72,
    84,
    85,
    85,
    78,
    89,
    84,
    78,
    81,
    76,
    81,
    79,
    81,
    82,
    85,
    87,
    87,
    81,
    74,
    81,
    94,
    95,
    80,
    81,
    87,
]
# transmittance, hundred-thousandths above 2
MAVRO = [
    180,
    170,
    180,
    190,
    180,
    170,
    150,
    140,
    150,
    150,
    170,
    180,
    180,
    190,
    190,
    210,
    200,
    160,
    140,
    130,
    130,
    150,
    150,
    160,
    150,
    140,
    130,
    140,
    150,
    140,
    150,
    160,
    150,
    160,
    190,
    200,
    200,
    210,
    220,
    230,
    240,
    250,
    270,
    260,
    260,
    260,
    270,
    260,
    250,
    240,
]


def alternating(first: float, low: float, high: float) -> Floats:
    """NumAcc2 to 4: one value, then a thousand on either side of it in turn."""
    return np.array([first, *([low, high] * 500)])


SUMMARIES: dict[str, tuple[Floats, float, float, float]] = {
    # data, mean, standard deviation, digits lost by what a decimal is as a binary number
    "Michelso": (299 + np.array(MICHELSO) / 100, 299.852400000000, 0.0790105478190518, 1e-12),
    "Mavro": (2 + np.array(MAVRO) / 1e5, 2.00185600000000, 0.000429123454003053, 1e-11),
    "NumAcc1": (np.array([10000001.0, 10000003.0, 10000002.0]), 10000002.0, 1.0, 1e-15),
    "NumAcc2": (alternating(1.2, 1.1, 1.3), 1.2, 0.1, 1e-14),
    "NumAcc3": (alternating(1000000.2, 1000000.1, 1000000.3), 1000000.2, 0.1, 1e-8),
    "NumAcc4": (alternating(10000000.2, 10000000.1, 10000000.3), 10000000.2, 0.1, 1e-7),
}


def test_norris() -> None:
    y, x = (np.array(column)[:, None] for column in zip(*NORRIS, strict=True))
    found = univariate_regressions(y, x, [35], window=36, min_observations=3)
    for name, certified in NORRIS_CERTIFIED.items():
        digits = 1e-7 if name == "t_stat" else 1e-12
        assert getattr(found, name)[0, 0, 0] == pytest.approx(certified, rel=digits), name


def test_longley() -> None:
    """Without a penalty the joint betas are ordinary least squares, on regressors as collinear as they come."""
    data = np.array(LONGLEY, dtype=np.float64)
    (found,) = joint_betas(data[:, 1:], data[:, :1], [range(6)], min_observations=16, penalty=0.0)
    np.testing.assert_allclose(found.beta[0], LONGLEY_CERTIFIED, rtol=1e-7)
    assert found.residual_std[0] == pytest.approx(LONGLEY_RESIDUAL_STD, rel=1e-7)


@pytest.mark.parametrize("name", SUMMARIES)
def test_mean_and_standard_deviation(name: str) -> None:
    """Of returns, and of factors' moments in either engine."""
    data, mean, deviation, digits = SUMMARIES[name]
    column = data[:, None]
    found = return_metrics(column, np.zeros_like(column))
    spread = found.volatility[0] / np.sqrt(SESSIONS_PER_YEAR)
    assert spread == pytest.approx(deviation, rel=digits)
    assert Z_95 * spread - found.var_95[0] == pytest.approx(mean, rel=1e-15, abs=1e-14)
    weights = np.ones(len(data))
    for moments in (window_moments, pair_moments):
        covariance = moments(column, weights, min_observations=3).covariance
        assert np.sqrt(covariance[0, 0]) == pytest.approx(deviation, rel=digits), moments.__name__


@pytest.mark.parametrize(
    ("name", "certified"), [("Michelso", 0.535199668621283), ("Mavro", 0.937989183438248), ("NumAcc2", -0.999)]
)
def test_lag_one_autocorrelation(name: str, certified: float) -> None:
    """NIST divides by the variation of the whole series: put back from the correlation of its two halves."""
    data = SUMMARIES[name][0]
    earlier, later = data[:-1], data[1:]
    correlation, _ = correlation_matrix(np.column_stack([earlier, later]), min_common=3)
    product = correlation[0, 1] * np.sqrt(np.var(earlier) * np.var(later)) * len(earlier)
    mean = data.mean()
    product += len(earlier) * (earlier.mean() - mean) * (later.mean() - mean)
    assert product / ((data - mean) ** 2).sum() == pytest.approx(certified, rel=1e-12)
