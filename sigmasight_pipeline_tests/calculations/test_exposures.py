"""Exposures against the reference on generated books, delta-adjusted totals and Greeks, and concentration."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from operator import add
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.exposures import CONCENTRATION, GREEKS, MissingGreeksError, portfolio_exposures
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
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, greeks_of, made, values_of

MON, TUE, WED = (date(2024, 3, day) for day in (4, 5, 6))
CALL = "AAA240315C00100000"


DELTAS = [f"delta_adjusted_{side}" for side in ("long", "short", "gross", "net")]


def greeks_row(position_id: int, adjusted: Any, **fields: Any) -> dict[str, Any]:
    """The row of ``position_greeks`` of Tuesday: Greeks 1.0, 2.0, ... unless told, a fallback without `adjusted`."""
    row = {"session_date": TUE, "position_id": position_id, "portfolio_id": 1, "delta_adjusted_exposure": adjusted}
    row["status"] = "fallback" if adjusted is None else "ok"
    return row | {greek: float(at) for at, greek in enumerate(GREEKS, start=1)} | fields


def rows_of(
    positions: list[dict[str, Any]],
    exposures: dict[int, Any],
    greeks: list[dict[str, Any]] | None = None,
    min_coverage: float = 0.8,
    **fields: Any,
) -> dict[str, Any]:
    """The row of Tuesday of portfolio 1 holding `positions` with these exposures, delta-adjusted alike unless told."""
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
    if greeks is None:
        public = [row["position_id"] for row in positions if row["investment_class"] != "PRIVATE"]
        greeks = [greeks_row(key, exposures[key]) for key in public]
    result = portfolio_exposures(
        sessions=[TUE],
        calendar=sessions_frame([MON, TUE]),
        portfolios=frame(tables.portfolios, [portfolio(1, MON)]),
        positions=frame(tables.positions, positions),
        instruments=fields.get("instruments", frame(tables.instruments, [])),
        position_values=frame(tables.position_values, values),
        position_greeks=frame(tables.position_greeks, greeks),
        min_coverage=min_coverage,
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
    check_every_column(book, values_of(book, book.sessions), set())


def check_every_column(book: Book, values: pl.DataFrame, seen: set[str]) -> None:
    """Compare the book's exposures with the references; `seen` gathers the statuses of its Greeks."""
    greeks = greeks_of(book, values)
    positions = {row["position_id"]: row for row in book.frames["positions"].iter_rows(named=True)}
    renamed = book.frames["instruments"].drop_nulls(["last_session", "replaced_by"])
    successors = {
        symbol: (last, name) for symbol, last, name in renamed["symbol", "last_session", "replaced_by"].rows()
    }
    for row in exposures_of(book, book.sessions, values).iter_rows(named=True):
        own = values.filter(session_date=row["session_date"], portfolio_id=row["portfolio_id"])
        for name, want in reference.exposures(own.iter_rows(named=True), positions).items():
            if isinstance(row[name], float):
                assert row[name] == pytest.approx(float(want), rel=5e-16, abs=0), (name, row)
            else:
                assert row[name] == want, (name, row)
        want_greeks = greeks_reference(own, greeks.filter(session_date=row["session_date"]), positions, successors)
        for name in CONCENTRATION:
            if want_greeks[name] is not None:
                want_greeks[name] = float(want_greeks[name])
        for name, want in want_greeks.items():
            exact = not isinstance(row[name], float)
            assert row[name] == (want if exact else pytest.approx(float(want), rel=1e-13, abs=1e-9)), (name, row)
        seen.add(row["greeks_status"])


def greeks_reference(
    values: pl.DataFrame, greeks: pl.DataFrame, positions: dict[int, Any], successors: dict[str, tuple[date, str]]
) -> dict[str, Any]:
    """Delta-adjusted columns, Greeks and concentration of one portfolio and session, one position after the other.

    `successors` are last session and later name of renamed symbols.
    """
    by_position = {row["position_id"]: row for row in greeks.iter_rows(named=True)}
    sums = dict.fromkeys(("long", "short", "gross", "known", *GREEKS), Fraction(0))
    companies: list[tuple[str, Fraction]] = []
    unknown = 0
    for row in values.iter_rows(named=True):
        own = by_position.get(row["position_id"])
        private = positions[row["position_id"]]["investment_class"] == "PRIVATE"
        assert private == (own is None)
        if row["price_source"] in reference.EXITS:
            continue
        adjusted = row["exposure"] if own is None else own["delta_adjusted_exposure"]
        size = Fraction(0) if own is None else abs(Fraction(row["exposure"]))
        sums["gross"] += size
        if adjusted is None:
            unknown += 1
            continue
        sums["known"] += size
        sums["long" if adjusted > 0 else "short"] += Fraction(adjusted)
        position = positions[row["position_id"]]
        company = position["underlying_symbol"] or position["symbol"]
        while own is not None and successors.get(company, (row["session_date"], ""))[0] < row["session_date"]:
            company = successors[company][1]
        companies.append((company, Fraction(adjusted)))
        for greek in GREEKS:
            sums[greek] += 0 if own is None else Fraction(own[greek])
    coverage = sums["known"] / sums["gross"] if sums["gross"] else None
    enough = coverage is not None and coverage >= Fraction(8, 10)
    status = "ok" if not unknown else "partial" if enough else "low_coverage"
    totals = {
        "delta_adjusted_long": sums["long"],
        "delta_adjusted_short": sums["short"],
        "delta_adjusted_gross": sums["long"] - sums["short"],
        "delta_adjusted_net": sums["long"] + sums["short"],
        **{greek: sums[greek] for greek in GREEKS},
        **reference.concentration(companies),
    }
    none = dict.fromkeys(totals) | {"concentration_status": "low_coverage"}
    return (none if status == "low_coverage" else totals) | {
        "delta_adjusted_coverage": coverage,
        "greeks_status": status,
    }


def test_generated_books_reach_every_status() -> None:
    seen: set[str] = set()
    for seed in range(25):
        book = made(seed, 9, 1)
        check_every_column(book, values_of(book, book.sessions), seen)
    assert seen == {"ok", "partial", "low_coverage"}


@pytest.mark.parametrize(
    ("case", "fallback", "min_coverage", "status", "net"),
    [
        ("all known", 0, 0.8, "ok", 200),
        ("coverage 0.81", 19, 0.8, "partial", 162),
        ("coverage 0.80, the minimum itself", 20, 0.8, "partial", 160),
        ("coverage 0.79", 21, 0.8, "low_coverage", None),
        ("another minimum", 21, 0.79, "partial", 158),
        ("none known", 100, 0.8, "low_coverage", None),
    ],
)
def test_coverage_is_of_the_gross_of_public_and_option_positions(
    case: str, fallback: int, min_coverage: float, status: str, net: int | None
) -> None:
    """A short option without Greeks weighs with its size; a PRIVATE holding weighs nothing."""
    positions = [stock(1, "AAA", 1, 1, MON), option(2, CALL, -1, 1, MON), private(3, "FUND", 1, 1, MON)]
    known = 100 - fallback
    greeks = [greeks_row(1, 2 * known), *([greeks_row(2, None)] if fallback else [greeks_row(2, 0)])]
    row = rows_of(positions, {1: known, 2: -fallback, 3: 900}, greeks, min_coverage)
    assert (row["greeks_status"], row["delta_adjusted_coverage"]) == (status, known / 100), case
    assert row["delta_adjusted_net"] == (None if net is None else net + 900), case
    assert (row["vega"], row["gross_exposure"]) == (None if net is None else 4.0 * (1 + (not fallback)), 1000), case
    assert [row[name] is None for name in (*DELTAS, *GREEKS)] == [net is None] * 9, case


def test_delta_adjusted_sides_are_by_their_own_sign() -> None:
    """A long put is short; a short put is long; PRIVATE counts with its exposure on its side."""
    put = "AAA240315P00100000"
    positions = [
        option(1, put, 2, 1, MON),
        option(2, put, -1, 1, MON),
        stock(3, "AAA", -1, 1, MON),
        private(4, "F", -1, 1, MON),
    ]
    greeks = [
        greeks_row(1, "-4000.01", delta=-40.0),
        greeks_row(2, "2000.00", delta=20.0),
        greeks_row(3, -100, delta=-1.0),
    ]
    row = rows_of(positions, {1: 10, 2: -5, 3: -100, 4: -7}, greeks)
    assert [row[name] for name in DELTAS] == [Decimal(text) for text in ("2000.00", "-4107.01", "6107.01", "-2107.01")]
    assert (row["delta"], row["gamma"], row["greeks_status"], row["delta_adjusted_coverage"]) == (-21.0, 6.0, "ok", 1.0)
    assert (row["long_exposure"], row["short_exposure"]) == (10, -112)


def test_a_worthless_position_without_greeks_leaves_nothing_known() -> None:
    """There is no gross exposure to take a share of, and nothing that could stand for the portfolio's Greeks."""
    row = rows_of([option(1, CALL, 1, 1, MON)], {1: 0}, [greeks_row(1, None)])
    assert (row["greeks_status"], row["delta_adjusted_coverage"], row["delta_adjusted_net"]) == (
        "low_coverage",
        None,
        None,
    )


def test_private_positions_alone_have_zero_greeks() -> None:
    row = rows_of([private(1, "FUND", 1, 1, MON)], {1: 50})
    assert [row[name] for name in GREEKS] == [0.0] * 5
    assert (row["greeks_status"], row["delta_adjusted_coverage"], row["delta_adjusted_net"]) == ("ok", None, 50)


def test_a_held_position_without_a_row_of_greeks_is_an_error() -> None:
    positions = [stock(1, "AAA", 1, 1, MON), stock(2, "BBB", 1, 1, MON)]
    with pytest.raises(MissingGreeksError, match=r"position 2 has no Greeks at 2024-03-05 \(1 such rows missing\)"):
        rows_of(positions, {1: 1, 2: 1}, [greeks_row(1, 1)])
    # a position that exits has none to give
    assert rows_of(positions[:1], {1: 0}, [], source="exit")["greeks_status"] == "ok"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_sums_of_greeks_do_not_depend_on_the_order_of_rows(greeks: list[float], random: Random) -> None:
    """Doubles added in order of position_id, whatever comes first in the frames."""
    positions = [stock(number, f"S{number}", 1, 1, MON) for number in range(len(greeks))]
    rows = [greeks_row(number, 1, **dict.fromkeys(GREEKS, value)) for number, value in enumerate(greeks)]
    exposures = dict.fromkeys(range(len(greeks)), 1)
    expected = reduce(add, greeks)
    for _ in range(2):
        row = rows_of(positions, exposures, rows)
        assert [row[name] for name in GREEKS] == [expected] * 5, (greeks, rows)
        random.shuffle(positions)
        random.shuffle(rows)


def test_concentration_is_by_company() -> None:
    """Lots of one symbol net, and so does a call on it; a short counts by its size; kinds and sides are told apart."""
    positions = [
        stock(1, "AAA", 1, 1, MON),
        stock(2, "AAA", -1, 1, MON),
        stock(3, "BBB", -1, 1, MON),
        private(4, "FUND", 1, 1, MON),
        option(5, CALL, -1, 1, MON),
    ]
    exposures = {1: 50, 2: -20, 3: -40, 4: 20, 5: -10}
    greeks = [greeks_row(key, -5 if key == 5 else exposures[key]) for key in (1, 2, 3, 5)]
    row = rows_of(positions, exposures, greeks)
    shares = [25 / 85, 40 / 85, 20 / 85]
    assert row["hhi"] == pytest.approx(sum(share**2 for share in shares), rel=1e-15)
    assert row["effective_positions"] == pytest.approx(1 / row["hhi"], rel=1e-15)
    assert [row[f"top_{count}_weight"] for count in (1, 3, 10)] == [40 / 85, 1.0, 1.0]
    assert [row[f"{side}_exposure"] for side in ("long", "short", "gross", "net")] == [70, -70, 140, 0]
    assert [row[f"{kind}_exposure"] for kind in ("stock", "option", "private")] == [110, 10, 20]
    kinds = ("position", "long", "short", "option", "stock", "private")
    assert [row[f"{kind}_count"] for kind in kinds] == [5, 2, 3, 1, 3, 1]
    assert row["notional"] == 35


def test_twenty_contracts_on_one_company_are_one_name() -> None:
    """Each contract had counted as a name of its own: an index of 0.05, twenty effective positions."""
    positions = [option(key, f"AAA240315C{key:05}000", 1, 1, MON) for key in range(1, 21)]
    row = rows_of(positions, dict.fromkeys(range(1, 21), 10))
    assert (row["hhi"], row["effective_positions"], row["top_1_weight"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("last", "hhi"), [(MON, 1.0), (TUE, 0.5)])
def test_a_renamed_symbol_is_its_successor(last: date, hhi: float) -> None:
    """From the session after its last one on."""
    renamed = frame(
        tables.instruments, [{"symbol": "OLD", "kind": "stock", "last_session": last, "replaced_by": "NEW"}]
    )
    positions = [stock(1, "OLD", 1, 1, MON), stock(2, "NEW", 1, 1, MON)]
    assert rows_of(positions, {1: 10, 2: 10}, instruments=renamed)["hhi"] == hhi


def test_too_little_known_gives_no_concentration() -> None:
    positions = [stock(1, "AAA", 1, 1, MON), option(2, CALL, 1, 1, MON)]
    row = rows_of(positions, {1: 10, 2: 90}, [greeks_row(1, 10), greeks_row(2, None)])
    assert (row["hhi"], row["effective_positions"], row["concentration_status"]) == (None, None, "low_coverage")


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
    assert [row[name] for name in (*DELTAS, *GREEKS)] == [0] * 9, case
    assert (row["greeks_status"], row["delta_adjusted_coverage"]) == ("ok", None), case
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
        instruments=frame(tables.instruments, []),
        position_values=frame(tables.position_values, []),
        position_greeks=frame(tables.position_greeks, []),
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
