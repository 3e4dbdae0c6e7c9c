"""The scenarios that ship, on the simulated market: what is stated is applied, and who moves with the market falls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.checks import stress as rules
from sigmasight_pipeline.demo import parameters
from sigmasight_pipeline.demo.rebase import DEFAULT_SEED
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.importing.scenarios import read_scenarios
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.stress_world import World, held, long
from sigmasight_pipeline_tests.calculations.table_rows import frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor
from sigmasight_pipeline_tests.checks.cases import found, judged

SESSIONS = [date(2024, 1, 2), date(2024, 6, 28), date(2024, 12, 31), date(2025, 6, 30)]
SHIPPED = Path(str(resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")))
STYLES = ("Market", "Value", "Growth", "Momentum", "Quality", "Size", "Low_Volatility")


@dataclass(frozen=True)
class Results:
    """What the shipped scenarios make of all stocks of the simulated market; `falling` ones have a falling market."""

    world: World
    scenarios: pl.DataFrame
    frames: tuple[pl.DataFrame, ...]
    falling: tuple[str, ...]


@pytest.fixture(scope="module")
def simulated() -> Results:
    market = SimulatedMarket(DEFAULT_SEED, SessionCalendar(date(2013, 1, 1), date(2026, 6, 30)))
    symbols, first, last = sorted(market.symbols()), date(2022, 12, 1), SESSIONS[-1]
    bars = market.daily_bars(symbols, first, last)
    opened = bars["session_date"].unique().sort().to_list()
    calendar = pl.DataFrame({"session_date": opened, "is_closed": False})
    factors = frame(
        tables.factor_definitions,
        [
            factor(one.key, "style" if one.key in STYLES else "shock_only" if one.proxy else "rate", one.proxy)
            for one in parameters.FACTORS
        ],
    )
    known: dict[str, Any] = {
        "calendar": calendar,
        "factors": factors,
        "sessions": SESSIONS,
        "returns": daily_returns(bars, market.corporate_actions(symbols, first, last), calendar, opened),
        "yields": market.treasury_yields(first, last).with_columns(session_date="observed_date"),
    }
    kinds = market.instruments(symbols)
    instruments = frame(tables.instruments, [{"symbol": symbol, "kind": "stock", "active": True} for symbol in symbols])
    gone = kinds.filter(pl.col("last_session").is_not_null())["symbol"]
    stocks = [symbol for symbol in kinds.filter(kind="stock")["symbol"] if symbol not in gone]
    world = World(
        **known,
        instruments=instruments,
        betas=symbol_factor_betas(**known, instruments=kinds),
        book=held(SESSIONS, [long(number, symbol) for number, symbol in enumerate(stocks)], 2_500_000, 1, instruments),
    )
    scenarios = read_scenarios(SHIPPED, factors=factors)
    frames = world.returned(*scenarios.to_dicts())
    shocked = frames[-1].filter(pl.col("factor") == "Market", pl.col("stated") < 0)
    return Results(world, scenarios, frames, tuple(shocked["scenario_id"].unique().sort()))


_BESIDE = ("symbol_scenario_returns", "option_scenario_pnl", "stress_scenario_diagnostics", "stress_scenario_shocks")


def inputs(results: Results) -> dict[str, pl.DataFrame]:
    return {
        **results.world.book,
        "instruments": results.world.instruments,
        "factors": results.world.factors,
        "symbol_factor_betas": results.world.betas,
        "scenarios": results.scenarios,
        **dict(zip(_BESIDE, results.frames[1:], strict=True)),
    }


@pytest.mark.parametrize("rule", rules.STRESS_TEST_RESULTS, ids=lambda rule: rule.name)
def test_no_finding(simulated: Results, rule: Any) -> None:
    assert found(rule, judged(SESSIONS, simulated.frames[0], inputs(simulated))) == []


def test_the_higher_the_beta_the_deeper_the_fall(simulated: Results) -> None:
    """In a spike of volatility five high-beta stocks had lost 7.6 % and five low-beta ones 22.8 %."""
    assert {"vix_spike_150", "liquidity_crisis", "covid_crash_2020", "worst_month_on_record"} <= set(simulated.falling)
    betas = simulated.world.betas.filter(factor="Market").select("session_date", "symbol", "beta")
    moves = (
        simulated.frames[1]
        .filter(pl.col("scenario_id").is_in(simulated.falling))
        .join(simulated.world.book["positions"], on="symbol", how="semi")
        .join(betas, on=["session_date", "symbol"])
        .drop_nulls("implied_return")
    )
    for (day, name), own in moves.group_by("session_date", "scenario_id"):
        assert own.height >= 20
        rank = stats.spearmanr(own["beta"].to_numpy(), own["implied_return"].to_numpy()).statistic
        assert rank < 0, f"{name} of {day}: rank correlation {rank:.2f}"
        if name == "vix_spike_150":
            by_beta = own.sort("beta")["implied_return"]
            assert by_beta.tail(5).mean() < by_beta.head(5).mean() < 0  # type: ignore[operator]  # means of numbers


def test_what_is_stated_is_applied_as_stated(simulated: Results) -> None:
    shocks = simulated.frames[-1].join(simulated.scenarios.filter(kind="vector"), on="scenario_id", how="semi")
    assert shocks.filter(pl.col("honoured_share") < 0.5).is_empty()
    market = shocks.filter(factor="Market")
    assert (market["effective"] - market["stated"]).abs().max() == 0.0  # type: ignore[operator]  # a column of numbers
    technology = shocks.filter(scenario_id="covid_crash_2020", factor="Technology")
    assert (technology["relative"] == 0.15).all()
    assert (technology["effective"] > technology["stated"] - 0.15 + 0.075).all(), "at least half of what it is beyond"


def test_the_old_vectors_are_told_to_be_what_they_were(simulated: Results) -> None:
    """Technology +15 % beside a market of -35 % was applied as -22 %, with every check green."""
    old = {
        "covid_crash_2020": {
            "Market": -0.35, "Growth": 0.15, "Value": -0.4, "Size": -0.3, "Quality": 0.1, "Oil": -0.65, "Travel": -0.7,
            "Technology": 0.15,
        },
        "dotcom_crash_2000": {
            "Market": -0.45, "Growth": -0.6, "Value": 0.2, "Momentum": -0.5, "Quality": 0.15, "Technology": -0.8,
        },
    }  # fmt: skip
    rows = [
        {**row, "shocks": json.dumps(old[row["scenario_id"]])}
        for row in simulated.scenarios.filter(pl.col("scenario_id").is_in(list(old))).to_dicts()
    ]
    results, *beside = simulated.world.returned(*rows)
    told = {
        **inputs(simulated),
        "scenarios": frame(tables.stress_test_scenarios, rows),
        **dict(zip(_BESIDE, beside, strict=True)),
    }
    findings = found(rules.STATED_SHOCKS_HONOURED, judged(SESSIONS, results, told))
    named = {(day, text.split(": ")[0], text.split(", ")[1].split(" is")[0]) for day, _, text in findings}
    for day in SESSIONS:
        for scenario_id, name in (
            ("covid_crash_2020", "Technology"),
            ("covid_crash_2020", "Quality"),
            ("covid_crash_2020", "Growth"),
            ("dotcom_crash_2000", "Value"),
            ("dotcom_crash_2000", "Quality"),
        ):
            assert (day, scenario_id, name) in named
