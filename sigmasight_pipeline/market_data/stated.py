"""Files in which the user states what no vendor decides: sectors of symbols, and the risk factors with their proxies.

What belongs here: the columns of these files and the rules between their cells. What does not: reading cells
(``market_data.data_file``), market data itself (``market_data.files``), and portfolios (``importing``).
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from sigmasight_pipeline.market_data.data_file import MOST_BYTES, ROW, UNREADABLE, Column, DataFile
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.storage.tables.reference import FACTOR_KINDS
from sigmasight_pipeline.symbols import canonical_symbol

SECTORS = (
    Column("symbol", "text"),
    Column("sector", "text"),
    Column("industry", "text", mandatory=False, empty=True),
)

FACTORS = (
    Column("factor", "text"),
    Column("name", "text"),
    Column("kind", "code", values=FACTOR_KINDS),
    Column("proxy_symbol", "text", empty=True),
    Column("display_order", "number", bounds=(0, 10_000)),
    Column("active", "code", values=("true", "false")),
)

WITH_PROXY = ("style", "shock_only")
"""Kinds of factor that are the return of a symbol; a rate is a yield, a characteristic a number of each symbol."""


def read_sectors(path: Path, most_bytes: int = MOST_BYTES) -> pl.DataFrame:
    """Sectors (columns symbol, sector, industry) that win over what any source says, sorted by symbol.

    Raises MarketDataError naming the line.
    """
    file = DataFile(_existing(path, "SIGMASIGHT_SECTORS_FILE"), SECTORS, most_bytes)
    frame = file.parse(file.read(), "symbol", canonical_symbol)
    file.refuse_duplicates(frame, ["symbol"], "keep one")
    return frame.select("symbol", "sector", "industry").sort("symbol")


def read_factor_definitions(path: Path, most_bytes: int = MOST_BYTES) -> pl.DataFrame:
    """Rows of ``factor_definitions``, in the order of the file.

    A style or shock-only factor needs a proxy, the others have none, and no symbol is the proxy of two active
    factors. Raises MarketDataError naming the line.
    """
    file = DataFile(_existing(path, "SIGMASIGHT_FACTORS_FILE"), FACTORS, most_bytes)
    frame = file.parse(file.read(), "proxy_symbol", canonical_symbol)
    if frame.is_empty():
        raise MarketDataError(f"{path} has a header and no rows; expected at least one factor")
    file.refuse_duplicates(frame, ["factor"], "keep one")
    proxied = pl.col("kind").is_in(WITH_PROXY)
    file.refuse(frame, proxied & pl.col("proxy_symbol").is_null(), "proxy_symbol", "the symbol that stands for it")
    file.refuse(frame, ~proxied & pl.col("proxy_symbol").is_not_null(), "proxy_symbol", "nothing: it has no proxy")
    active = frame.filter((pl.col("active") == "true") & pl.col("proxy_symbol").is_not_null())
    file.refuse_duplicates(active, ["proxy_symbol"], "give each active factor a proxy of its own")
    whole = pl.col("display_order").round() == pl.col("display_order")
    file.refuse(frame, ~whole, "display_order", "a whole number")
    return frame.drop(ROW, UNREADABLE).with_columns(
        pl.col("display_order").cast(pl.Int32), active=pl.col("active") == "true"
    )


def _existing(path: Path, setting: str) -> Path:
    if not os.path.lexists(path):
        raise MarketDataError(f"there is no file {path}: create it, or set {setting} to the right one")
    return path
