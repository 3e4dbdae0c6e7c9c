"""A hedged book from a user's price file: its hedge stays one whatever else is in the file, and cash is no unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.cli import console, summary
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, expect, installation, rows, run_sessions

DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 2, 29))
LAST = DAYS[-1]
MARKET = np.random.default_rng(1).normal(0.0005, 0.01, len(DAYS) - 1)
FEW, MANY = 15, 25
SETTINGS = {
    "price_source": "files",
    "first_session": "2024-01-02",
    "regression_window": "30",
    "simulation_window": "30",
    "min_observations": "25",
    "winsorize_min_symbols": "20",
    "winsorize_percentile": "0.05",
}

BOOK = (
    "ticker,quantity,entry_price,entry_date\nS00,600,100,2024-01-02\nINV,200,100,2024-01-02\nCASH,300,100,2024-01-02\n"
)
"""60,000 long a stock, an inverse fund against it, and 30 % in a money market fund at an unmoving price."""


def closes(name: str, beta: float, noise: float) -> list[str]:
    """Rows of prices.csv of a symbol that starts at 100 and follows the market by `beta`."""
    own = np.random.default_rng([*name.encode()]).normal(0, 1, len(MARKET)) * noise
    path = 100 * np.concatenate([[1.0], np.cumprod(1 + beta * MARKET + own)])
    return [f"{name},{day},{value:.6f}" for day, value in zip(DAYS, path, strict=True)]


def write(folder: Path, stocks: int) -> None:
    lines = ["symbol,date,close", *closes("SPY", 1.0, 0.0), *closes("INV", -3.0, 0.0004), *closes("CASH", 0.0, 0.0)]
    for number in range(stocks):
        lines += closes(f"S{number:02}", 0.8 + 0.02 * number, 0.008)
    (folder / "prices.csv").write_text("\n".join(lines) + "\n")
    (folder / "instruments.csv").write_text(
        "symbol,kind,name,sector,industry\nS00,stock,,Technology,\nINV,etf,,,\nCASH,fund,,,\n"
    )
    resources._source.cache_clear()


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Path]]:
    folder = tmp_path_factory.mktemp("prices")
    write(folder, FEW)
    with temporary_home() as home, installation(server, home, files_dir=str(folder), **SETTINGS) as made:
        importer = books.Importer(made.database, made.settings, open_source(made.settings, CALENDAR))
        importer.positions(BOOK.encode(), "book.csv", books.Book(name="Book", equity="100000"))
        compute(made)
        yield made, folder


def compute(made: Installation) -> None:
    expect(made.launcher.run(Chunk(job="reference")))
    expect(run_sessions(made, DAYS[0], LAST))


def told(made: Installation) -> tuple[float, Decimal]:
    """Market beta of the book, and what it loses when the market falls by a fifth."""
    exposures = rows(made, tables.portfolio_factor_exposures, [LAST]).filter(factor="Market")
    assert exposures.select("status", "coverage").rows() == [("ok", 1.0)]
    shock = rows(made, tables.market_risk_scenarios, [LAST]).filter(scenario="market_down_20")
    return exposures["beta"].item(), shock["pnl"].item()


def test_more_stocks_in_the_file_leave_the_hedge_a_hedge(opened: tuple[Installation, Path]) -> None:
    """At 205 stocks instead of 150 a market beta of 0.06 had become 0.87: the fund's -3 was clipped to the stocks'."""
    made, folder = opened
    before, loss_before = told(made)
    assert abs(before) < 0.2
    write(folder, MANY)
    compute(made)
    after, loss_after = told(made)
    inverse = rows(made, tables.symbol_factor_betas, [LAST]).filter(symbol="INV", factor="Market")
    assert inverse["beta"].item() == pytest.approx(-3.0, abs=0.05)
    assert after == pytest.approx(before, abs=0.03)
    assert float(loss_after) == pytest.approx(float(loss_before), abs=600)
    kept = made.database.query(
        "SELECT passed, metadata -> 'figures' ->> 'dollars_moved_portfolio_1' AS moved "
        "FROM sigmasight.data_quality_results WHERE check_name = 'winsorised_dollars' AND session_date = %s "
        "ORDER BY checked_at DESC LIMIT 1",
        (LAST,),
    )
    assert kept["moved"].item() is not None, "the dollars that winsorising moved are told, passed or not"


def test_cash_leaves_every_figure_known(opened: tuple[Installation, Path]) -> None:
    """With its beta unknown, coverage was 0.7 and every factor figure, scenario and value at risk NULL."""
    made, _ = opened
    cash = rows(made, tables.symbol_factor_betas, [LAST]).filter(symbol="CASH", factor="Market")
    assert cash.select("beta", "std_error", "quality").rows() == [(0.0, 0.0, "constant")]
    assert rows(made, tables.market_risk_scenarios, [LAST]).filter(scenario_type="market")["pnl"].null_count() == 0
    risk = rows(made, tables.portfolio_simulated_risk, [LAST])
    assert risk.select("status", "coverage", "n_obs").rows() == [("ok", 1.0, 30)]
    parts = rows(made, tables.position_risk_contributions, [LAST])
    assert parts["component_es_975"].sum() == risk["expected_shortfall_975_dollars"].item()
    held = rows(made, tables.positions).filter(pl.col("symbol") == "CASH")["position_id"].item()
    assert parts.filter(position_id=held)["component_es_975"].item() == 0


def test_sectors_are_judged_by_dollars(opened: tuple[Installation, Path]) -> None:
    """Its one stock has a sector, so nothing was said; the funds have none, and they are nearly half of the book."""
    made, _ = opened
    found = made.database.query(
        "SELECT description FROM sigmasight.data_quality_results WHERE check_name = 'sectors_known' AND NOT passed "
        "AND session_date = %s ORDER BY checked_at DESC LIMIT 1",
        (LAST,),
    )
    told = re.search(r"(\d+\.\d)% of its gross exposure has no sector \(CASH, INV\)", found["description"].item())
    assert told is not None
    values = rows(made, tables.position_values, [LAST]).with_columns(pl.col("market_value").cast(pl.Float64))
    funds = values.filter(pl.col("symbol").is_in(["CASH", "INV"]))["market_value"].sum()
    assert float(told[1]) == pytest.approx(100 * funds / values["market_value"].sum(), abs=0.06)
    assert 40 < float(told[1]) < 50


def test_the_summary_shows_what_today_s_positions_would_have_lost(opened: tuple[Installation, Path]) -> None:
    made, _ = opened
    risk = rows(made, tables.portfolio_simulated_risk, [LAST]).row(0, named=True)
    with console.out.capture() as printed:
        summary.print_portfolios(made.database)
    shown = " ".join(printed.get().split())
    for figure in (f"{risk['var_95']:.2%}", f"{risk['expected_shortfall_975']:.2%}", f"{risk['worst_pnl']:,}"):
        assert figure in shown
    assert f"({risk['worst_session']})" in shown
    assert "of the shortfall is" in shown
