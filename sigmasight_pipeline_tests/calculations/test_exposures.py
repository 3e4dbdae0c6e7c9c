"""Exposures against the reference on generated books, and the rules of empty portfolios and concentration."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.calculations.exposures import portfolio_exposures
from sigmasight_pipeline.calculations.money import AmountOverflowError
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations import reference_snapshots as reference
from sigmasight_pipeline_tests.calculations.table_rows import (
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    stock,
)
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, values_of

MON, TUE, WED = (date(2024, 3, day) for day in (4, 5, 6))
CALL = "AAA240315C00100000"


def rows_of(positions: list[dict[str, Any]], exposures: dict[int, Any], **fields: Any) -> dict[str, Any]:
    """The row of Tuesday of portfolio 1 holding `positions` with these exposures."""
    values = [
        {
            "session_date": TUE,
            "position_id": row["position_id"],
            "portfolio_id": 1,
            "symbol": row["symbol"],
            "price_source": fields.get("source", "market"),
            "exposure": exposures[row["position_id"]],
            "notional": fields.get("notional", 7),
        }
        for row in positions
    ]
    result = portfolio_exposures(
        sessions=[TUE],
        calendar=sessions_frame([MON, TUE]),
        portfolios=frame(tables.portfolios, [portfolio(1, MON)]),
        positions=frame(tables.positions, positions),
        position_values=frame(tables.position_values, values),
    )
    expected = {
        name: dtype for name, dtype in polars_schema(tables.portfolio_exposures).items() if name not in PROVENANCE
    }
    assert dict(result.schema) == expected
    return result.row(0, named=True)


@settings(max_examples=40, deadline=None)
@given(books())
def test_every_column_equals_the_reference(book: Book) -> None:
    """Money and counts exactly; ratios of the exact sums to the last bit but one."""
    values = values_of(book, book.sessions)
    positions = {row["position_id"]: row for row in book.frames["positions"].iter_rows(named=True)}
    for row in exposures_of(book, book.sessions, values).iter_rows(named=True):
        own = values.filter(session_date=row["session_date"], portfolio_id=row["portfolio_id"])
        for name, want in reference.exposures(own.iter_rows(named=True), positions).items():
            if isinstance(row[name], float):
                assert row[name] == pytest.approx(float(want), rel=5e-16, abs=0), (name, row)
            else:
                assert row[name] == want, (name, row)
        assert row["greeks_status"] == "not_built"
        assert [row[name] for name in ("delta", "gamma", "theta", "vega", "rho", "delta_adjusted_net")] == [None] * 6


def test_concentration_is_by_symbol() -> None:
    """Two lots of one symbol net; a short counts by its size; kinds and sides are told apart."""
    positions = [
        stock(1, "AAA", 1, 1, MON),
        stock(2, "AAA", -1, 1, MON),
        stock(3, "BBB", -1, 1, MON),
        private(4, "FUND", 1, 1, MON),
        option(5, CALL, -1, 1, MON),
    ]
    row = rows_of(positions, {1: 50, 2: -20, 3: -40, 4: 20, 5: -10})
    assert row["hhi"] == pytest.approx(0.3**2 + 0.4**2 + 0.2**2 + 0.1**2, rel=1e-15)
    assert row["effective_positions"] == pytest.approx(1 / 0.3, rel=1e-15)
    assert [row[f"top_{count}_weight"] for count in (1, 3, 10)] == [0.4, 0.9, 1.0]
    assert [row[f"{side}_exposure"] for side in ("long", "short", "gross", "net")] == [70, -70, 140, 0]
    assert [row[f"{kind}_exposure"] for kind in ("stock", "option", "private")] == [110, 10, 20]
    kinds = ("position", "long", "short", "option", "stock", "private")
    assert [row[f"{kind}_count"] for kind in kinds] == [5, 2, 3, 1, 3, 1]
    assert row["notional"] == 35


@pytest.mark.parametrize(
    ("case", "positions", "exposure", "fields"),
    [
        ("no positions", [], {}, {}),
        ("only an exit", [stock(1, "AAA", 1, 1, MON)], {1: 0}, {"source": "exit"}),
        ("a settlement", [option(1, CALL, 1, 1, MON)], {1: 0}, {"source": "settlement"}),
        ("an unpriced one", [option(1, CALL, 1, 1, MON)], {1: 0}, {"source": "settlement_unpriced"}),
    ],
)
def test_an_empty_portfolio_has_a_row_of_zeros(
    case: str, positions: list[dict[str, Any]], exposure: dict[int, int], fields: dict[str, Any]
) -> None:
    row = rows_of(positions, exposure, **fields)
    zeros = [value for name, value in row.items() if name.endswith(("exposure", "count")) or name == "notional"]
    assert zeros == [0] * 14, case
    assert (row["hhi"], row["top_1_weight"], row["concentration_status"]) == (None, None, "no_exposure"), case


def test_worthless_positions_count_but_have_no_concentration() -> None:
    row = rows_of([stock(1, "AAA", 1, 1, MON)], {1: 0}, notional=None)
    assert (row["position_count"], row["hhi"], row["concentration_status"]) == (1, None, "no_exposure")
    assert row["notional"] is None


def test_rows_since_inception_of_active_portfolios_at_open_sessions() -> None:
    result = portfolio_exposures(
        sessions=[MON, TUE, WED],
        calendar=sessions_frame([MON, TUE, WED], closed=[TUE]),
        portfolios=frame(tables.portfolios, [portfolio(3, MON), portfolio(1, WED), portfolio(2, MON, active=False)]),
        positions=frame(tables.positions, []),
        position_values=frame(tables.position_values, []),
    )
    assert result.select("session_date", "portfolio_id").rows() == [(MON, 3), (WED, 1), (WED, 3)]


def test_sums_too_large_are_refused() -> None:
    positions = [stock(number, f"S{number}", 1, 1, MON) for number in range(1, 15)]
    with pytest.raises(AmountOverflowError, match="the exposure of a portfolio reaches"):
        rows_of(positions, dict.fromkeys(range(1, 15), Decimal("9999999999999999.99")))


def test_the_order_of_rows_changes_no_bit() -> None:
    """Thirds do not add up alike in every order; sums of whole cents do."""
    positions = [stock(number, f"S{number}", 1, 1, MON) for number in range(1, 40)]
    exposures = {row["position_id"]: Decimal(row["position_id"]) / 3 for row in positions}
    rounded = {key: value.quantize(Decimal("0.01")) for key, value in exposures.items()}
    forward, backward = rows_of(positions, rounded), rows_of(positions[::-1], rounded)
    assert forward == backward
    total = sum(rounded.values())
    assert Fraction(forward["hhi"]) == pytest.approx(
        float(sum(Fraction(value / 1) ** 2 for value in rounded.values()) / Fraction(total) ** 2), rel=1e-15
    )
    assert pl.Series([forward["hhi"]]).is_finite().all()
