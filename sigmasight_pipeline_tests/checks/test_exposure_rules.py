"""Rules on exposures of portfolios and groups: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.calculations.exposures import GREEKS
from sigmasight_pipeline.checks import exposures as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.checks.valuation import PORTFOLIO_ROWS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, greeks_of, groups_of, values_of

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]

EXPOSURES = frame(
    tables.portfolio_exposures,
    [
        {
            "session_date": day,
            "portfolio_id": portfolio_id,
            "long_exposure": "1500.10",
            "short_exposure": "-500.05",
            "gross_exposure": "2000.15",
            "net_exposure": "1000.05",
            "stock_exposure": "1000.00",
            "option_exposure": "600.15",
            "private_exposure": "400.00",
            "delta_adjusted_long": "1900.00",
            "delta_adjusted_short": "-750.25",
            "delta_adjusted_gross": "2650.25",
            "delta_adjusted_net": "1149.75",
            "delta_adjusted_coverage": 0.9,
            "greeks_status": "partial" if portfolio_id == 2 else "ok",
        }
        | {greek: float(at) for at, greek in enumerate(GREEKS, start=-2)}
        for day in DAYS
        for portfolio_id in (1, 2)
    ],
)


def greeks() -> pl.DataFrame:
    """Four positions a portfolio: long, short, a fallback of other Greeks, and one that exits."""
    made: list[dict[str, Any]] = []
    for day in DAYS:
        for owner in (1, 2):
            key = {"session_date": day, "portfolio_id": owner}
            for number, adjusted, status, scale in (
                (1, "1500.00", "ok", 3.0),
                (2, "-750.25", "ok", -2.0),
                (3, None, "fallback", 77.0),
                (4, "0.00", "exit", 0.0),
            ):
                own = {greek: scale * at for at, greek in enumerate(GREEKS, start=-2)}
                made.append(
                    key
                    | own
                    | {"position_id": owner * 10 + number, "delta_adjusted_exposure": adjusted, "status": status}
                )
    return frame(tables.position_greeks, made)


def values() -> pl.DataFrame:
    """A short call, a stock without a sector, a PRIVATE holding and an exit in each portfolio."""
    return frame(
        tables.position_values,
        [
            {"session_date": day, "portfolio_id": owner, "position_id": owner * 10 + number, "symbol": "as traded",
             "exposure": exposure, "daily_pnl": pnl, "price_source": source}
            for day in DAYS
            for owner in (1, 2)
            for number, exposure, pnl, source in (
                (1, "1100.10", "1.00", "market"), (2, "-500.05", "-2.50", "model"), (5, "400.00", "0.00", "mark"),
                (4, "0.00", "7.77", "exit"),
            )
        ],
    )  # fmt: skip


POSITIONS = frame(
    tables.positions,
    [
        {**row, "portfolio_id": owner, "position_id": owner * 10 + row["position_id"]}
        for owner in (1, 2)
        for row in (
            stock(1, "BBB", 1, 1, D1),
            option(2, "AAA240119C00100000", -1, 1, D1),
            stock(3, "AAA", 1, 1, D1),
            stock(4, "CCC", 1, 1, D1),
            private(5, "FUND", 1, 1, D1),
        )
    ],
)
BOOK = {
    "calendar": sessions_frame(DAYS),
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1)]),
    "positions": POSITIONS,
    "instruments": frame(
        tables.instruments,
        [
            {"symbol": "AAA", "kind": "stock", "sector": "Technology"},
            {"symbol": "BBB", "kind": "stock"},
            {"symbol": "FUND", "kind": "private"},
        ],
    ),
    "position_values": values(),
    "position_greeks": greeks(),
}

PARTS = {
    # sector, underlying and position type of each group: long, short, P&L, positions
    ("sector", "Technology"): ("0.00", "-500.05", "-2.50", 1),
    ("sector", "unclassified"): ("1500.10", "0.00", "8.77", 2),
    ("underlying", "AAA"): ("0.00", "-500.05", "-2.50", 1),
    ("underlying", "BBB"): ("1100.10", "0.00", "1.00", 1),
    ("underlying", "CCC"): ("0.00", "0.00", "7.77", 0),
    ("underlying", "FUND"): ("400.00", "0.00", "0.00", 1),
    ("position_type", "LONG"): ("1500.10", "0.00", "8.77", 2),
    ("position_type", "SC"): ("0.00", "-500.05", "-2.50", 1),
    ("tag", "twice"): ("1500.10", "-500.05", "6.27", 3),
    ("tag", "again"): ("1500.10", "0.00", "8.77", 2),
}
GROUPS = frame(
    tables.group_exposures,
    [
        {"session_date": day, "portfolio_id": owner, "group_kind": kind, "group_name": name, "long_exposure": long,
         "short_exposure": short, "daily_pnl": pnl, "position_count": count}
        for day in DAYS for owner in (1, 2) for (kind, name), (long, short, pnl, count) in PARTS.items()
    ],
).with_columns(
    gross_exposure=(pl.col("long_exposure") - pl.col("short_exposure")).cast(pl.Decimal(20, 2)),
    net_exposure=(pl.col("long_exposure") + pl.col("short_exposure")).cast(pl.Decimal(20, 2)),
)  # fmt: skip

AT: dict[str, Any] = {"session_date": D2, "portfolio_id": 2}


def at(detail: str) -> list[Finding]:
    """What is found in that row."""
    return [(D2, 2, f"portfolio 2: {detail}")]


TIES = "sides and kinds do not add up to gross and net"
DELTA_TIES = "delta-adjusted sides and positions do not add up"
LOW = dict.fromkeys([f"delta_adjusted_{side}" for side in ("long", "short", "gross", "net")] + list(GREEKS))

Planted = tuple[Rule, pl.DataFrame, dict[str, Any], dict[str, Any], list[Finding]]
PLANTED: list[Planted] = [
    *(
        (rules.EXPOSURES_TIE, EXPOSURES, AT, {column: amount}, at(TIES))
        for column, amount in {
            "gross_exposure": "2000.16",
            "net_exposure": "1000.04",
            "long_exposure": "1500.11",
            "short_exposure": "-500.06",
            "stock_exposure": "1000.01",
            "option_exposure": "600.14",
            "private_exposure": "0",
        }.items()
    ),
    *(
        (rules.DELTA_ADJUSTED_TIE, EXPOSURES, AT, fault, at(DELTA_TIES))
        for fault in (
            {"delta_adjusted_gross": "2650.24"},
            {"delta_adjusted_net": "1149.76"},
            # both tie to each other, and not to the positions
            {"delta_adjusted_long": "1900.01", "delta_adjusted_gross": "2650.26", "delta_adjusted_net": "1149.76"},
            # totals that are NULL without the reason, or there in spite of it
            {"delta_adjusted_net": None},
            {"greeks_status": "low_coverage"},
        )
    ),
    (rules.DELTA_ADJUSTED_TIE, EXPOSURES, AT, LOW | {"greeks_status": "low_coverage"}, []),
    (rules.NET_GREEKS, EXPOSURES, AT, {"vega": 1.0 + 1e-6}, at("net vega 1.000001, its positions' 1.0")),
    (rules.NET_GREEKS, EXPOSURES, AT, {"rho": None}, at("net rho none, its positions' 2.0")),
    # 2 of one sign and 3 of the other: 1e-9 of their size, 5
    (rules.NET_GREEKS, EXPOSURES, AT, {"vega": 1.0 + 4.9e-9}, []),
    (rules.NET_GREEKS, EXPOSURES, AT, {"vega": 1.0 - 5.1e-9}, at("net vega 0.9999999949, its positions' 1.0")),
    (rules.NET_GREEKS, EXPOSURES, AT, LOW | {"greeks_status": "low_coverage"}, []),
    *(
        (
            rules.GROUPS_TIE,
            GROUPS,
            AT | {"group_kind": kind, "group_name": name},
            {figure: amount},
            at(f"{figure} of groups by {kind} is {sum_}, of positions {whole}"),
        )
        for kind, name, figure, amount, sum_, whole in (
            ("sector", "unclassified", "long_exposure", "1500.11", "1500.11", "1500.10"),
            ("underlying", "AAA", "short_exposure", "-500.04", "-500.04", "-500.05"),
            ("underlying", "CCC", "daily_pnl", "0.00", "-1.50", "6.27"),
            ("position_type", "SC", "gross_exposure", "0.00", "1500.10", "2000.15"),
            ("position_type", "LONG", "net_exposure", "1500.00", "999.95", "1000.05"),
        )
    ),
    # positions with several tags count in each: tags add up to nothing in particular
    (rules.GROUPS_TIE, GROUPS, AT | {"group_kind": "tag", "group_name": "again"}, {"long_exposure": "0.00"}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "good", "where", "fault", "findings"),
    PLANTED,
    ids=[f"{rule.name}: {', '.join(fault)}" for rule, _, _, fault, _ in PLANTED],
)
def test_one_wrong_row(
    rule: Rule, good: pl.DataFrame, where: dict[str, Any], fault: dict[str, Any], findings: list[Finding]
) -> None:
    assert found(rule, judged(DAYS, good, BOOK)) == []
    assert found(rule, judged(DAYS, changed(good, where, **fault), BOOK)) == findings


@pytest.mark.parametrize(
    ("status", "coverage", "told"),
    [
        ("partial", 0.9, "portfolio 1: partial, Greeks of 90.0% of the gross exposure are known"),
        ("low_coverage", 0.79, "portfolio 1: low_coverage, Greeks of 79.0% of the gross exposure are known"),
        ("low_coverage", None, "portfolio 1: low_coverage, Greeks of nothing of the gross exposure are known"),
    ],
)
def test_what_is_left_out_is_told(status: str, coverage: float | None, told: str) -> None:
    good = changed(EXPOSURES, {"portfolio_id": 2}, greeks_status="ok")
    assert found(rules.GREEKS_COVERAGE, judged(DAYS, good)) == []
    bad = changed(good, {"session_date": D1, "portfolio_id": 1}, greeks_status=status, delta_adjusted_coverage=coverage)
    assert found(rules.GREEKS_COVERAGE, judged(DAYS, bad)) == [(D1, 1, told)]


def test_dollars_without_a_sector_are_named() -> None:
    """Of all that is held: a fund without a sector is as unclassified as a stock, and an exit is no more."""
    told = "portfolio {}: 75.0% of its gross exposure has no sector (BBB, FUND); name them in the file {}"
    expected = [(day, key, told.format(key, "SIGMASIGHT_SECTORS_FILE")) for day in DAYS for key in (1, 2)]
    for kind in ("stock", "etf", "fund"):
        book = {**BOOK, "instruments": changed(BOOK["instruments"], {"symbol": "BBB"}, kind=kind)}
        assert found(rules.SECTORS_KNOWN, judged(DAYS, GROUPS, book)) == expected, kind


@pytest.mark.parametrize(("unclassified", "objected"), [("26.31", False), ("26.33", True), ("0.00", False)])
def test_a_twentieth_of_the_book_may_have_no_sector(unclassified: str, *, objected: bool) -> None:
    """Beside 500.05 US dollars of technology."""
    groups = changed(GROUPS, {"group_kind": "sector", "group_name": "unclassified"}, gross_exposure=unclassified)
    assert bool(found(rules.SECTORS_KNOWN, judged(DAYS, groups, BOOK))) == objected


def test_portfolios_without_groups_or_positions() -> None:
    """Groups missing altogether, groups of nothing, and a portfolio that is computed no more."""
    nobody = GROUPS.filter((pl.col("portfolio_id") != 2) | (pl.col("session_date") != D2))
    assert {row[:2] for row in found(rules.GROUPS_TIE, judged(DAYS, nobody, BOOK))} == {(D2, 2)}
    empty = {**BOOK, "position_values": values().filter(pl.col("portfolio_id") != 2)}
    assert {row[:2] for row in found(rules.GROUPS_TIE, judged(DAYS, GROUPS, empty))} == {(D1, 2), (D2, 2)}
    inactive = changed(BOOK["portfolios"], {"portfolio_id": 2}, active=False)
    kept = GROUPS.filter(pl.col("portfolio_id") != 2)
    assert found(rules.GROUPS_TIE, judged(DAYS, kept, {**BOOK, "portfolios": inactive})) == []


@settings(max_examples=15, deadline=None)
@given(books())
def test_no_rule_objects_to_what_the_engines_compute(book: Book) -> None:
    values_ = values_of(book, book.sessions)
    what = {**book.frames, "position_values": values_, "position_greeks": greeks_of(book, values_)}
    for rule in (PORTFOLIO_ROWS, rules.EXPOSURES_TIE, rules.DELTA_ADJUSTED_TIE, rules.NET_GREEKS):
        computed = exposures_of(book, book.sessions, values_)
        assert found(rule, judged(book.open_sessions, computed, what)) == [], rule.name
    assert found(rules.GROUPS_TIE, judged(book.open_sessions, groups_of(book, book.sessions, values_), what)) == []


def test_every_rule_has_a_case() -> None:
    elsewhere = [PORTFOLIO_ROWS, rules.GREEKS_COVERAGE, rules.SECTORS_KNOWN]
    assert cases.names_of(rules, [*(case[0] for case in PLANTED), *elsewhere]) == cases.rules_of(rules)
    assert {*rules.EXPOSURES, *rules.GROUP_EXPOSURES} == {getattr(rules, name) for name in cases.rules_of(rules)}


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    """A run of unscheduled closures has no sessions and no rows; what it reads may have."""
    rule: Rule = getattr(rules, name)
    table = tables.group_exposures if rule in rules.GROUP_EXPOSURES else tables.portfolio_exposures
    assert found(rule, judged([], empty_frame(table), BOOK)) == []
