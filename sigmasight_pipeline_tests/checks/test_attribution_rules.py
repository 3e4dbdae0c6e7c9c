"""Rules on the attribution of P&L: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from sigmasight_pipeline.checks import attribution as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import changed, found, judged

D0, D1, D2 = (date(2024, 1, day) for day in (2, 3, 4))
DAYS = [D1, D2]
COMPONENTS = {
    1: {"market": "10.05", "dividend": "0.00", "specific": "-0.04"},
    2: {"delta": "1.00", "unexplained": "2.00"},
    3: {"mark": "5.00"},
    4: {"trade": "7.00", "dividend": "1.00"},
}
VALUES = frame(
    tables.position_values,
    [
        {
            "session_date": day,
            "position_id": position,
            "portfolio_id": 2 if position == 3 else 1,
            "symbol": f"S{position}",
            "exposure": -30 if position == 2 else 10,
            "daily_pnl": pnl,
        }
        for day in (D0, D1, D2)  # the session before is read too, and not judged
        for position, pnl in ((1, "10.01"), (2, "3.00"), (3, "5.00"), (4, "8.00"))
    ],
)
ROWS = frame(
    tables.pnl_attribution,
    [
        {
            "session_date": day,
            "position_id": position,
            "component": component,
            "portfolio_id": 2 if position == 3 else 1,
            "pnl": pnl,
        }
        for day in DAYS
        for position, components in COMPONENTS.items()
        for component, pnl in components.items()
    ],
)
INPUTS = {
    "portfolios": frame(tables.portfolios, [portfolio(1, D0), portfolio(2, D0), portfolio(3, D0, active=False)]),
    "position_values": VALUES,
}


def at(position: int, component: str) -> dict[str, object]:
    return {"session_date": D2, "position_id": position, "component": component}


def without(position: int) -> pl.DataFrame:
    return ROWS.filter((pl.col("session_date") != D2) | (pl.col("position_id") != position))


TWICE = pl.concat([ROWS, ROWS[-1:].with_columns(component=pl.lit("specific"), pnl=pl.lit(0).cast(ROWS.schema["pnl"]))])
NOBODY = ROWS[-2:-1].with_columns(position_id=pl.lit(9, dtype=pl.Int64))
ADDED = "position 1 (S1): components add up to {}, the day's P&L is 10.01"

FAULTS: list[tuple[str, Rule, pl.DataFrame, list[str]]] = [
    ("a cent", rules.ADDS_UP, changed(ROWS, at(1, "market"), pnl="10.06"), [ADDED.format("10.02")]),
    ("no row is another rule's", rules.ADDS_UP, without(1), []),
    ("no row", rules.POSITION_ROWS, without(3), ["position 3 (S3) has no row"]),
    ("nobody's row", rules.POSITION_ROWS, pl.concat([ROWS, NOBODY]), ["position 9 has rows without a value"]),
    (
        "no rest",
        rules.POSITION_ROWS,
        changed(ROWS, at(1, "specific"), component="gamma"),
        ["position 1 has 0 components that take the rest"],
    ),
    ("two rests", rules.POSITION_ROWS, TWICE, ["position 4 has 2 components that take the rest"]),
    ("at the limit", rules.RESIDUAL, changed(ROWS, at(2, "unexplained"), pnl="-4.96"), []),
    (
        "beyond it",
        rules.RESIDUAL,
        changed(ROWS, at(2, "unexplained"), pnl="-4.97"),
        ["portfolio 1: 5.01 of P&L is left unexplained, on a gross exposure of 50.0"],
    ),
    ("a mark is no rest", rules.RESIDUAL, changed(ROWS, at(3, "mark"), pnl="99"), []),
    ("a trade is no rest", rules.RESIDUAL, changed(ROWS, at(4, "trade"), pnl="99"), []),
]


@pytest.mark.parametrize(("rule", "bad", "sentences"), [case[1:] for case in FAULTS], ids=[c[0] for c in FAULTS])
def test_planted_fault(rule: Rule, bad: pl.DataFrame, sentences: list[str]) -> None:
    assert found(rule, judged(DAYS, ROWS, INPUTS)) == []
    owner = {"position 3 (S3) has no row": 2}
    expected = [(D2, owner.get(sentence, 1), sentence) for sentence in sentences]
    assert found(rule, judged(DAYS, bad, INPUTS)) == expected


def test_inactive_portfolios_have_no_rows() -> None:
    inactive = {**INPUTS, "position_values": VALUES.with_columns(portfolio_id=pl.lit(3, dtype=pl.Int64))}
    assert found(rules.POSITION_ROWS, judged(DAYS, ROWS.clear(), inactive)) == []


def test_every_rule_has_a_case() -> None:
    tested = [rule for _, rule, *_ in FAULTS]
    assert cases.names_of(rules, tested) == cases.rules_of(rules)
    assert {id(rule) for rule in rules.PNL_ATTRIBUTION} == {id(rule) for rule in tested}
