"""Replays: what really happened in a window, whose return a position takes, and that nothing is known beforehand."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.stress_replays import market_symbols, window_days
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.stress_world import (
    World,
    contract,
    long,
    market,
    replay,
    scenario,
    worst,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame

CALL = "AAA240920C00100000"
BOOK = [long(1, "AAA"), long(2, "SPY"), long(3, "BOND"), long(4, "YOUNG"), long(5, "AAA", -300), contract(6, CALL, 4)]


@pytest.fixture(scope="module")
def world() -> World:
    made = market(
        {"AAA": {"Market": 1.3}, "BOND": {"Interest_Rate": -6.0}, "YOUNG": {"Market": 1.1, "Oil": 0.3}}, computed=4
    )
    began = made.calendar["session_date"].to_list()[-80]
    young = made.returns.filter((pl.col("symbol") != "YOUNG") | (pl.col("session_date") >= began))
    return changed(made, returns=young).holding(*BOOK)


def days(world: World) -> list[date]:
    found: list[date] = world.calendar["session_date"].to_list()
    return found


def window(world: World) -> tuple[date, date]:
    """Two closes of a hundred sessions ago, before YOUNG began."""
    return days(world)[-120], days(world)[-100]


def compounded(world: World, symbol: str, first: date, last: date) -> float:
    own = world.returns.filter(
        pl.col("symbol") == symbol, pl.col("session_date") > first, pl.col("session_date") <= last
    )
    return float(np.prod(1.0 + own["simple_return"].to_numpy()) - 1.0)


def last(frame: pl.DataFrame, **where: Any) -> dict[str, Any]:
    return frame.filter(session_date=frame["session_date"].max(), **where).row(0, named=True)


def test_who_traded_throughout_takes_its_own_return_and_others_the_model(world: World) -> None:
    first, end = window(world)
    results, positions, diagnostics, shocks = world.told(replay("then", first, end))
    for position, symbol in ((1, "AAA"), (2, "SPY"), (3, "BOND"), (5, "AAA"), (6, "AAA")):
        row = last(positions, position_id=position)
        assert row["return_source"] == "own"
        assert row["implied_return"] == pytest.approx(compounded(world, symbol, first, end), abs=1e-12)
    young = last(positions, position_id=4)
    assert young["return_source"] == "model"
    # of a beta of 1.1 on the market: not far from it
    assert young["implied_return"] == pytest.approx(1.1 * compounded(world, "SPY", first, end), abs=0.1)
    told = last(diagnostics)
    assert (told["kind"], told["status"], told["window_from"], told["window_to"]) == ("replay", "ok", first, end)
    assert told["lam"] == 0.05
    stated = dict(shocks.filter(session_date=told["session_date"]).select("factor", "stated").iter_rows())
    assert stated["Market"] == pytest.approx(compounded(world, "SPY", first, end), abs=1e-14)
    levels = dict(world.yields.select("session_date", "yield").iter_rows())
    assert stated["Interest_Rate"] == pytest.approx(levels[end] - levels[first], abs=1e-14)
    impacts = json.loads(last(results)["factor_impacts"])
    assert sum(Decimal(str(value)) for value in impacts.values()) == last(results)["correlated_pnl"]
    assert impacts["specific_return"] != 0.0


def test_options_are_repriced_with_the_volatility_and_the_yield_that_happened(world: World) -> None:
    first, end = window(world)
    moves = [0.10 if day == end else 0.0 for day in days(world)]
    index = frame(
        tables.daily_returns,
        [
            {"session_date": day, "symbol": "VIX", "simple_return": move, "log_return": 0.0, "sessions_spanned": 1}
            for day, move in zip(days(world), moves, strict=True)
        ],
    )
    with_index = changed(world, returns=pl.concat([world.returns, index]))
    shifts: dict[str, tuple[float, str]] = {}
    pnl: dict[str, Decimal] = {}
    for name, one, fields in (
        ("index", with_index, {}),
        ("stated", with_index, {"volatility_shift": 0.10}),
        ("none", world, {}),
    ):
        _, positions, diagnostics, _ = one.told(replay("then", first, end, **fields))
        told = last(diagnostics)
        shifts[name] = (told["volatility_shift"], told["volatility_source"])
        pnl[name] = last(positions, position_id=6)["pnl"]
    assert shifts["index"] == (pytest.approx(0.10, abs=1e-14), "index")
    assert shifts["stated"] == (0.10, "stated")
    assert shifts["none"] == (0.0, "none")
    assert abs(pnl["index"] - pnl["stated"]) <= Decimal("0.01")
    assert pnl["index"] > pnl["none"]


def test_a_window_that_is_not_there_is_told_and_leaves_no_position_rows(world: World) -> None:
    first, end = window(world)
    today = days(world)[-1]
    cases = {
        "before_history": (days(world)[0] - timedelta(days=30), days(world)[20], "window_not_stored"),
        "long_ago": (date(1987, 10, 13), date(1987, 10, 19), "window_not_stored"),
        "tomorrow": (first, today + timedelta(days=1), "window_after_session"),
        "there": (first, end, "ok"),
    }
    rows = [replay(name, begin, finish) for name, (begin, finish, _) in cases.items()]
    results, positions, diagnostics, shocks = world.told(*rows)
    for name, (_, _, status) in cases.items():
        row = last(results, scenario_id=name)
        assert row["status"] == last(diagnostics, scenario_id=name)["status"] == status
        assert (row["total_pnl"] is None) == (status != "ok")
    assert set(positions["scenario_id"]) == set(shocks["scenario_id"]) == {"there"}


def test_a_window_that_ends_at_a_session_is_known_then_and_not_before(world: World) -> None:
    before, at, *_ = world.sessions
    results, _ = world.run(replay("then", days(world)[-60], at))
    statuses = dict(results.select("session_date", "status").iter_rows())
    assert (statuses[before], statuses[at]) == ("window_after_session", "ok")


def test_a_market_that_did_not_trade_throughout_is_no_window(world: World) -> None:
    first, end = window(world)
    hole = (pl.col("symbol") == "SPY") & (pl.col("session_date") == days(world)[-110])
    results, _ = changed(world, returns=world.returns.filter(~hole)).run(replay("then", first, end))
    assert last(results)["status"] == "window_not_stored"


def test_a_return_over_a_gap_counts(world: World) -> None:
    """Two sessions without a close of AAA, and one return from before to after: it is what happened."""
    first, end = window(world)
    gap = days(world)[-112:-109]
    own = pl.col("symbol") == "AAA"
    bridged = world.returns.filter(~own | ~pl.col("session_date").is_in(gap[:2])).with_columns(
        sessions_spanned=pl.when(own & (pl.col("session_date") == gap[2])).then(3).otherwise("sessions_spanned")
    )
    _, positions = changed(world, returns=bridged).run(replay("then", first, end))
    row = last(positions, position_id=1)
    assert row["return_source"] == "own"
    assert row["implied_return"] == pytest.approx(compounded(changed(world, returns=bridged), "AAA", first, end))
    # without the bridge, what happened in between is not known
    holed = world.returns.filter(~own | ~pl.col("session_date").is_in(gap[:2]))
    _, positions = changed(world, returns=holed).run(replay("then", first, end))
    assert last(positions, position_id=1)["return_source"] == "model"


def test_dates_that_are_no_sessions_mean_the_last_closes_before(world: World) -> None:
    first, end = (next(day for day in days(world)[place:] if day.weekday() == 4) for place in (-120, -100))
    weekend = timedelta(days=1)
    friday = world.returned(replay("then", first, end))
    saturday = world.returned(replay("then", first + weekend, end + weekend))
    for one, other in zip(friday, saturday, strict=True):
        assert one.equals(other)


def lowest(world: World, until: date, length: int) -> tuple[date, date]:
    """The market's worst stretch by trying all of them."""
    own = world.returns.filter(pl.col("symbol") == "SPY", pl.col("session_date") <= until).sort("session_date")
    moves, line = own["simple_return"].to_numpy(), own["session_date"].to_list()
    totals = [float(np.prod(1 + moves[end - length : end])) for end in range(length, len(moves) + 1)]
    end = int(np.argmin(totals)) + length - 1
    return days(world)[days(world).index(line[end]) - length], line[end]


@pytest.mark.parametrize("length", [5, 21])
def test_the_worst_stretch(world: World, length: int) -> None:
    _, positions, diagnostics, _ = world.told(worst("worst", length))
    for row in diagnostics.to_dicts():
        assert (row["window_from"], row["window_to"]) == lowest(world, row["session_date"], length)
    row = last(diagnostics)
    own = last(positions, position_id=2)
    assert own["implied_return"] == pytest.approx(compounded(world, "SPY", row["window_from"], row["window_to"]))
    assert own["implied_return"] < 0


def test_the_worst_month_needs_a_year_and_a_month() -> None:
    made = market({"AAA": {"Market": 1.0}}, history=274, computed=3).holding(long(1, "AAA"))
    # the last of 274 returns has 274 before and with it, the one before 273
    results, _ = made.run(worst("worst", 21))
    assert results.sort("session_date")["status"].to_list() == ["window_not_stored", "ok", "ok"]


def test_nothing_after_a_session_moves_its_replays(world: World) -> None:
    """The worst month comes after the session, and the window ends after it: neither was known."""
    day = world.sessions[0]
    later = pl.col("session_date") > day
    crashed = world.returns.with_columns(simple_return=pl.when(later).then(-0.2).otherwise("simple_return"))
    rows = [worst("worst", 21), replay("then", *window(world)), replay("coming", day, world.sessions[-1])]
    other = changed(world, returns=crashed)
    for mine, theirs in zip(world.returned(*rows), other.returned(*rows), strict=True):
        assert mine.filter(~later).equals(theirs.filter(~later))
        assert not mine.filter(later).equals(theirs.filter(later))


def test_a_range_equals_its_sessions_one_by_one(world: World) -> None:
    rows = [worst("worst", 21), replay("then", *window(world)), replay("coming", days(world)[-30], world.sessions[1])]
    together = world.returned(*rows)
    parts = [world.returned(*rows, sessions=[day]) for day in world.sessions]
    for number, whole in enumerate(together):
        assert whole.equals(pl.concat([part[number] for part in parts]))


def test_what_is_read_is_the_windows_and_no_more(world: World) -> None:
    rows = frame(tables.stress_test_scenarios, [replay("then", *window(world)), scenario("down", {"Market": -0.1})])
    frames = {"scenarios": rows, "factors": world.factors, "calendar": world.calendar}
    assert market_symbols(frames, world.sessions) == [], "nobody asks for a worst stretch"
    found = window_days({**frames, "market_history": world.returns.clear()}, world.sessions)
    assert found == days(world)[-120:-99]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 250), st.integers(1, 60))
def test_a_window_anywhere_is_compounded_from_close_to_close(start: int, length: int) -> None:
    first, end = days(_SMALL)[start], days(_SMALL)[min(start + length, 299)]
    results, positions, _, _ = _SMALL.told(replay("then", first, end))
    assert last(results)["status"] == "ok"
    assert positions.item(0, "implied_return") == pytest.approx(compounded(_SMALL, "AAA", first, end), abs=1e-12)


_SMALL = market({"AAA": {"Market": 1.3}}).holding(long(1, "AAA"))


def test_a_window_only_the_market_traded_in_is_one_shock_of_the_market() -> None:
    first, end = days(_SMALL)[5], days(_SMALL)[25]
    later = pl.col("session_date") > end
    alone = changed(
        _SMALL, returns=_SMALL.returns.filter(later | (pl.col("symbol") == "SPY")), yields=_SMALL.yields.filter(later)
    )
    _, positions, diagnostics, shocks = alone.told(replay("then", first, end))
    assert shocks["factor"].to_list() == ["Market"]
    assert diagnostics.select("status", "lam").row(0) == ("ok", 0.0)
    move = compounded(alone, "SPY", first, end) * alone.beta("AAA", "Market")
    assert positions.select("implied_return", "return_source").row(0) == (pytest.approx(move, abs=1e-12), "model")


@pytest.mark.filterwarnings("error")
def test_without_a_market_there_is_no_window() -> None:
    nowhere = market({"AAA": {"Market": 1.0}}, without=["Market"]).holding(long(1, "AAA"))
    results, _ = nowhere.run(worst("worst", 21), replay("then", days(nowhere)[5], days(nowhere)[25]))
    assert set(results["status"]) == {"window_not_stored"}
    frames = {"scenarios": frame(tables.stress_test_scenarios, [worst("worst", 21)]), "factors": nowhere.factors}
    history = {"calendar": nowhere.calendar, "market_history": nowhere.returns.clear()}
    assert window_days({**frames, **history}, []) == [], "a run of nothing but closures"
