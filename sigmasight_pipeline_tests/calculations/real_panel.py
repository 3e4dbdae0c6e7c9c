"""Real daily returns of twenty stocks, five factor funds and three indices, June 2017 to December 2018.

What belongs here: reading them, and making the frames the stress engines read of them. What does not: expected figures.
No price is kept in this repository: they are the example data sets of two Python packages, skfolio (``sp500_dataset``,
``factors_dataset``, ``sp500_index``) and arch (``vix``, ``wti``, ``nasdaq``), read where `make test` has unpacked them.
Returns are rounded to hundred-thousandths; there is none where a market was closed.
"""

from __future__ import annotations

import gzip
import json
import sys
from datetime import date
from importlib import resources
from math import nan
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.importing.scenarios import read_scenarios
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import no_yields, return_rows
from sigmasight_pipeline_tests.calculations.stress_world import World, factor_rows, held, long
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor

SHIPPED = Path(str(resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")))

PANEL = Path(sys.prefix) / "panel"
"""Where `make test` unpacks the two packages; they are not installed, nothing of them is imported."""

PROXIES = {
    "Market": "SPX",
    "Value": "VLUE",
    "Momentum": "MTUM",
    "Quality": "QUAL",
    "Size": "SIZE",
    "Low_Volatility": "USMV",
    "Oil": "WTI",
    "Technology": "COMP",
    "Volatility": "VIX",
}
"""Factors with something in the file that stands for them; COMP is the Nasdaq Composite."""

STYLES = ("Market", "Value", "Momentum", "Quality", "Size", "Low_Volatility")
SESSIONS = [date(2018, 7, 31), date(2018, 12, 31)]
"""The windows before them hold the volatility spike of February 2018 and the fall of that year's last quarter."""


def real_returns() -> pl.DataFrame:
    """``daily_returns`` of the panel; the test is skipped where the packages are not there."""
    if not PANEL.is_dir():
        pytest.skip(f"the example data of skfolio and arch are not in {PANEL}", allow_module_level=True)
    panel = _closes(PANEL)
    symbols = panel.columns[1:]
    moves = panel.select("session_date", ((pl.col(symbols) / pl.col(symbols).shift(1) - 1) * 1e5).round(0) / 1e5)[1:]
    return return_rows(moves["session_date"].to_list(), symbols, moves.select(symbols).fill_null(nan).to_numpy())


def _closes(folder: Path) -> pl.DataFrame:
    """Adjusted closes by session, NULL where there is none."""

    def read(name: str) -> pl.DataFrame:
        return pl.read_csv(gzip.decompress((folder / name).read_bytes()), infer_schema_length=10_000)

    def of_skfolio(name: str) -> pl.DataFrame:
        return read(f"skfolio/datasets/data/{name}.csv.gz").with_columns(pl.col("Date").str.to_date())

    def of_arch(name: str, column: str, symbol: str) -> pl.DataFrame:
        return read(f"arch/data/{name}/{name}.csv.gz").select(
            pl.col("Date").str.to_date("%m/%d/%Y"), pl.col(column).cast(pl.Float64, strict=False).alias(symbol)
        )

    closes = of_skfolio("sp500_index").rename({"SP500": "SPX"})
    for more in (
        of_skfolio("factors_dataset"),
        of_skfolio("sp500_dataset"),
        of_arch("vix", "vix", "VIX"),
        of_arch("wti", "DCOILWTICO", "WTI"),
        of_arch("nasdaq", "Adj Close", "COMP"),
    ):
        closes = closes.join(more, on="Date", how="left")
    window = pl.col("Date").is_between(date(2017, 6, 1), date(2018, 12, 31))
    return closes.sort("Date").filter(window).rename({"Date": "session_date"})


def real_world(returns: pl.DataFrame | None = None) -> World:
    """The panel with 1,000 shares of each stock held at SESSIONS."""
    moves = real_returns() if returns is None else returns
    kinds = [(key, "style" if key in STYLES else "shock_only", proxy) for key, proxy in PROXIES.items()]
    symbols = moves["symbol"].unique().sort().to_list()
    stocks = [symbol for symbol in symbols if symbol not in PROXIES.values()]
    known: dict[str, Any] = {
        "sessions": SESSIONS,
        "calendar": sessions_frame(moves["session_date"].unique().sort().to_list()),
        "factors": frame(tables.factor_definitions, [factor(*row) for row in kinds]),
        "instruments": frame(
            tables.instruments, [{"symbol": symbol, "kind": "stock", "active": True} for symbol in symbols]
        ),
        "returns": moves,
        "yields": no_yields(),
    }
    book = held(
        SESSIONS, [long(number, symbol) for number, symbol in enumerate(stocks)], 2_500_000, 1, known["instruments"]
    )
    return World(**known, betas=symbol_factor_betas(**known), book=book)


def without_unknown(shocks: dict[str, Any]) -> str:
    """Shocks of the factors there are, as a scenario has them."""
    return json.dumps({name: shock for name, shock in shocks.items() if name in PROXIES})


def falling_scenarios() -> list[dict[str, Any]]:
    """The shipped vectors whose market falls, without the factors the panel lacks, the replays, and the worst month."""
    shipped = read_scenarios(SHIPPED, factors=frame(tables.factor_definitions, factor_rows())).to_dicts()
    vectors = [
        {**row, "shocks": without_unknown(json.loads(row["shocks"]))} for row in shipped if row["kind"] == "vector"
    ]
    falling = [row for row in vectors if json.loads(row["shocks"]).get("Market", 0.0) < 0]
    return [*falling, *(row for row in shipped if row["kind"] != "vector")]
