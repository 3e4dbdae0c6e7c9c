"""Rules on Greeks: each finds its planted fault, and only that; the sample that mibian re-prices."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.black_scholes import Greeks, greeks, price
from sigmasight_pipeline.checks import greeks as rules
from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, split, stock
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged
from sigmasight_pipeline_tests.checks.test_valuation_rules import BOOK, D1, D3, OPEN, ROWS, missing_rows_are_found

CALL, PUT = "AAA240119C00100000", "AAA240216P00500000"
DIVIDEND_YIELD = 0.03
EXPIRES = {12: date(2024, 1, 19), 13: date(2024, 2, 16)}

INPUTS = {
    "calendar": BOOK["calendar"],
    "portfolios": BOOK["portfolios"],
    "positions": frame(
        tables.positions,
        [stock(11, "AAA", 10, 100, D1), option(12, CALL, -2, 5, D1), option(13, PUT, 1, 5, D1)],
    ),
    # a strike of 500 / 3, which no OCC symbol can hold
    "actions": frame(tables.corporate_actions, [split("AAA", D3, 3)]),
    "instruments": empty_frame(tables.instruments),
}


def _option_row(day: date, position_id: int, spot: float, strike: float, volatility: float) -> dict[str, Any]:
    is_call, time = position_id == 12, (EXPIRES[position_id] - day).days / 365
    terms = (is_call, spot, strike, time, 0.05, volatility, DIVIDEND_YIELD)
    per_share = {f"{name}_per_share": float(value) for name, value in greeks(*terms)._asdict().items()}
    return {
        "session_date": day,
        "position_id": position_id,
        "portfolio_id": 1,
        **per_share,
        "status": "ok",
        "volatility": volatility,
        "vol_source": "implied",
        "underlying_price": spot,
        "risk_free_rate": 0.05,
        "rate_source": "observed",
        "time_to_expiry": time,
        "dividend_yield": DIVIDEND_YIELD,
        "exercise_style": "european",
        "model_price": round(float(price(*terms)), 6),
    }


def _stock_row(day: date) -> dict[str, Any]:
    flat = dict.fromkeys((f"{name}_per_share" for name in Greeks._fields), 0.0)
    whole = {"session_date": day, "position_id": 11, "portfolio_id": 1, "status": "ok"}
    return whole | flat | {"delta_per_share": 1.0}


ROWS_OF_GREEKS = [
    row
    for number, day in enumerate(OPEN)
    for ratio in (3 if day >= D3 else 1,)
    for row in (
        _stock_row(day),
        _option_row(day, 12, round((101 + number) / ratio, 6), 100 / ratio, 0.25),
        _option_row(day, 13, round((101 + number) / ratio, 6), 500 / ratio, 1.4),
    )
]
GREEKS = frame(tables.position_greeks, ROWS_OF_GREEKS)

AT = {"session_date": D3, "position_id": 12}
PUT_AT = {"session_date": D3, "position_id": 13}


def figure(name: str, where: dict[str, Any]) -> float:
    """A figure as it is in the good rows."""
    row = GREEKS.row(by_predicate=pl.all_horizontal(pl.col(key) == value for key, value in where.items()), named=True)
    return float(row[name])


def off(name: str, where: dict[str, Any], by: float) -> tuple[Rule, dict[str, Any], dict[str, Any], list[Finding]]:
    """A figure `by` away from the right one, which mibian notices."""
    right = figure(name, where)
    wrong = round(right + by, 6) if name == "model_price" else right + by
    told = f"position {where['position_id']}: {name} is {wrong:.10g}, by mibian "
    return (rules.MIBIAN_SAMPLE, where, {name: wrong}, [(D3, 1, told)])


PLANTED: list[tuple[Rule, dict[str, Any], dict[str, Any], list[Finding]]] = [
    (rules.DELTA_RANGE, AT, {"delta_per_share": 1.01}, [(D3, 1, "position 12: delta per share 1.01")]),
    (rules.DELTA_RANGE, AT, {"delta_per_share": -1.01}, [(D3, 1, "position 12: delta per share -1.01")]),
    (rules.DELTA_RANGE, AT, {"delta_per_share": -1.0}, []),
    (rules.DELTA_RANGE, AT, {"delta_per_share": None}, []),
    (
        rules.CONVEXITY,
        AT,
        {"gamma_per_share": -0.02, "vega_per_share": 0.5},
        [(D3, 1, "position 12: gamma per share -0.02, vega per share 0.5")],
    ),
    (
        rules.CONVEXITY,
        AT,
        {"gamma_per_share": 0.0, "vega_per_share": -0.5},
        [(D3, 1, "position 12: gamma per share 0.0, vega per share -0.5")],
    ),
    # the flat table is signed by type
    (rules.CONVEXITY, AT, {"gamma_per_share": -0.02, "vega_per_share": -0.3, "status": "fallback"}, []),
    (
        rules.FALLBACK_VOLATILITY,
        AT,
        {"vol_source": "fallback"},
        [(D3, 1, "position 12 has no usable volatility or underlying price")],
    ),
    (rules.DEFAULT_RATE, AT, {"rate_source": "default"}, [(D3, 1, "position 12 uses the default yield")]),
    (
        rules.AT_EXERCISE_VALUE,
        AT,
        {"exercise_style": "american", "vol_status": "no_time_value", "delta_per_share": 0.9},
        [(D3, 1, "position 12: delta per share 0.9 at its exercise value")],
    ),
    (
        rules.AT_EXERCISE_VALUE,
        AT,
        {"exercise_style": "american", "vol_status": "no_time_value", "delta_per_share": 1.0},
        [(D3, 1, "position 12: delta per share 1.0 at its exercise value")],  # it has other Greeks
    ),
    (rules.AT_EXERCISE_VALUE, AT, {"vol_status": "no_time_value", "delta_per_share": 0.9}, []),
    (rules.MIBIAN_SAMPLE, AT, {"exercise_style": "american", "vol_status": "no_time_value", "model_price": 0}, []),
    (rules.UNUSUAL_DIVIDEND_YIELD, AT, {"dividend_yield": 0.2}, [(D3, 1, "position 12: dividend yield 0.2")]),
    (rules.UNUSUAL_DIVIDEND_YIELD, AT, {"dividend_yield": 0.19}, []),
    # an American option is worth more than the European one, its Greeks are others
    (rules.MIBIAN_SAMPLE, PUT_AT, {"exercise_style": "american", "model_price": 140, "delta_per_share": -1.0}, []),
    (
        rules.MIBIAN_SAMPLE,
        PUT_AT,
        {"exercise_style": "american", "model_price": 100},
        [(D3, 1, "position 13: model_price is 100, below the European value by mibian, ")],
    ),
    off("delta_per_share", AT, 2e-6),
    off("gamma_per_share", AT, -2e-6),
    off("theta_per_share", AT, 2e-6),
    off("vega_per_share", AT, 2e-6),
    off("rho_per_share", AT, 2e-6),
    off("model_price", AT, 5e-6),
    off("delta_per_share", PUT_AT, -2e-6),
    off("rho_per_share", PUT_AT, 4e-6),
    off("model_price", PUT_AT, 4e-4),
    # within the tolerance, or only rounded
    (rules.MIBIAN_SAMPLE, AT, {"gamma_per_share": figure("gamma_per_share", AT) * (1 + 9e-7)}, []),
    (rules.MIBIAN_SAMPLE, AT, {"rho_per_share": figure("rho_per_share", AT) * (1 - 9e-7)}, []),
    # neither fallback rows nor exits are re-priced
    (rules.MIBIAN_SAMPLE, AT, {"status": "fallback", "delta_per_share": 0.6}, []),
    (rules.MIBIAN_SAMPLE, AT, {"status": "expired", "delta_per_share": 0.0}, []),
    (
        rules.MIBIAN_SAMPLE,
        AT,
        {"volatility": None, "rho_per_share": None},
        [(D3, 1, "position 12: status ok without volatility, rho_per_share")],
    ),
    (
        rules.MIBIAN_SAMPLE,
        AT,
        {"time_to_expiry": 0.0},
        [(D3, 1, "position 12: mibian cannot price it (")],
    ),
    (
        rules.MIBIAN_SAMPLE,
        AT,
        {"volatility": 0.0},
        [(D3, 1, f"position 12: mibian gives no {name}") for name in sorted(rules.PEER_FIGURES)],
    ),
]


@pytest.mark.parametrize(
    ("rule", "where", "fault", "expected"),
    PLANTED,
    ids=[f"{rule.name}: {where['position_id']} {fault}" for rule, where, fault, _ in PLANTED],
)
def test_one_wrong_row(rule: Rule, where: dict[str, Any], fault: dict[str, Any], expected: list[Finding]) -> None:
    assert found(rule, judged(OPEN, GREEKS, INPUTS)) == []
    findings = found(rule, judged(OPEN, changed(GREEKS, where, **fault), INPUTS))
    assert [finding[:2] for finding in findings] == [finding[:2] for finding in expected]
    for (_, _, detail), (_, _, told) in zip(findings, expected, strict=True):
        assert detail.startswith(told) if told.endswith((" ", "(")) else detail == told


def test_a_strike_after_splits_is_not_that_of_the_symbol() -> None:
    """500 / 3 against 166.667: the strike of the adjusted OCC symbol would be told as a difference."""
    listed = _option_row(D3, 13, round(103 / 3, 6), 166.667, 1.4)
    fault = {name: listed[name] for name in rules.PEER_FIGURES}
    findings = found(rules.MIBIAN_SAMPLE, judged(OPEN, changed(GREEKS, PUT_AT, **fault), INPUTS))
    assert {finding[0] for finding in findings} == {D3}
    assert any("model_price" in finding[2] for finding in findings)


def test_the_price_of_a_cheap_option_is_only_rounded() -> None:
    """Six decimals of a price of a hundredth of a cent are worse than the relative tolerance."""
    cheap = _option_row(D3, 12, 29.0, 100 / 3, 0.25)
    assert 0 < cheap["model_price"] < 0.01
    book = judged(OPEN, changed(GREEKS, AT, **cheap), INPUTS)
    assert found(rules.MIBIAN_SAMPLE, book) == []
    off_by_one = changed(GREEKS, AT, **cheap | {"model_price": cheap["model_price"] + 2e-6})
    assert len(found(rules.MIBIAN_SAMPLE, judged(OPEN, off_by_one, INPUTS))) == 1


def test_the_yield_in_percent_is_noticed() -> None:
    """The fault that gave the earlier system a rate of 0.05 %: everything but the units of the rate is right."""
    right = _option_row(D3, 12, round(103 / 3, 6), 100 / 3, 0.25)
    wrong = greeks(True, round(103 / 3, 6), 100 / 3, right["time_to_expiry"], 0.0005, 0.25, DIVIDEND_YIELD)
    fault = {f"{name}_per_share": float(value) for name, value in wrong._asdict().items()}
    findings = found(rules.MIBIAN_SAMPLE, judged(OPEN, changed(GREEKS, AT, **fault), INPUTS))
    assert len(findings) == len(Greeks._fields)


def test_the_sample() -> None:
    days = [date(2024, 1, day) for day in range(2, 30)]
    rows = [
        {"session_date": day, "position_id": number, "portfolio_id": 1, "status": status, "vol_source": source}
        for day in days
        for number, (status, source) in enumerate(
            [("ok", "implied")] * 40 + [("ok", None)] * 40 + [("fallback", "fallback")] * 40 + [("exit", None)] * 40
        )
    ]
    written = frame(tables.position_greeks, rows)
    chosen = rules.sampled(written)
    by_session = chosen.group_by("session_date", maintain_order=True).agg("position_id")
    assert by_session["session_date"].to_list() == days
    assert set(by_session["position_id"].list.len()) == {rules.SAMPLE_SIZE}
    assert set(chosen["vol_source"]) == {"implied"}
    # it changes from session to session, and gets around
    assert by_session["position_id"].list.sort().n_unique() > 20
    assert chosen["position_id"].n_unique() > 30
    # the same whatever else the run computes, and in whatever order
    assert rules.sampled(written.sample(fraction=1, shuffle=True, seed=1)).equals(chosen)
    for day in days[:5]:
        alone = rules.sampled(written.filter(pl.col("session_date") == day))
        assert alone.equals(chosen.filter(pl.col("session_date") == day))


@pytest.mark.parametrize(("position", "owner", "held"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_rows_a_position_must_have(position: dict[str, Any], owner: dict[str, Any], held: list[date]) -> None:
    book = {
        "calendar": BOOK["calendar"],
        "portfolios": frame(tables.portfolios, [{**portfolio(1, D1), **owner}]),
        "positions": frame(tables.positions, [position]),
    }
    public = [] if position["investment_class"] == "PRIVATE" else held
    missing_rows_are_found(rules.GREEKS_ROWS, book, public, f"position 1 ({position['symbol']})")


def test_every_rule_has_a_case_and_is_applied() -> None:
    tested = cases.names_of(rules, [*(case[0] for case in PLANTED), rules.GREEKS_ROWS])
    assert tested == cases.rules_of(rules)
    assert cases.names_of(rules, rules.POSITION_GREEKS) == tested


@pytest.mark.parametrize("rule", rules.POSITION_GREEKS, ids=lambda rule: rule.name)
def test_nothing_but_closures_is_nothing_to_find(rule: Rule) -> None:
    """A run of unscheduled closures has no sessions and no rows."""
    empty: Judged = judged([], empty_frame(tables.position_greeks), INPUTS)
    assert found(rule, empty) == []


def test_a_book_of_stocks_has_no_sample() -> None:
    only = GREEKS.filter(pl.col("position_id") == 11)
    assert found(rules.MIBIAN_SAMPLE, judged(OPEN, only, {})) == []
