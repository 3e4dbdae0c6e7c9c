"""Scenario results of books: every figure against an independent computation, what must hold, and what is NULL why."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import mibian
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Table

from sigmasight_pipeline.calculations import stress_book
from sigmasight_pipeline.calculations.stress import single_shocks
from sigmasight_pipeline.calculations.stress_revaluation import Options
from sigmasight_pipeline.calculations.stress_totals import StressStatus
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline.storage.tables.scenarios import STRESS_STATUSES
from sigmasight_pipeline.symbols import parse_option
from sigmasight_pipeline_tests.calculations import reference_stress as reference
from sigmasight_pipeline_tests.calculations import test_joint_betas
from sigmasight_pipeline_tests.calculations.stress_world import (
    NAMES,
    RATE_LEVEL,
    STYLE,
    VOLATILITY,
    World,
    contract,
    long,
    market,
    scenario,
)
from sigmasight_pipeline_tests.calculations.table_rows import private

STOCKS = {
    "AAA": {"Market": 1.2, "Technology": 0.5},
    "BBB": {"Market": 0.8, "Value": 0.4},
    "CCC": {"Market": 0.6, "Oil": 0.4},
    "BOND": {"Interest_Rate": -6.0},
    "YOUNG": {"Market": 1.0},
    "WILD": {"Market": 3.5},
}
CALL, PUT = "AAA240920C00100000", "AAA240920P00090000"

CRASH = scenario(
    "covid_crash_2020",
    {"Market": -0.35, "Oil": -0.65, "Travel": -0.7, "Technology": {"relative": 0.15}},
    volatility_shift=1.5,
    category="historical",
)
CRISIS = scenario(
    "financial_crisis_2008",
    {
        "Market": -0.45, "Value": {"relative": -0.05}, "Credit": -0.2, "Quality": {"relative": 0.05},
        "Low_Volatility": {"relative": 0.03},
    },
    volatility_shift=1.5,
    category="historical",
)  # fmt: skip
BUBBLE = scenario(
    "dotcom_crash_2000",
    {"Market": -0.45, "Growth": -0.6, "Value": 0.2, "Momentum": -0.5, "Quality": 0.15, "Technology": -0.8},
    volatility_shift=0.5,
    category="historical",
)
EXACT = scenario("exact", {"Market": -0.2, "Technology": -0.35, "Oil": 0.1}, confidence="exact")
DOWN = scenario("market_down_10", {"Market": -0.10})
UP = scenario("market_up_10", {"Market": 0.10})
RATES = scenario("rates_up_100bp", {"Interest_Rate": 0.01})
CUT = scenario("rates_down_100bp", {"Interest_Rate": -0.01})
ROTATION = scenario("value_rotation_20", {"Market": 0, "Value": {"relative": 0.2}, "Growth": {"relative": -0.1}})
WITHOUT_MARKET = scenario("without_market", {"Value": 0.2, "Growth": -0.1})
ALL = [CRASH, CRISIS, BUBBLE, EXACT, DOWN, UP, RATES, CUT, ROTATION, WITHOUT_MARKET]

BOOK = [
    long(1, "AAA"),
    long(2, "BOND", 700),
    long(3, "SPY", 300),
    long(4, "BBB", -400),
    contract(5, CALL, 10),
    contract(6, PUT, -5),
    long(7, "CCC", "33.333333", portfolio_id=2),
    private(8, "FUND", 1, 285_000, long(1, "AAA")["entry_date"], portfolio_id=2),
]


@pytest.fixture(scope="module")
def world() -> World:
    # thirty returns of YOUNG: too few for a beta
    return market(STOCKS, computed=3, dropped={"YOUNG": 270})


def columns(table: Table) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in polars_schema(table).items() if name not in PROVENANCE}


def last(frame: pl.DataFrame, **where: Any) -> dict[str, Any]:
    """The one row of the newest session with these values."""
    return frame.filter(session_date=frame["session_date"].max(), **where).row(0, named=True)


def test_columns_order_and_statuses_are_those_of_the_tables(world: World) -> None:
    # of another portfolio, and the lowest number
    held = world.holding(*BOOK, contract(0, CALL, 3, portfolio_id=2), owners=2)
    results, returns, of_options, diagnostics, shocks = held.returned(*ALL)
    _, positions, _, _ = held.told(*ALL)
    risk = held.risk()
    for frame, table in (
        (results, tables.stress_test_results),
        (returns, tables.symbol_scenario_returns),
        (of_options, tables.option_scenario_pnl),
        (positions, tables.stress_position_results),
        (diagnostics, tables.stress_scenario_diagnostics),
        (shocks, tables.stress_scenario_shocks),
        (risk, tables.market_risk_scenarios),
    ):
        assert dict(frame.schema) == columns(table), table.name
        keys = [column.name for column in table.primary_key.columns]
        assert frame.select(keys).equals(frame.select(keys).sort(keys)), table.name
    assert results.height == 3 * 2 * len(ALL)
    assert positions.height == 3 * 8 * len(ALL), "PRIVATE positions are outside"
    # every symbol with prices of its own that has a beta, whether anybody holds it or not
    moved = set(world.instruments["symbol"]) - {"YOUNG"}
    assert set(returns["symbol"]) == moved
    assert returns.height == 3 * len(moved) * len(ALL)
    assert of_options.height == 3 * 3 * len(ALL)
    assert risk.height == 3 * 2 * 18
    assert diagnostics.height == 3 * len(ALL)
    assert set(map(str, StressStatus)) == set(STRESS_STATUSES)


def implied(world: World, row: dict[str, Any], symbols: list[str]) -> reference.Solution:
    """The transcription of section 9 on the stored moments and betas."""
    sigma = world.sigma()
    beta = np.array([[world.beta(symbol, name) for name in NAMES] for symbol in symbols])
    shocks = {NAMES.index(name): shock for name, shock in json.loads(row["shocks"]).items()}
    proxies = {symbols.index("SPY"): NAMES.index("Market")}
    return reference.solve(shocks, sigma, beta, proxies, NAMES.index("Market"), row["confidence"])


def repriced(symbol: str, quantity: float, move: float, shift: float, rate: float, day: Any) -> float:
    option = parse_option(symbol)
    days = (option.expiration_date - day).days
    side = "callPrice" if option.kind == "C" else "putPrice"

    def value(spot: float, level: float, sigma: float) -> float:
        return float(getattr(mibian.BS([spot, float(option.strike), level * 100, days], volatility=sigma * 100), side))

    after, before = (
        value(100 * (1 + move), RATE_LEVEL + rate, VOLATILITY * (1 + shift)),
        value(100, RATE_LEVEL, VOLATILITY),
    )
    return quantity * 100 * (after - before)


def windows(world: World, names: list[str], symbols: list[str]) -> tuple[Any, Any]:
    """The last 252 returns of factors and symbols as matrices."""
    days = world.calendar["session_date"].to_list()[-252:]
    proxy = dict(world.factors.select("factor", "proxy_symbol").iter_rows())
    wide = world.returns.pivot(on="symbol", index="session_date", values="simple_return").sort("session_date")
    wide = wide.filter(pl.col("session_date").is_in(days))
    change = world.yields.sort("session_date").select("session_date", pl.col("yield").diff())
    changes = change.filter(pl.col("session_date").is_in(days))["yield"].to_numpy()
    factors = [changes if proxy[name] is None else wide[proxy[name]].to_numpy() for name in names]
    return np.column_stack(factors), np.column_stack([wide[symbol].to_numpy() for symbol in symbols])


@pytest.mark.parametrize("row", ALL, ids=[row["scenario_id"] for row in ALL])
def test_every_figure_equals_the_independent_computation(world: World, row: dict[str, Any]) -> None:
    results, positions = world.holding(*BOOK, owners=2).run(*ALL)
    symbols = ["AAA", "BOND", "SPY", "BBB", "CCC"]
    want = implied(world, row, symbols)
    stated = json.loads(row["shocks"])
    sigma, market_number = world.sigma(), NAMES.index("Market")
    shocks = {
        name: shock["relative"] + sigma[NAMES.index(name), market_number] / sigma[market_number, market_number]
        * stated["Market"] if isinstance(shock, dict) else shock
        for name, shock in stated.items()
    }  # fmt: skip
    regressors = [*STYLE, *sorted(set(shocks) - set(STYLE))]
    x, y = windows(world, regressors, symbols)
    held = {1: ("AAA", 1e5), 2: ("BOND", 7e4), 3: ("SPY", 3e4), 4: ("BBB", -4e4), 5: ("AAA", None), 6: ("AAA", None)}
    totals = dict.fromkeys(("correlated_pnl", "total_pnl", "direct_pnl", "sum_of_single_factor_pnl"), 0.0)
    exposures = {
        position: float(value)
        for position, value in world.holding(*BOOK)
        .book["position_greeks"]
        .filter(session_date=world.sessions[-1])
        .select("position_id", "delta_adjusted_exposure")
        .iter_rows()
    }
    for position, (symbol, expected_exposure) in held.items():
        exposure = exposures[position]
        assert expected_exposure in (None, exposure)
        move = max(want.returns[symbols.index(symbol)], -1.0)
        found = last(positions, position_id=position, scenario_id=row["scenario_id"])
        assert found["implied_return"] == pytest.approx(move, rel=1e-9, abs=1e-12)
        pnl = exposure * move
        totals["correlated_pnl"] += pnl
        assert float(found["pnl_linear"]) == pytest.approx(pnl, abs=0.0051)
        if position in (5, 6):
            option, quantity = (CALL, 10) if position == 5 else (PUT, -5)
            shift, rate = row["volatility_shift"], shocks.get("Interest_Rate", 0.0)
            pnl = repriced(option, quantity, move, shift, rate, world.sessions[-1])
        totals["total_pnl"] += pnl
        assert float(found["pnl"]) == pytest.approx(pnl, abs=0.006)
        beta, _ = test_joint_betas.oracle(x, y[:, symbols.index(symbol)], 0.1)
        totals["direct_pnl"] += exposure * sum(
            slope * shocks.get(name, 0.0) for slope, name in zip(beta, regressors, strict=True)
        )
        totals["sum_of_single_factor_pnl"] += exposure * sum(
            world.beta(symbol, name) * shock for name, shock in shocks.items()
        )
    found = last(results, portfolio_id=1, scenario_id=row["scenario_id"])
    for figure, total in totals.items():
        assert float(found[figure]) == pytest.approx(total, abs=0.05), figure
    assert found["correlation_effect"] == found["correlated_pnl"] - found["direct_pnl"]
    assert found["revaluation_effect"] == found["total_pnl"] - found["correlated_pnl"]
    assert found["impact_pct"] == pytest.approx(float(found["total_pnl"]) / 1e6, rel=1e-15)
    for figure in ("lam", "condition_number", "mahalanobis", "max_z"):
        assert found[figure] == pytest.approx(getattr(want, figure), rel=1e-8), figure
    assert (found["coverage"], found["status"]) == (1.0, "ok")
    impacts = json.loads(found["factor_impacts"])
    assert list(impacts) == sorted([*shocks, "floor_effect"])
    assert sum(Decimal(str(value)) for value in impacts.values()) == found["correlated_pnl"]
    effective = json.loads(found["effective_shocks"])
    assert list(effective) == list(NAMES)
    spy = last(positions, position_id=3, scenario_id=row["scenario_id"])
    assert effective["Market"] == pytest.approx(spy["implied_return"], rel=1e-11)


def test_factor_impacts_are_the_market_first_and_what_the_others_add(world: World) -> None:
    results, _ = world.holding(long(1, "AAA"), long(2, "SPY")).run(CRISIS)
    impacts = json.loads(last(results)["factor_impacts"])
    assert impacts["Market"] == pytest.approx(-0.45 * 1e5 * (1 + world.beta("AAA", "Market")), abs=0.02)
    spy, _ = world.holding(long(2, "SPY")).run(CRISIS)
    alone = json.loads(last(spy)["factor_impacts"])
    assert alone == {**dict.fromkeys(alone, 0.0), "Market": -45_000.0}


def test_one_shock_is_beta_times_shock_to_the_cent(world: World) -> None:
    results, positions = world.holding(*BOOK, owners=2).run(DOWN, RATES)
    for name, factor, shock in (("market_down_10", "Market", -0.1), ("rates_up_100bp", "Interest_Rate", 0.01)):
        for position, symbol, exposure in ((1, "AAA", 100_000), (2, "BOND", 70_000), (4, "BBB", -40_000)):
            row = last(positions, position_id=position, scenario_id=name)
            assert row["implied_return"] == pytest.approx(world.beta(symbol, factor) * shock, abs=1e-12)
            assert float(row["pnl"]) == pytest.approx(exposure * world.beta(symbol, factor) * shock, abs=0.0051)
        found = last(results, portfolio_id=1, scenario_id=name)
        assert found["sum_of_single_factor_pnl"] == found["correlated_pnl"]
        assert (found["lam"], found["condition_number"]) == (0.0, 1.0)


def test_risk_scenarios_are_the_stress_scenarios_of_one_shock(world: World) -> None:
    held = world.holding(*BOOK, owners=2)
    results, _ = held.run(DOWN, UP, RATES, CUT)
    risk = held.risk()
    for one, other in (("market_down_10",) * 2, ("market_up_10",) * 2, ("rates_up_100bp",) * 2):
        stress, single = last(results, portfolio_id=1, scenario_id=one), last(risk, portfolio_id=1, scenario=other)
        assert (single["pnl"], single["pnl_linear"]) == (stress["total_pnl"], stress["correlated_pnl"])
        assert (single["impact_pct"], single["coverage"]) == (stress["impact_pct"], stress["coverage"])


def test_names_of_single_shocks() -> None:
    assert [name for name, _, _ in single_shocks()] == sorted(
        [f"market_{side}_{size}" for side in ("down", "up") for size in (1, 5, 10, 20, 25)]
        + [f"rates_{side}_{size}bp" for side in ("down", "up") for size in (25, 50, 100, 200)]
    )
    assert ("rates_down_25bp", "rates", -0.0025) in single_shocks()
    assert single_shocks([0.005], []) == [("market_up_0.5", "market", 0.005)]


@pytest.mark.parametrize(
    "row",
    [*ALL, scenario("everything", {name: -1.0 for name in NAMES if name != "Interest_Rate"})],
    ids=lambda row: row["scenario_id"],
)
def test_no_long_only_book_loses_more_than_its_gross(world: World, row: dict[str, Any]) -> None:
    symbols = [*STOCKS, "SPY", "VIXY", "XLK", "USO"]
    symbols.remove("YOUNG")
    results, positions = world.holding(*(long(number, symbol) for number, symbol in enumerate(symbols))).run(row)
    assert last(results)["total_pnl"] >= -100_000 * len(symbols)
    assert (positions["implied_return"] >= -1.0).all()


def test_a_return_below_minus_one_is_floored_and_told(world: World) -> None:
    crash = scenario("crash", {"Market": -0.45})
    results, positions = world.holding(long(1, "WILD"), long(2, "SPY")).run(crash, DOWN)
    wild = last(positions, position_id=1, scenario_id="crash")
    assert world.beta("WILD", "Market") * -0.45 < -1
    assert (wild["implied_return"], wild["floored"], wild["pnl"]) == (-1.0, True, Decimal("-100000.00"))
    assert last(positions, position_id=2, scenario_id="crash")["floored"] is False
    assert last(positions, position_id=1, scenario_id="market_down_10")["floored"] is False
    impacts = json.loads(last(results, scenario_id="crash")["factor_impacts"])
    unfloored = 1e5 * world.beta("WILD", "Market") * -0.45
    assert impacts["floor_effect"] == pytest.approx(-1e5 - unfloored, abs=0.02)
    assert impacts["Market"] == pytest.approx(unfloored - 45_000, abs=0.02)
    short, _ = world.holding(long(1, "WILD", -1000)).run(crash)
    assert last(short)["total_pnl"] == 100_000


def test_crises_differ_and_are_not_rescaled(world: World) -> None:
    results, _ = world.holding(long(1, "AAA"), long(2, "BBB"), long(3, "CCC")).run(CRASH, CRISIS, BUBBLE)
    found = {
        row["scenario_id"]: float(row["total_pnl"])
        for row in results.filter(session_date=world.sessions[-1]).to_dicts()
    }
    assert len({round(value, -3) for value in found.values()}) == 3, found
    assert all(-300_000 < value < -60_000 for value in found.values()), found
    naive = results.filter(session_date=world.sessions[-1])["sum_of_single_factor_pnl"].cast(pl.Float64)
    assert (naive < -300_000).any(), "the naive sum loses more than everything"


def test_rates_up_hurts_the_bond_fund_and_down_helps_it(world: World) -> None:
    results, _ = world.holding(long(1, "BOND")).run(RATES, CUT)
    up, down = (last(results, scenario_id=name)["total_pnl"] for name in ("rates_up_100bp", "rates_down_100bp"))
    assert float(up) == pytest.approx(1e5 * world.beta("BOND", "Interest_Rate") * 0.01, abs=0.0051)
    assert -9_000 < up < -3_000, "about minus its duration, 6, by a percentage point"
    assert up == -down


def test_an_option_book_is_not_symmetric(world: World) -> None:
    bought, _ = world.holding(contract(1, CALL), contract(2, PUT)).run(UP, DOWN)
    up, down = (last(bought, scenario_id=name) for name in ("market_up_10", "market_down_10"))
    assert up["correlated_pnl"] == -down["correlated_pnl"]
    assert up["total_pnl"] + down["total_pnl"] > 1_000
    assert up["revaluation_effect"] > 0 < down["revaluation_effect"]
    spike = scenario("spike", {"Market": 0.0}, volatility_shift=1.0)
    results, _ = world.holding(contract(1, CALL), contract(2, PUT)).run(spike)
    assert last(results)["total_pnl"] > 1_000, "volatility alone"
    assert last(results)["correlated_pnl"] == 0


def test_zero_shocks_give_exactly_nothing(world: World) -> None:
    zero = [scenario("one", {"Market": 0.0}), scenario("many", {"Market": 0.0, "Oil": 0.0, "Interest_Rate": 0.0})]
    results, positions = world.holding(*BOOK, owners=2).run(*zero)
    money = [name for name in results.columns if name.endswith(("_pnl", "_effect"))]
    assert set(results.select(money).unique().row(0)) == {Decimal("0.00")}
    assert results.select(money).n_unique() == 1
    assert set(positions["pnl"]) == {Decimal("0.00")}


def test_sums_of_positions_tie_to_the_cent(world: World) -> None:
    results, positions = world.holding(*BOOK, owners=2).run(*ALL)
    keys = ["session_date", "portfolio_id", "scenario_id"]
    summed = positions.group_by(keys).agg(pl.col("pnl").sum(), pl.col("pnl_linear").sum()).sort(keys)
    assert summed["pnl"].to_list() == results["total_pnl"].to_list()
    assert summed["pnl_linear"].to_list() == results["correlated_pnl"].to_list()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["AAA", "BBB", "BOND", "SPY"]), st.integers(-2000, 2000).filter(bool)),
        min_size=1,
        max_size=6,
    )
)
def test_the_mirrored_book_has_the_mirrored_result_and_lots_do_not_matter(lots: list[tuple[str, int]]) -> None:
    """Flipping every sign flips every figure; a lot in two halves changes a total by a cent per lot at most."""
    held = [long(number, symbol, quantity) for number, (symbol, quantity) in enumerate(lots)]
    flipped = [long(number, symbol, -quantity) for number, (symbol, quantity) in enumerate(lots)]
    halves = [
        long(2 * n + k, symbol, Decimal(quantity) / 2) for n, (symbol, quantity) in enumerate(lots) for k in (0, 1)
    ]
    plain, mirrored, split = (_SMALL.holding(*rows).run(CRASH, DOWN)[0] for rows in (held, flipped, halves))
    for figure in ("direct_pnl", "correlated_pnl", "total_pnl", "sum_of_single_factor_pnl"):
        assert (plain[figure] == -mirrored[figure]).all(), figure
        assert ((plain[figure] - split[figure]).abs() <= Decimal("0.01") * len(lots)).all(), figure


_SMALL = market({name: STOCKS[name] for name in ("AAA", "BBB", "BOND")})


def test_a_range_equals_its_sessions_one_by_one_in_any_order_of_rows(world: World) -> None:
    held = world.holding(*BOOK, owners=2)
    shuffled = held.with_book(
        **{name: table.sample(fraction=1.0, shuffle=True, seed=3) for name, table in held.book.items()}
    )
    together = (*held.returned(*ALL), held.risk())
    parts = [(*shuffled.returned(*reversed(ALL), sessions=[day]), shuffled.risk([day])) for day in world.sessions]
    for number, frame in enumerate(together):
        assert frame.equals(pl.concat([part[number] for part in parts]))


def test_other_portfolios_change_nothing(world: World) -> None:
    alone = world.holding(*(row for row in BOOK if row["portfolio_id"] == 1)).returned(*ALL)
    both = world.holding(*BOOK, owners=2).returned(*ALL)
    for mine, of_both in zip(alone, both, strict=True):
        assert mine.equals(of_both.filter(portfolio_id=1) if "portfolio_id" in of_both.columns else of_both)


def test_nothing_after_a_session_moves_it(world: World) -> None:
    held = world.holding(*BOOK, owners=2)
    day = world.sessions[0]
    later = pl.col("session_date") > day
    other = World(
        **{
            **{name: getattr(held, name) for name in held.__dataclass_fields__},
            "returns": held.returns.with_columns(simple_return=pl.when(later).then(0.3).otherwise("simple_return")),
            "betas": held.betas.with_columns(beta=pl.when(later).then(9.0).otherwise("beta")),
        }
    )
    for mine, theirs in zip(held.returned(*ALL), other.returned(*ALL), strict=True):
        assert mine.filter(~later).equals(theirs.filter(~later))


@pytest.mark.parametrize("together", [1, 60], ids=["one session", "a few sessions"])
def test_how_many_sessions_are_priced_together_changes_nothing(
    world: World, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = world.holding(*BOOK, owners=2)
    at_once = (*held.returned(*ALL), held.risk())
    calls: list[int] = []
    price = stress_book.option_pnl

    def counted(options: Options, *moves: Any) -> Any:
        calls.append(len(options.spot))
        return price(options, *moves)

    monkeypatch.setattr(stress_book, "option_pnl", counted)
    monkeypatch.setattr(stress_book, "PRICED_TOGETHER", together)
    for mine, theirs in zip((*held.returned(*ALL), held.risk()), at_once, strict=True):
        assert mine.equals(theirs)
    assert len(calls) > 2


def test_without_scenarios_there_are_no_rows(world: World) -> None:
    held = world.holding(*BOOK, owners=2)
    assert [frame.height for frame in held.returned()] == [0, 0, 0, 0, 0]
    assert [frame.schema for frame in held.returned()] == [frame.schema for frame in held.returned(*ALL)]
    assert held.risk(market_shocks=(), rate_shocks=()).is_empty()


def test_documents_are_written_as_json_writes_them(world: World) -> None:
    results, _ = world.holding(*BOOK, owners=2).run(*ALL)
    for name in ("factor_impacts", "effective_shocks"):
        texts = results[name].drop_nulls().to_list()
        assert texts
        assert all(json.dumps(json.loads(text), allow_nan=False) == text for text in texts)
