"""Rules on portfolios, positions and the calendar: each finds its planted fault, and only that."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import reference as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.sessions import MINIMUM_HORIZON_DAYS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline.storage.partitions import merge_rows
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT

TODAY = date(2024, 6, 3)
"""Reference assets have no sessions: a verdict is of the day it was made."""

CALENDAR = [date(2024, 1, day) for day in (2, 3, 4, 5, 8)]
CALL = "AAA250117C00100000"

PORTFOLIOS = frame(tables.portfolios, [portfolio(1, CALENDAR[0]), portfolio(2, CALENDAR[0])])
POSITIONS = frame(
    tables.positions,
    [
        stock(11, "AAA", 10, 100, CALENDAR[0]),
        stock(12, "AAA", -10, 100, CALENDAR[1]),
        option(13, CALL, 1, 5, CALENDAR[1]),
        option(14, CALL, -1, 5, CALENDAR[2]) | {"portfolio_id": 2},
        private(15, "FUND", 1, 1000, date(1999, 5, 1)) | {"portfolio_id": 2},
    ],
)

Planted = tuple[Rule, pl.DataFrame, dict[str, Any], dict[str, Any], list[Finding]]


def equity(portfolio_id: int, value: str, told: str) -> Planted:
    row = {"portfolio_id": portfolio_id}
    return rules.EQUITY_POSITIVE, PORTFOLIOS, row, {"initial_equity": value}, [(TODAY, portfolio_id, told)]


def position(rule: Rule, position_id: int, column: str, value: object, told: str) -> Planted:
    owner = 1 if position_id <= 13 else 2
    return rule, POSITIONS, {"position_id": position_id}, {column: value}, [(TODAY, owner, told)]


OPTION_FIELDS = {
    "underlying_symbol": "AAA",
    "option_kind": "C",
    "strike_price": 100,
    "expiration_date": CALENDAR[4],
}

PLANTED: list[Planted] = [
    equity(1, "-0.01", "book-1 has initial equity -0.01"),
    equity(2, "0", "book-2 has initial equity 0.00"),
    position(rules._SIGN, 11, "quantity", -10, "position 11 (AAA) is LONG"),
    position(rules._SIGN, 11, "quantity", 0, "position 11 (AAA) is LONG"),
    position(rules._SIGN, 12, "quantity", 10, "position 12 (AAA) is SHORT"),
    position(rules._SIGN, 12, "quantity", 0, "position 12 (AAA) is SHORT"),
    position(rules._SIGN, 13, "quantity", -1, f"position 13 ({CALL}) is LC"),
    position(rules._SIGN, 13, "position_type", "SP", f"position 13 ({CALL}) is SP"),
    position(rules._SIGN, 14, "quantity", 1, f"position 14 ({CALL}) is SC"),
    position(rules._SIGN, 14, "position_type", "LP", f"position 14 ({CALL}) is LP"),
    *[position(rules._COMPLETE, 14, name, None, f"position 14 ({CALL})") for name in OPTION_FIELDS],
    *[position(rules._COMPLETE, 11, name, value, "position 11 (AAA)") for name, value in OPTION_FIELDS.items()],
    *[position(rules._COMPLETE, 15, name, value, "position 15 (FUND)") for name, value in OPTION_FIELDS.items()],
]


@pytest.mark.parametrize(
    ("rule", "good", "where", "fault", "findings"),
    PLANTED,
    ids=[f"{rule.name}: {where} {fault}" for rule, _, where, fault, _ in PLANTED],
)
def test_one_wrong_row(
    rule: Rule, good: pl.DataFrame, where: dict[str, Any], fault: dict[str, Any], findings: list[Finding]
) -> None:
    assert found(rule, judged([TODAY], good)) == []
    assert found(rule, judged([TODAY], good.clear())) == []
    assert found(rule, judged([TODAY], changed(good, where, **fault))) == findings


@pytest.mark.parametrize(
    ("ahead", "findings"),
    [
        (MINIMUM_HORIZON_DAYS, []),
        (MINIMUM_HORIZON_DAYS - 1, f"the calendar ends {MINIMUM_HORIZON_DAYS - 1} days ahead"),
        (-1, "the calendar ends -1 days ahead"),
        (None, "the calendar ends -1 days ahead"),
    ],
)
def test_how_far_the_calendar_reaches(ahead: int | None, findings: str | list[Finding]) -> None:
    days = [] if ahead is None else [TODAY - timedelta(days=30), TODAY + timedelta(days=ahead)]
    told = found(rules.HORIZON, judged([TODAY], sessions_frame(days)))
    if isinstance(findings, str):
        assert told == [(TODAY, None, f"{findings}: restart the code location to load it anew")]
    else:
        assert told == findings


@pytest.fixture(scope="module")
def calendar(shared_database: Database) -> Database:
    """The database with the calendar."""
    rows = sessions_frame(CALENDAR, CALENDAR[2:3]).with_columns(opens_at=pl.lit(MOMENT), closes_at=pl.lit(MOMENT))
    rows = rows.select(pl.col(name).cast(kind) for name, kind in polars_schema(tables.trading_sessions).items())
    with shared_database.connect() as connection:
        merge_rows(connection, tables.trading_sessions, rows, key=("session_date",), scope=None, delete_missing=True)
    return shared_database


@pytest.mark.parametrize(
    ("entry", "findings"),
    [
        (CALENDAR[3], []),
        (date(2024, 1, 6), [(TODAY, 1, "position 12 (AAA) entered on 2024-01-06")]),
        # a closure is a session of the calendar: the entry takes effect on the one after it
        (CALENDAR[2], []),
        # before the first stored session nothing is known, nor on it
        (date(2023, 12, 30), []),
        (CALENDAR[0], []),
    ],
)
def test_entries_on_sessions(calendar: Database, entry: date, findings: list[Finding]) -> None:
    positions = changed(POSITIONS, {"position_id": 12}, entry_date=entry)
    assert found(rules._ON_SESSION, judged([TODAY], positions, database=calendar)) == findings


def test_entries_without_a_calendar(database: Database) -> None:
    assert found(rules._ON_SESSION, judged([TODAY], POSITIONS, database=database)) == []
    nobody = empty_frame(tables.positions)
    assert found(rules._ON_SESSION, judged([TODAY], nobody, database=database)) == []


INSTRUMENTS = frame(
    tables.instruments,
    [
        {"symbol": symbol, "kind": "stock", "active": True}
        for symbol in ("AAA", CALL, "FUND", "SPY", "VTV", "NEW", "NEWER")
    ]
    + [{"symbol": "OLD", "kind": "stock", "last_session": CALENDAR[2], "replaced_by": "NEW"}]
    + [{"symbol": "BND", "kind": "fund", "duration": 6.2, "first_session": CALENDAR[0], "last_session": CALENDAR[3]}],
)
FACTORS = frame(
    tables.factor_definitions,
    [
        {"factor": "Market", "kind": "style", "proxy_symbol": "SPY", "active": True},
        {"factor": "Value", "kind": "style", "proxy_symbol": "VTV", "active": True},
        {"factor": "Interest_Rate", "kind": "rate", "active": True},
        {"factor": "Short_Interest", "kind": "characteristic", "active": True},
        {"factor": "Oil", "kind": "shock_only", "active": False},
    ],
)
SCENARIOS = frame(
    tables.stress_test_scenarios,
    [
        {"scenario_id": "crash", "shocks": json.dumps({"Market": -0.3, "Value": -0.1}), "active": True},
        {"scenario_id": "older", "shocks": json.dumps({"Gone": -0.3}), "active": False},
    ],
)
BESIDE = {"positions": POSITIONS, "portfolios": PORTFOLIOS, "factors": FACTORS}
LINK = {"symbol": "OLD"}

STATED: list[tuple[Rule, pl.DataFrame, dict[str, Any], dict[str, Any], list[str]]] = [
    (rules._SYMBOLS_KNOWN, INSTRUMENTS, {"symbol": "FUND"}, {"symbol": "F"},
     ["FUND is named by a position and is no instrument"]),
    (rules._SYMBOLS_KNOWN, INSTRUMENTS, {"symbol": "VTV"}, {"symbol": "V"},
     ["VTV is named by factor Value and is no instrument"]),
    (rules._SYMBOLS_KNOWN, INSTRUMENTS, {"symbol": "NEW"}, {"symbol": "N"}, []),
    (rules._LINKS, INSTRUMENTS, LINK, {"replaced_by": "XYZ"}, ["OLD is replaced by XYZ, which is no instrument"]),
    (rules._LINKS, INSTRUMENTS, LINK, {"replaced_by": "OLD"}, ["OLD is replaced by itself, over 0 name(s)"]),
    (rules._LINKS, INSTRUMENTS, LINK, {"last_session": None},
     ["OLD is replaced by NEW without a last session, so never"]),
    (rules._LINKS, INSTRUMENTS, {"symbol": "NEW"}, {"replaced_by": "NEWER", "last_session": CALENDAR[4]}, []),
    (rules._LINKS, INSTRUMENTS, {"symbol": "NEW"}, {"replaced_by": "OLD", "last_session": CALENDAR[4]},
     ["NEW is replaced by itself, over 1 name(s)", "OLD is replaced by itself, over 1 name(s)"]),
    (rules._TRADED, INSTRUMENTS, {"symbol": "BND"}, {"last_session": date(2024, 1, 1)},
     ["BND trades from 2024-01-02 to 2024-01-01"]),
    (rules._DURATIONS, INSTRUMENTS, {"symbol": "BND"}, {"duration": 620.0}, ["BND has duration 620.0"]),
    (rules._DURATIONS, INSTRUMENTS, {"symbol": "BND"}, {"duration": 0.0}, ["BND has duration 0.0"]),
    (rules._PROXIES_GIVEN, FACTORS, {"factor": "Value"}, {"proxy_symbol": None}, ["Value (style) has no proxy"]),
    (rules._PROXIES_GIVEN, FACTORS, {"factor": "Oil"}, {"proxy_symbol": None}, []),
    (rules._MARKET_GIVEN, FACTORS, {"factor": "Market"}, {"active": False}, ["no active factor is Market"]),
    (rules._MARKET_GIVEN, FACTORS, {"factor": "Short_Interest"}, {"kind": "rate"},
     ["2 active factors are the yield's change: Interest_Rate, Short_Interest"]),
    (rules._PROXIES_DISTINCT, FACTORS, {"factor": "Value"}, {"proxy_symbol": "SPY"},
     ["SPY is the proxy of Market, Value"]),
    (rules._SHOCKS_KNOWN, SCENARIOS, {"scenario_id": "older"}, {"active": True},
     ["older shocks Gone, no active factor(s)"]),
    (rules._SOME_ACTIVE, SCENARIOS, {"scenario_id": "crash"}, {"active": False},
     ["none of 2 scenario(s) is active"]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "good", "where", "fault", "told"), STATED)
def test_what_is_stated(
    rule: Rule, good: pl.DataFrame, where: dict[str, Any], fault: dict[str, Any], told: list[str]
) -> None:
    assert found(rule, judged([TODAY], good, BESIDE)) == []
    assert found(rule, judged([TODAY], changed(good, where, **fault), BESIDE)) == [(TODAY, None, text) for text in told]


def test_every_rule_has_a_case() -> None:
    planted = (*PLANTED, *STATED)
    tested = cases.names_of(rules, [*(case[0] for case in planted), rules.HORIZON, rules._ON_SESSION])
    assert tested == cases.rules_of(rules)
