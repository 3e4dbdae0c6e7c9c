"""Rules on factor exposures: each finds its planted fault, and only that."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.checks import factor_exposures as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio
from sigmasight_pipeline_tests.calculations.test_factor_exposure_properties import computed, frames_of
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged
from sigmasight_pipeline_tests.properties.books import Book, books
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]

FACTORS = ("Market", "Oil")
VALUES = frame(
    tables.position_values,
    [
        {
            "session_date": day,
            "position_id": key,
            "portfolio_id": key // 10,
            "symbol": f"S{key}",
            "price_source": source,
        }
        for day in DAYS
        for key, source in ((11, "market"), (12, "entry_price"), (13, "exit"), (21, "mark"))
    ],
)
POSITION_ROWS = frame(
    tables.position_factor_exposures,
    [
        {"session_date": day, "position_id": key, "portfolio_id": key // 10, "factor": factor,
         "exposure_dollar": dollars, "quality": "no_beta" if dollars is None else "ok"}
        for day in DAYS
        for key, dollars in ((11, "100.01"), (12, None), (21, "-7.00"))
        for factor in FACTORS
    ],
)  # fmt: skip
PORTFOLIO_ROWS = frame(
    tables.portfolio_factor_exposures,
    [
        {"session_date": day, "portfolio_id": key, "factor": factor, "exposure_dollar": dollars, "status": "ok",
         "coverage": 0.9, "positions_covered": 1, "positions_total": 2}
        for day in DAYS
        for key, dollars in ((1, "100.01"), (2, "-7.00"))
        for factor in FACTORS
    ],
)  # fmt: skip
BOOK = {
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1), portfolio(3, D1, active=False)]),
    "factors": frame(
        tables.factor_definitions,
        [{"factor": name, "kind": "style", "active": name in FACTORS} for name in (*FACTORS, "Value")],
    ),
    "position_values": VALUES,
    "position_factor_exposures": POSITION_ROWS,
    "positions": frame(
        tables.positions,
        [
            {"position_id": key, "portfolio_id": key // 10, "symbol": f"S{key}", "investment_class": "PUBLIC"}
            for key in (11, 12, 13, 21)
        ],
    ),
    "instruments": empty_frame(tables.instruments),
    "symbol_factor_betas": frame(
        tables.symbol_factor_betas,
        [
            {"session_date": day, "symbol": f"S{key}", "factor": factor, "beta": 1.5, "beta_raw": 1.5, "quality": "ok"}
            for day in DAYS
            for key in (11, 12, 13, 21)
            for factor in FACTORS
        ],
    ),
}

AT: dict[str, Any] = {"session_date": D2, "portfolio_id": 1, "factor": "Market"}

Planted = tuple[Rule, dict[str, Any], list[Finding]]
PLANTED: list[Planted] = [
    (
        rules.FACTOR_EXPOSURES_TIE,
        {"exposure_dollar": "100.02"},
        [(D2, 1, "portfolio 1: exposure to Market is 100.02, of its positions 100.01")],
    ),
    (
        rules.FACTOR_EXPOSURES_TIE,
        {"exposure_dollar": None},
        [(D2, 1, "portfolio 1: exposure to Market is none, of its positions 100.01")],
    ),
    (
        rules.FACTOR_EXPOSURES_TIE,
        {"status": "low_coverage"},
        [(D2, 1, "portfolio 1: exposure to Market is 100.01, of its positions none")],
    ),
    (rules.FACTOR_EXPOSURES_TIE, {"status": "low_coverage", "exposure_dollar": None}, []),
    (rules.FACTOR_EXPOSURES_TIE, {"status": "factor_without_data", "exposure_dollar": None}, []),
    (rules.FACTOR_EXPOSURES_TIE, {"status": "no_net_asset_value"}, []),
    (
        rules.FACTOR_COVERAGE,
        {"status": "low_coverage", "coverage": 0.79},
        [(D2, 1, "portfolio 1: 1 of 2 positions, 79.0% of the gross exposure have an exposure to Market")],
    ),
    (
        rules.FACTOR_COVERAGE,
        {"status": "low_coverage", "coverage": None},
        [(D2, 1, "portfolio 1: 1 of 2 positions, nothing of the gross exposure have an exposure to Market")],
    ),
    (rules.FACTOR_COVERAGE, {"status": "factor_without_data", "coverage": 0.0}, []),
]


@pytest.mark.parametrize(
    ("rule", "fault", "findings"), PLANTED, ids=[f"{rule.name}: {', '.join(fault)}" for rule, fault, _ in PLANTED]
)
def test_one_wrong_row(rule: Rule, fault: dict[str, Any], findings: list[Finding]) -> None:
    assert found(rule, judged(DAYS, PORTFOLIO_ROWS, BOOK)) == []
    assert found(rule, judged(DAYS, changed(PORTFOLIO_ROWS, AT, **fault), BOOK)) == findings


def without(rows: pl.DataFrame, **where: Any) -> pl.DataFrame:
    return rows.filter(~pl.all_horizontal(pl.col(name) == value for name, value in where.items()))


ROWS: list[tuple[str, Rule, pl.DataFrame, list[Finding]]] = [
    ("every portfolio", rules.PORTFOLIO_FACTOR_ROWS, PORTFOLIO_ROWS, []),
    (
        "one factor of a portfolio missing",
        rules.PORTFOLIO_FACTOR_ROWS,
        without(PORTFOLIO_ROWS, session_date=D1, portfolio_id=2, factor="Market"),
        [(D1, 2, "book-2 has no row of Market")],
    ),
    (
        "a portfolio missing",
        rules.PORTFOLIO_FACTOR_ROWS,
        without(PORTFOLIO_ROWS, session_date=D2, portfolio_id=1),
        [(D2, 1, "book-1 has no row of Market, Oil")],
    ),
]


@pytest.mark.parametrize(("rule", "rows", "findings"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_rows_that_must_be_there(rule: Rule, rows: pl.DataFrame, findings: list[Finding]) -> None:
    assert found(rule, judged(DAYS, rows, BOOK)) == findings


def test_sessions_before_inception_need_no_rows() -> None:
    late = {**BOOK, "portfolios": changed(BOOK["portfolios"], {"portfolio_id": 1}, inception_date=D2)}
    rows = without(PORTFOLIO_ROWS, session_date=D1, portfolio_id=1)
    assert found(rules.PORTFOLIO_FACTOR_ROWS, judged(DAYS, rows, late)) == []


@settings(max_examples=10, deadline=None)
@given(books())
def test_no_rule_objects_to_what_the_engines_compute(book: Book) -> None:
    frames = frames_of(book)
    made = computed(frames, book.open_sessions)
    # betas that were not winsorised: what moves them is not what is tested here
    betas = frames["symbol_factor_betas"].with_columns(beta_raw="beta")
    inputs = {**frames, "position_factor_exposures": made["positions"], "symbol_factor_betas": betas}
    # how much of a book has betas is the book's
    for rule in set(rules.PORTFOLIO_FACTOR_EXPOSURES) - {rules.FACTOR_COVERAGE}:
        assert found(rule, judged(book.open_sessions, made["portfolios"], inputs)) == [], rule.name


@pytest.mark.parametrize(("raw", "objected"), [(1.514, False), (1.516, True), (1.5, False), (-3.0, True)])
def test_dollars_that_winsorising_moved(raw: float, *, objected: bool) -> None:
    """100.01 US dollars at a beta of 1.5; the dollars are told of every portfolio, whether they are too many or not."""
    rows = POSITION_ROWS.with_columns(beta=pl.when(pl.col("quality") == "ok").then(1.5))
    betas = changed(BOOK["symbol_factor_betas"], {"session_date": D2, "symbol": "S11", "factor": "Oil"}, beta_raw=raw)
    what = judged(DAYS, PORTFOLIO_ROWS, {**BOOK, "position_factor_exposures": rows, "symbol_factor_betas": betas})
    moved = round(100.01 * (1 - raw / 1.5), 2)
    told = f"portfolio 1: winsorising moved {moved} US dollars of its exposure to Oil, of 100.01 gross"
    assert found(rules.WINSORIZED_DOLLARS, what) == ([(D2, 1, told)] if objected else [])
    verdict = rules.WINSORIZED_DOLLARS.verdict(what)
    kept = {row["session_date"]: row for row in verdict.rows("asset", "run", MOMENT).iter_rows(named=True)}
    figures = json.loads(kept[D2]["metadata"])["figures"]
    assert figures == {"dollars_moved_portfolio_1": abs(moved), "dollars_moved_portfolio_2": 0.0}
    assert kept[D2]["passed"] != objected


def test_every_rule_has_a_case() -> None:
    tested = [*(case[0] for case in PLANTED), *(case[1] for case in ROWS), rules.WINSORIZED_DOLLARS]
    assert cases.names_of(rules, tested) == cases.rules_of(rules)


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    """A run of unscheduled closures has no sessions and no rows; what it reads may have."""
    rule: Rule = getattr(rules, name)
    assert found(rule, judged([], empty_frame(tables.portfolio_factor_exposures), BOOK)) == []
