"""Rules on the audit: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.completeness import PORTFOLIO_ENGINES, SYMBOL_ENGINES
from sigmasight_pipeline.checks import operations as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import changed, found, judged

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]
INPUTS = {
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1), portfolio(3, D1, active=False)]),
}
ENGINES = {
    0: [engine.name for engine in SYMBOL_ENGINES],
    1: [engine.name for engine in PORTFOLIO_ENGINES],
    2: [engine.name for engine in PORTFOLIO_ENGINES],
}
AUDIT = frame(
    tables.calculation_audit,
    [
        {
            "session_date": day,
            "portfolio_id": owner,
            "engine": engine,
            "rows_expected": 1,
            "rows_present": 1,
            "coverage": 1.0,
            "status": "complete",
        }
        for day in DAYS
        for owner, engines in ENGINES.items()
        for engine in engines
    ],
)

CLOSED = frame(
    tables.portfolios,
    [portfolio(1, D1), portfolio(2, D1, active=False, closing_date=D1), portfolio(3, D1, active=False)],
)


def test_of_a_closed_portfolio_rows_are_due_up_to_its_closing() -> None:
    before = AUDIT.filter((pl.col("session_date") == D1) | (pl.col("portfolio_id") != 2))
    assert found(rules.ROW_PER_ENGINE, judged(DAYS, before, {"portfolios": CLOSED})) == []
    told = found(rules.ROW_PER_ENGINE, judged(DAYS, before, INPUTS))
    assert {(day, owner) for day, owner, _ in told} == {(D2, 2)}


FAULTS: list[tuple[Rule, dict[str, Any], dict[str, Any], list[tuple[int | None, str]]]] = [
    (
        rules.NOTHING_MISSING,
        {"portfolio_id": 2, "engine": "position_values"},
        {"status": "partial", "reason": "2 of 3 row(s)"},
        [(2, "book-2: position_values (2 of 3 row(s))")],
    ),
    (
        rules.NOTHING_MISSING,
        {"portfolio_id": 1},
        {"status": "missing", "reason": "not computed"},
        [(1, "book-1: " + ", ".join(f"{engine} (not computed)" for engine in sorted(ENGINES[1])))],
    ),
    (
        rules.NOTHING_MISSING,
        {"engine": "daily_prices"},
        {"status": "missing", "reason": "no prices stored"},
        [(None, "all portfolios: daily_prices (no prices stored)")],
    ),
    (
        rules.NOTHING_MISSING,
        {"engine": "daily_prices"},
        {"status": "not_expected", "reason": "closed session", "rows_present": 0},
        [],
    ),
    (
        rules.WINDOWS_FULL,
        {"engine": "symbol_factor_betas"},
        {"status": "partial", "reason": "estimated from 42 returns where 252 are stored (AAA; 9 symbol(s) in all)"},
        [
            (
                None,
                "all portfolios: symbol_factor_betas (estimated from 42 returns where 252 are stored (AAA; 9 symbol(s) "
                "in all))",
            )
        ],
    ),
    (
        rules.WINDOWS_FULL,
        {"engine": "symbol_factor_betas"},
        {"status": "partial", "reason": "3 of at least 4 row(s)"},
        [],
    ),
    (
        rules.NOTHING_UNEXPECTED,
        {"portfolio_id": 2, "engine": "scenario_accuracy"},
        {"status": "not_expected", "reason": "not the last session of its week"},
        [(2, "book-2: scenario_accuracy (rows there: not the last session of its week)")],
    ),
    (
        rules.NOTHING_UNEXPECTED,
        {"portfolio_id": 2, "engine": "scenario_accuracy"},
        {"status": "not_expected", "reason": "not the last session of its week", "rows_present": 0},
        [],
    ),
]


@pytest.mark.parametrize(("rule", "where", "values", "expected"), FAULTS)
def test_a_planted_fault_is_found_and_named(
    rule: Rule, where: dict[str, Any], values: dict[str, Any], expected: list[tuple[int | None, str]]
) -> None:
    spoiled = changed(AUDIT, {"session_date": D2, **where}, **values)
    assert found(rule, judged(DAYS, spoiled, INPUTS)) == [(D2, owner, sentence) for owner, sentence in expected]


def test_a_row_that_is_not_there_is_found_and_named() -> None:
    gone = pl.col("session_date") == D2
    for owner, engine, code, shown in ((1, "position_values", "book-1", 1), (0, "daily_prices", "all portfolios", 0)):
        spoiled = AUDIT.filter(~(gone & (pl.col("portfolio_id") == owner) & (pl.col("engine") == engine)))
        assert found(rules.ROW_PER_ENGINE, judged(DAYS, spoiled, INPUTS)) == [
            (D2, shown, f"{code} has no row of {engine}")
        ]


def test_a_run_restricted_to_one_book_owes_no_rows_of_others() -> None:
    only = AUDIT.filter(pl.col("portfolio_id").is_in([0, 2]))
    what = judged(DAYS, only, INPUTS)
    assert found(rules.ROW_PER_ENGINE, what)
    restricted = cases.Judged(DAYS, only, INPUTS, what.database, portfolio_ids=[0, 2], limits=what.limits)
    assert found(rules.ROW_PER_ENGINE, restricted) == []


@pytest.mark.parametrize("rule", rules.CALCULATION_AUDIT)
def test_a_whole_audit_passes(rule: Rule) -> None:
    assert found(rule, judged(DAYS, AUDIT, INPUTS)) == []


def test_every_rule_is_tested() -> None:
    tested = [rules.ROW_PER_ENGINE, *(rule for rule, *_ in FAULTS)]
    assert cases.names_of(rules, tested) == cases.rules_of(rules)
