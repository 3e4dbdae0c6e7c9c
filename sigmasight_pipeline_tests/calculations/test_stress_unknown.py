"""What a stress test cannot know: which figures are NULL, with which reason, and what goes on all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.exposures import MissingGreeksError
from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline_tests.calculations.stress_world import NAMES, World, contract, long, market, scenario
from sigmasight_pipeline_tests.calculations.table_rows import private

CALL = "AAA240920C00100000"
DOWN = scenario("down", {"Market": -0.1})
SPREAD = scenario("spread", {"Market": -0.1, "Oil": -0.2})
MONEY = ("direct_pnl", "correlated_pnl", "correlation_effect", "sum_of_single_factor_pnl", "total_pnl")


@pytest.fixture(scope="module")
def world() -> World:
    return market({"AAA": {"Market": 1.0}, "YOUNG": {"Market": 1.0}}, dropped={"YOUNG": 270})


def fund(position_id: int) -> dict[str, Any]:
    return private(position_id, "FUND", 1, 285_000, long(1, "AAA")["entry_date"])


Case = tuple[str, list[dict[str, Any]], Any, str, float | None, bool, bool]
CASES: list[Case] = [
    # book, net asset value, status, coverage, P&L given, share of net asset value given
    ("everything known", [long(1, "AAA")], 1_000_000, "ok", 1.0, True, True),
    ("four fifths covered", [long(1, "AAA", 80), long(2, "YOUNG", 20)], 1_000_000, "ok", 0.8, True, True),
    ("less than that", [long(1, "AAA", 79), long(2, "YOUNG", 21)], 1_000_000, "low_coverage", 0.79, False, False),
    ("nothing covered", [long(1, "YOUNG")], 1_000_000, "low_coverage", 0.0, False, False),
    ("no position", [], 1_000_000, "no_positions", None, True, True),
    ("private alone", [fund(1)], 1_000_000, "no_positions", None, True, True),
    ("no positions nor value", [fund(1)], None, "no_positions", None, True, False),
    ("no snapshot", [long(1, "AAA")], None, "no_net_asset_value", 1.0, True, False),
    ("negative value", [long(1, "AAA")], -5, "no_net_asset_value", 1.0, True, False),
    ("value of zero", [long(1, "AAA")], 0, "no_net_asset_value", 1.0, True, False),
    ("worthless but known", [long(1, "AAA", 0)], 1_000_000, "ok", None, True, True),
    ("worthless and unknown", [long(1, "YOUNG", 0)], 1_000_000, "low_coverage", None, False, False),
    ("long and short count alike", [long(1, "AAA", 90), long(2, "YOUNG", -10)], 1_000_000, "ok", 0.9, True, True),
]


@pytest.mark.parametrize(
    ("case", "book", "value", "status", "coverage", "pnl", "impact"), CASES, ids=[case[0] for case in CASES]
)
def test_status_of_a_portfolio(
    world: World, case: str, book: list[Any], value: Any, status: str, coverage: float | None, pnl: bool, impact: bool
) -> None:
    held = world.holding(*book, net_asset_value=value)
    results, _ = held.run(DOWN, SPREAD)
    for row in results.to_dicts():
        told = f"{case}: {row}"
        assert row["status"] == status, told
        assert row["coverage"] == (None if coverage is None else pytest.approx(coverage)), told
        assert all((row[name] is not None) == pnl for name in (*MONEY, "factor_impacts")), told
        assert (row["impact_pct"] is not None) == impact, told
        assert row["lam"] is not None, "diagnostics are the scenario's"
        if status == "no_positions":
            assert {row[name] for name in MONEY} == {Decimal("0.00")}, told
    risk = held.risk().filter(scenario="market_down_10").row(0, named=True)
    assert (risk["status"], risk["coverage"]) == (status, results.item(0, "coverage")), case
    assert ((risk["pnl"] is not None), (risk["impact_pct"] is not None)) == (pnl, impact), case
    assert risk["pnl"] == results.filter(scenario_id="down").item(0, "total_pnl")


def test_the_minimum_of_coverage_is_a_parameter(world: World) -> None:
    results, _ = world.holding(long(1, "AAA", 50), long(2, "YOUNG", 50)).run(DOWN, min_coverage=0.5)
    assert results.item(0, "status") == "ok"
    alone, _ = world.holding(long(1, "AAA", 50)).run(DOWN)
    assert results.item(0, "total_pnl") == alone.item(0, "total_pnl"), "the uncovered part is left out"


def test_position_statuses(world: World) -> None:
    held = world.holding(long(1, "AAA"), long(2, "YOUNG"), contract(3, CALL), long(4, "NOBODY"))
    fallback = pl.col("position_id") == 3
    unknown = ["delta_adjusted_exposure", "volatility", "time_to_expiry", "risk_free_rate"]
    greeks = held.book["position_greeks"].with_columns(pl.when(~fallback).then(pl.col(name)) for name in unknown)
    _, positions = held.with_book(position_greeks=greeks).run(DOWN)
    found = {row["position_id"]: row for row in positions.to_dicts()}
    assert {position: row["status"] for position, row in found.items()} == {
        1: "ok",
        2: "no_beta",
        3: "no_delta_adjusted_exposure",
        4: "no_beta",
    }
    assert [found[position]["pnl"] is None for position in (1, 2, 3, 4)] == [False, True, True, True]
    assert found[3]["implied_return"] == found[1]["implied_return"], "its underlying's return is known"
    assert [found[position]["floored"] for position in (2, 4)] == [False, False]


@pytest.mark.parametrize("name", ["volatility", "time_to_expiry", "risk_free_rate", "underlying_price"])
def test_an_option_that_cannot_be_priced_has_no_figure(world: World, name: str) -> None:
    held = world.holding(long(1, "AAA"), contract(2, CALL))
    greeks = held.book["position_greeks"].with_columns(pl.when(pl.col("position_id") == 1).then(pl.col(name)))
    results, positions = held.with_book(position_greeks=greeks).run(DOWN)
    assert positions.filter(position_id=2).item(0, "status") == "no_delta_adjusted_exposure"
    alone, _ = world.holding(long(1, "AAA")).run(DOWN, min_coverage=0.0)
    assert results.item(0, "total_pnl") == alone.item(0, "total_pnl")


def test_a_fallback_option_weighs_with_its_market_value(world: World) -> None:
    held = world.holding(long(1, "AAA", 100), contract(2, CALL, 1))
    unknown = pl.when(pl.col("position_id") == 1).then("delta_adjusted_exposure")
    values = held.book["position_values"].with_columns(
        exposure=pl.when(pl.col("position_id") == 2).then(Decimal("2000.00")).otherwise("exposure")
    )
    greeks = held.book["position_greeks"].with_columns(delta_adjusted_exposure=unknown)
    results, _ = held.with_book(position_values=values, position_greeks=greeks).run(DOWN)
    assert results.item(0, "coverage") == pytest.approx(10_000 / 12_000)


@pytest.mark.parametrize("how", ["no prices", "inactive", "unknown"])
def test_a_factor_without_data_is_told_and_never_counted_as_zero(world: World, how: str) -> None:
    shocks = {"Market": -0.1, "Mars" if how == "unknown" else "Oil": -0.2}
    oil = pl.col("factor") == "Oil"
    changes: dict[str, dict[str, Any]] = {
        "no prices": {
            "betas": world.betas.with_columns(
                beta=pl.when(~oil).then("beta"),
                quality=pl.when(oil).then(pl.lit("factor_without_data")).otherwise("quality"),
            ),
            "returns": world.returns.filter(pl.col("symbol") != "USO"),
        },
        "inactive": {"factors": world.factors.with_columns(active=~oil & pl.col("active"))},
        "unknown": {},
    }
    other = replace(world, **changes[how]).holding(long(1, "AAA"))
    results, positions = other.run(scenario("named", shocks), DOWN)
    named = results.filter(scenario_id="named").row(0, named=True)
    assert named["status"] == "factor_without_data"
    figures = [*MONEY, "impact_pct", "factor_impacts", "effective_shocks", "lam", "mahalanobis", "max_z", "implausible"]
    assert [named[name] for name in figures] == [None] * len(figures)
    assert named["coverage"] == 0.0
    position = positions.filter(scenario_id="named").row(0, named=True)
    assert (position["status"], position["pnl"], position["implied_return"]) == ("factor_without_data", None, None)
    plain, _ = world.holding(long(1, "AAA")).run(DOWN)
    down = results.filter(scenario_id="down").row(0, named=True)
    for name in MONEY:
        assert down[name] == plain.item(0, name), "the other scenario goes on"
    shown = json.loads(down["effective_shocks"])
    assert shown.get("Oil") is None or how == "unknown"
    assert set(shown) == set(NAMES) - ({"Oil"} if how == "inactive" else set())


def test_rate_shocks_without_betas_on_the_rate(world: World) -> None:
    rate = pl.col("factor") == "Interest_Rate"
    quality = pl.when(rate).then(pl.lit("factor_without_data")).otherwise("quality")
    betas = world.betas.with_columns(beta=pl.when(~rate).then("beta"), quality=quality)
    risk = replace(world, betas=betas).holding(long(1, "AAA")).risk()
    assert set(risk.filter(scenario_type="rates")["status"]) == {"factor_without_data"}
    assert set(risk.filter(scenario_type="market")["status"]) == {"ok"}


def test_rate_shocks_without_a_rate_factor(world: World) -> None:
    without = replace(world, factors=world.factors.filter(pl.col("kind") != "rate")).holding(long(1, "AAA"))
    risk = without.risk()
    assert set(risk.filter(scenario_type="rates")["status"]) == {"factor_without_data"}
    assert risk.filter(scenario_type="rates")["pnl"].null_count() == 8
    assert set(risk.filter(scenario_type="market")["status"]) == {"ok"}


def test_direct_pnl_is_null_where_a_joint_beta_is_missing(world: World) -> None:
    """A style factor without prices: the univariate figures go on, the joint ones cannot be made."""
    gone = replace(world, returns=world.returns.filter(pl.col("symbol") != "MTUM"))
    results, _ = gone.holding(long(1, "AAA")).run(DOWN)
    row = results.row(0, named=True)
    assert (row["status"], row["direct_pnl"], row["correlation_effect"]) == ("ok", None, None)
    assert row["correlated_pnl"] is not None


def test_the_weighting_is_a_parameter(world: World) -> None:
    held = world.holding(long(1, "AAA"))
    equal, half_life = (held.run(SPREAD, weighting=weighting)[0] for weighting in ("equal", "half_life"))
    assert equal.item(0, "total_pnl") != half_life.item(0, "total_pnl")
    with pytest.raises(ValueError, match="is not a valid Weighting"):
        held.run(SPREAD, weighting="ewma")


def test_an_option_belongs_to_the_new_name_of_its_underlying(world: World) -> None:
    renamed = world.instruments.with_columns(
        last_session=pl.when(pl.col("symbol") == "OLD").then(world.sessions[0]).cast(pl.Date),
    )
    row = renamed.head(1).with_columns(
        symbol=pl.lit("OLD"),
        replaced_by=pl.lit("AAA"),
        last_session=pl.lit(world.calendar["session_date"][0]),
    )
    other = replace(world, instruments=pl.concat([renamed, row])).holding(long(1, "OLD"), long(2, "AAA"))
    _, positions = other.run(DOWN)
    assert positions["implied_return"].n_unique() == 1
    assert set(positions["status"]) == {"ok"}


def test_a_position_without_greeks_is_an_error(world: World) -> None:
    held = world.holding(long(1, "AAA"))
    with pytest.raises(MissingGreeksError, match="position 1 has no Greeks"):
        held.with_book(position_greeks=held.book["position_greeks"].clear()).run(DOWN)


CRISIS = scenario("liquidity_crisis", {
    "Market": -0.20, "Credit": -0.12, "Size": {"relative": -0.10}, "Quality": {"relative": 0.05}
}, volatility_shift=0.8)  # fmt: skip


def thinned(world: World, symbol: str, kept: pl.Expr) -> World:
    """The same market with the returns of one symbol on some sessions only; its betas from these."""
    returns = world.returns.filter((pl.col("symbol") != symbol) | kept)
    known: dict[str, Any] = {"calendar": world.calendar, "factors": world.factors, "sessions": world.sessions}
    betas = symbol_factor_betas(**known, returns=returns, yields=world.yields, instruments=world.instruments)
    return replace(world, returns=returns, betas=betas)


def test_a_young_factor_nobody_shocks_changes_no_figure(world: World) -> None:
    """A proxy that began 80 sessions ago halved a crisis it is not in."""
    began = world.calendar["session_date"].to_list()[-80]
    young = thinned(world, "GLD", pl.col("session_date") >= began)
    plain, young = (one.holding(long(1, "AAA"), long(2, "SPY", 50)) for one in (world, young))
    scenarios = (CRISIS, SPREAD, DOWN)
    for mine, theirs in zip(plain.told(*scenarios)[:2], young.told(*scenarios)[:2], strict=True):
        effective = [] if "effective_shocks" not in mine.columns else ["effective_shocks"]
        assert mine.drop(effective).equals(theirs.drop(effective))


def test_two_proxies_without_common_sessions_hide_the_scenario_of_both_alone(world: World) -> None:
    """They made every factor NULL, a single shock of the market included."""
    middle = world.calendar["session_date"].to_list()[-126]
    apart = thinned(world, "GLD", pl.col("session_date") < middle)
    apart = thinned(apart, "USO", pl.col("session_date") >= middle)
    both = scenario("both", {"Market": -0.1, "Gold": 0.1, "Oil": -0.2})
    results, positions, diagnostics, shocks = apart.holding(long(1, "AAA")).told(both, CRISIS, DOWN, SPREAD)
    assert dict(results.select("scenario_id", "status").iter_rows()) == {
        "both": "insufficient_history", "down": "ok", "liquidity_crisis": "ok", "spread": "ok",
    }  # fmt: skip
    assert set(positions.filter(scenario_id="both")["status"]) == {"insufficient_history"}
    assert diagnostics.filter(scenario_id="both").row(0, named=True)["lam"] is None
    assert shocks.filter(scenario_id="both", factor="Oil").row(0, named=True)["stated"] == -0.2
    plain, _ = world.holding(long(1, "AAA")).run(DOWN, CRISIS)
    for name in ("down", "liquidity_crisis"):
        assert (
            results.filter(scenario_id=name)["total_pnl"].item() == plain.filter(scenario_id=name)["total_pnl"].item()
        )
    assert diagnostics.filter(scenario_id="spread").item(0, "moments_n_obs") == 126


@pytest.mark.parametrize("seed", range(4))
def test_a_young_stock_falls_as_it_does_with_its_full_history(seed: int) -> None:
    """With 60 returns, high-beta stocks gained 199 % in a volatility spike and 122 % in a liquidity crisis."""
    spike = scenario("spike", {"Market": -0.15, "Volatility": 1.5, "Low_Volatility": {"relative": 0.02}})
    stocks = {"HIGH": {"Market": 3.0}, "MID": {"Market": 1.4}}
    full = market(stocks, seed=seed, specific=0.02)
    began = full.calendar["session_date"].to_list()[-60]
    young = full
    for name in stocks:
        young = thinned(young, name, pl.col("session_date") >= began)
    for row in (spike, CRISIS):
        moves = []
        for one in (full, young):
            _, positions = one.holding(long(1, "HIGH"), long(2, "MID")).run(row)
            moves.append(positions["implied_return"].to_list())
        (high, mid), (young_high, young_mid) = moves
        assert high < mid < 0
        # sampling error: 60 returns with 2 % of their own a day, on residual factors of 0.2 to 1.5 % a day
        assert young_high == pytest.approx(high, abs=0.33), moves
        assert young_mid == pytest.approx(mid, abs=0.33), moves
        assert young_high < 0, moves


def test_an_inactive_scenario_has_no_rows(world: World) -> None:
    results, positions = world.holding(long(1, "AAA")).run(DOWN, {**SPREAD, "active": False})
    assert set(results["scenario_id"]) == set(positions["scenario_id"]) == {"down"}
    nothing, of_nothing = world.holding(long(1, "AAA")).run({**SPREAD, "active": False})
    assert (nothing.height, of_nothing.height) == (0, 0)
