"""Books on real returns, the whole product: young stocks and factors, contradictory shocks, options, cash, names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from importlib import resources as packaged
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books, scenarios
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.calculations.real_panel import PROXIES, SESSIONS, real_returns
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, expect, installation, rows, run_history

SHIPPED = packaged.files("sigmasight_pipeline.assets")
REAL = real_returns().filter(pl.col("session_date") <= SESSIONS[0])
FIRST_SESSION = date(2022, 12, 1)
"""Partitions begin here, so the returns of 2017 and 2018 are told as if they were of the sessions from here on."""

REAL_DAYS = REAL["session_date"].unique().sort().to_list()
OPENED = list(CALENDAR.between(FIRST_SESSION, date(2024, 12, 31)))[: len(REAL_DAYS)]
RETURNS = REAL.with_columns(pl.col("session_date").replace_strict(dict(zip(REAL_DAYS, OPENED, strict=True))))
LAST = OPENED[-1]
COMPUTED = OPENED[-25:]
"""Enough for the risk metrics of a month."""

YOUNG, YOUNG_SESSIONS = "YAMD", 66
"""The returns of AMD, but only the last of them; oil was not quoted on six of these sessions."""

WITHOUT_COMMON = {"Gold": ("EARLY", "RRC", slice(None, 140)), "China": ("LATE", "BAC", slice(150, None))}
"""Two proxies that no session has returns of both of: their symbols, and which returns they are."""

STOCKS = sorted(set(RETURNS["symbol"]) - set(PROXIES.values()))
TLT_LIKE = f"XOM{LAST + timedelta(days=252):%y%m%d}C00082000"
DEEP = f"HD{LAST + timedelta(days=42):%y%m%d}C00040000"
LEVELS = {"XOM": 92.06, "HD": 112.1}
"""Closes of the last session that the two contracts were seen with; every other symbol's is 100."""

QUOTES = {TLT_LIKE: 11.73, DEEP: 72.22}
CONTRACTS = [
    f"AMD{LAST + timedelta(days=171):%y%m%d}{kind}{strike:05}000" for kind in "CP" for strike in range(80, 130, 5)
]
"""Twenty options on one company."""

STATED = """
  - id: growth_of_old
    name: Technology gains while the market falls
    category: historical
    severity: extreme
    shocks: {Market: -0.35, Value: -0.40, Quality: 0.10, Oil: -0.65, Technology: 0.15}
  - id: crisis_of_what_there_is
    name: Liquidity crisis without credit
    category: volatility
    severity: severe
    shocks: {Market: -0.20, Size: {relative: -0.10}, Quality: {relative: 0.05}}
    volatility_shift: 0.8
  - id: both_without_common
    name: Gold and China
    category: combined
    severity: severe
    shocks: {Market: -0.10, Gold: 0.10, China: -0.15}
"""
FALLING = ["vix_spike_150", "market_crash_35", "crisis_of_what_there_is", "quality_flight_12"]


def closes() -> list[str]:
    """Rows of prices.csv: paths that end at LEVELS, or at 100."""
    panel = {symbol: own.sort("session_date") for (symbol,), own in RETURNS.group_by("symbol")}
    series = {symbol: (own["session_date"].to_list(), own["simple_return"].to_list()) for symbol, own in panel.items()}
    amd = series["AMD"]
    series[YOUNG] = tuple(column[-YOUNG_SESSIONS:] for column in amd)
    series["MMF"] = (amd[0], [0.0] * len(amd[0]))
    series["NEG"] = (amd[0], [-move for move in amd[1]])
    for symbol, twin, part in WITHOUT_COMMON.values():
        series[symbol] = tuple(column[part] for column in series[twin])
    found = []
    for symbol, (days, moves) in series.items():
        level = LEVELS.get(symbol, 100.0)
        for day, move in zip(reversed(days), reversed(moves), strict=True):
            found.append(f"{symbol},{day},{level:.6f}")
            level /= 1.0 + move
        before = max(known for known in (OPENED[0], *OPENED) if known <= days[0])
        place = OPENED.index(before)
        if place:
            found.append(f"{symbol},{OPENED[place - 1]},{level:.6f}")
    return found


def write(folder: Path) -> dict[str, str]:
    """The folder of files, and the settings that name them."""

    def csv(name: str, header: str, lines: list[str]) -> None:
        (folder / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")

    csv("prices", "symbol,date,close", closes())
    csv(
        "option_prices",
        "symbol,date,close",
        [f"{symbol},{LAST},{price}" for symbol, price in QUOTES.items()],
    )
    curve = {"1M": 0.0242, "3M": 0.02, "6M": 0.045, "1Y": 0.045, "10Y": 0.03}
    csv(
        "treasury_yields",
        "date,tenor,yield",
        [
            # the risk-free rate varies, as it does: cash had a Sharpe ratio for that
            f"{day},{tenor},{level + 0.0001 * (number % 3):.4f}"
            for number, day in enumerate(OPENED)
            for tenor, level in curve.items()
        ],
    )
    kinds = {"SPX": "index", "VIX": "index", "COMP": "index", "WTI": "etf", "EARLY": "etf", "LATE": "etf"}
    csv(
        "instruments",
        "symbol,kind,name,sector,industry,dividend_yield",
        [
            *(f"{symbol},{kinds.get(symbol, 'etf')},,,," for symbol in [*PROXIES.values(), "EARLY", "LATE"]),
            *(f"{symbol},stock,,,,{'0.0415' if symbol == 'XOM' else ''}" for symbol in [*STOCKS, YOUNG, "NEG"]),
            "MMF,fund,,,,",
        ],
    )
    shipped = pl.read_csv(SHIPPED.joinpath("factor_definitions.csv").read_text().encode())
    others = {factor: symbol for factor, (symbol, *_) in WITHOUT_COMMON.items()}
    factors = shipped.with_columns(
        proxy_symbol=pl.col("factor").replace_strict({**PROXIES, **others}, default=pl.col("proxy_symbol"))
    )
    factors.write_csv(folder / "factors.csv")
    (folder / "scenarios.yaml").write_text(SHIPPED.joinpath("stress_scenarios.yaml").read_text().rstrip() + STATED)
    return {
        "price_source": "files",
        "files_dir": str(folder),
        "factors_file": str(folder / "factors.csv"),
        "scenarios_file": str(folder / "scenarios.yaml"),
        "first_session": str(OPENED[0]),
    }


HELD = [(symbol, 100, 100) for symbol in (*STOCKS, YOUNG)]
BOOKS: dict[str, list[tuple[str, float, float]]] = {
    "stocks": HELD,
    "options": [("AMD", 100, 100), (TLT_LIKE, 5, 11.73), (DEEP, 5, 72.22)],
    "one company": [(contract, 1, 10) for contract in CONTRACTS],
    "offsetting": [("AMD", 1000, 100), ("NEG", 1000, 100)],
    "cash": [("MMF", 5000, 100)],
}


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as folder:
        settings = write(folder)
        with temporary_home() as home, installation(server, home, **settings) as made:
            importer = books.Importer(made.database, made.settings, open_source(made.settings, CALENDAR))
            for name, held in BOOKS.items():
                lines = [f"{symbol},{quantity},{price},{COMPUTED[0]}" for symbol, quantity, price in held]
                text = "\n".join(["ticker,quantity,entry_price,entry_date", *lines]) + "\n"
                importer.positions(
                    text.encode(), f"{name}.csv", books.Book(name=name, equity="1000000", benchmark="SPX")
                )
            expect(made.launcher.run(Chunk(job="reference")))
            run_history(made, COMPUTED[0], LAST)
            yield made


def of_book(opened: Installation, table: Any, name: str) -> pl.DataFrame:
    """Rows of the last session and one book, with the symbols of its positions."""
    codes = rows(opened, tables.portfolios).filter(pl.col("name") == name)
    found = rows(opened, table, [LAST]).join(codes.select("portfolio_id"), on="portfolio_id", how="semi")
    if "position_id" not in found.columns:
        return found
    return found.drop("symbol", strict=False).join(
        rows(opened, tables.positions).select("position_id", "symbol"), on="position_id"
    )


def implied(opened: Installation, scenario_id: str) -> dict[str, float]:
    moves = of_book(opened, tables.stress_position_results, "stocks").filter(scenario_id=scenario_id)
    return dict(moves.select("symbol", "implied_return").iter_rows())


def test_the_higher_the_beta_the_deeper_the_fall(opened: Installation) -> None:
    """In a spike of volatility five high-beta stocks had lost 7.6 % and five low-beta ones 22.8 %."""
    betas = rows(opened, tables.symbol_factor_betas, [LAST]).filter(factor="Market")
    known = dict(betas.select("symbol", "beta").iter_rows())
    for scenario_id in FALLING:
        moves = implied(opened, scenario_id)
        rank = stats.spearmanr([known[symbol] for symbol in STOCKS], [moves[symbol] for symbol in STOCKS]).statistic
        assert rank < -0.5, (scenario_id, rank)
    by_beta = [implied(opened, "vix_spike_150")[symbol] for symbol in sorted(STOCKS, key=lambda name: known[name])]
    assert sum(by_beta[-5:]) < sum(by_beta[:5]) < 0


def test_a_young_stock_falls_as_it_does_with_its_full_history(opened: Installation) -> None:
    """With 60 returns a stock had gained 199 % in a spike of volatility and 122 % in a crisis of liquidity."""
    betas = rows(opened, tables.symbol_factor_betas, [LAST]).filter(factor="Market", symbol=YOUNG)
    assert betas["n_obs"].item() == YOUNG_SESSIONS
    for scenario_id in ("vix_spike_150", "crisis_of_what_there_is"):
        moves = implied(opened, scenario_id)
        assert moves[YOUNG] == pytest.approx(moves["AMD"], abs=0.17), scenario_id
        assert moves[YOUNG] < -0.1, scenario_id


def test_factors_nobody_shocks_hide_nothing(opened: Installation) -> None:
    """Two proxies without common sessions had made every factor NULL, a single shock of the market included."""
    results = of_book(opened, tables.stress_test_results, "stocks")
    status = dict(results.select("scenario_id", "status").iter_rows())
    assert status["both_without_common"] == "insufficient_history"
    assert {status[name] for name in FALLING} == {"ok"}
    # of a factor that began late: a shock of it alone is beta x shock
    assert status["china_slowdown_15"] == "ok"
    sessions = rows(opened, tables.stress_scenario_diagnostics, [LAST])
    observed = dict(sessions.select("scenario_id", "moments_n_obs").iter_rows())
    assert observed["crisis_of_what_there_is"] == 252
    single = of_book(opened, tables.market_risk_scenarios, "stocks").filter(scenario_type="market")
    assert single["pnl"].null_count() == 0
    risk = of_book(opened, tables.portfolio_risk_metrics, "stocks")
    assert risk["factor_var_95"].null_count() == risk.height, "a style factor without prices is told"
    assert set(risk["factor_var_status"]) == {"factor_without_data"}


def test_contradictory_shocks_are_found_and_marked(opened: Installation) -> None:
    """Technology +15 % beside a falling market was applied as -22 % on every session, with the check green."""
    shocks = rows(opened, tables.stress_scenario_shocks, [LAST]).filter(scenario_id="growth_of_old")
    technology = shocks.filter(factor="Technology").row(0, named=True)
    assert technology["stated"] == 0.15
    assert technology["effective"] < -0.2
    found = opened.database.query(
        "SELECT passed, description FROM sigmasight.data_quality_results "
        "WHERE check_name = 'stated_shocks_honoured' AND session_date = %s",
        (LAST,),
    )
    assert found["passed"].to_list() == [False]
    assert "growth_of_old: stated shocks not honoured, " in found["description"].item()
    assert set(scenarios.marks(opened.database, [LAST])) == {(LAST, "growth_of_old")}, "no shipped one"


def test_no_option_loses_more_than_it_is_worth_nor_less_than_its_stock(opened: Installation) -> None:
    """One read at the historical volatility lost 111 %; the loss of one read at 102 % was understated by a fifth."""
    values = of_book(opened, tables.position_values, "options")
    greeks = of_book(opened, tables.position_greeks, "options")
    implied_of = dict(greeks.select("symbol", "vol_status").iter_rows())
    assert (implied_of[TLT_LIKE], implied_of[DEEP]) == ("ok", "insensitive")
    delta = dict(greeks.select("symbol", "delta_per_share").iter_rows())
    assert delta[TLT_LIKE] == pytest.approx(0.78, abs=0.01)
    moves = of_book(opened, tables.stress_position_results, "options").drop_nulls("pnl")
    worth = dict(values.select("symbol", pl.col("market_value").cast(pl.Float64)).iter_rows())
    lost = moves.filter(symbol=TLT_LIKE).select("scenario_id", pl.col("pnl").cast(pl.Float64)).rows()
    assert len(lost) >= 20
    assert min(pnl for _, pnl in lost) >= -worth[TLT_LIKE]
    crash = moves.filter(scenario_id="market_crash_35")
    assert float(crash.filter(symbol=TLT_LIKE)["pnl"].item()) == pytest.approx(-worth[TLT_LIKE], rel=0.1)
    for scenario_id in ("market_crash_35", "crisis_of_what_there_is"):
        deep = moves.filter(scenario_id=scenario_id, symbol=DEEP).row(0, named=True)
        assert deep["implied_return"] < -0.1
        # one for one with the stock, whatever volatility does
        assert float(deep["pnl"]) == pytest.approx(500 * LEVELS["HD"] * deep["implied_return"], rel=0.002)


def test_cash_earns_no_sharpe_ratio_and_hits_nothing(opened: Installation) -> None:
    """A book of cash had a Sharpe ratio of -8,179."""
    month = of_book(opened, tables.portfolio_risk_metrics, "cash").filter(window_sessions=21).row(0, named=True)
    assert (month["status"], month["sharpe"], month["sortino"]) == ("no_variance", None, None)
    assert (month["volatility"], month["hit_rate"], month["beta"]) == (0.0, 0.0, 0.0)
    assert of_book(opened, tables.portfolio_simulated_risk, "cash")["var_95"].item() == 0.0


def test_twenty_contracts_on_one_company_are_one_name(opened: Installation) -> None:
    """Each contract had counted as a name of its own."""
    found = of_book(opened, tables.portfolio_exposures, "one company").row(0, named=True)
    assert (found["option_count"], found["hhi"], found["effective_positions"]) == (20, 1.0, 1.0)
    assert found["top_1_weight"] == 1.0


def test_two_holdings_are_at_most_two_bets(opened: Installation) -> None:
    """Two that nearly offset each other were 1,000."""
    found = of_book(opened, tables.correlation_calculations, "offsetting").row(0, named=True)
    assert found["overall_correlation"] < -0.99
    assert found["effective_positions"] == 2.0
