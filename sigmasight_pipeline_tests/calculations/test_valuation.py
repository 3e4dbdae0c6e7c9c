"""Position values: against the reference implementation on generated books, and rule by rule."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.calculations import valuation
from sigmasight_pipeline.calculations.money import AmountOverflowError
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES, PriceSource
from sigmasight_pipeline.calculations.timeline import SessionWindowError
from sigmasight_pipeline.calculations.valuation import position_values
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline.storage.tables.results import PRICE_SOURCES
from sigmasight_pipeline_tests.calculations.reference_valuation import ReferenceValuation
from sigmasight_pipeline_tests.calculations.table_rows import (
    closes,
    dividend,
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    split,
    stock,
)
from sigmasight_pipeline_tests.properties.books import MAX_MARK_AGE, MAX_STALE_SESSIONS, Book, books, values_of

MON, TUE, WED, THU, FRI = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
MON2, TUE2, WED2, THU2, FRI2 = (date(2024, 3, day) for day in (11, 12, 13, 14, 15))
DAYS = [MON, TUE, WED, THU, FRI, MON2, TUE2, WED2, THU2, FRI2]

CALL = "AAA240308C00010000"  # expires on the first Friday, strike 10
PUT = "AAA240308P00010000"


def valued(positions: list[dict[str, Any]], **given: Any) -> dict[tuple[date, int], dict[str, Any]]:
    """Rows by (session, position) of a portfolio with inception on Monday, unless told otherwise."""
    model = pl.DataFrame(
        given.get("model", []),
        schema={"contract": pl.String, "session_date": pl.Date, "model_price": pl.Float64},
        orient="row",
    )
    rows = position_values(
        sessions=given.get("sessions", DAYS),
        calendar=sessions_frame(DAYS, given.get("closed", ())),
        portfolios=frame(tables.portfolios, given.get("portfolios", [portfolio(1, MON)])),
        positions=frame(tables.positions, positions),
        prices=frame(tables.daily_prices, given.get("prices", [])),
        option_prices=frame(tables.option_prices, given.get("quotes", [])),
        option_model=model,
        actions=frame(tables.corporate_actions, given.get("actions", [])),
        marks=frame(tables.position_marks, given.get("marks", [])),
        instruments=frame(tables.instruments, given.get("instruments", [])),
        max_stale_sessions=5,
        max_mark_age=7,
    )
    expected = {name: dtype for name, dtype in polars_schema(tables.position_values).items() if name not in PROVENANCE}
    assert dict(rows.schema) == expected
    return {(row["session_date"], row["position_id"]): row for row in rows.to_dicts()}


def flat(symbol: str, price: Any, days: list[date] = DAYS) -> list[dict[str, Any]]:
    return closes(symbol, dict.fromkeys(days, price))


@settings(max_examples=60, deadline=None)
@given(books())
def test_every_column_equals_the_reference(book: Book) -> None:
    reference = ReferenceValuation(book.frames, max_stale_sessions=MAX_STALE_SESSIONS, max_mark_age=MAX_MARK_AGE)
    expected = reference.rows(book.sessions)
    actual = [
        {name: Fraction(value) if isinstance(value, Decimal) else value for name, value in row.items()}
        for row in values_of(book, book.sessions).iter_rows(named=True)
    ]
    keys = ("session_date", "position_id")
    assert [[row[key] for key in keys] for row in actual] == [[row[key] for key in keys] for row in expected]
    for got, want in zip(actual, expected, strict=True):
        assert got == want


@settings(max_examples=10, deadline=None)
@given(books())
def test_the_size_of_blocks_changes_nothing(book: Book) -> None:
    whole = values_of(book, book.sessions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valuation, "BLOCK_ROWS", 1)
        assert values_of(book, book.sessions).equals(whole)


def test_the_worked_example() -> None:
    """Bought 100 at 10.00, closes 10.50, then a 2:1 split and 0.10 per old share, closes 5.40: +50.00, then +40.00."""
    rows = valued(
        [stock(1, "AAA", 100, 10, MON)],
        prices=closes("AAA", {MON: "10.50", TUE: "5.40"}),
        actions=[split("AAA", TUE, 2), dividend("AAA", TUE, "0.10")],
    )
    monday, tuesday = rows[MON, 1], rows[TUE, 1]
    assert (monday["daily_pnl"], monday["market_value"]) == (Decimal("50.00"), Decimal("1050.00"))
    assert (tuesday["daily_pnl"], tuesday["dividend_pnl"]) == (Decimal("40.00"), Decimal("10.00"))
    assert (tuesday["quantity"], tuesday["entry_price"], tuesday["market_value"]) == (200, 5, Decimal("1080.00"))
    assert tuesday["total_pnl"] == Decimal("90.00")


@pytest.mark.parametrize(
    ("case", "positions", "given_rows", "key", "expected"),
    [
        (
            "a short position is negative and pays dividends",
            [stock(1, "AAA", -10, 10, MON)],
            {"prices": flat("AAA", 9), "actions": [dividend("AAA", TUE, "0.25")]},
            (TUE, 1),
            {"market_value": -90, "cost_basis": -100, "unrealized_pnl": 10, "dividend_pnl": "-2.5",
             "daily_pnl": "-2.5"},
        ),
        (
            "entered on the ex-date gets no dividend",
            [stock(1, "AAA", 10, 10, TUE)],
            {"prices": flat("AAA", 9), "actions": [dividend("AAA", TUE, "0.25")]},
            (TUE, 1),
            {"dividend_pnl": 0, "daily_pnl": -10, "cash_effect": -100},
        ),
        (
            "exiting on the ex-date gets the dividend",
            [stock(1, "AAA", 10, 10, MON, exit_date=TUE, exit_price=11)],
            {"prices": flat("AAA", 9), "actions": [dividend("AAA", TUE, "0.25")]},
            (TUE, 1),
            {
                "quantity": 0, "market_value": 0, "exposure": 0, "cost_basis": 0, "unrealized_pnl": 0, "notional": 0,
                "price": 11, "price_source": "exit", "dividend_pnl": "2.5", "realized_pnl": 10, "daily_pnl": "22.5",
                "total_pnl": "12.5", "cash_effect": "112.5", "weight": None,
            },
        ),
        (
            "entered and exited on one session",
            [stock(1, "AAA", 10, 10, TUE, exit_date=TUE, exit_price="10.5")],
            {"prices": flat("AAA", 9)},
            (TUE, 1),
            {"daily_pnl": 5, "realized_pnl": 5, "total_pnl": 5, "cash_effect": 5, "market_value": 0},
        ),
        (
            "the multiplier of options counts",
            [option(1, CALL, -2, "0.5", MON)],
            {"quotes": flat(CALL, "0.7"), "prices": flat("AAA", 10)},
            (MON, 1),
            {"market_value": -140, "cost_basis": -100, "daily_pnl": -40, "notional": 2000, "price_source": "market"},
        ),
        (
            "an exit after a split has the split quantity",
            [stock(1, "AAA", 10, 10, MON, exit_date=WED, exit_price=4)],
            {"prices": flat("AAA", 10, [MON]), "actions": [split("AAA", TUE, 3)]},
            (WED, 1),
            {"realized_pnl": 20, "price": 4, "entry_price": "3.333333"},
        ),
        (
            "a carried price is divided by the split, unrounded",
            [stock(1, "AAA", 300, 10, MON)],
            {"prices": flat("AAA", 10, [MON]), "actions": [split("AAA", TUE, 3)]},
            (WED, 1),
            {"price": "3.333333", "market_value": 3000, "price_source": "carried", "stale_sessions": 2},
        ),
        (
            "a price is stale above the limit",
            [stock(1, "AAA", 1, 10, MON)],
            {"prices": flat("AAA", 10, [MON])},
            (TUE2, 1),
            {"stale_sessions": 6, "stale": True, "price_date": MON, "price_source": "carried"},
        ),
        (
            "and not at it",
            [stock(1, "AAA", 1, 10, MON)],
            {"prices": flat("AAA", 10, [MON])},
            (MON2, 1),
            {"stale_sessions": 5, "stale": False},
        ),
        (
            "never priced: the entry price, split",
            [stock(1, "AAA", 3, 10, MON)],
            {"actions": [split("AAA", TUE, 2, 3)]},
            (TUE, 1),
            {"price_source": "entry_price", "price": 15, "market_value": 30, "quantity": 2, "price_date": None,
             "stale_sessions": None, "stale": False},
        ),
        (
            "a private position has the last mark at any age, stale by its own limit",
            [private(1, "FUND", 2, 100, MON)],
            {"marks": [{"position_id": 1, "session_date": MON, "price": 120}], "prices": flat("FUND", 1)},
            (THU2, 1),
            {"price_source": "mark", "market_value": 240, "stale_sessions": 8, "stale": True},
        ),
        (
            "a private position without a mark has its entry price, and no corporate action touches it",
            [private(1, "FUND", 2, 100, MON)],
            {"prices": flat("FUND", 1), "actions": [split("FUND", TUE, 2), dividend("FUND", TUE, 1)]},
            (TUE, 1),
            {"price_source": "entry_price", "market_value": 200, "quantity": 2, "dividend_pnl": 0},
        ),
        (
            "a symbol that was replaced goes on with its successor's prices, splits and dividends",
            [stock(1, "OLD", 10, 10, MON)],
            {
                "prices": [*flat("OLD", 10, [MON, TUE]), *flat("NEW", 99, [MON, TUE]), *flat("NEW", 6, [THU])],
                "instruments": [
                    {"symbol": "OLD", "kind": "stock", "active": False, "last_session": TUE, "replaced_by": "NEW"}
                ],
                "actions": [split("NEW", MON, 7), split("NEW", WED, 2), dividend("NEW", WED, 1), split("OLD", FRI, 5)],
            },
            (THU, 1),
            {"symbol": "OLD", "quantity": 20, "market_value": 120, "total_pnl": 30, "price_source": "market"},
        ),
        (
            "entered before inception: opening value, no P&L, no dividend",
            [stock(1, "AAA", 10, 8, MON)],
            {
                "portfolios": [portfolio(1, WED)], "prices": flat("AAA", 11),
                "actions": [dividend("AAA", TUE, 1), dividend("AAA", WED, 2)],
            },
            (WED, 1),
            {"daily_pnl": 0, "dividend_pnl": 0, "cash_effect": -110, "unrealized_pnl": 30, "total_pnl": 60},
        ),
        (
            "brought in and exiting at once: its opening value is its proceeds",
            [stock(1, "AAA", 10, 8, MON, exit_date=WED, exit_price=12)],
            {"portfolios": [portfolio(1, WED)], "prices": flat("AAA", 11)},
            (WED, 1),
            {"daily_pnl": 0, "cash_effect": 0, "realized_pnl": 40, "total_pnl": 40},
        ),
        (
            "an entry before the first stored session is stated as of that session",
            [stock(1, "AAA", 10, 8, date(2020, 1, 6))],
            {"prices": flat("AAA", 11), "actions": [split("AAA", date(2021, 1, 4), 2), split("AAA", TUE, 2)]},
            (TUE, 1),
            {"quantity": 20, "market_value": 220, "daily_pnl": 110},
        ),
    ],
)  # fmt: skip
def test_rules(
    case: str,
    positions: list[dict[str, Any]],
    given_rows: dict[str, Any],
    key: tuple[date, int],
    expected: dict[str, Any],
) -> None:
    row = valued(positions, **given_rows)[key]
    wanted = {
        name: Decimal(str(value)) if isinstance(row[name], Decimal) else value for name, value in expected.items()
    }
    assert {name: row[name] for name in expected} == wanted, case


MODELLED = ("AAA 2024-03-08 C 10", TUE, 0.9)


@pytest.mark.parametrize(
    ("case", "symbol", "given_rows", "day", "source", "price"),
    [
        ("own close", CALL, {"quotes": flat(CALL, "0.7", [TUE]), "model": [MODELLED]}, TUE, "market", "0.7"),
        ("model, not an older close", CALL, {"quotes": flat(CALL, 1, [MON]), "model": [MODELLED]}, TUE, "model", "0.9"),
        ("last own close", CALL, {"quotes": flat(CALL, "0.7", [MON])}, TUE, "carried", "0.7"),
        ("intrinsic", CALL, {}, TUE, "intrinsic", "2.5"),
        ("intrinsic of a put out of the money", PUT, {}, TUE, "intrinsic", "0"),
        ("intrinsic on a split underlying", CALL, {"actions": [split("AAA", WED, 2)]}, WED, "intrinsic", "1.25"),
        ("entry price", CALL, {"prices": []}, TUE, "entry_price", "0.5"),
        ("a model without an underlying price", CALL, {"prices": [], "model": [MODELLED]}, TUE, "entry_price", "0.5"),
        ("an exit price", CALL, {"exit": (WED, "0.8")}, WED, "exit", "0.8"),
        ("an exit on the expiry session", CALL, {"exit": (FRI, "0.8")}, FRI, "exit", "0.8"),
        ("settlement", CALL, {}, FRI, "settlement", "2.5"),
        ("settlement out of the money", PUT, {}, FRI, "settlement", "0"),
        ("an expiry later than its exit", CALL, {"exit": (MON2, "9")}, FRI, "settlement", "2.5"),
        ("the expiry session before a closure", CALL, {"closed": [FRI]}, THU, "settlement", "2.5"),
    ],
)  # fmt: skip
def test_option_prices_in_order(
    case: str, symbol: str, given_rows: dict[str, Any], day: date, source: str, price: str
) -> None:
    prices = closes("AAA", dict.fromkeys([MON, TUE], "12.5"))
    exit_date, exit_price = given_rows.pop("exit", (None, None))
    held = option(1, symbol, 1, "0.5", MON, exit_date=exit_date, exit_price=exit_price)
    rows = valued([held], **{"prices": prices, **given_rows})
    row = rows[day, 1]
    assert (row["price_source"], row["price"]) == (source, Decimal(price)), case
    if source in EXIT_SOURCES:
        assert (max(rows)[0], row["market_value"], row["quantity"]) == (day, 0, 0), case
        assert row["realized_pnl"] == 100 * Decimal(price) - 50, case


@pytest.mark.parametrize(
    ("quotes", "price", "price_date"), [([], 0, None), (closes("AAA240315C00010000", {TUE: "0.4"}), "0.4", TUE)]
)
def test_settlement_without_an_underlying_price_within_the_limit(
    quotes: list[dict[str, Any]], price: str, price_date: date | None
) -> None:
    """Nine sessions old is too old for settlement, not for valuation before it."""
    symbol = "AAA240315C00010000"
    rows = valued([option(1, symbol, 1, "0.5", MON)], prices=closes("AAA", {MON: 15}), quotes=quotes)
    row = rows[FRI2, 1]
    assert (row["price_source"], row["price"], row["price_date"]) == ("settlement_unpriced", Decimal(price), price_date)
    assert row["realized_pnl"] == 100 * Decimal(price) - 50
    assert rows[THU2, 1]["price_source"] == ("carried" if quotes else "intrinsic")


def test_a_contract_is_looked_up_under_its_adjusted_symbol_from_the_split_on() -> None:
    """Before the split, the other strike is another contract; after it, the old symbol is."""
    after = "AAA240308C00003333"
    rows = valued(
        [option(1, CALL, 2, 3, MON)],
        prices=flat("AAA", 12),
        quotes=[*flat(CALL, 3, [MON]), *flat(after, 9, [MON]), *flat(after, 1, [TUE]), *flat(CALL, 9, [TUE])],
        actions=[split("AAA", TUE, 3)],
    )
    assert [(rows[day, 1]["symbol"], rows[day, 1]["market_value"]) for day in (MON, TUE)] == [(CALL, 600), (after, 600)]
    assert (rows[TUE, 1]["quantity"], rows[TUE, 1]["cost_basis"], rows[TUE, 1]["daily_pnl"]) == (6, 600, 0)


def test_no_rows_for_closed_sessions_inactive_portfolios_and_before_inception() -> None:
    rows = valued(
        [stock(1, "AAA", 1, 10, MON), stock(2, "AAA", 1, 10, MON, portfolio_id=2)],
        portfolios=[portfolio(1, TUE), portfolio(2, MON, active=False)],
        prices=flat("AAA", 11),
        closed=[THU],
        sessions=[MON, TUE, WED, THU, FRI],
    )
    assert list(rows) == [(TUE, 1), (WED, 1), (FRI, 1)]
    assert rows[FRI, 1]["stale_sessions"] == 0


def test_a_closed_book_sells_nothing_it_has_no_more_rows() -> None:
    """Whatever was held at the closing session's close is; an exit after it never happens, one before it does."""
    held = [
        stock(1, "AAA", 1, 10, MON),
        stock(2, "AAA", 1, 10, MON, exit_date=WED, exit_price=12),
        stock(3, "AAA", 1, 10, MON, exit_date=FRI, exit_price=12),
        stock(4, "AAA", 1, 10, THU),
    ]
    sessions = [MON, TUE, WED, THU, FRI]
    still_open = valued(held, prices=flat("AAA", 11), sessions=sessions)
    closed = valued(
        held,
        portfolios=[portfolio(1, MON, active=False, closing_date=WED)],
        prices=flat("AAA", 11),
        sessions=sessions,
    )
    assert set(closed) == {(day, key) for day in (MON, TUE, WED) for key in (1, 2, 3)}
    assert closed == {key: row for key, row in still_open.items() if key in closed}
    assert closed[WED, 2]["price_source"] == "exit"


def test_a_split_no_contract_survives_does_not_matter_after_the_closing() -> None:
    uneven = [split("AAA", THU, 2) | {"split_from": 3}]
    rows = valued(
        [option(1, CALL, 1, 3, MON)],
        portfolios=[portfolio(1, MON, active=False, closing_date=WED)],
        prices=flat("AAA", 12),
        quotes=flat(CALL, 3, [MON]),
        actions=uneven,
        sessions=[MON, TUE, WED, THU],
    )
    assert [day for day, _ in rows] == [MON, TUE, WED]


def test_an_entry_and_an_ex_date_on_a_closed_session_move_to_the_next() -> None:
    rows = valued(
        [stock(1, "AAA", 10, 10, MON), stock(2, "AAA", 10, 10, WED)],
        prices=flat("AAA", 10, [MON, TUE]),
        actions=[dividend("AAA", WED, 1), split("AAA", WED, 2)],
        closed=[WED],
    )
    assert (rows[THU, 1]["dividend_pnl"], rows[THU, 1]["quantity"]) == (10, 20)
    assert (rows[THU, 2]["dividend_pnl"], rows[THU, 2]["quantity"]) == (0, 10)
    assert min(key for key in rows if key[1] == 2) == (THU, 2)


def test_weights_are_of_the_portfolio_and_leave_exits_out() -> None:
    rows = valued(
        [
            stock(1, "AAA", 30, 10, MON),
            stock(2, "BBB", -10, 10, MON),
            stock(3, "AAA", 7, 10, MON, portfolio_id=2),
            stock(4, "AAA", 50, 10, MON, exit_date=TUE, exit_price=10),
        ],
        portfolios=[portfolio(1, MON), portfolio(2, MON)],
        prices=[*flat("AAA", 10), *flat("BBB", 10)],
    )
    assert [rows[TUE, number]["weight"] for number in (1, 2, 3, 4)] == [0.75, -0.25, 1.0, 0.0]


def test_names_of_price_sources_are_those_of_the_table() -> None:
    assert tuple(source.name.lower() for source in PriceSource) == PRICE_SOURCES
    assert set(EXIT_SOURCES) <= set(PRICE_SOURCES)


def test_a_session_outside_the_calendar_is_refused() -> None:
    with pytest.raises(SessionWindowError, match="2024-03-09 is not in trading_sessions"):
        valued([], sessions=[date(2024, 3, 9)])


def test_a_value_too_large_is_refused() -> None:
    position = stock(1, "AAA", "1000000000000", 10, MON)
    with pytest.raises(AmountOverflowError, match="a market value reaches"):
        valued([position], prices=flat("AAA", "1000000"))


def test_an_empty_book_has_no_rows() -> None:
    assert valued([]) == {}
    assert valued([], sessions=[]) == {}
