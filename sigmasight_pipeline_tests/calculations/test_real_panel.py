"""Scenarios on real returns: who moves with the market falls with it, shocks are honoured, a young stock is no other.

What belongs here: what must hold on any real market and cannot be known of a simulated one. What does not: figures that
follow from formulas (``test_stress``, ``test_stress_returns``).
"""

from __future__ import annotations

import json

import polars as pl
import pytest
from scipy import stats

from sigmasight_pipeline.checks import stress as rules
from sigmasight_pipeline_tests.calculations.real_panel import (
    SESSIONS,
    falling_scenarios,
    real_returns,
    real_world,
    without_unknown,
)
from sigmasight_pipeline_tests.calculations.stress_world import World
from sigmasight_pipeline_tests.checks.cases import found, judged

YOUNG = 66
"""Returns of a young stock: sixty that it has in common with every factor, oil not being quoted on six sessions."""


@pytest.fixture(scope="module")
def panel() -> World:
    return real_world()


def moves(world: World, *, scenarios: list[dict[str, object]]) -> pl.DataFrame:
    """What each stock makes of each scenario, with its market beta."""
    _, positions, *_ = world.told(*scenarios)
    betas = world.betas.filter(factor="Market").select("session_date", "symbol", "beta")
    symbols = world.book["positions"].select("position_id", "symbol")
    return (
        positions.join(symbols, on="position_id")
        .join(betas, on=["session_date", "symbol"])
        .select("session_date", "scenario_id", "symbol", "beta", "implied_return", "return_source")
        .drop_nulls("implied_return")
    )


def test_the_higher_the_beta_the_deeper_the_fall(panel: World) -> None:
    """In a spike of volatility five high-beta stocks had lost 7.6 % and five low-beta ones 22.8 %.

    Of what really happened nothing is asked but that the steepest fall in the file was one of high betas too.
    """
    told = moves(panel, scenarios=falling_scenarios())
    ranks = {}
    for (day, name), own in told.group_by("session_date", "scenario_id"):
        assert own.height == 20, (day, name)
        rank = stats.spearmanr(own["beta"].to_numpy(), own["implied_return"].to_numpy()).statistic
        if own["return_source"][0] == "model":
            assert rank < 0, f"{name} of {day}: rank correlation {rank:.2f}"
        if name in ("vix_spike_150", "liquidity_crisis"):
            by_beta = own.sort("beta")["implied_return"].to_numpy()
            assert by_beta[-5:].mean() < by_beta[:5].mean() - 0.1 < 0, (name, day)
        ranks[name] = max(rank, ranks.get(name, -1.0))
    assert ranks["replay_fourth_quarter_2018"] < -0.5
    assert ranks["vix_spike_150"] < -0.9
    assert len(ranks) == 14, "twelve vectors and the two replays the file reaches"


def test_what_is_stated_is_applied(panel: World) -> None:
    scenarios = falling_scenarios()
    results, positions, diagnostics, shocks = panel.told(*scenarios)
    told = {
        **panel.book,
        "scenarios": pl.DataFrame(scenarios, infer_schema_length=None),
        "stress_position_results": positions,
        "stress_scenario_diagnostics": diagnostics,
        "stress_scenario_shocks": shocks,
    }
    assert found(rules.STATED_SHOCKS_HONOURED, judged(SESSIONS, results, told)) == []
    vectors = shocks.join(diagnostics.filter(kind="vector"), on=["session_date", "scenario_id"], how="semi")
    assert vectors["honoured_share"].min() >= 0.6  # type: ignore[operator]  # a column of numbers


OLD_VECTORS = {
    "covid_crash_2020": {
        "Market": -0.35, "Growth": 0.15, "Value": -0.4, "Size": -0.3, "Quality": 0.1, "Oil": -0.65, "Travel": -0.7,
        "Technology": 0.15,
    },
    "dotcom_crash_2000": {
        "Market": -0.45, "Growth": -0.6, "Value": 0.2, "Momentum": -0.5, "Quality": 0.15, "Technology": -0.8,
    },
}  # fmt: skip
"""As they shipped: relative figures stated as total returns."""


def test_contradictions_are_told(panel: World) -> None:
    """Technology +15 %, Quality +10 % and Value +20 % beside a falling market were applied as losses of a fifth."""
    shipped = {str(row["scenario_id"]): row for row in falling_scenarios()}
    rows = [{**shipped[name], "shocks": without_unknown(shocks)} for name, shocks in OLD_VECTORS.items()]
    results, _, diagnostics, shocks = panel.told(*rows)
    told = {
        **panel.book,
        "scenarios": pl.DataFrame(rows, infer_schema_length=None),
        "stress_scenario_diagnostics": diagnostics,
        "stress_scenario_shocks": shocks,
    }
    named = {
        (day, text.split(": ")[0], text.split(", ")[1].split(" is")[0])
        for day, _, text in found(rules.STATED_SHOCKS_HONOURED, judged(SESSIONS, results, told))
    }
    for day in SESSIONS:
        contradictions = {
            ("covid_crash_2020", "Technology"), ("covid_crash_2020", "Quality"), ("dotcom_crash_2000", "Value")
        }  # fmt: skip
        for name, factor in contradictions:
            assert (day, name, factor) in named
            row = shocks.filter(session_date=day, scenario_id=name, factor=factor).row(0, named=True)
            assert row["stated"] == json.loads(rows[list(OLD_VECTORS).index(name)]["shocks"])[factor]
            assert row["effective"] < -0.1, row


@pytest.mark.parametrize("symbol", ["AAPL", "AMD", "BAC", "CVX", "GE", "JPM", "RRC"])
def test_a_young_stock_falls_as_it_does_with_its_full_history(panel: World, symbol: str) -> None:
    """With 60 returns a stock had gained 199 % in a spike of volatility and 122 % in a crisis of liquidity.

    Betas of a quiet summer were taken with covariances of a year that had a spike in it: these seven gained 25 to 51 %
    where their full histories said that they lose.
    """
    day = SESSIONS[0]
    crises = [row for row in falling_scenarios() if row["scenario_id"] in ("vix_spike_150", "liquidity_crisis")]
    returns = real_returns()
    began = returns.filter(pl.col("session_date") <= day)["session_date"].unique().sort()[-YOUNG]
    young = returns.filter((pl.col("symbol") != symbol) | (pl.col("session_date") >= began))
    full, cut = (
        moves(world, scenarios=crises).filter(session_date=day, symbol=symbol).sort("scenario_id")
        for world in (panel, real_world(young))
    )
    assert cut["implied_return"].to_list() == pytest.approx(full["implied_return"].to_list(), abs=0.17)
    assert (cut["implied_return"] < -0.1).all()
