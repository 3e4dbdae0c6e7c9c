"""Rules on simulated risk and its contributions: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import simulated_risk as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import changed, found, judged

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]
RISK = frame(
    tables.portfolio_simulated_risk,
    [
        {"session_date": day, "portfolio_id": 1, "var_95": 0.02, "var_99": 0.03, "expected_shortfall_95": 0.025,
         "expected_shortfall_975": 0.03, "expected_shortfall_975_dollars": "3000.00", "worst_pnl": "-4000.00",
         "modelled_share": 0.1, "positions_covered": 2, "positions_total": 2, "n_obs": 252, "status": "ok"}
        for day in DAYS
    ],
)  # fmt: skip
PARTS = frame(
    tables.position_risk_contributions,
    [
        {"session_date": day, "position_id": key, "portfolio_id": 1, "component_es_975": component, "status": "ok"}
        for day in DAYS
        for key, component in ((11, "3500.01"), (12, "-500.01"))
    ],
)
INPUTS = {
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, date(2024, 1, 4))]),
    "positions": frame(
        tables.positions,
        [
            {"position_id": key, "portfolio_id": 1, "symbol": f"S{key}", "investment_class": kind}
            for key, kind in ((11, "PUBLIC"), (12, "OPTIONS"), (13, "PRIVATE"), (14, "PUBLIC"))
        ],
    ),
    "position_values": frame(
        tables.position_values,
        [
            {"session_date": day, "position_id": key, "portfolio_id": 1, "symbol": f"S{key}", "price_source": source}
            for day in DAYS
            for key, source in ((11, "market"), (12, "model"), (13, "mark"), (14, "exit"))
        ],
    ),
    "position_risk_contributions": PARTS,
}


def with_parts(parts: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The inputs with other contributions."""
    return {**INPUTS, "position_risk_contributions": parts}


ORDER = ["portfolio 1: simulated losses are out of order"]

FAULTS: list[tuple[Rule, dict[str, Any], list[str]]] = [
    (rules.LOSSES_ORDERED, {"var_99": 0.019}, ORDER),
    (rules.LOSSES_ORDERED, {"expected_shortfall_95": 0.019}, ORDER),
    (rules.LOSSES_ORDERED, {"expected_shortfall_975": 0.024}, ORDER),
    (rules.LOSSES_ORDERED, {"worst_pnl": "-2999.99"}, ORDER),
    (rules.LOSSES_ORDERED, {"worst_pnl": "-3000.00"}, []),
    (rules.LOSSES_ORDERED, {"var_95": None}, []),
    (rules.SIMULATED, {"status": "low_coverage", "positions_covered": 1},
     ["portfolio 1: low_coverage, 1 of 2 positions on 252 sessions"]),
    (rules.SIMULATED, {"status": "insufficient_history", "n_obs": 59},
     ["portfolio 1: insufficient_history, 2 of 2 positions on 59 sessions"]),
    (rules.SIMULATED, {"status": "no_net_asset_value"}, []),
    (rules.MODELLED, {"modelled_share": 0.21}, ["portfolio 1: 21.0% of its simulated exposure is modelled"]),
    (rules.MODELLED, {"modelled_share": 0.20}, []),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "fault", "told"), FAULTS)
def test_one_wrong_row(rule: Rule, fault: dict[str, Any], told: list[str]) -> None:
    assert found(rule, judged(DAYS, RISK, INPUTS)) == []
    spoilt = changed(RISK, {"session_date": D2}, **fault)
    assert found(rule, judged(DAYS, spoilt, INPUTS)) == [(D2, 1, text) for text in told]


def test_every_portfolio_has_a_row_since_its_inception() -> None:
    assert found(rules.PORTFOLIO_ROWS, judged(DAYS, RISK, INPUTS)) == []
    gone = RISK.filter(session_date=D1)
    assert found(rules.PORTFOLIO_ROWS, judged(DAYS, gone, INPUTS)) == [(D2, 1, "book-1 has no row")]


def test_every_position_has_a_row() -> None:
    """But PRIVATE ones and those that exit."""
    assert found(rules.POSITION_ROWS, judged(DAYS, RISK, INPUTS)) == []
    gone = with_parts(PARTS.filter((pl.col("session_date") != D1) | (pl.col("position_id") != 12)))
    assert found(rules.POSITION_ROWS, judged(DAYS, RISK, gone)) == [(D1, 1, "position 12 (S12) has no row")]
    more = with_parts(pl.concat([PARTS, PARTS[:1].with_columns(position_id=pl.lit(14, pl.Int64))]))
    assert found(rules.POSITION_ROWS, judged(DAYS, RISK, more)) == [(D1, 1, "position 14 has a row but is not held")]


def test_components_add_up_to_the_cent() -> None:
    assert found(rules.COMPONENTS_ADD_UP, judged(DAYS, RISK, INPUTS)) == []
    off = with_parts(changed(PARTS, {"session_date": D2, "position_id": 12}, component_es_975="-500.00"))
    told = "portfolio 1: its shortfall is 3000.00, the sum of its positions 3000.01"
    assert found(rules.COMPONENTS_ADD_UP, judged(DAYS, RISK, off)) == [(D2, 1, told)]
    without = changed(RISK, {"session_date": D2}, expected_shortfall_975_dollars=None)
    assert found(rules.COMPONENTS_ADD_UP, judged(DAYS, without, off)) == []


def test_every_rule_has_a_case() -> None:
    elsewhere = [rules.PORTFOLIO_ROWS, rules.POSITION_ROWS, rules.COMPONENTS_ADD_UP]
    assert cases.names_of(rules, [*(case[0] for case in FAULTS), *elsewhere]) == cases.rules_of(rules)


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    rule: Rule = getattr(rules, name)
    nothing = empty_frame(tables.portfolio_simulated_risk)
    assert found(rule, judged([], nothing, with_parts(PARTS.clear()))) == []
