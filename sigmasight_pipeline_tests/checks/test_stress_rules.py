"""Rules on scenario results: each finds its planted fault, and only that."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import stress as rules
from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.stress_world import contract, long, market, scenario
from sigmasight_pipeline_tests.calculations.table_rows import frame, private
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged

CALL = "AAA240920C00100000"
SCENARIOS = [
    scenario("down", {"Market": -0.10}),
    scenario("crisis", {"Market": -0.45, "Value": -0.30, "Oil": -0.2}, category="historical", volatility_shift=1.5),
    scenario("bubble", {"Market": -0.45, "Technology": -0.80}, category="historical"),
    scenario("tilt", {"Market": 0.0, "Technology": {"relative": 0.15}}),
    scenario("resting", {"Market": -0.5}, active=False),
]
HELD = [
    long(1, "AAA"),
    long(2, "SPY", 300),
    long(3, "AAA", -200, portfolio_id=2),
    contract(4, CALL, 5, portfolio_id=2),
    private(5, "FUND", 1, 1000, long(1, "AAA")["entry_date"], portfolio_id=2),
]
WORLD = market({"AAA": {"Market": 1.2, "Oil": 0.2}}, computed=2).holding(*HELD, owners=2)
D1, D2 = WORLD.sessions
RESULTS, RETURNS, OF_OPTIONS, DIAGNOSTICS, SHOCKS = WORLD.returned(*SCENARIOS)
RISK = WORLD.risk()

INPUTS = {
    **WORLD.book,
    "calendar": WORLD.calendar,
    "instruments": WORLD.instruments,
    "factors": WORLD.factors,
    "symbol_factor_betas": WORLD.betas,
    "scenarios": frame(tables.stress_test_scenarios, SCENARIOS),
    "symbol_scenario_returns": RETURNS,
    "option_scenario_pnl": OF_OPTIONS,
    "stress_scenario_diagnostics": DIAGNOSTICS,
    "stress_scenario_shocks": SHOCKS,
}


def of_results(results: pl.DataFrame = RESULTS, **inputs: pl.DataFrame) -> Judged:
    return judged(WORLD.sessions, results, {**INPUTS, **inputs})


def of_risk(risk: pl.DataFrame = RISK, **inputs: pl.DataFrame) -> Judged:
    return judged(WORLD.sessions, risk, {**INPUTS, **inputs})


AT = {"session_date": D2, "portfolio_id": 1, "scenario_id": "crisis"}
MOVED = {"session_date": D2, "symbol": "AAA", "scenario_id": "down"}
PROXY = {"session_date": D1, "symbol": "SPY", "scenario_id": "bubble"}
REPRICED = {"session_date": D2, "position_id": 4, "scenario_id": "crisis"}
SHOCK = {"session_date": D2, "portfolio_id": 1, "scenario": "market_down_20"}


def returns(where: dict[str, Any], **values: Any) -> dict[str, pl.DataFrame]:
    return {"symbol_scenario_returns": changed(RETURNS, where, **values)}


def value(table: pl.DataFrame, where: dict[str, Any], name: str) -> Any:
    return table.filter(**where).item(0, name)


def shocks(where: dict[str, Any], **values: Any) -> dict[str, pl.DataFrame]:
    return {"stress_scenario_shocks": changed(SHOCKS, {**OF_CRISIS, **where}, **values)}


OF_CRISIS = {"session_date": D2, "scenario_id": "crisis"}
DISTANCE = value(DIAGNOSTICS, OF_CRISIS, "mahalanobis")
BETA = WORLD.beta("AAA", "Market", D2)
WORTH = value(RESULTS, AT, "total_pnl")
LINEAR = value(RESULTS, AT, "correlated_pnl")
WORTH_OF_2 = value(RESULTS, {**AT, "portfolio_id": 2}, "total_pnl")
OF_AN_OPTION = value(OF_OPTIONS, REPRICED, "pnl")

ALIKE = changed(RESULTS, {**AT, "scenario_id": "bubble"}, total_pnl=WORTH)

PLANTED: list[tuple[str, Rule, Judged, list[Finding]]] = [
    (
        "a row is missing",
        rules.RESULTS_PRESENT,
        of_results(RESULTS.filter(~pl.all_horizontal(*(pl.col(k) == v for k, v in AT.items())))),
        [(D2, 1, "book-1 has no row of crisis")],
    ),
    (
        "a portfolio is missing",
        rules.RESULTS_PRESENT,
        of_results(RESULTS.filter((pl.col("portfolio_id") == 1) | (pl.col("session_date") == D1))),
        [(D2, 2, "book-2 has no row of bubble, crisis, down, tilt")],
    ),
    (
        "a row too many",
        rules.RESULTS_PRESENT,
        of_results(scenarios=changed(INPUTS["scenarios"], {"scenario_id": "bubble"}, active=False)),
        [
            (day, owner, f"portfolio {owner} has rows of no active scenario: bubble")
            for day in (D1, D2)
            for owner in (1, 2)
        ],
    ),
    (
        "the market moves by something else",
        rules.MARKET_ANCHOR,
        of_results(changed(RESULTS, AT, effective_shocks='{"Market": -0.44}')),
        [(D2, 1, "crisis: the market moves by -0.44 instead of -0.45")],
    ),
    (
        "the market does not move",
        rules.MARKET_ANCHOR,
        of_results(changed(RESULTS, AT, effective_shocks='{"Market": null}')),
        [(D2, 1, "crisis: the market moves by nothing instead of -0.45")],
    ),
    (
        "the market's proxy moves by something else",
        rules.MARKET_ANCHOR,
        of_results(**returns(PROXY, implied_return=-0.4500001)),
        [(D1, None, "bubble: the market's proxy SPY moves by -0.4500001 instead of -0.45")],
    ),
    (
        "a symbol moves by something else",
        rules.SINGLE_SHOCK,
        of_results(**returns(MOVED, implied_return=-0.2)),
        [(D2, None, f"down: AAA moves by -0.2, its beta x shock is {BETA * -0.1}")],
    ),
    ("within rounding", rules.SINGLE_SHOCK, of_results(**returns(MOVED, implied_return=BETA * -0.1 + 1e-14)), []),
    (
        "a symbol beyond everything",
        rules.SINGLE_SHOCK,
        of_results(
            symbol_factor_betas=changed(WORLD.betas, {"symbol": "AAA", "factor": "Market"}, beta=20.0),
            **returns({"session_date": D1, "scenario_id": "down", "symbol": "AAA"}, implied_return=-1.0),
        ),
        [(D2, None, "?")],
    ),
    (
        "positions of another sum",
        rules.POSITIONS_ADD_UP,
        of_results(changed(RESULTS, AT, total_pnl=WORTH + 1)),
        [(D2, 1, f"crisis: total_pnl is {WORTH + 1}, its positions add up to {WORTH}")],
    ),
    (
        "a cent",
        rules.POSITIONS_ADD_UP,
        of_results(changed(RESULTS, AT, correlated_pnl=LINEAR - Decimal("0.01"))),
        [(D2, 1, f"crisis: correlated_pnl is {LINEAR - Decimal('0.01')}, its positions add up to {LINEAR}")],
    ),
    (
        "an option re-priced to something else",
        rules.POSITIONS_ADD_UP,
        of_results(option_scenario_pnl=changed(OF_OPTIONS, REPRICED, pnl=OF_AN_OPTION + 1)),
        [(D2, 2, f"crisis: total_pnl is {WORTH_OF_2}, its positions add up to {WORTH_OF_2 + 1}")],
    ),
    (
        "an option that was not re-priced",
        rules.POSITIONS_ADD_UP,
        of_results(
            option_scenario_pnl=OF_OPTIONS.filter(~pl.all_horizontal(*(pl.col(k) == v for k, v in REPRICED.items())))
        ),
        [(D2, 2, f"crisis: total_pnl is {WORTH_OF_2}, its positions add up to {WORTH_OF_2 - OF_AN_OPTION}")],
    ),
    (
        "a symbol that moves by more than was added up",
        rules.POSITIONS_ADD_UP,
        of_results(**returns({**PROXY, "session_date": D2, "scenario_id": "crisis"}, implied_return=-0.46)),
        [
            (D2, 1, f"crisis: correlated_pnl is {LINEAR}, its positions add up to {LINEAR - 300}"),
            (D2, 1, f"crisis: total_pnl is {WORTH}, its positions add up to {WORTH - 300}"),
        ],
    ),
    (
        "a long book loses too much",
        rules.RESULTS_LONG_ONLY,
        of_results(changed(RESULTS, AT, total_pnl="-130000.01")),
        [(D2, 1, "crisis loses 130000.01 of a gross exposure of 130000.00")],
    ),
    ("everything is lost", rules.RESULTS_LONG_ONLY, of_results(changed(RESULTS, AT, total_pnl="-130000.00")), []),
    (
        "a short book may",
        rules.RESULTS_LONG_ONLY,
        of_results(changed(RESULTS, {**AT, "portfolio_id": 2}, total_pnl="-999999.00")),
        [],
    ),
    (
        "crises alike",
        rules.CRISES_DIFFER,
        of_results(ALIKE, **returns({"session_date": D2, "symbol": "AAA"}, implied_return=-0.99)),
        [(D2, 1, f"bubble, crisis all come to {WORTH}")],
    ),
    # what is lost is the same and nothing moves alike: options that are worth nothing in both
    ("worthless in both", rules.CRISES_DIFFER, of_results(ALIKE), []),
    (
        "the market's proxy moves as both state",
        rules.CRISES_DIFFER,
        of_results(ALIKE, **returns({"session_date": D2, "symbol": "SPY"}, implied_return=-0.45)),
        [],
    ),
    ("nothing to lose", rules.CRISES_DIFFER, of_results(changed(RESULTS, {"portfolio_id": 1}, total_pnl="0")), []),
    (
        "implausible",
        rules.IMPLAUSIBLE,
        of_results(
            stress_scenario_diagnostics=changed(DIAGNOSTICS, OF_CRISIS, implausible=True, mahalanobis=15.26, max_z=2.99)
        ),
        [(D2, None, "crisis: its shocks are 15.3 standard deviations away together, the largest 3.0")],
    ),
    (
        "no figure",
        rules.RESULTS_WITHOUT_FIGURE,
        of_results(changed(RESULTS, {"session_date": D1, "portfolio_id": 1}, status="low_coverage")),
        [(D1, 1, "no figure (low_coverage) for bubble, crisis, down, tilt")],
    ),
    (
        "factors without common sessions",
        rules.RESULTS_WITHOUT_FIGURE,
        of_results(changed(RESULTS, AT, status="insufficient_history")),
        [(D2, 1, "no figure (insufficient_history) for crisis")],
    ),
    (
        "a replay of older times than are stored",
        rules.RESULTS_WITHOUT_FIGURE,
        of_results(changed(RESULTS, AT, status="window_not_stored")),
        [],
    ),
    (
        "a shock of the other sign",
        rules.STATED_SHOCKS_HONOURED,
        of_results(**shocks({"factor": "Value"}, stated=0.2, effective=-0.198, honoured_share=-0.99)),
        [
            (
                D2,
                None,
                "crisis: stated shocks not honoured, Value is stated as 0.2 and applied as -0.198 (the shocks are "
                f"{round(DISTANCE, 1)} standard deviations away together); make them fit together, state confidence: "
                "exact, or say why in accepted",
            )
        ],
    ),
    (
        "less than half of a relative shock",
        rules.STATED_SHOCKS_HONOURED,
        of_results(**shocks({"factor": "Value"}, stated=-0.2, relative=0.1, effective=-0.26, honoured_share=0.4)),
        [(D2, None, "?")],
    ),
    (
        "half of it will do",
        rules.STATED_SHOCKS_HONOURED,
        of_results(**shocks({"factor": "Value"}, honoured_share=0.5)),
        [],
    ),
    (
        "it says why it need not be",
        rules.STATED_SHOCKS_HONOURED,
        of_results(
            **shocks({"factor": "Value"}, honoured_share=-0.99),
            scenarios=changed(INPUTS["scenarios"], {"scenario_id": "crisis"}, accepted="only the market matters here"),
        ),
        [],
    ),
    (
        "moments of a few sessions",
        rules.MOMENTS_LONG_ENOUGH,
        of_results(stress_scenario_diagnostics=changed(DIAGNOSTICS, OF_CRISIS, moments_n_obs=201)),
        [(D2, None, "crisis: its factors have 201 of 252 sessions in common")],
    ),
    (
        "enough of them",
        rules.MOMENTS_LONG_ENOUGH,
        of_results(stress_scenario_diagnostics=changed(DIAGNOSTICS, OF_CRISIS, moments_n_obs=202)),
        [],
    ),
    (
        "one shock alone needs none",
        rules.MOMENTS_LONG_ENOUGH,
        of_results(stress_scenario_diagnostics=changed(DIAGNOSTICS, {"scenario_id": "down"}, moments_n_obs=61)),
        [],
    ),
    (
        "an empty book has figures",
        rules.RESULTS_WITHOUT_FIGURE,
        of_results(changed(RESULTS, AT, status="no_positions")),
        [],
    ),
    (
        "a shock is missing",
        rules.RISK_PRESENT,
        of_risk(RISK.filter(~pl.all_horizontal(*(pl.col(k) == v for k, v in SHOCK.items())))),
        [(D2, 1, "book-1 has no row of market_down_20")],
    ),
    (
        "a shock too many",
        rules.RISK_PRESENT,
        of_risk(changed(RISK, SHOCK, scenario="market_down_30")),
        [
            (D2, 1, "book-1 has no row of market_down_20"),
            (D2, 1, "portfolio 1 has rows of no active shock: market_down_30"),
        ],
    ),
    ("another linear P&L", rules.RISK_SINGLE_SHOCK, of_risk(changed(RISK, SHOCK, pnl_linear="-1.00")), [(D2, 1, "?")]),
    (
        "half a cent of rounding",
        rules.RISK_SINGLE_SHOCK,
        of_risk(changed(RISK, SHOCK, pnl_linear=value(RISK, SHOCK, "pnl_linear") + Decimal("0.01"))),
        [],
    ),
    (
        "a symbol whose returns and betas another name has",
        rules.RISK_SINGLE_SHOCK,
        of_risk(
            changed(RISK, SHOCK, pnl_linear="-1.00"),
            positions=changed(WORLD.book["positions"], {"symbol": "AAA"}, symbol="OLD"),
        ),
        [(D2, 1, "?")],
    ),
    (
        "a long book loses too much at once",
        rules.RISK_LONG_ONLY,
        of_risk(changed(RISK, SHOCK, pnl="-130000.01")),
        [(D2, 1, "market_down_20 loses 130000.01 of a gross exposure of 130000.00")],
    ),
    (
        "no figure of a shock",
        rules.RISK_WITHOUT_FIGURE,
        of_risk(changed(RISK, SHOCK, status="factor_without_data")),
        [(D2, 1, "no figure (factor_without_data) for market_down_20")],
    ),
]


@pytest.mark.parametrize(("case", "rule", "what", "expected"), PLANTED, ids=[case[0] for case in PLANTED])
def test_a_rule_finds_its_fault_alone(case: str, rule: Rule, what: Judged, expected: list[Finding]) -> None:
    """A question mark stands for any sentence."""
    findings = found(rule, what)
    told = [
        (day, owner, "?" if index < len(expected) and expected[index][2] == "?" else text)
        for index, (day, owner, text) in enumerate(findings)
    ]
    assert told == expected, (case, findings)


@pytest.mark.parametrize("rule", rules.STRESS_TEST_RESULTS, ids=lambda rule: rule.name)
def test_results_without_faults(rule: Rule) -> None:
    assert found(rule, of_results()) == []


@pytest.mark.parametrize("rule", rules.MARKET_RISK_SCENARIOS, ids=lambda rule: rule.name)
def test_shocks_without_faults(rule: Rule) -> None:
    assert found(rule, of_risk()) == []


@pytest.mark.parametrize("rule", [*rules.STRESS_TEST_RESULTS, *rules.MARKET_RISK_SCENARIOS], ids=lambda rule: rule.name)
def test_a_holding_too_young_for_a_beta_is_no_fault(rule: Rule) -> None:
    """It was expected to lose everything, and the run of a book that held one failed."""
    world = market({"AAA": {"Market": 1.2}, "YOUNG": {"Market": 1.0}}, computed=2, dropped={"YOUNG": 260})
    world = world.holding(long(1, "AAA"), long(2, "YOUNG", 200))
    results, of_symbols, of_options, diagnostics, shocked = world.returned(*SCENARIOS[:2])
    risk = world.risk()
    assert risk.filter(scenario_type="market").select("status", "coverage").unique().rows() == [("ok", 100 / 120)]
    inputs = {
        **INPUTS,
        **world.book,
        "instruments": world.instruments,
        "symbol_factor_betas": world.betas,
        "scenarios": frame(tables.stress_test_scenarios, SCENARIOS[:2]),
        "symbol_scenario_returns": of_symbols,
        "option_scenario_pnl": of_options,
        "stress_scenario_diagnostics": diagnostics,
        "stress_scenario_shocks": shocked,
    }
    own = results if rule in rules.STRESS_TEST_RESULTS else risk
    assert found(rule, judged(world.sessions, own, inputs)) == []


@pytest.mark.parametrize("rule", [*rules.STRESS_TEST_RESULTS, *rules.MARKET_RISK_SCENARIOS], ids=lambda rule: rule.name)
def test_nothing_but_closures_is_nothing_to_find(rule: Rule) -> None:
    own = RESULTS if rule in rules.STRESS_TEST_RESULTS else RISK
    empty = {name: table.clear() if "session_date" in table.columns else table for name, table in INPUTS.items()}
    assert found(rule, judged([], own.clear(), empty)) == []


def test_every_rule_has_a_case() -> None:
    tested = cases.names_of(rules, [case[1] for case in PLANTED])
    # those of factor moments have cases of their own (test_factor_moments_rules)
    own = {name for name in cases.rules_of(rules) if not name.startswith("FACTOR_CORRELATIONS")}
    assert tested == own
