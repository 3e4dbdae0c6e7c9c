"""Rules on risk metrics and the accuracy of predictions: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.return_metrics import SESSIONS_PER_YEAR, Z_95
from sigmasight_pipeline.calculations.risk_metrics import WINDOWS
from sigmasight_pipeline.checks import risk_metrics as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import held_rows
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame, stock
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import changed, found, judged
from sigmasight_pipeline_tests.storage.sample_rows import weekdays

D1, D2 = DAYS = [date(2024, 1, day) for day in (2, 3)]
VARYING = 0.02 / Z_95 * SESSIONS_PER_YEAR**0.5
"""Annual volatility of returns whose value at risk without a mean is 2 %."""
BEFORE = weekdays(252, date(2023, 1, 2))
SNAPSHOTS = frame(
    tables.portfolio_snapshots,
    [
        {"session_date": day, "portfolio_id": owner, "leverage": 0.9 + 0.2 * (day.day % 2)}
        for day in [*BEFORE, *DAYS]
        for owner in (1, 2)
    ],
)
HELD = [
    stock(1, "AAA", 1, 1, D1),
    stock(2, "AAA", 1, 1, BEFORE[0], portfolio_id=2),
    stock(3, "BBB", 1, 1, BEFORE[0], portfolio_id=2),
]
VALUES, _ = held_rows(DAYS, {1: 100, 2: 240, 3: 760}, HELD)
INPUTS = {
    "portfolio_snapshots": SNAPSHOTS,
    "positions": frame(tables.positions, HELD),
    "position_values": VALUES,
    "calendar": sessions_frame(DAYS),
    "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D2), portfolio(3, D1, active=False)]),
}
METRICS = frame(
    tables.portfolio_risk_metrics,
    [
        {
            "session_date": day,
            "portfolio_id": owner,
            "window_sessions": window,
            "volatility": VARYING,
            "var_95": 0.02,
            "var_99": 0.03,
            "hist_var_95": 0.021,
            "hist_var_99": 0.04,
            "expected_shortfall_95": 0.03,
            "factor_var_95": 0.02,
            "status": "ok",
        }
        for day in DAYS
        for owner in (1, 2)
        if (day, owner) != (D1, 2)
        for window in WINDOWS
    ],
)
AT = {"session_date": D2, "portfolio_id": 2, "window_sessions": 252}
ORDER = "portfolio 2: losses over 252 sessions are out of order"
MANY = "portfolio 2: value at risk of its positions is {} times what its last {} returns vary by"

FAULTS: list[tuple[Rule, dict[str, Any], list[str]]] = [
    (rules.TAILS_ORDERED, {"var_99": 0.019}, [ORDER]),
    (rules.TAILS_ORDERED, {"hist_var_99": 0.02}, [ORDER]),
    (rules.TAILS_ORDERED, {"expected_shortfall_95": 0.0209}, [ORDER]),
    (rules.TAILS_ORDERED, {"expected_shortfall_95": 0.021 - 1e-15}, []),
    (rules.TAILS_ORDERED, {"var_99": None}, []),
    (rules.FACTOR_VAR, {"factor_var_95": 0.0602}, [MANY.format("3.01", 252)]),
    (rules.FACTOR_VAR, {"factor_var_95": 0.0066}, [MANY.format("0.33", 252)]),
    (rules.FACTOR_VAR, {"factor_var_95": 0.0599}, []),
    (rules.FACTOR_VAR, {"factor_var_95": None}, []),
    (rules.FACTOR_VAR, {"factor_var_95": 0.0}, []),
    (rules.FACTOR_VAR, {"volatility": 0.0}, []),
    # a good month makes the value at risk of the returns small, and says nothing
    (rules.FACTOR_VAR, {"var_95": 0.001}, []),
    (rules.MISSING_INPUTS, {"status": "insufficient_history"}, []),
    (rules.MISSING_INPUTS, {"status": "missing_return"}, ["portfolio 2: missing_return over 252 sessions"]),
    (rules.MISSING_INPUTS, {"status": "missing_rate"}, ["portfolio 2: missing_rate over 252 sessions"]),
    (rules.MISSING_INPUTS, {"status": "no_variance"}, []),
]


@pytest.mark.parametrize(("rule", "fault", "sentences"), FAULTS, ids=[f"{r.name}: {f}" for r, f, _ in FAULTS])
def test_one_wrong_row(rule: Rule, fault: dict[str, Any], sentences: list[str]) -> None:
    assert found(rule, judged(DAYS, METRICS, INPUTS)) == []
    expected = [(D2, 2, sentence) for sentence in sentences]
    assert found(rule, judged(DAYS, changed(METRICS, AT, **fault), INPUTS)) == expected


def test_factor_var_is_compared_with_the_longest_window_there_is() -> None:
    """Where the longest has no figure, with the next; a shorter one says nothing while there is a longer."""
    short = changed(METRICS, {**AT, "window_sessions": 21}, volatility=VARYING / 20)
    assert found(rules.FACTOR_VAR, judged(DAYS, short, INPUTS)) == []
    next_longest = changed(
        changed(METRICS, AT, volatility=None), {**AT, "window_sessions": 90}, volatility=VARYING / 20
    )
    assert found(rules.FACTOR_VAR, judged(DAYS, next_longest, INPUTS)) == [(D2, 2, MANY.format("20.0", 90))]


@pytest.mark.parametrize(
    ("changed_at", "leverage", "compared_with"),
    [
        (-22, 0.0, 21),  # bought 21 sessions ago
        (-21, 0.0, None),
        (-63, 0.0, 21),
        (-64, 0.0, 63),
        (-91, 5.0, 90),  # once far more invested than today
        (-91, None, 90),  # no net asset value to be invested
        (-22, 0.6, 252),
    ],
)
def test_returns_of_another_book_are_no_yardstick(
    changed_at: int, leverage: float | None, compared_with: int | None
) -> None:
    """A book that was in cash until last week has a calm past; only windows in which it was invested are compared."""
    days = [*BEFORE, *DAYS]
    until = days[changed_at]
    snapshots = SNAPSHOTS.with_columns(
        leverage=pl.when(pl.col("session_date") <= until).then(pl.lit(leverage)).otherwise("leverage")
    )
    wrong = changed(METRICS, {"session_date": D2, "portfolio_id": 2}, factor_var_95=0.1)
    told = found(rules.FACTOR_VAR, judged(DAYS, wrong, INPUTS | {"portfolio_snapshots": snapshots}))
    assert told == ([] if compared_with is None else [(D2, 2, MANY.format("5.0", compared_with))])


@pytest.mark.parametrize(
    ("position", "entered_at", "compared_with"),
    [(2, -21, 252), (3, -21, None), (3, -22, 21), (3, -63, 21), (3, -64, 63)],
)
def test_returns_before_a_large_part_was_entered_are_no_yardstick(
    position: int, entered_at: int, compared_with: int | None
) -> None:
    """A quarter of the book may be new: position 2 is 24 % of it, position 3 the rest."""
    day = [*BEFORE, *DAYS][entered_at]
    entered = changed(INPUTS["positions"], {"position_id": position}, entry_date=day)
    wrong = changed(METRICS, {"session_date": D2, "portfolio_id": 2}, factor_var_95=0.1)
    told = found(rules.FACTOR_VAR, judged(DAYS, wrong, INPUTS | {"positions": entered}))
    assert told == ([] if compared_with is None else [(D2, 2, MANY.format("5.0", compared_with))])


def test_a_book_of_worthless_positions_is_compared_with_nothing() -> None:
    """Options on their last day: exposures of 0, and no division by them."""
    wrong = changed(METRICS, {"session_date": D2, "portfolio_id": 2}, factor_var_95=0.1)
    worthless = VALUES.with_columns(exposure=pl.lit(0).cast(VALUES.schema["exposure"]))
    assert found(rules.FACTOR_VAR, judged(DAYS, wrong, INPUTS | {"position_values": worthless})) == []


def test_windows_that_are_missing_are_named() -> None:
    gone = METRICS.filter((pl.col("portfolio_id") != 2) | ~pl.col("window_sessions").is_in([63, 252]))
    assert found(rules.METRIC_ROWS, judged(DAYS, METRICS, INPUTS)) == []
    assert found(rules.METRIC_ROWS, judged(DAYS, gone, INPUTS)) == [(D2, 2, "book-2 has no row of 63, 252 sessions")]
    assert len(found(rules.METRIC_ROWS, judged(DAYS, METRICS.clear(), INPUTS))) == 3
    short = changed(METRICS, {"portfolio_id": 2}, status="missing_rate")
    sentence = "portfolio 2: missing_rate over 21, 63, 90, 252 sessions"
    assert found(rules.MISSING_INPUTS, judged(DAYS, short, INPUTS)) == [(D2, 2, sentence)]


THURSDAY, FRIDAY, MONDAY = date(2024, 3, 28), date(2024, 3, 29), date(2024, 4, 1)
WEEKS: list[tuple[str, list[date], list[date], list[date], list[date]]] = [
    ("Good Friday", [THURSDAY, MONDAY, date(2024, 4, 2)], [], [THURSDAY, MONDAY], [THURSDAY]),
    ("closed Friday", [THURSDAY, FRIDAY, MONDAY, date(2024, 4, 2)], [FRIDAY], [THURSDAY, MONDAY], [THURSDAY]),
    ("the week goes on", [THURSDAY, FRIDAY, MONDAY], [], [THURSDAY], []),
]


@pytest.mark.parametrize(("calendar", "closed", "sessions", "ends"), [w[1:] for w in WEEKS], ids=[w[0] for w in WEEKS])
def test_accuracy_on_the_last_session_of_a_week(
    calendar: list[date], closed: list[date], sessions: list[date], ends: list[date]
) -> None:
    inputs = {
        "calendar": sessions_frame(calendar, closed),
        "portfolios": frame(tables.portfolios, [portfolio(1, D1), portfolio(2, MONDAY)]),
    }
    rows = frame(tables.scenario_accuracy, [{"session_date": day, "portfolio_id": 1} for day in calendar])
    good = rows.filter(pl.col("session_date").is_in(ends))
    assert found(rules.ACCURACY_ROWS, judged(sessions, good, inputs)) == []
    missing = [(day, 1, "book-1 has no row") for day in ends]
    assert found(rules.ACCURACY_ROWS, judged(sessions, rows.clear(), inputs)) == missing
    extra = "portfolio 1 has a row on a session that ends no week"
    assert found(rules.ACCURACY_ROWS, judged(sessions, rows, inputs)) == [
        (day, 1, extra) for day in calendar if day not in ends
    ]


def test_every_rule_has_a_case() -> None:
    tested = [*(rule for rule, *_ in FAULTS), rules.METRIC_ROWS, rules.ACCURACY_ROWS]
    assert cases.names_of(rules, tested) == cases.rules_of(rules)
    assert {id(rule) for rule in (*rules.PORTFOLIO_RISK_METRICS, *rules.SCENARIO_ACCURACY)} == set(map(id, tested))
