"""Rules on factor moments: each finds its planted fault, and only that."""

from __future__ import annotations

import polars as pl
import pytest

from sigmasight_pipeline.calculations.factor_moments import factor_correlations
from sigmasight_pipeline.checks import factor_moments as rules
from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline_tests.calculations.stress_world import market
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged

WORLD = market({}, computed=2, history=300)
D1, D2 = WORLD.sessions
MOMENTS = factor_correlations(
    sessions=WORLD.sessions,
    calendar=WORLD.calendar,
    factors=WORLD.factors,
    returns=WORLD.returns,
    yields=WORLD.yields,
)
INPUTS = {"calendar": WORLD.calendar, "factors": WORLD.factors}
PAIR = {"session_date": D2, "weighting": "equal", "factor_1": "Oil", "factor_2": "Gold"}
OWN = {**PAIR, "factor_2": "Oil"}


def of(moments: pl.DataFrame = MOMENTS) -> Judged:
    return judged(WORLD.sessions, moments, INPUTS)


def without(where: dict[str, object]) -> pl.DataFrame:
    return MOMENTS.filter(~pl.all_horizontal(*(pl.col(name) == value for name, value in where.items())))


DIFFERS = "Gold and Oil differ by their order (equal)"
PLANTED: list[tuple[str, Rule, pl.DataFrame, list[Finding]]] = [
    ("a pair is missing", rules.PAIRS_PRESENT, without(PAIR), [(D2, None, "Oil and Gold have no row (equal)")]),
    ("correlation asymmetric", rules.SYMMETRIC, changed(MOMENTS, PAIR, correlation=0.5), [(D2, None, DIFFERS)]),
    ("covariance asymmetric", rules.SYMMETRIC, changed(MOMENTS, PAIR, covariance=0.5), [(D2, None, DIFFERS)]),
    ("unknown in one order", rules.SYMMETRIC, changed(MOMENTS, PAIR, covariance=None), [(D2, None, DIFFERS)]),
    (
        "diagonal below 1",
        rules.UNIT_DIAGONAL,
        changed(MOMENTS, OWN, correlation=0.999),
        [(D2, None, "Oil correlates with itself by 0.999 (equal)")],
    ),
    (
        "an unusable factor has none",
        rules.UNIT_DIAGONAL,
        changed(MOMENTS, OWN, correlation=None, status="no_variance"),
        [],
    ),
    ("fewer in common", rules.OBSERVATIONS, changed(MOMENTS, PAIR, n_obs=61), []),
    (
        "more than one of the factors has",
        rules.OBSERVATIONS,
        changed(MOMENTS, PAIR, n_obs=253),
        [(D2, None, "Oil and Gold: n_obs 253 of 252 (equal)")],
    ),
    (
        "more than there were",
        rules.OBSERVATIONS,
        changed(MOMENTS, {**OWN, "session_date": D1}, n_obs=300),
        [(D1, None, "Oil and Oil: n_obs 300 of 299 (equal)")],
    ),
    (
        "too few for a covariance",
        rules.OBSERVATIONS,
        changed(MOMENTS, PAIR, n_obs=59),
        [(D2, None, "Oil and Gold: n_obs 59 of 252 (equal)")],
    ),
    (
        "none where a factor has no data",
        rules.OBSERVATIONS,
        changed(MOMENTS, PAIR, n_obs=0, status="factor_without_data"),
        [],
    ),
    (
        "a factor without moments",
        rules.USABLE_FACTORS,
        changed(MOMENTS, {"factor_1": "Oil", "session_date": D2}, status="insufficient_history"),
        [(D2, None, "Oil: insufficient_history")],
    ),
]


@pytest.mark.parametrize(("case", "rule", "moments", "expected"), PLANTED, ids=[case[0] for case in PLANTED])
def test_a_rule_finds_its_fault_alone(case: str, rule: Rule, moments: pl.DataFrame, expected: list[Finding]) -> None:
    assert found(rule, of(moments)) == expected, case


@pytest.mark.parametrize("rule", rules.FACTOR_CORRELATIONS, ids=lambda rule: rule.name)
def test_without_faults(rule: Rule) -> None:
    assert found(rule, of()) == []
    assert found(rule, judged([], MOMENTS.clear(), INPUTS)) == []


def test_every_rule_has_a_case() -> None:
    assert cases.names_of(rules, [case[1] for case in PLANTED]) == cases.rules_of(rules)
