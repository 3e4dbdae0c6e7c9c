"""What is known of the simulated market must be found back in its prices, and look like a market."""

from __future__ import annotations

from datetime import date
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.demo.factors_path import is_bond_market_holiday, market_paths
from sigmasight_pipeline.demo.parameters import FACTORS, SymbolParameters
from sigmasight_pipeline.demo.rebase import DEFAULT_SEED
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.demo.universe import UNIVERSE
from sigmasight_pipeline.sessions import SessionCalendar

from .returns import Floats, gross_returns, slope

START = date(2014, 1, 2)
FIRST, INCEPTION, LAST = date(2022, 12, 1), date(2024, 1, 2), date(2025, 6, 30)
STYLES = ("SPY", "VTV", "VUG", "MTUM", "QUAL", "SIZE", "USMV")
PROXIES = [(factor.key, factor.proxy) for factor in FACTORS if factor.proxy]


def yield_changes(market: SimulatedMarket, first: date, last: date) -> dict[date, float]:
    """Change of the 10-year yield between one observed date and the next, by the later one."""
    curve = market.treasury_yields(first, last).filter(pl.col("tenor") == "10Y")
    days, levels = curve["observed_date"].to_list(), curve["yield"].to_list()
    return {day: now - before for day, before, now in zip(days[1:], levels, levels[1:], strict=False)}


@pytest.mark.parametrize(("factor", "proxy"), PROXIES)
def test_a_proxys_return_is_its_factor(
    market: SimulatedMarket, calendar: SessionCalendar, factor: str, proxy: str
) -> None:
    paths = market_paths(DEFAULT_SEED, calendar)
    row = paths.factor_returns[[one.key for one in FACTORS].index(factor)]
    days, returns = gross_returns(market, proxy, FIRST, LAST)
    expected = row[[paths.grid.sessions.index(day) for day in days]]
    # two closes rounded to a cent and a dividend to a hundredth of one
    lowest = market.daily_bars([proxy], FIRST, LAST)["close"].cast(pl.Float64).to_numpy().min()
    assert np.abs(returns - expected).max() < 0.0115 / lowest


@pytest.mark.parametrize(
    ("proxy", "lowest", "highest"),
    [
        ("SPY", 0.11, 0.22),
        ("VTV", 0.09, 0.20),
        ("VUG", 0.14, 0.28),
        ("MTUM", 0.13, 0.26),
        ("QUAL", 0.11, 0.23),
        ("SIZE", 0.12, 0.24),
        ("USMV", 0.08, 0.16),
        ("USO", 0.24, 0.45),
        ("GLD", 0.11, 0.20),
        ("EWG", 0.13, 0.26),
        ("EEM", 0.13, 0.26),
        ("FXI", 0.22, 0.42),
        ("VIXY", 0.45, 0.90),
        ("HYG", 0.045, 0.11),
        ("XLK", 0.17, 0.34),
        ("JETS", 0.20, 0.40),
        ("BND", 0.04, 0.08),
        ("AAPL", 0.18, 0.38),
        ("TSLA", 0.35, 0.70),
        ("JNJ", 0.11, 0.24),
    ],
)
def test_volatility_is_realistic(market: SimulatedMarket, proxy: str, lowest: float, highest: float) -> None:
    for first in (START, FIRST, INCEPTION):
        _, returns = gross_returns(market, proxy, first, LAST)
        assert lowest < returns.std(ddof=1) * 252**0.5 < highest, (proxy, first)


def test_style_proxies_correlate_as_real_ones(market: SimulatedMarket) -> None:
    returns = {proxy: gross_returns(market, proxy, FIRST, LAST)[1] for proxy in STYLES}
    for one, other in combinations(STYLES, 2):
        for end in (len(returns["SPY"]), 252 + 63, 252 + 126, 252 + 189):
            window = slice(end - 252, end)
            correlation = np.corrcoef(returns[one][window], returns[other][window])[0, 1]
            assert 0.70 < correlation < 0.95, (one, other, end, correlation)


def test_returns_have_fat_tails_and_clustered_volatility(market: SimulatedMarket) -> None:
    def kurtosis(values: Floats) -> float:
        centred = values - values.mean()
        return float((centred**4).mean() / (centred**2).mean() ** 2)

    for symbol, first in [("SPY", START), ("SPY", FIRST), ("AAPL", START), ("ABCD", START), ("HYG", START)]:
        assert kurtosis(gross_returns(market, symbol, first, LAST)[1]) > 3.3, (symbol, first)
    sizes = np.abs(gross_returns(market, "SPY", START, LAST)[1])
    lagged = [float(np.corrcoef(sizes[lag:], sizes[:-lag])[0, 1]) for lag in range(1, 11)]
    assert np.mean(lagged) > 3 / len(sizes) ** 0.5, lagged


@pytest.mark.parametrize("factor", ["Market", "Growth", "Low_Volatility", "Oil", "Credit"])
def test_regressions_find_the_true_univariate_betas(market: SimulatedMarket, factor: str) -> None:
    proxy = dict(PROXIES)[factor]
    assert proxy is not None
    days, x = gross_returns(market, proxy, START, LAST)
    of_day = dict(zip(days, x, strict=True))
    for symbol in (*UNIVERSE, "ABCD", "QWERX"):
        if symbol == "VIX":
            continue
        own_days, y = gross_returns(market, symbol, START, LAST)
        found, error = slope(y, np.array([of_day[day] for day in own_days]))
        expected = market.true_univariate_beta(symbol, factor)
        # five standard errors, widened because clustered volatility makes the plain ones too small
        assert abs(found - expected) < 7.5 * error + 1e-4, (symbol, factor, found, expected, error)


def test_spy_has_beta_one_and_bond_funds_hardly_any(market: SimulatedMarket) -> None:
    for last in (INCEPTION, date(2024, 9, 30), LAST):
        _, spy = gross_returns(market, "SPY", FIRST, last)
        assert slope(spy, spy)[0] == pytest.approx(1.0, abs=1e-12)
        for fund in ("FXNAX", "BND", "AGG"):
            _, own = gross_returns(market, fund, FIRST, last)
            assert abs(slope(own[-252:], spy[-252:])[0]) < 0.10, (fund, last)


@pytest.mark.parametrize("fund", [symbol for symbol, row in UNIVERSE.items() if row.duration is not None])
def test_a_bond_funds_rate_beta_is_minus_its_duration(market: SimulatedMarket, fund: str) -> None:
    changes = yield_changes(market, FIRST, LAST)
    duration = UNIVERSE[fund].duration
    assert duration is not None
    days, returns = gross_returns(market, fund, FIRST, LAST)
    pairs = [(changes[day], value) for day, value in zip(days, returns, strict=True) if day in changes]
    for end in (252, 400, len(pairs)):
        x, y = (np.array(column) for column in zip(*pairs[end - 252 : end], strict=True))
        found, _ = slope(y, x)
        assert abs(found + duration) < 0.25 * duration, (fund, end, found)


def test_equity_rate_betas_stay_within_bounds(market: SimulatedMarket) -> None:
    changes = yield_changes(market, FIRST, LAST)
    for symbol in (*UNIVERSE, "ABCD"):
        if UNIVERSE.get(symbol, None) is not None and UNIVERSE[symbol].kind == "index":
            continue
        if symbol in UNIVERSE and UNIVERSE[symbol].misprints:
            continue  # as served; screening takes the misprint out before anything is computed
        days, returns = gross_returns(market, symbol, FIRST, LAST)
        pairs = [(changes[day], value) for day, value in zip(days, returns, strict=True) if day in changes][-252:]
        x, y = (np.array(column) for column in zip(*pairs, strict=True))
        assert abs(slope(y, x)[0]) < 40, symbol


@pytest.mark.parametrize("seed", [DEFAULT_SEED, 1, 2, 3])
def test_the_volatility_index_moves_against_the_market_within_bounds(calendar: SessionCalendar, seed: int) -> None:
    paths = market_paths(seed, calendar)
    level = paths.volatility_index
    assert 9 < level.min() < level.max() < 80
    correlation = np.corrcoef(np.diff(np.log(level)), paths.factor_returns[0, 1:])[0, 1]
    assert correlation < -0.7, (seed, correlation)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_are_realistic_too(calendar: SessionCalendar, seed: int) -> None:
    paths = market_paths(seed, calendar)
    correlations = np.array(np.corrcoef(paths.factor_returns[:7]))[np.triu_indices(7, 1)]
    assert 0.70 < correlations.min() < correlations.max() < 0.95, (seed, correlations)
    volatilities = paths.factor_returns.std(axis=1) * 252**0.5
    expected = np.array([factor.volatility for factor in FACTORS])
    assert (np.abs(volatilities / expected - 1) < 0.25).all(), (seed, volatilities / expected)
    ten_year = paths.yields["10Y"]
    assert 0.0 < ten_year.min() < ten_year.max() < 0.10, seed


def test_the_yield_curve_is_one(market: SimulatedMarket) -> None:
    curve = market.treasury_yields(START, LAST)
    assert curve["tenor"].unique(maintain_order=True).to_list() == ["1M", "3M", "6M", "1Y", "2Y", "5Y", "10Y", "30Y"]
    assert curve.select(pl.struct("observed_date", "tenor").is_unique().all()).item()
    assert curve.select((pl.col("yield") == pl.col("yield").round(4)).all()).item()
    assert curve.select(pl.col("yield").is_between(0.0001, 0.10).all()).item()


@pytest.mark.parametrize(
    ("day", "closed"),
    [
        (date(2024, 10, 14), True),
        (date(2024, 10, 7), False),
        (date(2024, 10, 15), False),
        (date(2024, 11, 11), True),
        (date(2024, 11, 12), False),
        (date(2018, 11, 12), True),  # the 11th was a Sunday
        (date(2017, 11, 10), False),  # the 11th was a Saturday
        (date(2025, 10, 13), True),
        (date(2024, 1, 2), False),
    ],
)
def test_bond_market_holidays(market: SimulatedMarket, day: date, closed: bool) -> None:
    assert is_bond_market_holiday(day) is closed
    assert market.treasury_yields(day, day).is_empty() is closed
    assert market.daily_bars(["SPY"], day, day).height == 1


@pytest.mark.parametrize(
    ("symbol", "ex_date", "ratio"), [("NVDA", date(2024, 6, 10), 10), ("NFLX", date(2025, 3, 17), 4)]
)
def test_a_split_changes_the_price_and_not_the_value(
    market: SimulatedMarket, calendar: SessionCalendar, symbol: str, ex_date: date, ratio: int
) -> None:
    before, after = market.daily_bars([symbol], calendar.offset(ex_date, -1), ex_date)["close"].cast(pl.Float64)
    assert abs(after * ratio / before - 1) < 0.12
    actions = market.corporate_actions([symbol], ex_date, ex_date)
    assert actions.select("kind", "split_from", "split_to").rows() == [("split", 1, ratio)]


def test_dividends_are_paid_on_sessions_and_fall_out_of_the_price(
    market: SimulatedMarket, calendar: SessionCalendar
) -> None:
    actions = market.corporate_actions([*market.symbols(), "ABCD"], FIRST, LAST)
    dividends = actions.filter(pl.col("kind") == "dividend")
    assert all(calendar.is_session(day) for day in dividends["ex_date"])
    assert all(calendar.is_session(day) for day in dividends["pay_date"])
    assert (dividends["pay_date"] > dividends["ex_date"]).all()
    assert (dividends["cash_amount"] > 0).all()
    splits = actions.filter(pl.col("kind") == "split").select("symbol", "ex_date")
    assert dividends.join(splits, on=["symbol", "ex_date"]).is_empty()
    payers = dividends.filter(pl.col("ex_date") >= INCEPTION).group_by("symbol").len()
    counts = dict(payers.iter_rows())
    assert (counts["AAPL"], counts["BND"], counts["FCNTX"], counts.get("AMZN", 0)) == (6, 18, 1, 0)


def test_the_gap_shows_and_leaves_coverage_high(market: SimulatedMarket, calendar: SessionCalendar) -> None:
    bars = market.daily_bars(market.symbols(), INCEPTION, LAST)
    missing = set(calendar.between(INCEPTION, LAST)) - set(bars.filter(pl.col("symbol") == "DJP")["session_date"])
    assert sorted(missing) == list(calendar.between(date(2024, 9, 9), date(2024, 9, 13)))
    alive = [symbol for symbol in market.symbols() if symbol != "SPLK"]
    per_session = bars.filter(pl.col("symbol").is_in(alive)).group_by("session_date").len()
    assert per_session["len"].to_numpy().min() / len(alive) > 0.95


def test_the_delisted_symbol_ends(market: SimulatedMarket) -> None:
    bars = market.daily_bars(["SPLK"], FIRST, LAST)
    assert bars["session_date"].max() == date(2024, 3, 15)
    assert market.instruments(["SPLK"])["last_session"].to_list() == [date(2024, 3, 15)]


def test_parameters_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="no factor is called Markt"):
        SymbolParameters("A", "stock", "A", None, None, 10.0, 0.2, {"Markt": 1.0})
    with pytest.raises(ValueError, match="gap cannot pay dividends"):
        SymbolParameters("A", "stock", "A", None, None, 10.0, 0.2, {}, dividend_yield=0.01, gap=(FIRST, LAST))
