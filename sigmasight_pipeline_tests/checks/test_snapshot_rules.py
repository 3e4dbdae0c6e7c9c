"""Rules that ask the database: the chain of snapshots, the equity kept beside it, and telescoping positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import rules as checks
from sigmasight_pipeline.checks import valuation as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.identities import BrokenIdentityError, verify_snapshots
from sigmasight_pipeline.storage.partitions import merge_rows, replace_sessions
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT, rows

CALENDAR = [date(2024, 1, day) for day in (2, 3, 4, 5, 8)]
CLOSED = date(2024, 1, 4)
D1, D2, D3, D4 = OPEN = [day for day in CALENDAR if day != CLOSED]
FIRST, SECOND = 1, 2
"""Identifiers the database gives the two portfolios; the second starts a session later."""

EQUITY = Decimal("1000000.00")


def snapshots() -> pl.DataFrame:
    """A faultless chain of both portfolios: P&L of 10.01 a day, 5.00 contributed on D3, market value 400.00."""
    parts = []
    for portfolio_id, days in ((FIRST, OPEN), (SECOND, OPEN[1:])):
        value = EQUITY
        for day in days:
            flow = Decimal("5.00") if day == D3 else Decimal(0)
            value += Decimal("10.01") + flow
            parts.append(
                rows(
                    tables.portfolio_snapshots,
                    [day],
                    1,
                    values={
                        "portfolio_id": portfolio_id,
                        "net_asset_value": value,
                        "market_value": Decimal(400),
                        "cash_balance": value - 400,
                        "daily_pnl": Decimal("10.01"),
                        "net_cash_flow": flow,
                        "is_first": day == days[0],
                        "daily_return": 0.01,
                    },
                )
            )
    return pl.concat(parts)


@pytest.fixture(scope="module")
def stored(shared_database: Database) -> Database:
    """The database with the calendar and the two portfolios."""
    calendar = sessions_frame(CALENDAR, [CLOSED]).with_columns(opens_at=pl.lit(MOMENT), closes_at=pl.lit(MOMENT))
    calendar = calendar.select(pl.col(name).cast(kind) for name, kind in polars_schema(tables.trading_sessions).items())
    books = frame(tables.portfolios, [portfolio(FIRST, D1), portfolio(SECOND, D2)]).drop("portfolio_id")
    with shared_database.connect() as connection:
        merge_rows(
            connection, tables.trading_sessions, calendar, key=("session_date",), scope=None, delete_missing=True
        )
        merge_rows(connection, tables.portfolios, books, key=("code",), scope=None, delete_missing=True)
    known = shared_database.read(tables.portfolios, order_by="code")
    assert known["portfolio_id"].to_list() == [FIRST, SECOND]
    return shared_database


@pytest.fixture
def database(stored: Database) -> Iterator[Database]:
    """The same with the faultless chain and its equity, for tests that spoil it."""
    keep(stored, snapshots())
    yield stored
    replace_sessions(stored, {tables.position_values: rows(tables.position_values, [], 0)}, CALENDAR)


def keep(database: Database, chain: pl.DataFrame) -> None:
    """Store `chain` alone, and every portfolio's equity as its newest snapshot has it in the faultless chain."""
    replace_sessions(database, {tables.portfolio_snapshots: chain}, CALENDAR)
    with database.connect() as connection:
        for portfolio_id, days in ((FIRST, 4), (SECOND, 3)):
            balance = EQUITY + days * Decimal("10.01") + 5
            connection.execute(
                "UPDATE sigmasight.portfolios SET equity_balance = %s, equity_as_of = %s WHERE portfolio_id = %s",
                (balance, D4, portfolio_id),
            )


CHAIN_RULES = (rules.NAV_IDENTITY, rules.CASH_IDENTITY, rules.NO_GAP)
NAMES = {FIRST: "book-1", SECOND: "book-2"}


def test_a_faultless_chain(database: Database) -> None:
    for sessions in (OPEN, [D1], [D3], [D4], [D2, D3]):
        what = judged(sessions, snapshots().filter(pl.col("session_date").is_in(sessions)), database=database)
        for rule in (*CHAIN_RULES, rules.EQUITY_SYNCHRONISED):
            assert found(rule, what) == [], f"{rule.name} on {sessions}"


@pytest.mark.parametrize(
    ("rule", "day", "portfolio_id", "fault", "findings"),
    [
        (rules.NAV_IDENTITY, D2, FIRST, {"daily_pnl": "10.02"}, [(D2, FIRST, "book-1: residual -0.01")]),
        (rules.NAV_IDENTITY, D3, SECOND, {"net_cash_flow": "0"}, [(D3, SECOND, "book-2: residual 5.00")]),
        # a value that is wrong alone breaks its own session and the next one's base
        (
            rules.NAV_IDENTITY,
            D2,
            FIRST,
            {"net_asset_value": "1000020.03"},
            [(D2, FIRST, "book-1: residual 0.01"), (D3, FIRST, "book-1: residual -0.01")],
        ),
        # the first session starts from the equity at inception
        (rules.NAV_IDENTITY, D2, SECOND, {"daily_pnl": "10.00"}, [(D2, SECOND, "book-2: residual 0.01")]),
        (rules.CASH_IDENTITY, D4, SECOND, {"cash_balance": "0.00"}, [(D4, SECOND, "book-2: residual 999635.03")]),
        (rules.CASH_IDENTITY, D1, FIRST, {"market_value": "400.01"}, [(D1, FIRST, "book-1: residual -0.01")]),
        (rules.CASH_IDENTITY, D1, FIRST, {"daily_pnl": "0"}, []),
        (rules.NO_GAP, D2, SECOND, {"is_first": False}, [(D2, SECOND, f"book-2: no snapshot of {D1}")]),
    ],
)
def test_one_wrong_snapshot(
    database: Database, rule: Rule, day: date, portfolio_id: int, fault: dict[str, str], findings: list[Finding]
) -> None:
    spoilt = changed(snapshots(), {"session_date": day, "portfolio_id": portfolio_id}, **fault)
    keep(database, spoilt)
    assert [
        (session, owner, detail.split(";")[0])
        for session, owner, detail in found(rule, judged(OPEN, spoilt, database=database))
    ] == findings


def gap(missing: date) -> str:
    return f"no snapshot of {missing}; fill it first (`sigmasight backfill --from` that session)"


@pytest.mark.parametrize("missing", [D1, D2, D3])
def test_a_missing_session_is_named(database: Database, missing: date) -> None:
    """Named is the session that is missing, on the session after it; the closure between D2 and D3 is none."""
    kept = snapshots().filter((pl.col("session_date") != missing) | (pl.col("portfolio_id") != FIRST))
    keep(database, kept)
    after = OPEN[OPEN.index(missing) + 1]
    expected = [(after, FIRST, f"book-1: {gap(missing)}")]
    assert found(rules.NO_GAP, judged(OPEN, kept, database=database)) == expected
    # a run that starts behind the gap finds it too: its predecessor is looked up
    assert found(rules.NO_GAP, judged([after], kept, database=database)) == expected
    later = OPEN[OPEN.index(after) + 1 :]
    if later:
        assert found(rules.NO_GAP, judged(later, kept, database=database)) == []


def test_sessions_and_portfolios_the_run_did_not_compute_are_not_judged(database: Database) -> None:
    """What is wrong with them is nothing the run could put right, and must not stop it."""
    keep(database, changed(snapshots(), {"session_date": D3, "portfolio_id": FIRST}, daily_pnl="0", cash_balance="0"))
    for rule, sentence in (
        (rules.NAV_IDENTITY, "book-1: residual 10.01"),
        (rules.CASH_IDENTITY, "book-1: residual 999635.03"),
    ):
        for sessions in ([D3], [D3, D4], OPEN):
            assert found(rule, judged(sessions, database=database)) == [(D3, FIRST, sentence)], sessions
            own, other = (replace(judged(sessions, database=database), portfolio_ids=[key]) for key in (FIRST, SECOND))
            assert found(rule, own) == [(D3, FIRST, sentence)]
            assert found(rule, other) == []
        for sessions in ([D1], [D1, D2], [D4]):
            assert found(rule, judged(sessions, database=database)) == []


def test_no_rule_speaks_of_a_portfolio_its_run_did_not_compute() -> None:
    everything = Rule("everything", "ERROR", "Nothing is there.", lambda what: checks.findings(what.frame, pl.lit("x")))
    mine = replace(judged(OPEN, snapshots()), portfolio_ids=[SECOND])
    assert {owner for _, owner, _ in found(everything, mine)} == {SECOND}
    assert {owner for _, owner, _ in found(everything, judged(OPEN, snapshots()))} == {FIRST, SECOND}


def add_values(database: Database, **fault: Any) -> None:
    """Position values the faultless chain adds up from; `fault` changes those of D3 of the first portfolio."""
    made = [
        rows(
            tables.position_values,
            [day],
            1,
            values={
                "portfolio_id": owner,
                "position_id": owner,
                "market_value": Decimal(400),
                "daily_pnl": Decimal("10.01"),
            },
        )
        for owner, days in ((FIRST, OPEN), (SECOND, OPEN[1:]))
        for day in days
    ]
    values = changed(pl.concat(made), {"session_date": D3, "portfolio_id": FIRST}, **fault)
    replace_sessions(database, {tables.position_values: values}, CALENDAR)


EVERY_ROW = [(day, owner) for owner, days in ((FIRST, OPEN), (SECOND, OPEN[1:])) for day in days]


@pytest.mark.parametrize(
    ("fault", "of_values", "told"),
    [
        ({}, {}, None),
        ({"cash_balance": "0.00"}, {}, "net asset value is not cash plus market value, by 999635.03"),
        ({}, {"market_value": "401"}, "market value is not the sum of the positions', by -1.00"),
        ({}, {"daily_pnl": "10.02"}, "the day's P&L is not the sum of the positions', by -0.01"),
        ({"net_cash_flow": "4.00"}, {}, "net asset value is not the previous one plus P&L plus flows, by 1.00"),
    ],
)
def test_what_does_not_add_up_is_never_committed(
    database: Database, fault: dict[str, str], of_values: dict[str, str], told: str | None
) -> None:
    add_values(database, **(of_values or {"market_value": "400"}))
    spoilt = changed(snapshots(), {"session_date": D3, "portfolio_id": FIRST}, **fault) if fault else snapshots()
    replace_sessions(database, {tables.portfolio_snapshots: snapshots().clear()}, CALENDAR)
    raises = nullcontext() if told is None else pytest.raises(BrokenIdentityError, match=f"book-1 at {D3} .*{told}")
    with raises:
        replace_sessions(
            database,
            {tables.portfolio_snapshots: spoilt},
            OPEN,
            before_commit=lambda connection: verify_snapshots(connection, EVERY_ROW),
        )
    assert database.count(tables.portfolio_snapshots) == (len(EVERY_ROW) if told is None else 0)


@pytest.mark.parametrize(
    ("balance", "as_of", "findings"),
    [
        (Decimal("1000035.04"), D4, "1000035.04"),
        (None, None, "none"),
        (Decimal("1000035.03"), D3, "1000035.03"),
    ],
)
def test_equity_beside_the_chain(
    database: Database, balance: Decimal | None, as_of: date | None, findings: str
) -> None:
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolios SET equity_balance = %s, equity_as_of = %s WHERE portfolio_id = %s",
            (balance, as_of, SECOND),
        )
    sentence = f"book-2: equity balance {findings} is not the newest value 1000035.03"
    for sessions in (OPEN, [D1]):
        what = judged(sessions, database=database)
        assert found(rules.EQUITY_SYNCHRONISED, what) == [(sessions[-1], SECOND, sentence)], "told of the run"
        assert found(rules.EQUITY_SYNCHRONISED, replace(what, portfolio_ids=[FIRST])) == []
    assert found(rules.EQUITY_SYNCHRONISED, judged([], database=database)) == []


def test_equity_without_snapshots_is_not_judged(database: Database) -> None:
    replace_sessions(database, {tables.portfolio_snapshots: snapshots().clear()}, CALENDAR)
    assert found(rules.EQUITY_SYNCHRONISED, judged(OPEN, database=database)) == []


@pytest.mark.parametrize(
    ("value", "findings"),
    [
        (0.2501, [(D3, SECOND, "portfolio 2: 25.0%")]),
        (-0.3, [(D3, SECOND, "portfolio 2: -30.0%")]),
        (0.25, []),
        (None, []),
    ],
)
def test_large_returns(value: float | None, findings: list[Finding]) -> None:
    chain = changed(snapshots(), {"session_date": D3, "portfolio_id": SECOND}, daily_return=value)
    assert found(rules.LARGE_RETURNS, judged(OPEN, chain)) == findings


def position_values(**fault: Any) -> pl.DataFrame:
    """Two positions whose P&L grows by 1.50 a session; `fault` changes the first one on D3."""
    made = pl.concat(
        [
            rows(
                tables.position_values,
                [day],
                2,
                values={"daily_pnl": Decimal("1.50"), "total_pnl": Decimal("1.50") * number, "symbol": "AAA"},
            )
            for number, day in enumerate(OPEN, start=1)
        ]
    )
    return changed(made, {"session_date": D3, "position_id": 0}, **fault) if fault else made


@pytest.mark.parametrize(
    ("fault", "findings"),
    [
        ({}, []),
        ({"daily_pnl": "1.49"}, [(D3, "moved by 1.50, the day's P&L is 1.49")]),
        (
            {"total_pnl": "4.51"},
            [(D3, "moved by 1.51, the day's P&L is 1.50"), (D4, "moved by 1.49, the day's P&L is 1.50")],
        ),
    ],
)
def test_telescoping(database: Database, fault: dict[str, Any], findings: list[tuple[date, str]]) -> None:
    """However the sessions are cut into runs: the session before a run is read from the database."""
    frame_ = position_values(**fault)
    replace_sessions(database, {tables.position_values: frame_}, OPEN)
    for runs in ([OPEN], [OPEN[:2], OPEN[2:]], [[day] for day in OPEN], [[D1, D2, D3], [D4]]):
        told = []
        for run in runs:
            written = frame_.filter(pl.col("session_date").is_in(run))
            told += found(rules.TELESCOPING, judged(run, written, database=database))
        assert told == [(day, 0, f"position 0 (AAA): total P&L {text}") for day, text in findings], runs


TESTED = (*CHAIN_RULES, rules.EQUITY_SYNCHRONISED, rules.LARGE_RETURNS, rules.TELESCOPING)
