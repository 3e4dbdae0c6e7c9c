"""Rules on betas: each finds its planted fault, and nothing in what the engine makes of sound input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.checks import factor_betas as rules
from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, changed, found, judged

WINDOW, MINIMUM = 30, 10
DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(45)]
CLOSED = DAYS[40]
OPEN = [day for day in DAYS if day != CLOSED]
D1, D2, D3 = SESSIONS = OPEN[-3:]

SYMBOLS = ("SPY", "GLD", "AAA", "BBB", "BND")
_RANDOM = np.random.default_rng(11)
_MARKET = _RANDOM.normal(0, 0.01, len(OPEN))
RETURNS = frame(
    tables.daily_returns,
    [
        {
            "session_date": day,
            "symbol": symbol,
            "simple_return": float(_MARKET[number] + _RANDOM.normal(0, 0.005)),
            "sessions_spanned": 2 if symbol == "AAA" and number == 30 else 1,
        }
        for symbol in SYMBOLS
        for number, day in enumerate(OPEN)
    ],
)
YIELDS = frame(
    tables.treasury_yields,
    [
        {
            "session_date": day,
            "tenor": tenor,
            "yield": 0.04 + float(_RANDOM.normal(0, 0.001)),
            "observed_date": OPEN[number - 1] if number == 35 else day,
        }
        for number, day in enumerate(OPEN)
        for tenor in ("2Y", "10Y")
    ],
)
INPUTS = {
    "calendar": sessions_frame(DAYS, [CLOSED]),
    "instruments": frame(
        tables.instruments,
        [
            *({"symbol": symbol, "kind": "etf", "active": True} for symbol in SYMBOLS if symbol != "BND"),
            {"symbol": "BND", "kind": "fund", "active": True, "duration": 6.0},
            {"symbol": "HOUSE", "kind": "private", "active": True},
            {"symbol": "GONE", "kind": "stock", "active": False, "last_session": D1},
        ],
    ),
    "factors": frame(
        tables.factor_definitions,
        [
            factor("Market", "style", "SPY"),
            factor("Gold", "shock_only", "GLD"),
            factor("Interest_Rate", "rate"),
            factor("Short_Interest", "characteristic"),
            factor("Oil", "shock_only", "USO", active=False),
        ],
    ),
    "returns": RETURNS,
    "yields": YIELDS,
}
LIMITS = {"regression_window": float(WINDOW), "min_observations": float(MINIMUM)}


def betas(**changed_inputs: pl.DataFrame) -> pl.DataFrame:
    """What the engine makes of the inputs."""
    inputs: dict[str, Any] = INPUTS | changed_inputs
    return symbol_factor_betas(sessions=SESSIONS, regression_window=WINDOW, min_observations=MINIMUM, **inputs)


BETAS = betas()


def looked_at(rows: pl.DataFrame, sessions: list[date] = SESSIONS, **changed_inputs: pl.DataFrame) -> Judged:
    return replace(judged(sessions, rows, INPUTS | changed_inputs), limits=LIMITS)


@pytest.mark.parametrize("rule", rules.SYMBOL_FACTOR_BETAS, ids=lambda rule: rule.name)
def test_sound_betas(rule: Rule) -> None:
    quiet = BETAS.with_columns(pl.col("beta").clip(-5, 5)) if rule is rules.LARGE_BETAS else BETAS
    assert found(rule, looked_at(quiet)) == []


def at(symbol: str, key: str, day: date = D2) -> dict[str, object]:
    return {"session_date": day, "symbol": symbol, "factor": key}


Planted = tuple[Rule, dict[str, object], dict[str, Any], list[Finding]]
PLANTED: list[Planted] = [
    (
        rules.EXPECTED_ROWS,
        at("AAA", "Gold"),
        {"factor": "Oil"},
        [(D2, None, "AAA on Gold has no row"), (D2, None, "AAA on Oil has a row but is not asked for")],
    ),
    (
        rules.EXPECTED_ROWS,
        at("GONE", "Gold", D1),
        {"session_date": D2},
        [(D1, None, "GONE on Gold has no row"), (D2, None, "GONE on Gold has a row but is not asked for")],
    ),
    (
        rules.EXPECTED_ROWS,
        at("BND", "Market"),
        {"symbol": "HOUSE"},
        [(D2, None, "BND on Market has no row"), (D2, None, "HOUSE on Market has a row but is not asked for")],
    ),
    (
        rules.OWN_FACTOR,
        at("SPY", "Market"),
        {"beta": 1.00000001},
        [(D2, None, "SPY on Market, its own factor: beta is 1.00000001 (as estimated 1.0)")],
    ),
    (
        rules.OWN_FACTOR,
        at("GLD", "Gold"),
        {"beta_raw": 0.5},
        [(D2, None, "GLD on Gold, its own factor: beta is 1.0 (as estimated 0.5)")],
    ),
    (rules.OWN_FACTOR, at("SPY", "Market"), {"beta": 1.0000000001}, []),
    (rules.OWN_FACTOR, at("SPY", "Gold"), {"beta": 7.0}, []),
    (rules.OWN_FACTOR, at("SPY", "Market"), {"quality": "insufficient_history", "beta": None}, []),
    (
        rules.OBSERVATIONS,
        at("AAA", "Gold"),
        {"n_obs": 31},
        [(D2, None, "AAA on Gold: 31 observations, 30 sessions")],
    ),
    (
        rules.OBSERVATIONS,
        at("AAA", "Gold"),
        {"window_sessions": 31},
        [(D2, None, "AAA on Gold: 29 observations, 31 sessions")],
    ),
    (
        rules.OBSERVATIONS,
        at("AAA", "Gold"),
        {"n_obs": 9},
        [(D2, None, "AAA on Gold: 9 observations, 30 sessions")],
    ),
    (rules.OBSERVATIONS, at("AAA", "Gold"), {"n_obs": 9, "beta": None}, []),
    (rules.LARGE_BETAS, at("AAA", "Gold"), {"beta": -5.01}, [(D2, None, "AAA on Gold: beta -5.01")]),
    (rules.LARGE_BETAS, at("AAA", "Gold"), {"beta": 5.0}, []),
    (rules.LARGE_BETAS, at("AAA", "Interest_Rate"), {"beta": 50.0}, []),
    (
        rules.WINSORIZED,
        at("AAA", "Gold"),
        {"beta": 0.0},
        [(D2, None, "1 of 15 betas (6.67%) are winsorised or capped")],
    ),
    (rules.LARGE_BETAS, at("AAA", "Gold"), {"beta": float("inf")}, [(D2, None, "AAA on Gold: beta inf")]),
    (rules.WINSORIZED, at("AAA", "Gold"), {"beta": None, "beta_raw": None}, []),
    (
        rules.FACTORS_WITHOUT_DATA,
        at("AAA", "Gold"),
        {"quality": "factor_without_data"},
        [(D2, None, "Gold (GLD) has no return")],
    ),
    (
        rules.FACTORS_WITHOUT_DATA,
        at("AAA", "Interest_Rate"),
        {"quality": "factor_without_data"},
        [(D2, None, "Interest_Rate (10Y) has no return")],
    ),
]


@pytest.mark.parametrize(
    ("rule", "where", "fault", "expected"), PLANTED, ids=[f"{n}-{case[0].name}" for n, case in enumerate(PLANTED)]
)
def test_a_planted_fault(rule: Rule, where: dict[str, object], fault: dict[str, Any], expected: list[Finding]) -> None:
    spoilt = changed(
        BETAS.with_columns(pl.col("beta").clip(-5, 5)) if rule is rules.LARGE_BETAS else BETAS, where, **fault
    )
    assert found(rule, looked_at(spoilt)) == sorted(expected, key=lambda one: (one[0], one[2]))


@pytest.mark.parametrize(("sensitive", "objected"), [(0.49, True), (0.5, False), (-0.6, False), (None, True)])
def test_volatility_instruments_have_large_betas_by_nature(sensitive: float | None, *, objected: bool) -> None:
    """VIX was amber on every session of the demo: told by its beta on the Volatility factor, not by its name."""
    quiet = BETAS.with_columns(pl.col("beta").clip(-5, 5))
    large = changed(quiet, at("AAA", "Gold"), beta=-9.0)
    on_volatility = large.filter(symbol="AAA", factor="Gold", session_date=D2).with_columns(
        factor=pl.lit("Volatility"), beta=pl.lit(sensitive, dtype=pl.Float64)
    )
    told = found(rules.LARGE_BETAS, looked_at(pl.concat([large, on_volatility])))
    assert told == ([(D2, None, "AAA on Gold: beta -9.0")] if objected else [])


@pytest.mark.parametrize(("changed_betas", "objected"), [(1, False), (2, True)])
def test_a_twentieth_of_the_betas_may_be_winsorised(changed_betas: int, *, objected: bool) -> None:
    """One of thirty is what winsorising does; a cap that bites is told."""
    rows = BETAS.filter(pl.col("beta").is_not_null(), pl.col("session_date") == D2)
    many = pl.concat([rows, rows.with_columns(symbol=pl.col("symbol") + "2")]).with_row_index("row")
    moved = many.with_columns(beta=pl.when(pl.col("row") < changed_betas).then(99.0).otherwise("beta_raw")).drop("row")
    assert bool(found(rules.WINSORIZED, looked_at(moved))) == objected


def test_the_refit_finds_any_wrong_figure() -> None:
    """Every row wrong by a millionth: whatever is drawn, the figure is named on every session."""
    for name in ("beta_raw", "alpha", "std_error", "t_stat", "p_value", "r_squared", "residual_volatility"):
        spoilt = BETAS.filter(pl.col("t_stat").is_not_null()).with_columns(
            pl.col(name) + 1e-6 * pl.max_horizontal(pl.col(name).abs(), pl.lit(1.0))
        )
        told = found(rules.REFIT, looked_at(spoilt))
        assert {day for day, _, _ in told} == set(SESSIONS), name
        assert all(f": {name} is " in text and "statsmodels finds" in text for _, _, text in told), told


def test_the_refit_counts_for_itself() -> None:
    spoilt = BETAS.with_columns(pl.col("n_obs") - 1)
    told = found(rules.REFIT, looked_at(spoilt))
    assert {day for day, _, _ in told} == set(SESSIONS)
    assert all(": n_obs is " in text for _, _, text in told)


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        ("returns", RETURNS.with_columns(pl.col("simple_return").shift(1).fill_null(0.0))),
        ("yields", YIELDS.with_columns(pl.col("yield") * 1.001 + 1e-4 * pl.int_range(pl.len()))),
    ],
)
def test_the_refit_reads_the_inputs(name: str, spoilt: pl.DataFrame) -> None:
    key = pl.col("factor") == "Interest_Rate"
    rows = BETAS.filter(key if name == "yields" else ~key)
    what = looked_at(rows)
    assert found(rules.REFIT, replace(what, inputs={**what.inputs, name: spoilt}))


def test_the_refit_draws_other_rows_from_session_to_session() -> None:
    rows = pl.concat([BETAS.filter(session_date=D1).with_columns(session_date=pl.lit(day)) for day in (D1, D2, D3)])
    drawn = rules._sample(rows)
    assert drawn.group_by("session_date").len()["len"].is_between(1, 2).all()
    assert drawn.select("symbol", "factor").unique().height > 2
    assert drawn.equals(rules._sample(rows.sample(fraction=1, shuffle=True, seed=1)))
    assert rules._sample(rows.with_columns(quality=pl.lit("no_variance"))).is_empty()


def test_a_factor_with_few_returns_lowers_the_coverage() -> None:
    """Symbols have history, the factor has not; a factor without any is told by another rule."""
    few = RETURNS.filter((pl.col("symbol") != "GLD") | (pl.col("session_date") > OPEN[-6]))
    told = found(rules.BETA_COVERAGE, looked_at(betas(returns=few), returns=few))
    sentence = "Gold: only 0.0% of 4 symbols with enough history have a beta"
    assert told == [(day, None, sentence) for day in SESSIONS]
    none = RETURNS.filter(pl.col("symbol") != "GLD")
    assert found(rules.BETA_COVERAGE, looked_at(betas(returns=none), returns=none)) == []


def test_a_window_that_begins_before_the_calendar() -> None:
    """A young installation: what is there is judged, from the first session on."""
    what = replace(looked_at(BETAS), limits={**LIMITS, "regression_window": 10.0 * len(OPEN)})
    assert found(rules.BETA_COVERAGE, what) == []
    lost = BETAS.with_columns(quality=pl.lit("no_variance"))
    assert {row[0] for row in found(rules.BETA_COVERAGE, replace(what, frame=lost))} == set(SESSIONS)


@pytest.mark.parametrize(("left", "told"), [(MINIMUM, True), (MINIMUM - 1, False)])
def test_young_symbols_are_not_missed(left: int, *, told: bool) -> None:
    """Only symbols with enough returns in the window should have a beta; the window is counted in open sessions."""
    window = OPEN[-WINDOW:]
    outside = pl.col("session_date") < window[0]
    own = (pl.col("symbol") == "AAA") & ~outside & ~pl.col("session_date").is_in([window[0], *window[1 - left :]])
    few = RETURNS.filter(~own)
    rows = BETAS.filter(session_date=D3).with_columns(
        quality=pl.when(pl.col("symbol").is_in(["AAA", "GONE"]))
        .then(pl.lit("insufficient_history"))
        .otherwise("quality")
    )
    assert (
        bool(found(rules.BETA_COVERAGE, looked_at(rows.filter(pl.col("symbol") == "AAA"), [D3], returns=few))) == told
    )


NO_EXPOSURES = empty_frame(tables.portfolio_factor_exposures)
"""What rate betas are judged beside: nothing of it is looked at."""


def rate_beta(symbol: str, value: float | None) -> dict[str, Any]:
    quality = "ok" if value is not None else "insufficient_history"
    return {"session_date": D1, "symbol": symbol, "factor": "Interest_Rate", "beta": value, "n_obs": 250,
            "quality": quality}  # fmt: skip


def holding(**symbols: float | None) -> dict[str, pl.DataFrame]:
    """Positions 4, 5, ... of portfolio 1 in `symbols` with these rate betas; what rules on them look at."""
    held = [{"position_id": number, "portfolio_id": 1, "symbol": symbol} for number, symbol in enumerate(symbols, 4)]
    of_session: dict[str, Any] = {"session_date": D1, "price_source": "market"}
    return {
        "positions": frame(tables.positions, [{**row, "investment_class": "PUBLIC"} for row in held]),
        "position_values": frame(tables.position_values, [{**row, **of_session} for row in held]),
        "symbol_factor_betas": frame(
            tables.symbol_factor_betas, [rate_beta(symbol, value) for symbol, value in symbols.items()]
        ),
    }


@pytest.mark.parametrize(
    ("rule", "symbol", "value", "sentence"),
    [
        (rules.BOND_FUNDS_NEGATIVE, "BND", 0.0, "position 5 (BND): rate beta 0.0"),
        (rules.BOND_FUNDS_NEGATIVE, "BND", -0.1, None),
        (rules.BOND_FUNDS_NEGATIVE, "BND", None, None),
        (rules.BOND_FUNDS_NEGATIVE, "AAA", 5.0, None),
        (rules.BOND_FUND_DURATION, "BND", -4.4, "position 5 (BND): rate beta -4.4, duration 6.0"),
        (rules.BOND_FUND_DURATION, "BND", -7.6, "position 5 (BND): rate beta -7.6, duration 6.0"),
        (rules.BOND_FUND_DURATION, "BND", 6.0, "position 5 (BND): rate beta 6.0, duration 6.0"),
        (rules.BOND_FUND_DURATION, "BND", -4.5, None),
        (rules.BOND_FUND_DURATION, "BND", -7.5, None),
        (rules.BOND_FUND_DURATION, "BND", None, None),
        (rules.BOND_FUND_DURATION, "AAA", -1.0, None),
        (rules.LARGE_RATE_BETAS, "AAA", 40.1, "position 5 (AAA): rate beta 40.1"),
        (rules.LARGE_RATE_BETAS, "AAA", -40.1, "position 5 (AAA): rate beta -40.1"),
        (rules.LARGE_RATE_BETAS, "AAA", 40.0, None),
        (rules.LARGE_RATE_BETAS, "BND", -41.0, None),
        (rules.LARGE_RATE_BETAS, "NEW", 41.0, "position 5 (NEW): rate beta 41.0"),
    ],
)
def test_rate_betas_of_positions(rule: Rule, symbol: str, value: float | None, sentence: str | None) -> None:
    other = INPUTS["instruments"].filter(symbol="BND").with_columns(symbol=pl.lit("AGG"))
    known = pl.concat([INPUTS["instruments"], other])
    what = looked_at(NO_EXPOSURES, instruments=known, **holding(**{"AGG": -6.0, symbol: value}))
    assert found(rule, what) == ([(D1, 1, sentence)] if sentence else [])


@pytest.mark.parametrize("rule", rules.POSITION_INTEREST_RATE_BETAS, ids=lambda rule: rule.name)
def test_rate_betas_of_what_is_not_held_are_not_judged(rule: Rule) -> None:
    book = holding(BND=60.0, AAA=60.0)
    left = {**book, "position_values": book["position_values"].with_columns(price_source=pl.lit("exit"))}
    assert found(rule, looked_at(NO_EXPOSURES, **book)) != []
    assert found(rule, looked_at(NO_EXPOSURES, **left)) == []


def test_every_rule_has_a_case() -> None:
    elsewhere = [rules.REFIT, rules.BETA_COVERAGE, *rules.POSITION_INTEREST_RATE_BETAS]
    assert cases.names_of(rules, [*(case[0] for case in PLANTED), *elsewhere]) == cases.rules_of(rules)


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    rule: Rule = getattr(rules, name)
    of_positions = rule in rules.POSITION_INTEREST_RATE_BETAS
    own = tables.portfolio_factor_exposures if of_positions else tables.symbol_factor_betas
    inputs: Mapping[str, pl.DataFrame] = {**INPUTS, **holding(BND=60.0, AAA=60.0)}
    assert found(rule, replace(judged([], empty_frame(own), inputs), limits=LIMITS)) == []
