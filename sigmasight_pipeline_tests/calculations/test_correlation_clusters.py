"""Clusters on hand-made graphs: who belongs together, in what order, under what name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.correlation_clusters import clusters, components
from sigmasight_pipeline.calculations.correlations import IncludedSymbols
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import stored_schema
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, stock
from sigmasight_pipeline_tests.calculations.test_correlations import DAYS, LAST, hand_made, inputs

TAGS = frame(
    tables.tags,
    [{"tag_id": number, "name": name, "kind": "regular"} for number, name in enumerate(("core", "ai", "x"))],
)


def clustered(
    exposures: Mapping[int, Any],
    matrix: Mapping[tuple[str, str], float | None],
    *,
    tagged: Sequence[tuple[int, int]] = (),
    sectors: Mapping[str, str | None] | None = None,
    positions: Sequence[dict[str, Any]] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Clusters of portfolio 1 on LAST; `tagged` are (position, tag)."""
    found = clusters(
        sessions=[LAST],
        **inputs(exposures, positions),
        pairwise_correlations=hand_made(matrix),
        tags=TAGS,
        position_tags=frame(tables.position_tags, [{"position_id": p, "tag_id": t} for p, t in tagged]),
        instruments=frame(
            tables.instruments,
            [{"symbol": symbol, "kind": "stock", "sector": sector} for symbol, sector in (sectors or {}).items()],
        ),
    )
    assert dict(found[0].schema) == stored_schema(tables.correlation_clusters)
    assert dict(found[1].schema) == stored_schema(tables.correlation_cluster_positions)
    return found


def full(edges: Mapping[tuple[str, str], float | None], symbols: str) -> dict[tuple[str, str], float | None]:
    """A matrix of symbols AAA, BBB, ... with 0.1 where `edges` says nothing."""
    names = [letter * 3 for letter in symbols]
    return {(a, b): edges.get((a, b), 0.1) for i, a in enumerate(names) for b in names[i + 1 :]}


GRAPHS: list[tuple[str, dict[tuple[str, str], float | None], dict[int, int], list[list[str]]]] = [
    ("none", {}, {1: 5, 2: 4, 3: 3}, []),
    ("just below", {("AAA", "BBB"): 0.6999999}, {1: 5, 2: 4, 3: 3}, []),
    ("just enough", {("AAA", "BBB"): 0.7}, {1: 5, 2: 4, 3: 3}, [["AAA", "BBB"]]),
    ("opposites are no cluster", {("AAA", "BBB"): -0.95}, {1: 5, 2: 4, 3: 3}, []),
    ("unknown is no edge", {("AAA", "BBB"): None}, {1: 5, 2: 4, 3: 3}, []),
    ("a chain", {("AAA", "CCC"): 0.8, ("BBB", "CCC"): 0.8}, {1: 5, 2: 4, 3: 3}, [["AAA", "BBB", "CCC"]]),
    (
        "two, by value",
        {("AAA", "BBB"): 0.8, ("CCC", "DDD"): 0.9},
        {1: 5, 2: 4, 3: 6, 4: 4},
        [["CCC", "DDD"], ["AAA", "BBB"]],
    ),
    (
        "two of one value, by symbol",
        {("AAA", "DDD"): 0.8, ("BBB", "CCC"): 0.9},
        {1: 5, 2: 5, 3: 5, 4: 5},
        [["AAA", "DDD"], ["BBB", "CCC"]],
    ),
]


@pytest.mark.parametrize(("edges", "values", "expected"), [case[1:] for case in GRAPHS], ids=[c[0] for c in GRAPHS])
def test_graph(edges: dict[tuple[str, str], float | None], values: dict[int, int], expected: list[list[str]]) -> None:
    exposures = {number: value * 10_000 for number, value in values.items()}
    groups, members = clustered(exposures, full(edges, "ABCD"[: len(values)]))
    found = members.group_by("cluster_number", maintain_order=True).agg("symbol").rows()
    assert found == [(number, symbols) for number, symbols in enumerate(expected, start=1)]
    assert groups["member_count"].to_list() == [len(symbols) for symbols in expected]


def test_figures() -> None:
    """AAA-BBB 0.9, BBB-CCC 0.8, AAA-CCC 0.1; DDD alone; EEE too small but part of the weights."""
    edges = {("AAA", "BBB"): 0.9, ("BBB", "CCC"): 0.8}
    groups, members = clustered({1: 40_000, 2: -30_000, 3: 20_000, 4: 9_000, 5: 1_000}, full(edges, "ABC"))
    row = groups.row(0, named=True)
    assert (row["session_date"], row["portfolio_id"], row["cluster_number"]) == (LAST, 1, 1)
    assert row["average_correlation"] == pytest.approx(0.6, abs=1e-15)
    assert (row["total_value"], row["portfolio_weight"], row["member_count"]) == (Decimal(90_000), 0.9, 3)
    assert row["nickname"] == "AAA lookalikes"
    assert members.select("symbol", "value", "portfolio_weight").rows() == [
        ("AAA", Decimal(40_000), 0.4),
        ("BBB", Decimal(30_000), 0.3),
        ("CCC", Decimal(20_000), 0.2),
    ]
    assert members["correlation_to_cluster"].to_list() == pytest.approx([0.5, 0.85, 0.45], abs=1e-15)


def test_a_missing_pair_is_left_out_of_the_averages() -> None:
    edges = {("AAA", "BBB"): 0.9, ("BBB", "CCC"): 0.8, ("AAA", "CCC"): None}
    groups, members = clustered(dict.fromkeys((1, 2, 3), 20_000), full(edges, "ABC"))
    assert groups["average_correlation"].to_list() == pytest.approx([0.85])
    assert members["correlation_to_cluster"].to_list() == pytest.approx([0.9, 0.85, 0.8])


CORE, AI, X = 0, 1, 2
NAMES: list[tuple[str, list[tuple[int, int]], dict[str, str | None], str]] = [
    ("a tag of all", [(1, CORE), (2, CORE), (2, X)], {"AAA": "Tech", "BBB": "Tech"}, "core"),
    ("the first of two tags", [(1, CORE), (1, AI), (2, CORE), (2, AI)], {}, "ai"),
    ("a sector before no tag", [(1, CORE)], {"AAA": "Tech", "BBB": "Tech"}, "Tech"),
    ("sectors differ", [], {"AAA": "Tech", "BBB": "Energy"}, "BBB lookalikes"),
    ("one without a sector", [], {"AAA": "Tech", "BBB": None}, "BBB lookalikes"),
    ("sectors unknown", [], {}, "BBB lookalikes"),
]


@pytest.mark.parametrize(("tagged", "sectors", "expected"), [case[1:] for case in NAMES], ids=[c[0] for c in NAMES])
def test_nickname(tagged: list[tuple[int, int]], sectors: dict[str, str | None], expected: str) -> None:
    groups, _ = clustered({1: 20_000, 2: 30_000}, {("AAA", "BBB"): 0.9}, tagged=tagged, sectors=sectors)
    assert groups["nickname"].to_list() == [expected]


def test_the_tag_of_an_option_is_one_of_its_underlying() -> None:
    positions = [stock(1, "AAA", 1, 1, DAYS[0]), option(2, "BBB241220C00100000", 1, 1, DAYS[0])]
    groups, _ = clustered({1: 20_000, 2: 30_000}, {("AAA", "BBB"): 0.9}, tagged=[(1, AI), (2, AI)], positions=positions)
    assert groups["nickname"].to_list() == ["ai"]


@settings(max_examples=50)
@given(st.integers(2, 9), st.integers(0, 2**16))
def test_components_partition_the_graph(size: int, seed: int) -> None:
    """Against reachability by powers of the adjacency matrix."""
    random = np.random.default_rng(seed)
    upper = np.triu(random.uniform(-1, 1, (size, size)), k=1)
    matrix = upper + upper.T + np.eye(size)
    value = random.integers(1, 4, size)
    constant = np.zeros(size, dtype=np.bool_)
    item = IncludedSymbols(LAST, 1, [chr(65 + n) for n in range(size)], value, value / value.sum(), matrix, constant)
    reached = np.linalg.matrix_power((matrix >= 0.7).astype(np.int64), size) > 0
    expected = {tuple(np.flatnonzero(row)) for row in reached if row.sum() > 1}
    found = [tuple(int(code) for code in group) for group in components(item)]
    assert set(found) == expected
    assert found == sorted(found, key=lambda group: (-value[list(group)].sum(), group[0]))
