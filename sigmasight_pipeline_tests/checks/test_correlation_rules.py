"""Rules on correlations and clusters: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import correlations as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.checks.valuation import PORTFOLIO_ROWS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import held_rows
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]
BOOK = [
    stock(1, "AAA", 1, 1, D1),
    option(2, "BBB240119C00100000", 1, 1, D1),
    stock(3, "CCC", 1, 1, D1),
    stock(4, "DDD", 1, 1, D1),
    private(5, "FUND", 1, 1, D1),
]
VALUES, _ = held_rows(DAYS, dict.fromkeys(range(1, 6), 100), BOOK)

MATRIX = {("AAA", "BBB"): 0.8, ("AAA", "CCC"): 0.1, ("BBB", "CCC"): None}


def rows(matrix: dict[tuple[str, str], float | None]) -> pl.DataFrame:
    """Both directions and the diagonal on both sessions."""
    symbols = sorted({symbol for pair in matrix for symbol in pair})
    both = {**matrix, **{(b, a): value for (a, b), value in matrix.items()}, **{(s, s): 1.0 for s in symbols}}
    return frame(
        tables.pairwise_correlations,
        [
            {
                "session_date": day,
                "portfolio_id": 1,
                "symbol_1": a,
                "symbol_2": b,
                "correlation": value,
                "p_value": None if a == b or value is None else 0.01,
                "n_obs": 90 if a == b else 15 if value is None else 80,
                "status": "insufficient_history" if value is None else "ok",
            }
            for day in DAYS
            for (a, b), value in both.items()
        ],
    )


PAIRS = rows(MATRIX)
CALCULATIONS = frame(
    tables.correlation_calculations,
    [
        {
            "session_date": day,
            "portfolio_id": 1,
            "positions_included": 3,
            "positions_excluded": 1,
            "data_quality": 0.8,
            "status": "ok",
        }
        for day in DAYS
    ],
)
MEMBERS = frame(
    tables.correlation_cluster_positions,
    [
        {"session_date": day, "portfolio_id": 1, "cluster_number": 1, "symbol": symbol, "value": value}
        for day in DAYS
        for symbol, value in (("AAA", "100.25"), ("BBB", "50.50"))
    ],
)
CLUSTERS = frame(
    tables.correlation_clusters,
    [
        {"session_date": day, "portfolio_id": 1, "cluster_number": 1, "total_value": "150.75", "member_count": 2}
        for day in DAYS
    ],
)
INPUTS = {
    "calendar": sessions_frame(DAYS),
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1, active=False)]),
    "positions": frame(tables.positions, BOOK),
    "position_values": VALUES,
    "pairwise_correlations": PAIRS,
    "correlation_cluster_positions": MEMBERS,
}


def pair(one: str, other: str) -> dict[str, Any]:
    return {"session_date": D2, "symbol_1": one, "symbol_2": other}


def both(one: str, other: str, **fault: Any) -> pl.DataFrame:
    return changed(changed(PAIRS, pair(one, other), **fault), pair(other, one), **fault)


AB = "portfolio 1: AAA and BBB"
WITHOUT = PAIRS.filter((pl.col("session_date") != D2) | (pl.col("symbol_2") != "BBB"))
STRANGER = PAIRS.with_columns(pl.col("symbol_1", "symbol_2").replace("CCC", "EEE"))
LONELY = CALCULATIONS.filter(pl.col("session_date") == D1)

FAULTS: list[tuple[str, Rule, pl.DataFrame, pl.DataFrame, list[str]]] = [
    ("a column is missing", rules.PAIR_ROWS, PAIRS, WITHOUT, ["portfolio 1: 6 rows for 3 symbols"]),
    (
        "not held",
        rules.PAIR_ROWS,
        PAIRS,
        pl.concat([PAIRS.filter(pl.col("session_date") == D1), STRANGER.filter(pl.col("session_date") == D2)]),
        ["portfolio 1 has rows of EEE, which it does not hold"],
    ),
    (
        "one direction",
        rules.SYMMETRIC,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), correlation=0.8000000000000002),
        [f"{AB} differ by direction"],
    ),
    (
        "one p-value",
        rules.SYMMETRIC,
        PAIRS,
        changed(PAIRS, pair("BBB", "AAA"), p_value=None),
        [f"{AB} differ by direction"],
    ),
    ("one n_obs", rules.SYMMETRIC, PAIRS, changed(PAIRS, pair("AAA", "BBB"), n_obs=79), [f"{AB} differ by direction"]),
    (
        "beyond 1",
        rules.BOUNDED,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), correlation=-1.5),
        [f"{AB}: correlation -1.5 with p 0.01 and status ok"],
    ),
    (
        "p beyond 1",
        rules.BOUNDED,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), p_value=1.5),
        [f"{AB}: correlation 0.8 with p 1.5 and status ok"],
    ),
    (
        "NULL without a reason",
        rules.BOUNDED,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), correlation=None, p_value=None),
        [f"{AB}: correlation none with p none and status ok"],
    ),
    (
        "a figure with a reason",
        rules.BOUNDED,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), status="no_variance"),
        [f"{AB}: correlation 0.8 with p 0.01 and status no_variance"],
    ),
    (
        "diagonal",
        rules.UNIT_DIAGONAL,
        PAIRS,
        changed(PAIRS, pair("AAA", "AAA"), correlation=0.9999999999999999),
        ["portfolio 1: AAA with itself is 0.9999999999999999"],
    ),
    (
        "more than there are",
        rules.OBSERVATIONS,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), n_obs=91),
        [f"{AB}: 91 common observations of 90"],
    ),
    (
        "too few",
        rules.OBSERVATIONS,
        PAIRS,
        changed(PAIRS, pair("AAA", "BBB"), n_obs=2),
        [f"{AB}: 2 common observations of 90"],
    ),
    (
        "duplicate",
        rules.DUPLICATES,
        both("AAA", "BBB", correlation=0.9999),
        both("AAA", "BBB", correlation=0.99991),
        [f"{AB} may be one instrument: correlation 0.99991"],
    ),
    (
        "included",
        rules.COUNTS_AGREE,
        CALCULATIONS,
        changed(CALCULATIONS, {"session_date": D2}, positions_included=2, positions_excluded=2),
        ["portfolio 1: 2 symbols included and 2 excluded, 4 held and 3 correlated"],
    ),
    (
        "excluded",
        rules.COUNTS_AGREE,
        CALCULATIONS,
        changed(CALCULATIONS, {"session_date": D2}, positions_excluded=0),
        ["portfolio 1: 3 symbols included and 0 excluded, 4 held and 3 correlated"],
    ),
    (
        "coverage",
        rules.COVERAGE,
        CALCULATIONS,
        changed(CALCULATIONS, {"session_date": D2}, data_quality=0.79),
        ["portfolio 1: 79.0% of its pairs"],
    ),
    ("coverage kept", rules.COVERAGE, CALCULATIONS, CALCULATIONS, []),
    ("a portfolio", PORTFOLIO_ROWS, CALCULATIONS, LONELY, ["book-1 has no row"]),
    (
        "member",
        rules.CLUSTER_TOTALS,
        CLUSTERS,
        changed(CLUSTERS, {"session_date": D2}, member_count=3),
        ["portfolio 1: cluster 1 is not the sum of its members"],
    ),
    (
        "value",
        rules.CLUSTER_TOTALS,
        CLUSTERS,
        changed(CLUSTERS, {"session_date": D2}, total_value="150.74"),
        ["portfolio 1: cluster 1 is not the sum of its members"],
    ),
    (
        "cluster",
        rules.CLUSTER_TOTALS,
        CLUSTERS,
        CLUSTERS.filter(pl.col("session_date") == D1),
        ["portfolio 1: cluster 1 is not the sum of its members"],
    ),
]


def test_symbols_with_too_few_returns_are_named() -> None:
    low = changed(CALCULATIONS, {"session_date": D2}, data_quality=0.5)
    young = changed(PAIRS, pair("CCC", "CCC"), correlation=None, status="insufficient_history")
    told = found(rules.COVERAGE, judged(DAYS, low, INPUTS | {"pairwise_correlations": young}))
    assert told == [(D2, 1, "portfolio 1: 50.0% of its pairs (CCC: too few returns)")]


@pytest.mark.parametrize(
    ("rule", "good", "bad", "sentences"), [case[1:] for case in FAULTS], ids=[c[0] for c in FAULTS]
)
def test_planted_fault(rule: Rule, good: pl.DataFrame, bad: pl.DataFrame, sentences: list[str]) -> None:
    assert found(rule, judged(DAYS, good, INPUTS)) == []
    expected: list[Finding] = [(D2, 1, sentence) for sentence in sentences]
    assert found(rule, judged(DAYS, bad, INPUTS)) == expected


MEMBER_FAULTS: list[tuple[str, pl.DataFrame, str]] = [
    ("missing", MEMBERS.filter((pl.col("session_date") == D1) | (pl.col("symbol") != "BBB")), "BBB is in no cluster"),
    (
        "without an edge",
        changed(MEMBERS.vstack(MEMBERS[-1:]), {"session_date": D1}, value=1).with_columns(
            pl.Series("symbol", ["AAA", "BBB", "AAA", "BBB", "CCC"])
        ),
        "CCC is in a cluster without a reason",
    ),
    (
        "twice",
        pl.concat(
            [MEMBERS, MEMBERS[-1:].with_columns(cluster_number=pl.lit(2, dtype=MEMBERS.schema["cluster_number"]))]
        ),
        "BBB is in two clusters",
    ),
]


@pytest.mark.parametrize(
    ("members", "sentence"), [case[1:] for case in MEMBER_FAULTS], ids=[c[0] for c in MEMBER_FAULTS]
)
def test_members_of_clusters(members: pl.DataFrame, sentence: str) -> None:
    assert found(rules.CLUSTER_MEMBERS, judged(DAYS, CLUSTERS, INPUTS)) == []
    wrong = {**INPUTS, "correlation_cluster_positions": members}
    assert found(rules.CLUSTER_MEMBERS, judged(DAYS, CLUSTERS, wrong)) == [(D2, 1, f"portfolio 1: {sentence}")]


def test_exits_private_positions_and_inactive_portfolios_are_not_held() -> None:
    values = VALUES.with_columns(
        price_source=pl.when(pl.col("position_id") == 4).then(pl.lit("exit")).otherwise("price_source"),
        portfolio_id=pl.when(pl.col("position_id") == 3).then(pl.lit(2)).otherwise("portfolio_id"),
    )
    inputs = {**INPUTS, "position_values": values, "pairwise_correlations": PAIRS.clear()}
    counted = CALCULATIONS.with_columns(
        positions_included=pl.lit(0, dtype=pl.Int32), positions_excluded=pl.lit(2, dtype=pl.Int32)
    )
    assert found(rules.COUNTS_AGREE, judged(DAYS, counted, inputs)) == []


def test_every_rule_has_a_case() -> None:
    tested = [rule for _, rule, *_ in FAULTS] + [rules.CLUSTER_MEMBERS]
    assert cases.names_of(rules, tested) == cases.rules_of(rules)
    listed = {*rules.PAIRWISE_CORRELATIONS, *rules.CORRELATION_CALCULATIONS, *rules.CORRELATION_CLUSTERS}
    assert {id(rule) for rule in listed} == {id(rule) for rule in tested}
    warnings = {rule.name for rule in listed if rule.severity == "WARN"}
    assert warnings == {"duplicate_instruments", "coverage"}
