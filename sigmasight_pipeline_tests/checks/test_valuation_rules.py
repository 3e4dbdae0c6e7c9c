"""Rules on position values, and the rows of portfolios: each finds its planted fault, and only that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.holdings import window
from sigmasight_pipeline.checks import valuation as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock
from sigmasight_pipeline_tests.checks import cases, test_snapshot_rules
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged

CLOSED = date(2024, 1, 4)
CALENDAR = [date(2023, 12, 29), *(date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9))]
D1, D2, D3, D4 = OPEN = [date(2024, 1, day) for day in (2, 3, 5, 8)]
"""The sessions judged: Thursday the 4th was an unscheduled closure, the 6th is a Saturday."""

BOOK = {
    "calendar": sessions_frame(CALENDAR, [CLOSED]),
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1)]),
    "positions": frame(
        tables.positions,
        [
            stock(11, "AAA", 10, 100, D1),
            option(12, "AAA240119C00100000", -2, 5, D1),
            private(13, "FUND", 1, 1000, D1) | {"portfolio_id": 2},
        ],
    ),
}
HELD = {11: (1, "AAA", 10), 12: (1, "AAA240119C00100000", -2), 13: (2, "FUND", 1)}
"""Portfolio, symbol and quantity of each position."""


def values(*days: date) -> pl.DataFrame:
    """Rows of every position on `days`: worth 1,000.00 long or short, one dollar gained a day."""
    return frame(
        tables.position_values,
        [
            {
                "session_date": day,
                "position_id": position_id,
                "portfolio_id": portfolio_id,
                "symbol": symbol,
                "quantity": quantity,
                "price": 100,
                "price_source": "market",
                "price_date": day,
                "stale_sessions": 0,
                "stale": False,
                "market_value": "1000" if quantity > 0 else "-1000",
                "daily_pnl": "1.00",
                "total_pnl": number,
            }
            for number, day in enumerate(CALENDAR)
            if day in days
            for position_id, (portfolio_id, symbol, quantity) in HELD.items()
        ],
    )


SNAPSHOTS = frame(
    tables.portfolio_snapshots,
    [{"session_date": day, "portfolio_id": portfolio_id} for day in OPEN for portfolio_id in (1, 2)],
)

AT = {"session_date": D2, "position_id": 11}
SHORT = {"session_date": D3, "position_id": 12}

Planted = tuple[Rule, pl.DataFrame, dict[str, Any], dict[str, Any], list[Finding]]
PLANTED: list[Planted] = [
    (
        rules.STALE,
        values(*OPEN),
        AT,
        {"stale": True, "stale_sessions": 6},
        [(D2, 1, "position 11 (AAA): price is 6 sessions old")],
    ),
    (
        rules.UNPRICED,
        values(*OPEN),
        {"session_date": D3, "position_id": 13},
        {"price_source": "entry_price"},
        [(D3, 2, "position 13 (FUND) was never priced")],
    ),
    # a position that exits has no value any more, whatever it was priced at
    (rules.UNPRICED, values(*OPEN), AT, {"price_source": "entry_price", "quantity": 0}, []),
    (
        rules.SETTLEMENT_UNPRICED,
        values(*OPEN),
        SHORT,
        {"price_source": "settlement_unpriced", "price": 0},
        [(D3, 1, "position 12 (AAA240119C00100000) settled at 0.000000 without a price of its underlying")],
    ),
    (
        rules.SIGN,
        values(*OPEN),
        AT,
        {"market_value": "-0.01"},
        [(D2, 1, "position 11 (AAA): quantity 10.000000 and market value -0.01")],
    ),
    (
        rules.SIGN,
        values(*OPEN),
        SHORT,
        {"market_value": "0.01"},
        [(D3, 1, "position 12 (AAA240119C00100000): quantity -2.000000 and market value 0.01")],
    ),
    (rules.SIGN, values(*OPEN), SHORT, {"market_value": "0"}, []),
    (
        rules.NO_LATER_PRICE,
        values(*OPEN),
        AT,
        {"price_date": D3},
        [(D2, 1, f"position 11 (AAA): price of {D3}")],
    ),
    (rules.NO_LATER_PRICE, values(*OPEN), AT, {"price_date": None}, []),
]


@pytest.mark.parametrize(
    ("rule", "good", "where", "fault", "findings"),
    PLANTED,
    ids=[f"{rule.name}: {', '.join(fault)}" for rule, _, _, fault, _ in PLANTED],
)
def test_one_wrong_row(
    rule: Rule, good: pl.DataFrame, where: dict[str, Any], fault: dict[str, Any], findings: list[Finding]
) -> None:
    assert found(rule, judged(OPEN, good)) == []
    assert found(rule, judged(OPEN, changed(good, where, **fault))) == findings


ROWS: list[tuple[str, dict[str, Any], dict[str, Any], list[date]]] = [
    ("open since before", stock(1, "AAA", 10, 100, CALENDAR[0]), {}, OPEN),
    ("entered later", stock(1, "AAA", 10, 100, D2), {}, [D2, D3, D4]),
    ("entered on the closure", stock(1, "AAA", 10, 100, CLOSED), {}, [D3, D4]),
    ("exit", stock(1, "AAA", 10, 100, D1, exit_date=D3), {}, [D1, D2, D3]),
    ("exit on the closure", stock(1, "AAA", 10, 100, D1, exit_date=CLOSED), {}, [D1, D2, D3]),
    ("exit on a Saturday", stock(1, "AAA", 10, 100, D1, exit_date=date(2024, 1, 6)), {}, OPEN),
    ("in and out on one session", stock(1, "AAA", 10, 100, D2, exit_date=D2), {}, [D2]),
    ("expiry", option(1, "AAA240105P00100000", 1, 5, D1), {}, [D1, D2, D3]),
    ("expiry on the closure", option(1, "AAA240104P00100000", 1, 5, D1), {}, [D1, D2]),
    ("expiry on a Saturday", option(1, "AAA240106P00100000", 1, 5, D1), {}, [D1, D2, D3]),
    ("expiry beyond the calendar", option(1, "AAA260116P00100000", 1, 5, D1), {}, OPEN),
    ("sold before expiry", option(1, "AAA240108P00100000", 1, 5, D1, exit_date=D2), {}, [D1, D2]),
    ("private", private(1, "FUND", 1, 1000, D1), {}, OPEN),
    ("inactive portfolio", stock(1, "AAA", 10, 100, D1), {"active": False}, []),
    ("entered before inception", stock(1, "AAA", 10, 100, D1), {"inception_date": D3}, [D3, D4]),
    ("gone before inception", stock(1, "AAA", 10, 100, D1, exit_date=D2), {"inception_date": D3}, []),
]


def row_frame(days: list[date]) -> pl.DataFrame:
    return frame(
        tables.position_values,
        [{"session_date": day, "position_id": 1, "portfolio_id": 1, "symbol": "AAA"} for day in days],
    )


def missing_rows_are_found(rule: Rule, book: Mapping[str, pl.DataFrame], days: list[date], name: str) -> None:
    """The rule wants a row on each of `days`, and misses each that is gone."""
    assert found(rule, judged(OPEN, row_frame(days), book)) == []
    missing = [(day, 1, f"{name} has no row") for day in days]
    assert found(rule, judged(OPEN, row_frame([]), book)) == missing
    for gone in days:
        assert found(rule, judged(OPEN, row_frame([day for day in days if day != gone]), book)) == [
            (gone, 1, f"{name} has no row")
        ]


@pytest.mark.parametrize(("position", "owner", "held"), [case[1:] for case in ROWS], ids=[c[0] for c in ROWS])
def test_rows_a_position_must_have(position: dict[str, Any], owner: dict[str, Any], held: list[date]) -> None:
    portfolios = frame(tables.portfolios, [{**portfolio(1, D1), **owner}])
    positions = frame(tables.positions, [position])
    book = {**BOOK, "portfolios": portfolios, "positions": positions}
    name = f"position 1 ({position['symbol']})"
    missing_rows_are_found(rules.ONE_ROW_PER_POSITION, book, held, name)
    extra = [(day, 1, "position 1 (AAA) has a row but is not held") for day in OPEN if day not in held]
    assert found(rules.ONE_ROW_PER_POSITION, judged(OPEN, row_frame(OPEN), book)) == extra
    # the engine, which the rule is deliberately simpler than, agrees
    engine = window(
        sessions=OPEN,
        calendar=BOOK["calendar"],
        portfolios=portfolios,
        positions=positions,
        actions=empty_frame(tables.corporate_actions),
        instruments=empty_frame(tables.instruments),
    )
    session, _ = engine.rows()
    assert engine.timeline.dates.gather(session + engine.first).to_list() == held


def test_a_whole_book_without_faults() -> None:
    book = judged(OPEN, values(*OPEN), BOOK)
    assert found(rules.ONE_ROW_PER_POSITION, book) == []
    missing = values(*OPEN).filter((pl.col("position_id") != 13) | (pl.col("session_date") != D3))
    assert found(rules.ONE_ROW_PER_POSITION, judged(OPEN, missing, BOOK)) == [(D3, 2, "position 13 (FUND) has no row")]


@pytest.mark.parametrize(
    ("dropped", "owner", "findings"),
    [
        ([], {}, []),
        ([(D3, 2)], {}, [(D3, 2, "book-2 has no row")]),
        ([(D1, 1), (D4, 2)], {}, [(D1, 1, "book-1 has no row"), (D4, 2, "book-2 has no row")]),
        ([(D1, 2), (D2, 2)], {"inception_date": D3}, []),
        ([(D3, 2)], {"inception_date": D3}, [(D3, 2, "book-2 has no row")]),
        ([(day, 2) for day in OPEN], {"active": False}, []),
    ],
)
def test_rows_a_portfolio_must_have(
    dropped: list[tuple[date, int]], owner: dict[str, Any], findings: list[Finding]
) -> None:
    portfolios = changed(BOOK["portfolios"], {"portfolio_id": 2}, **owner)
    gone = pl.DataFrame(dropped, schema={"session_date": pl.Date(), "portfolio_id": pl.Int64()}, orient="row")
    kept = SNAPSHOTS.join(gone, on=["session_date", "portfolio_id"], how="anti")
    assert found(rules.PORTFOLIO_ROWS, judged(OPEN, kept, {"portfolios": portfolios})) == findings


def test_every_rule_has_a_case() -> None:
    elsewhere = [rules.ONE_ROW_PER_POSITION, rules.PORTFOLIO_ROWS, *test_snapshot_rules.TESTED]
    tested = cases.names_of(rules, [*(case[0] for case in PLANTED), *elsewhere])
    assert tested == cases.rules_of(rules)


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    """A run of unscheduled closures has no sessions and no rows."""
    rule: Rule = getattr(rules, name)
    empty = judged([], empty_frame(_table(rule)), BOOK)
    if rule is not rules.EQUITY_SYNCHRONISED:  # asks the database whatever the sessions (test_snapshot_rules)
        assert found(rule, empty) == []


def _table(rule: Rule) -> Any:
    if rule in rules.POSITION_VALUES:
        return tables.position_values
    return tables.portfolio_snapshots
