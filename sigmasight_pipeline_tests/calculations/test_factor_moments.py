"""Factor moments against NumPy and pandas, what makes a factor unusable, and the properties of every engine."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.factor_moments import (
    FactorMoments,
    MomentStatus,
    cross_products,
    factor_correlations,
    pair_moments,
    stored_moments,
    window_moments,
)
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations.stress_world import NAMES, World, market, weekdays
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame

Floats = np.ndarray[Any, np.dtype[np.float64]]

WEIGHTS = {"equal": np.ones(252), "half_life": 0.5 ** (np.arange(251, -1, -1) / 63)}


def window(gaps: float = 0.02, seed: int = 3, factors: int = 5) -> Floats:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(factors, factors))
    values: Floats = random.normal(0.0005, 0.01, size=(252, factors)) @ mixing
    values[random.random(values.shape) < gaps] = np.nan
    return values


@pytest.mark.parametrize("weighting", WEIGHTS)
def test_moments_equal_numpy_on_the_common_sessions(weighting: str) -> None:
    """numpy.cov normalises frequency-free weights by the same 1 - sum w^2 (aweights, ddof 1)."""
    values, weights = window(), WEIGHTS[weighting]
    common = ~np.isnan(values).any(axis=1)
    oracle = np.cov(values[common], rowvar=False, aweights=weights[common], ddof=1)
    found = window_moments(values, weights)
    np.testing.assert_allclose(found.covariance, oracle, rtol=1e-12, atol=1e-18)
    deviation = np.sqrt(np.diagonal(oracle))
    np.testing.assert_allclose(found.correlation, oracle / np.outer(deviation, deviation), rtol=0, atol=1e-12)
    assert found.n_obs == common.sum()
    if weighting == "equal":
        table = pd.DataFrame(values[common])
        np.testing.assert_allclose(found.covariance, table.cov(), rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(found.correlation, table.corr(), rtol=0, atol=1e-12)


def with_column(own: Floats, factors: int = 3) -> Floats:
    values = window(0.0, factors=factors)
    values[:, 1] = own
    return values


def only(count: int) -> Floats:
    column = np.full(252, np.nan)
    column[-count:] = np.random.default_rng(9).normal(size=count) if count else 0.0
    return column


UNUSABLE: list[tuple[str, Floats, str, int]] = [
    ("no return at all", np.full(252, np.nan), "factor_without_data", 252),
    ("59 returns", only(59), "insufficient_history", 252),
    ("60 returns", only(60), "ok", 60),
    ("constant", np.full(252, 0.1), "no_variance", 252),
    ("constant but for rounding", 1.1 / np.full(252, 1.0) - 1.0 + np.tile([0.0, 1e-16], 126), "no_variance", 252),
]


@pytest.mark.parametrize(("case", "own", "status", "n_obs"), UNUSABLE, ids=[case[0] for case in UNUSABLE])
@pytest.mark.parametrize("weighting", WEIGHTS)
def test_an_unusable_factor_leaves_the_others_alone(
    case: str, own: Floats, status: str, n_obs: int, weighting: str
) -> None:
    found = window_moments(with_column(own), WEIGHTS[weighting])
    assert [str(one) for one in found.status] == ["ok", status, "ok"], case
    assert found.n_obs == n_obs, case
    if status != "ok":
        alone = window_moments(np.delete(with_column(own), 1, axis=1), WEIGHTS[weighting])
        kept = np.ix_([0, 2], [0, 2])
        assert (found.covariance[kept] == alone.covariance).all(), case
        assert (found.correlation[kept] == alone.correlation).all(), case
        assert np.isnan(found.covariance[1]).all(), case
        assert np.isnan(found.correlation[:, 1]).all(), case


def test_too_few_common_sessions() -> None:
    """Two factors with a hundred returns each that share forty: neither has moments."""
    values = window(0.0, factors=2)
    values[100:, 0] = np.nan
    values[:60, 1] = np.nan
    values[160:, 1] = np.nan
    found = window_moments(values, WEIGHTS["equal"])
    assert found.n_obs == 40
    assert [str(one) for one in found.status] == ["insufficient_history"] * 2
    assert np.isnan(found.covariance).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from(sorted(WEIGHTS)), st.sampled_from([1e-8, 1.0, 1e6]))
def test_symmetric_to_the_bit_with_a_unit_diagonal(factors: int, seed: int, weighting: str, scale: float) -> None:
    found = window_moments(window(0.01, seed, factors) * scale, WEIGHTS[weighting])
    assert (found.covariance == found.covariance.T).all()
    assert (found.correlation == found.correlation.T).all()
    assert (np.diagonal(found.correlation) == 1.0).all()
    assert (np.abs(found.correlation) <= 1.0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 300), st.integers(0, 2**31))
def test_cross_products_depend_on_their_two_columns_alone(left: int, right: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(rows, left)), random.normal(size=(rows, right))
    whole = cross_products(one, other)
    np.testing.assert_allclose(whole, one.T @ other, rtol=1e-9, atol=1e-9)
    i, j = seed % left, seed % right
    assert cross_products(one[:, [i]], other[:, [j]])[0, 0] == whole[i, j]
    assert cross_products(one[:, : i + 1], other[:, j:])[i, 0] == whole[i, j]
    assert (cross_products(np.asfortranarray(one), np.asfortranarray(other)) == whole).all()


@pytest.fixture(scope="module")
def world() -> World:
    return market({}, computed=4, history=300, without=("Travel",))


def computed(world: World, sessions: list[date], **changed: Any) -> pl.DataFrame:
    given_frames = {"calendar": world.calendar, "factors": world.factors, "returns": world.returns}
    return factor_correlations(sessions=sessions, **{**given_frames, "yields": world.yields, **changed})


def test_rows_of_the_table(world: World) -> None:
    found = computed(world, world.sessions)
    schema = polars_schema(tables.factor_correlations)
    assert dict(found.schema) == {name: dtype for name, dtype in schema.items() if name not in PROVENANCE}
    keys = ["session_date", "weighting", "factor_1", "factor_2"]
    assert found.select(keys).equals(found.select(keys).sort(keys))
    names = [name for name in NAMES if name != "Travel"]
    assert found.height == 4 * 2 * len(names) ** 2
    assert sorted(set(found["factor_1"])) == names
    assert set(found["status"]) == {"ok"}
    assert set(found["n_obs"]) == {252}


def test_interest_rate_is_the_change_of_the_yield(world: World) -> None:
    found = stored_moments(computed(world, world.sessions))[world.sessions[-1]]
    levels = world.yields.sort("session_date").get_column("yield").to_numpy()
    spy = world.returns.filter(symbol="SPY").sort("session_date").get_column("simple_return").to_numpy()
    oracle = np.cov(np.diff(levels)[-252:], spy[-252:])
    at = [found.names.index(name) for name in ("Interest_Rate", "Market")]
    np.testing.assert_allclose(found.covariance[np.ix_(at, at)], oracle, rtol=1e-11)


def test_a_range_equals_its_sessions_one_by_one_in_any_order_of_rows(world: World) -> None:
    together = computed(world, world.sessions)
    shuffled = {
        name: table.sample(fraction=1.0, shuffle=True, seed=1)
        for name, table in {"returns": world.returns, "yields": world.yields, "factors": world.factors}.items()
    }
    apart = pl.concat([computed(world, [day], **shuffled) for day in world.sessions])
    assert together.equals(apart)


def test_nothing_after_a_session_moves_it(world: World) -> None:
    day = world.sessions[1]
    later = pl.col("session_date") > day
    returns = world.returns.with_columns(simple_return=pl.when(later).then(0.5).otherwise("simple_return"))
    yields = world.yields.with_columns(pl.when(later).then(0.2).otherwise("yield").alias("yield"))
    before = computed(world, world.sessions).filter(pl.col("session_date") <= day)
    assert computed(world, world.sessions, returns=returns, yields=yields).filter(~later).equals(before)


def test_a_young_factor_and_one_without_prices_are_named(world: World) -> None:
    young = weekdays(59)[0]
    returns = world.returns.filter(
        pl.col("symbol") != "GLD", ~((pl.col("symbol") == "USO") & (pl.col("session_date") < young))
    )
    found = computed(world, world.sessions[-1:], returns=returns).filter(weighting="equal")
    status = {(one, other): status for one, other, status in found.select("factor_1", "factor_2", "status").iter_rows()}
    assert status["Gold", "Market"] == status["Market", "Gold"] == status["Gold", "Gold"] == "factor_without_data"
    assert status["Oil", "Market"] == "insufficient_history"
    assert status["Oil", "Gold"] == "factor_without_data", "the reason that says more"
    assert status["Market", "Value"] == "ok"
    nulls = found.filter(pl.col("status") != "ok")
    assert nulls["covariance"].null_count() == nulls["correlation"].null_count() == nulls.height
    n_obs = {(one, other): count for one, other, count in found.select("factor_1", "factor_2", "n_obs").iter_rows()}
    assert (n_obs["Market", "Value"], n_obs["Oil", "Market"], n_obs["Gold", "Market"]) == (252, 59, 0)


@pytest.mark.parametrize("weighting", WEIGHTS)
def test_every_pair_is_made_of_the_sessions_it_has_in_common(weighting: str) -> None:
    """Against numpy, pair by pair, on gaps that differ from factor to factor."""
    values, weights = window(0.15), WEIGHTS[weighting]
    found = pair_moments(values, weights)
    for one in range(values.shape[1]):
        for other in range(values.shape[1]):
            both = ~np.isnan(values[:, [one, other]]).any(axis=1)
            oracle = np.cov(values[both][:, [one, other]], rowvar=False, aweights=weights[both], ddof=1)
            assert found.n_obs[one, other] == both.sum()
            np.testing.assert_allclose(found.covariance[one, other], oracle[0, 1], rtol=1e-12, atol=1e-18)
            expected = oracle[0, 1] / np.sqrt(oracle[0, 0] * oracle[1, 1])
            np.testing.assert_allclose(found.correlation[one, other], expected, rtol=0, atol=1e-12)
    assert (found.covariance == found.covariance.T).all()
    assert (found.correlation == found.correlation.T).all()
    assert (np.diagonal(found.correlation) == 1.0).all()


def test_two_young_factors_without_common_sessions_cost_only_their_own_pair() -> None:
    """Listwise, as it was, they made every factor NULL."""
    values = window(0.0, factors=4)
    values[100:, 0] = np.nan
    values[:130, 1] = np.nan
    found = pair_moments(values, WEIGHTS["equal"])
    codes = [str(status) for status in MomentStatus]
    unknown = {(one, other) for one, other in np.argwhere(np.isnan(found.covariance)).tolist()}
    assert unknown == {(0, 1), (1, 0)}
    assert codes[found.status[0, 1]] == "insufficient_history"
    assert found.n_obs.tolist() == [[100, 0, 100, 100], [0, 122, 122, 122], [100, 122, 252, 252], [100, 122, 252, 252]]
    alone = pair_moments(values[:, 2:], WEIGHTS["equal"])
    assert (found.covariance[2:, 2:] == alone.covariance).all(), "a young factor moved the others"


@pytest.mark.parametrize("count", [59, 60])
def test_a_pair_needs_sixty_sessions(count: int) -> None:
    values = window(0.0, factors=2)
    values[count:, 0] = np.nan
    found = pair_moments(values, WEIGHTS["equal"])
    assert np.isfinite(found.correlation[0, 1]) == (count == 60)


def test_a_factor_constant_over_the_common_sessions_has_no_pair() -> None:
    values = window(0.0, factors=2)
    values[:150, 0] = 0.1
    values[150:, 1] = np.nan
    found = pair_moments(values, WEIGHTS["equal"])
    codes = [str(status) for status in MomentStatus]
    assert [codes[place] for place in found.status.ravel()] == ["ok", "no_variance", "no_variance", "ok"]
    assert np.isnan(found.correlation).tolist() == [[False, True], [True, False]]


def test_moments_read_back(world: World) -> None:
    rows = computed(world, world.sessions)
    for weighting in WEIGHTS:
        found = stored_moments(rows.sample(fraction=1.0, shuffle=True, seed=2), weighting=weighting)
        assert list(found) == world.sessions
        last = found[world.sessions[-1]]
        assert isinstance(last, FactorMoments)
        assert last.names == tuple(sorted(set(rows["factor_1"])))
        row = rows.filter(session_date=world.sessions[-1], weighting=weighting, factor_1="Oil", factor_2="Gold")
        at = last.names.index("Oil"), last.names.index("Gold")
        assert (last.covariance[at], last.n_obs) == (row.item(0, "covariance"), 252)
    with pytest.raises(ValueError, match="'ewma' is not a valid Weighting"):
        stored_moments(rows, weighting="ewma")


def test_a_missing_figure_is_read_back_as_nan() -> None:
    row = {"session_date": date(2024, 1, 2), "weighting": "equal", "factor_1": "A", "factor_2": "A", "n_obs": 0}
    found = stored_moments(frame(tables.factor_correlations, [row]))
    assert np.isnan(found[date(2024, 1, 2)].covariance).all()


def test_without_sessions_or_factors() -> None:
    days = weekdays(3)
    empty: dict[str, Any] = {
        "calendar": sessions_frame(days, closed=days[2:]),
        "returns": frame(tables.daily_returns, []),
        "yields": frame(tables.treasury_yields, []),
        "factors": frame(tables.factor_definitions, []),
    }
    assert factor_correlations(sessions=days[2:], **empty).is_empty()
    assert factor_correlations(sessions=days[:2], **empty).is_empty()
