"""Snapshots against the reference on generated books, and the rules of the chain, of NULL returns and of flows."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.calculations.exposures import GREEKS
from sigmasight_pipeline.calculations.snapshots import (
    MissingExposuresError,
    MissingPreviousSnapshotError,
    Snapshots,
    portfolio_snapshots,
)
from sigmasight_pipeline.calculations.timeline import SessionWindowError
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations import reference_snapshots as reference
from sigmasight_pipeline_tests.calculations.reference_valuation import ReferenceValuation
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame, stock
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, snapshots_of, values_of

THU, FRI, TUE, WED, THU2 = date(2023, 12, 28), date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)
DAYS = [THU, FRI, TUE, WED, THU2]
FEB1, FEB2 = date(2024, 2, 1), date(2024, 2, 2)

COPIED = ("gross_exposure", "net_exposure", "long_exposure", "short_exposure", "position_count", "long_count",
          "short_count", "option_count", "stock_count", "private_count", "greeks_status", *GREEKS)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(books())
def test_every_column_equals_the_reference(book: Book) -> None:
    """Money, counts and codes exactly; returns within 1e-12 of exact compounding."""
    values = values_of(book, book.sessions)
    result = snapshots_of(book, book.sessions)
    exposures = exposures_of(book, book.sessions, values)
    calendar = ReferenceValuation(book.frames, max_stale_sessions=1, max_mark_age=1)
    expected: dict[tuple[date, int], dict[str, Any]] = {}
    for row in book.frames["portfolios"].filter("active").iter_rows(named=True):
        by_session: dict[date, list[dict[str, Any]]] = defaultdict(list)
        for value in values.filter(portfolio_id=row["portfolio_id"]).iter_rows(named=True):
            by_session[value["session_date"]].append(value)
        flows: dict[date, Fraction] = defaultdict(Fraction)
        for flow in book.flows.filter(portfolio_id=row["portfolio_id"]).iter_rows(named=True):
            session = calendar.session_of(flow["session_date"])
            if session:
                flows[session] += Fraction(flow["amount"])
        days = [day for day in book.open_sessions if day >= row["inception_date"]]
        for day, snapshot in reference.snapshots(days, row, by_session, flows).items():
            expected[day, row["portfolio_id"]] = snapshot
    actual = {(row["session_date"], row["portfolio_id"]): row for row in result.frame.to_dicts()}
    assert list(actual) == sorted(expected)
    copied = exposures.select("session_date", "portfolio_id", *COPIED)
    assert result.frame.select(copied.columns).equals(copied)
    for key, want in expected.items():
        for name, value in want.items():
            got = actual[key][name]
            if isinstance(got, float):
                assert got == pytest.approx(float(value), rel=1e-12, abs=1e-12), (key, name)
            else:
                assert got == value, (key, name)


def values(earned: dict[date, tuple[Any, Any, Any]]) -> pl.DataFrame:
    """Rows of ``position_values``: session to (daily P&L, cash effect, market value)."""
    rows = [
        {
            "session_date": day, "position_id": 1, "portfolio_id": 1, "symbol": "AAA", "price_source": "market",
            "stale": False, "daily_pnl": pnl, "cash_effect": cash, "market_value": value, "exposure": value,
            "realized_pnl": 0, "dividend_pnl": 0, "notional": 0,
        }
        for day, (pnl, cash, value) in earned.items()
    ]  # fmt: skip
    return frame(tables.position_values, rows)


def rolled(
    earned: dict[date, Any],
    *,
    sessions: list[date] | None = None,
    calendar: pl.DataFrame | None = None,
    flows: dict[date, Any] | None = None,
    previous: pl.DataFrame | None = None,
    **fields: Any,
) -> Snapshots:
    """Snapshots of a portfolio of 1,000 dollars whose positions earn these amounts, all in cash."""
    sessions = sessions or DAYS
    calendar = sessions_frame(DAYS) if calendar is None else calendar
    opened = [day for day, closed in calendar.select("session_date", "is_closed").iter_rows() if not closed]
    inception = fields.pop("inception", THU)
    exposures = [
        {"session_date": day, "portfolio_id": 1, "greeks_status": "ok"} | dict.fromkeys((*COPIED[:4], *COPIED[4:10]), 0)
        for day in opened
        if day >= inception
    ]
    flow_rows = [
        {"portfolio_id": 1, "session_date": day, "kind": "contribution", "sequence": 1, "amount": amount}
        for day, amount in (flows or {}).items()
    ]
    return portfolio_snapshots(
        sessions=sessions,
        calendar=calendar,
        portfolios=frame(tables.portfolios, [portfolio(1, inception, initial_equity=1000, **fields)]),
        positions=frame(tables.positions, [stock(1, "AAA", 1, 1, inception)]),
        position_values=values({day: (pnl, pnl, 0) for day, pnl in earned.items()}),
        portfolio_exposures=frame(tables.portfolio_exposures, exposures),
        flows=frame(tables.portfolio_cash_flows, flow_rows),
        previous=frame(tables.portfolio_snapshots, []) if previous is None else previous,
    )


def column(result: Snapshots, name: str) -> list[Any]:
    return result.frame[name].to_list()


def test_columns_are_those_of_the_table() -> None:
    expected = {
        name: dtype for name, dtype in polars_schema(tables.portfolio_snapshots).items() if name not in PROVENANCE
    }
    assert dict(rolled({THU: 10}).frame.schema) == expected


def test_an_empty_portfolio_goes_on_with_its_cash() -> None:
    result = rolled({}, flows={TUE: 50})
    assert column(result, "net_asset_value") == column(result, "cash_balance") == [1000, 1000, 1050, 1050, 1050]
    assert column(result, "daily_return") == [0.0] * 5
    assert column(result, "leverage") == [0.0] * 5
    assert column(result, "is_first") == [True, False, False, False, False]


def test_flows_come_at_the_start_of_the_day_and_those_up_to_inception_are_in_the_equity() -> None:
    calendar = sessions_frame(DAYS, closed=[TUE])
    result = rolled({WED: 110}, calendar=calendar, flows={date(2023, 12, 1): 7, THU: 9, TUE: 100}, inception=THU)
    assert column(result, "net_cash_flow") == [0, 0, 100, 0]
    assert column(result, "daily_return") == [0.0, 0.0, 0.1, 0.0]
    assert column(result, "net_asset_value") == [1000, 1000, 1210, 1210]


def test_periods_begin_with_the_calendar() -> None:
    calendar = sessions_frame([THU, FRI, TUE, FEB1])
    result = rolled({THU: 100, FRI: 110, TUE: 121, FEB1: 0}, calendar=calendar, sessions=[THU, FRI, TUE, FEB1])
    assert column(result, "mtd_pnl") == [100, 210, 121, 0]
    assert column(result, "qtd_pnl") == [100, 210, 121, 121]
    assert column(result, "ytd_pnl") == [100, 210, 121, 121]
    assert column(result, "mtd_return") == pytest.approx([0.1, 0.21, 0.1, 0.0])
    assert column(result, "qtd_return") == pytest.approx([0.1, 0.21, 0.1, 0.1])
    assert column(result, "cumulative_pnl") == [100, 210, 331, 331]


def test_drawdown_is_of_an_index_so_that_flows_do_not_matter() -> None:
    result = rolled({THU: 100, FRI: -110, TUE: -495}, flows={TUE: -1, WED: 5000})
    assert column(result, "high_water_mark") == [1.1] * 5
    assert column(result, "drawdown") == pytest.approx([0.0, -0.1, -0.55045, -0.55045, -0.55045], abs=1e-5)
    assert column(rolled({THU: -100}), "high_water_mark")[0] == 1.0


def test_a_base_that_is_not_positive_breaks_the_index_and_the_period_it_lies_in() -> None:
    """NAV goes to -200 on Friday; Tuesday has no base, is refilled on Wednesday, and February begins anew."""
    days = [THU, FRI, TUE, WED, FEB1, FEB2]
    result = rolled(
        {FRI: -1200, TUE: 50, WED: 100, FEB1: 110, FEB2: 0},
        calendar=sessions_frame(days),
        sessions=days,
        flows={WED: 1150},
    )
    assert column(result, "return_status") == ["ok", "ok", "no_base", *["broken_index"] * 3]
    assert column(result, "daily_return") == pytest.approx([0, -1.2, None, 0.1, 0.1, 0], nan_ok=True)
    for name in ("cumulative_return", "high_water_mark", "drawdown", "ytd_return", "qtd_return"):
        assert [value is None for value in column(result, name)] == [False] * 2 + [True] * 4, name
    assert [value is None for value in column(result, "mtd_return")] == [False, False, True, True, False, False]
    assert column(result, "mtd_return")[-2:] == pytest.approx([0.1, 0.1])
    assert column(result, "cumulative_pnl") == [0, -1200, -1150, -1050, -940, -940]
    assert [value is None for value in column(result, "leverage")] == [False, True, True, False, False, False]
    assert column(result, "net_asset_value") == [1000, -200, -150, 1100, 1210, 1210]


def test_the_chain_continues_from_stored_rows_to_the_same_bits() -> None:
    earned = {THU: "33.33", FRI: "-77.77", TUE: "10.01", WED: "0.07", THU2: "-3.33"}
    whole = rolled(earned).frame
    stored = whole.filter(pl.col("session_date") <= TUE)
    assert rolled(earned, sessions=[WED, THU2], previous=stored).frame.equals(whole[3:])


@pytest.mark.parametrize("stored", [[], [THU, FRI], [WED]])
def test_a_missing_previous_snapshot_is_an_error(stored: list[date]) -> None:
    whole = rolled({THU: 1}).frame
    with pytest.raises(
        MissingPreviousSnapshotError,
        match="book-1 cannot be valued at 2024-01-03: there is no snapshot of the session before, 2024-01-02",
    ) as caught:
        rolled({}, sessions=[WED], previous=whole.filter(pl.col("session_date").is_in(stored)))
    assert (caught.value.portfolios, caught.value.session, caught.value.previous) == (("book-1",), WED, TUE)


def test_nothing_before_inception_nor_of_inactive_portfolios() -> None:
    assert column(rolled({}, inception=WED), "session_date") == [WED, THU2]
    assert column(rolled({}, active=False), "session_date") == []
    assert rolled({}, active=False).opening_cash.rows() == []


def test_nothing_after_the_closing_and_the_chain_goes_on_from_it_when_it_is_opened_again() -> None:
    earned = {THU: "33.33", FRI: "-77.77", TUE: "10.01", WED: "0.07"}
    whole = rolled(earned).frame
    closed = {"active": False, "closing_date": TUE}
    assert rolled(earned, **closed).frame.equals(whole.filter(pl.col("session_date") <= TUE))
    # sessions after it need no snapshot before them
    assert rolled(earned, sessions=[WED, THU2], **closed).frame.is_empty()
    again = rolled(earned, sessions=[WED, THU2], previous=rolled(earned, **closed).frame)
    assert again.frame.equals(whole.filter(pl.col("session_date") > TUE))


def test_sessions_with_a_gap_are_refused() -> None:
    with pytest.raises(SessionWindowError, match="without a gap between them, 2023-12-29 is left out"):
        rolled({}, sessions=[THU, TUE])


def test_a_missing_row_of_exposures_is_an_error() -> None:
    with pytest.raises(MissingExposuresError, match="portfolio 1 has no exposures at 2023-12-28"):
        portfolio_snapshots(
            sessions=[THU],
            calendar=sessions_frame(DAYS),
            portfolios=frame(tables.portfolios, [portfolio(1, THU)]),
            positions=frame(tables.positions, []),
            position_values=frame(tables.position_values, []),
            portfolio_exposures=frame(tables.portfolio_exposures, []),
            flows=frame(tables.portfolio_cash_flows, []),
            previous=frame(tables.portfolio_snapshots, []),
        )


@settings(max_examples=30, deadline=None)
@given(books())
def test_opening_cash_is_the_equity_less_what_was_brought_in(book: Book) -> None:
    """Brought in: entered before inception. Opening value: market value at the inception close, else proceeds."""
    result = snapshots_of(book, book.sessions)
    model = ReferenceValuation(book.frames, max_stale_sessions=3, max_mark_age=6)
    for row in result.opening_cash.iter_rows(named=True):
        home = model.portfolios[row["portfolio_id"]]
        inception = model.session_of(home["inception_date"])
        assert inception is not None
        opening = Fraction(0)
        for position in model.positions:
            life = model.life(position) if position["portfolio_id"] == row["portfolio_id"] else None
            if life and life[3] and life[1] == inception:
                own = model.row(position, inception)
                assert own is not None
                cost = Fraction(position["quantity"]) * Fraction(position["entry_price"]) * int(position["multiplier"])
                proceeds = own["realized_pnl"] + Fraction(round(cost * 100), 100)
                opening += proceeds if inception == life[2] else own["market_value"]
        assert Fraction(row["opening_cash"]) == Fraction(home["initial_equity"]) - opening
    starting = result.frame.filter("is_first")["portfolio_id"].to_list()
    assert sorted(starting) == result.opening_cash["portfolio_id"].to_list()


@pytest.mark.parametrize(
    ("case", "entry", "source", "value", "realized", "opening_cash"),
    [
        ("brought in", THU, "market", 110, 0, 890),
        ("brought in short", THU, "market", -110, 0, 1110),
        ("brought in and exiting: its proceeds", THU, "exit", 0, 40, 880),
        ("brought in and settled", THU, "settlement", 0, -80, 1000),
        ("entered on inception", TUE, "market", 110, 0, 1000),
        ("entered before the first stored session", date(2019, 1, 2), "market", 110, 0, 890),
    ],
)
def test_opening_cash(case: str, entry: date, source: str, value: int, realized: int, opening_cash: int) -> None:
    """Ten shares at 8.00 of a portfolio of 1,000 dollars that begins on Tuesday."""
    row = {"session_date": TUE, "position_id": 1, "portfolio_id": 1, "symbol": "AAA", "price_source": source,
           "market_value": value, "realized_pnl": realized}  # fmt: skip
    counts = dict.fromkeys((*COPIED[:4], *COPIED[4:10]), 0)
    result = portfolio_snapshots(
        sessions=[FRI, TUE, WED],
        calendar=sessions_frame(DAYS),
        portfolios=frame(tables.portfolios, [portfolio(1, TUE, initial_equity=1000)]),
        positions=frame(tables.positions, [stock(1, "AAA", 10, 8, entry)]),
        position_values=frame(tables.position_values, [row, row | {"session_date": WED, "market_value": 77}]),
        portfolio_exposures=frame(
            tables.portfolio_exposures, [{"session_date": day, "portfolio_id": 1} | counts for day in (TUE, WED)]
        ),
        flows=frame(tables.portfolio_cash_flows, []),
        previous=frame(tables.portfolio_snapshots, []),
    )
    assert result.opening_cash.rows() == [(1, opening_cash)], case


def test_decimal_places_survive() -> None:
    assert column(rolled({THU: "0.01"}), "net_asset_value")[0] == Decimal("1000.01")
