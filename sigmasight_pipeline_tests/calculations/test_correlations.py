"""Which symbols of a portfolio are correlated, over which sessions, and what the correlations add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sigmasight_pipeline.calculations.correlations import (
    MissingPairsError,
    correlation_calculations,
    pairwise_correlations,
    repaired,
    symbol_values,
)
from sigmasight_pipeline.calculations.exposures import MissingGreeksError
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import held_rows, return_rows, stored_schema, weekdays
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock

DAYS = weekdays(120)
LAST = DAYS[-1]
SYMBOLS = ["AAA", "BBB", "CCC", "DDD", "EEE"]
RANDOM = np.random.default_rng(1)
RETURNS = 0.01 * (RANDOM.normal(size=(120, 5)) + RANDOM.normal(size=(120, 1)))
FILTER: dict[str, Any] = {"min_position_value": 10_000, "min_portfolio_weight": 0.01, "filter_mode": "both"}


def inputs(
    exposures: Mapping[int, Any], positions: Sequence[dict[str, Any]] | None = None, days: Sequence[date] = (LAST,)
) -> dict[str, Any]:
    """The book of one portfolio, or of those the positions name, with a delta-adjusted exposure by position."""
    held = positions or [stock(number, SYMBOLS[number - 1], 1, 1, DAYS[0]) for number in exposures]
    values, greeks = held_rows(days, exposures, held)
    return {
        "calendar": sessions_frame(DAYS),
        "portfolios": frame(
            tables.portfolios, [portfolio(number, DAYS[0]) for number in sorted({row["portfolio_id"] for row in held})]
        ),
        "positions": frame(tables.positions, held),
        "position_values": values,
        "position_greeks": greeks,
    }


def market(**fields: Any) -> dict[str, Any]:
    return {
        "returns": return_rows(DAYS, SYMBOLS, RETURNS),
        "instruments": frame(tables.instruments, []),
        **fields,
    }


def pairs_of(book: dict[str, Any], sessions: Sequence[date] = (LAST,), **options: Any) -> pl.DataFrame:
    return pairwise_correlations(sessions=list(sessions), **book, **{**market(), **options})


def calculated(
    book: dict[str, Any], pairs: pl.DataFrame, sessions: Sequence[date] = (LAST,), **options: Any
) -> dict[str, Any]:
    found = correlation_calculations(sessions=list(sessions), **book, pairwise_correlations=pairs, **options)
    assert dict(found.schema) == stored_schema(tables.correlation_calculations)
    return found.row(0, named=True)


def test_equal_to_pandas_and_scipy() -> None:
    """With gaps, a bad tick, a return over a gap, a constant and a young symbol."""
    values = RETURNS.copy()
    values[40:45, 0], values[100, 1], values[:, 3], values[:101, 4] = np.nan, 3.0, 0.0, np.nan
    returns = return_rows(DAYS, SYMBOLS, values, spanned={(60, 2): 2})
    found = pairs_of(inputs(dict.fromkeys(range(1, 6), 50_000)), returns=returns)
    assert dict(found.schema) == stored_schema(tables.pairwise_correlations)
    logs = np.log1p(values)
    logs[60, 2] = np.nan
    window = pd.DataFrame(logs[30:], columns=SYMBOLS)
    expected = window.corr(min_periods=20)
    rows = {(row["symbol_1"], row["symbol_2"]): row for row in found.iter_rows(named=True)}
    assert len(rows) == 25
    for (one, other), row in rows.items():
        common = window[[one, other]].dropna() if one != other else window[[one]].dropna()
        assert row["n_obs"] == len(common), row
        if "EEE" in (one, other):
            assert (row["correlation"], row["status"]) == (None, "insufficient_history"), row
        elif "DDD" in (one, other):
            assert (row["correlation"], row["status"]) == (None, "no_variance"), row
        elif one == other:
            assert (row["correlation"], row["p_value"], row["status"]) == (1.0, None, "ok"), row
        else:
            p = stats.pearsonr(common[one], common[other]).pvalue
            assert row["correlation"] == pytest.approx(expected.loc[one, other], abs=1e-12), row
            assert row["p_value"] == pytest.approx(p, abs=1e-12), row
            assert rows[other, one]["correlation"] == row["correlation"], row


@pytest.mark.parametrize(("common", "status"), [(19, "insufficient_history"), (20, "ok")])
def test_least_common_observations(common: int, status: str) -> None:
    values = RETURNS.copy()
    values[: 120 - common, 0] = np.nan
    found = pairs_of(inputs({1: 20_000, 2: 20_000}), returns=return_rows(DAYS, SYMBOLS, values))
    row = found.row(1, named=True)
    assert (row["n_obs"], row["status"]) == (common, status)


def test_only_the_window_counts() -> None:
    book = inputs({1: 20_000, 2: 20_000})
    changed = np.where(np.arange(120)[:, None] < 30, 7 * RETURNS, RETURNS)
    assert pairs_of(book).equals(pairs_of(book, returns=return_rows(DAYS, SYMBOLS, changed)))
    changed[30] = 0.5
    assert not pairs_of(book).equals(pairs_of(book, returns=return_rows(DAYS, SYMBOLS, changed)))


def test_a_renamed_symbol_keeps_its_name_and_takes_the_returns_of_its_successor() -> None:
    values = RETURNS.copy()
    values[80:, 0], values[:80, 2] = np.nan, np.nan
    renamed = frame(
        tables.instruments, [{"symbol": "AAA", "kind": "stock", "last_session": DAYS[79], "replaced_by": "CCC"}]
    )
    found = pairs_of(inputs({1: 20_000, 2: 20_000}), returns=return_rows(DAYS, SYMBOLS, values), instruments=renamed)
    joined = np.log1p(np.where(np.isnan(values[:, 0]), values[:, 2], values[:, 0]))[30:]
    row = found.row(1, named=True)
    assert (row["symbol_1"], row["symbol_2"], row["n_obs"]) == ("AAA", "BBB", 90)
    assert row["correlation"] == pytest.approx(np.corrcoef(joined, np.log1p(values[30:, 1]))[0, 1], abs=1e-12)


CALL = "AAA241220C00100000"
FILTERS: list[tuple[str, dict[int, Any], dict[str, Any], list[str], int]] = [
    ("both", {1: 50_000, 2: 10_000, 3: "9999.99"}, {}, ["AAA", "BBB"], 1),
    ("too light", {1: 2_000_000, 2: "20202.02", 3: "20202.00"}, {}, ["AAA"], 2),
    ("just heavy enough", {1: 1_980_000, 2: 20_000}, {}, ["AAA", "BBB"], 0),
    ("value only", {1: 2_000_000, 2: 10_000, 3: 9_999}, {"filter_mode": "value_only"}, ["AAA", "BBB"], 1),
    ("weight only", {1: 990, 2: 10, 3: 9}, {"filter_mode": "weight_only"}, ["AAA"], 2),
    ("either", {1: 9_000, 2: 10, 3: 9}, {"filter_mode": "either"}, ["AAA"], 2),
    ("shorts by their size", {1: -50_000, 2: 50_000}, {}, ["AAA", "BBB"], 0),
    ("a fallback row has no value", {1: 50_000, 2: None}, {}, ["AAA"], 1),
    ("nothing known", {1: None, 2: None}, {}, [], 2),
    ("worth nothing", {1: 0}, {"min_position_value": 0, "filter_mode": "value_only"}, [], 1),
    ("other limits", {1: 60, 2: 40}, {"min_position_value": 50, "min_portfolio_weight": 0.5}, ["AAA"], 1),
]


@pytest.mark.parametrize(("exposures", "options", "included", "excluded"), [case[1:] for case in FILTERS])
def test_filter(exposures: dict[int, Any], options: dict[str, Any], included: list[str], excluded: int) -> None:
    book = inputs(exposures)
    pairs = pairs_of(book, **options)
    assert sorted(set(pairs["symbol_1"])) == included
    row = calculated(book, pairs, **options)
    assert (row["positions_included"], row["positions_excluded"]) == (len(included), excluded)
    assert row["min_position_value"] == Decimal(options.get("min_position_value", 10_000))
    assert row["filter_mode"] == options.get("filter_mode", "both")


def test_value_is_the_net_delta_adjusted_exposure_of_the_underlying() -> None:
    """Stock and options of one symbol net; PRIVATE positions and exits are outside; weights are before filtering."""
    positions = [
        stock(1, "AAA", 1, 1, DAYS[0]),
        option(2, CALL, -1, 5, DAYS[0]),
        option(3, "BBB241220P00100000", 1, 5, DAYS[0]),
        private(4, "FUND", 1, 1, DAYS[0]),
        stock(5, "CCC", 1, 1, DAYS[0]),
        stock(6, "DDD", 1, 1, DAYS[0]),
        option(7, "DDD241220C00100000", 1, 1, DAYS[0]),
        option(8, "EEE241220C00100000", 1, 1, DAYS[0]),
    ]
    book = inputs({1: 100_000, 2: -40_000, 3: -30_000, 4: 900_000, 5: 5_000, 6: 5_000, 7: None, 8: None}, positions)
    exits = book["position_values"].with_columns(
        pl.when(pl.col("position_id") == 5).then(pl.lit("exit")).otherwise("price_source").alias("price_source")
    )
    found = symbol_values(sessions=[LAST], **{**book, "position_values": exits}, **FILTER)
    assert found.select("symbol", "value", "weight", "included").rows() == [
        ("AAA", Decimal(60_000), 60 / 95, True),
        ("BBB", Decimal(30_000), 30 / 95, True),
        ("DDD", Decimal(5_000), 5 / 95, False),
        ("EEE", None, None, False),
    ]


def test_figures_of_a_hand_made_matrix() -> None:
    """Three symbols of values 50, 30, 20; AAA-BBB 0.9, AAA-CCC 0.2, BBB-CCC unknown."""
    book = inputs({1: 50_000, 2: -30_000, 3: 20_000})
    matrix = {("AAA", "BBB"): 0.9, ("AAA", "CCC"): 0.2, ("BBB", "CCC"): None}
    row = calculated(book, hand_made(matrix))
    assert row["overall_correlation"] == pytest.approx(0.55, abs=1e-15)
    assert row["correlation_concentration"] == 0.8
    assert row["data_quality"] == pytest.approx(2 / 3, abs=1e-15)
    assert row["duplicate_pairs"] == 0
    assert json.loads(row["top_pairs"]) == [
        {"symbol_1": "AAA", "symbol_2": "BBB", "correlation": 0.9},
        {"symbol_1": "AAA", "symbol_2": "CCC", "correlation": 0.2},
    ]
    c = np.array([[1, 0.9, 0.2], [0.9, 1, 0], [0.2, 0, 1]])
    assert row["min_eigenvalue"] == pytest.approx(np.linalg.eigvalsh(c)[0], abs=1e-15)
    w = np.array([0.5, 0.3, 0.2])
    assert row["effective_positions"] == pytest.approx(1 / (w @ c @ w), rel=1e-14)
    assert (row["window_sessions"], row["min_portfolio_weight"], row["status"]) == (90, 0.01, "ok")


def hand_made(matrix: Mapping[tuple[str, str], float | None], constant: str = "") -> pl.DataFrame:
    """Rows of ``pairwise_correlations`` of portfolio 1 on LAST from its upper triangle; one symbol may not vary."""
    symbols = sorted({symbol for pair in matrix for symbol in pair})
    both = {**matrix, **{(b, a): value for (a, b), value in matrix.items()}, **{(s, s): 1.0 for s in symbols}}
    return frame(
        tables.pairwise_correlations,
        [
            {
                "session_date": LAST,
                "portfolio_id": 1,
                "symbol_1": a,
                "symbol_2": b,
                "correlation": None if constant in (a, b) else value,
                "status": "no_variance" if constant in (a, b) else "ok",
            }
            for (a, b), value in both.items()
        ],
    )


def test_a_symbol_that_does_not_vary_is_counted_and_changes_no_figure_of_the_others() -> None:
    """A money market fund is correlated with nothing by nature: no gap in the data, and no bet of its own."""
    matrix = {("AAA", "BBB"): 0.9, ("AAA", "CCC"): 0.2, ("BBB", "CCC"): 0.1}
    alone = calculated(inputs({1: 50_000, 2: -30_000, 3: 20_000}), hand_made(matrix))
    with_cash = {**matrix, ("AAA", "DDD"): None, ("BBB", "DDD"): None, ("CCC", "DDD"): None}
    row = calculated(inputs({1: 50_000, 2: -30_000, 3: 20_000, 4: 100_000}), hand_made(with_cash, "DDD"))
    assert (row["positions_included"], row["positions_constant"], row["data_quality"]) == (4, 1, 1.0)
    assert row["effective_positions"] == pytest.approx(alone["effective_positions"], rel=1e-14)
    of_whole = "positions_included", "positions_constant", "effective_positions", "correlation_concentration"
    assert {name: value for name, value in row.items() if name not in of_whole} == {
        name: value for name, value in alone.items() if name not in of_whole
    }
    assert (alone["correlation_concentration"], row["correlation_concentration"]) == (0.8, 0.4)


@pytest.mark.parametrize(
    ("exposures", "matrix", "status"),
    [
        ({4: 90_000}, {("DDD", "DDD"): None}, "no_variance"),
        ({3: 20_000, 4: 90_000}, {("CCC", "DDD"): None}, "single_position"),
    ],
)
def test_fewer_than_two_symbols_that_vary(
    exposures: dict[int, Any], matrix: dict[tuple[str, str], float | None], status: str
) -> None:
    row = calculated(inputs(exposures), hand_made(matrix, "DDD"))
    assert (row["status"], row["positions_constant"], row["positions_included"]) == (status, 1, len(exposures))
    assert [row[name] for name in ("overall_correlation", "data_quality", "effective_positions")] == [None] * 3


def test_a_matrix_that_is_not_positive_semidefinite_is_repaired_for_the_effective_positions() -> None:
    book = inputs({1: 20_000, 2: 20_000, 3: 20_000})
    row = calculated(book, hand_made({("AAA", "BBB"): 0.9, ("AAA", "CCC"): 0.9, ("BBB", "CCC"): -0.9}))
    matrix = np.array([[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]])
    valid, smallest = repaired(matrix)
    assert row["min_eigenvalue"] == smallest < 0
    np.testing.assert_allclose(np.diagonal(valid), 1.0, rtol=1e-15)
    assert np.linalg.eigvalsh(valid)[0] > -1e-15
    assert row["effective_positions"] == pytest.approx(9 / valid.sum(), rel=1e-14)
    good = np.array([[1, 0.5], [0.5, 1]])
    assert repaired(good)[0] is good


DUPLICATES = {("AAA", "BBB"): 0.99991, ("AAA", "CCC"): 0.9999, ("BBB", "CCC"): -0.99999}
STATUSES: list[tuple[str, dict[int, Any], dict[tuple[str, str], float | None], str, list[str]]] = [
    ("nothing held", {}, {}, "no_positions", ["min_eigenvalue", "data_quality", "effective_positions"]),
    ("nothing included", {1: 5}, {}, "no_positions", ["min_eigenvalue", "data_quality", "effective_positions"]),
    ("one symbol", {1: 20_000}, {("AAA", "AAA"): 1.0}, "single_position", ["min_eigenvalue", "effective_positions"]),
    ("no pair", {1: 20_000, 2: 20_000}, {("AAA", "BBB"): None}, "no_pairs", ["correlation_concentration"]),
]


@pytest.mark.parametrize(("exposures", "matrix", "status", "unknown"), [case[1:] for case in STATUSES])
def test_statuses(
    exposures: dict[int, Any], matrix: dict[tuple[str, str], float | None], status: str, unknown: list[str]
) -> None:
    nothing = dict(zip(("position_values", "position_greeks"), held_rows([], {}, []), strict=True))
    book = inputs(exposures) if exposures else inputs({1: 1}) | nothing
    row = calculated(book, hand_made(matrix))
    assert row["status"] == status
    assert [row[name] for name in ["overall_correlation", "top_pairs", *unknown]] == [None] * (2 + len(unknown))
    if status == "no_pairs":
        assert (row["data_quality"], row["effective_positions"], row["min_eigenvalue"]) == (0.0, 2.0, 1.0)


def test_duplicate_instruments_are_counted() -> None:
    row = calculated(inputs({1: 20_000, 2: 20_000, 3: 20_000}), hand_made(DUPLICATES))
    assert row["duplicate_pairs"] == 1
    assert [pair["correlation"] for pair in json.loads(row["top_pairs"])] == [-0.99999, 0.99991, 0.9999]


@pytest.mark.parametrize("correlation", [-0.2, -0.9, -0.999, -1.0])
def test_effective_positions_never_exceed_the_count(correlation: float) -> None:
    """Two holdings that nearly offset each other were 1,000 bets."""
    row = calculated(inputs({1: 20_000, 2: 20_000}), hand_made({("AAA", "BBB"): correlation}))
    assert (row["effective_positions"], row["overall_correlation"], row["status"]) == (2.0, correlation, "ok")


def test_pairs_that_are_not_those_of_the_filter_are_refused() -> None:
    book = inputs({1: 20_000, 2: 20_000, 3: 20_000})
    with pytest.raises(MissingPairsError, match=r"portfolio 1 has 4 pairwise correlations at .* for 3 symbols"):
        calculated(book, hand_made({("AAA", "BBB"): 0.5}))


def test_bad_input() -> None:
    book = inputs({1: 20_000})
    with pytest.raises(ValueError, match="at least 3 in common"):
        pairs_of(book, min_common_observations=2)
    with pytest.raises(ValueError, match="at least 3 in common"):
        pairs_of(book, correlation_window=10)
    with pytest.raises(MissingGreeksError):
        pairs_of({**book, "position_greeks": book["position_greeks"].clear()})


@settings(max_examples=10)
@given(st.integers(0, 2**16), st.data())
def test_range_equals_single_order_and_future_change_nothing(seed: int, data: st.DataObject) -> None:
    """Two portfolios over thirty sessions, gaps planted; a session alone, shuffled, without anything after it."""
    random = np.random.default_rng(seed)
    values = np.where(random.random(RETURNS.shape) < 0.2, np.nan, RETURNS)
    # portfolios that share symbols are computed together, those that do not one by one
    first, second = data.draw(st.sampled_from([(range(5), range(1, 4)), (range(2), range(2, 5))]))
    positions = [stock(n + 1, SYMBOLS[n], 1, 1, DAYS[0]) for n in first]
    positions += [stock(n + 11, SYMBOLS[n], 1, 1, DAYS[0]) | {"portfolio_id": 2} for n in second]
    days = DAYS[85:115]
    exposures = {row["position_id"]: int(random.integers(-60_000, 60_000)) for row in positions}
    book = inputs(exposures, positions, days)
    returns = return_rows(DAYS, SYMBOLS, values)
    whole = pairs_of(book, days, returns=returns)
    day = data.draw(st.sampled_from(days))
    past = {
        name: rows.filter(pl.col("session_date") <= day) if name.startswith("position_") else rows
        for name, rows in book.items()
    }
    shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=seed) for name, rows in past.items()}
    known = returns.filter(pl.col("session_date") <= day).sample(fraction=1, shuffle=True, seed=seed)
    alone = pairs_of(shuffled, [day], returns=known)
    assert alone.equals(whole.filter(pl.col("session_date") == day))
    figures = correlation_calculations(sessions=days, **book, pairwise_correlations=whole)
    single = correlation_calculations(
        sessions=[day], **shuffled, pairwise_correlations=whole.sample(fraction=1, shuffle=True, seed=seed)
    )
    assert single.equals(figures.filter(pl.col("session_date") == day))
    assert figures.height == 2 * len(days)
    other = {**book, "portfolios": book["portfolios"].filter(pl.col("portfolio_id") == 2)}
    assert pairs_of(other, days, returns=returns).equals(whole.filter(pl.col("portfolio_id") == 2))
