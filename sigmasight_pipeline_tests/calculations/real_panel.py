"""Real daily returns of twenty stocks, five factor funds and three indices, June 2017 to December 2018.

What belongs here: reading ``real_panel.csv`` and making the frames the stress engines read of it. What does not:
expected figures. The file has simple returns in hundred-thousandths, none where a market was closed. Its prices are
those of the example data sets of two Python packages: skfolio 1.12.2 (BSD 3-clause; ``sp500_dataset``,
``factors_dataset``, adjusted closes, and ``sp500_index``) and arch 8.0.0 (NCSA; ``vix``, ``wti``, ``nasdaq``).
"""

from __future__ import annotations

import json
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.importing.scenarios import read_scenarios
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import no_yields, return_rows
from sigmasight_pipeline_tests.calculations.stress_world import World, factor_rows, held, long
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor

SHIPPED = Path(str(resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")))

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
    """``daily_returns`` of the file."""
    panel = pl.read_csv(Path(__file__).with_suffix(".csv"), try_parse_dates=True)
    symbols = panel.columns[1:]
    values = panel.select(pl.col(symbols).cast(pl.Float64) / 1e5).to_numpy()
    return return_rows(panel["session_date"].to_list(), symbols, values)


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
    book = held(SESSIONS, [long(number, symbol) for number, symbol in enumerate(stocks)], 2_500_000, 1)
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
