"""The `files` source: market data from a folder of CSV or Parquet files.

What belongs here: which tables the folder may have, their columns, and the rules of one row and between rows of a
file. What does not: reading cells (``market_data.data_file``) and judging prices (``market_data.screening``): a zero
close or a date without trading is delivered as it is.

Only `prices` is required; a missing optional file means "none". A file is read once and again when it changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from sigmasight_pipeline.market_data.data_file import ROW, UNREADABLE, Column, DataFile, Kind, find_file
from sigmasight_pipeline.market_data.screening import Reason
from sigmasight_pipeline.market_data.source import (
    ACTIONS,
    BARS,
    INSTRUMENTS,
    OPTION_BARS,
    YIELDS,
    MarketDataError,
)
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.tables.market import TENORS
from sigmasight_pipeline.storage.tables.reference import EXERCISE_STYLES, INSTRUMENT_KINDS
from sigmasight_pipeline.symbols import canonical_symbol, looks_like_option, parse_option, private_symbol

DECIMAL_YIELD = "write decimals, 0.0425 for 4.25 %"
POSITIVE = "a number above 0"


def _optional(name: str, kind: Kind = "price", **details: Any) -> Column:
    return Column(name, kind, mandatory=False, empty=True, **details)


FILES: dict[str, tuple[Column, ...]] = {
    "prices": (
        Column("symbol", "text"),
        Column("date", "date"),
        _optional("open"),
        _optional("high"),
        _optional("low"),
        Column("close", "price", empty=True),
        _optional("volume", "number", lenient=True),
    ),
    "corporate_actions": (
        Column("symbol", "text"),
        Column("ex_date", "date"),
        Column("kind", "code", values=("split", "dividend")),
        Column("split_from", "price", empty=True),
        Column("split_to", "price", empty=True),
        Column("cash_amount", "price", empty=True),
        _optional("pay_date", "date"),
    ),
    "treasury_yields": (
        Column("date", "date"),
        Column("tenor", "code", values=TENORS),
        Column("yield", "number", bounds=(-0.05, 0.30), hint=DECIMAL_YIELD),
    ),
    "option_prices": (
        Column("symbol", "text"),
        Column("date", "date"),
        Column("close", "price", empty=True),
        _optional("bid", bounds=(0, None)),
        _optional("ask", bounds=(0, None)),
        _optional("implied_volatility", "number", bounds=(0.001, 20), hint="write decimals, 0.25 for 25 %"),
        _optional("open_interest", "number", bounds=(0, None)),
    ),
    "instruments": (
        Column("symbol", "text"),
        Column("kind", "code", values=INSTRUMENT_KINDS),
        Column("name", "text", empty=True),
        Column("sector", "text", empty=True),
        Column("industry", "text", empty=True),
        _optional("duration", "number"),
        _optional("last_session", "date"),
        _optional("replaced_by", "text"),
        _optional("exercise_style", "code", values=EXERCISE_STYLES),
        _optional("dividend_yield", "number", bounds=(-0.05, 0.5), hint="write decimals, 0.018 for 1.8 %"),
    ),
}
"""Columns of every file the source delivers from; the header decides their order."""


class FilesSource:
    """The folder as a source (``market_data.source.MarketDataSource``). Every method may raise MarketDataError."""

    name = "files"
    local = True

    def __init__(self, folder: Path, calendar: SessionCalendar) -> None:
        self._folder = folder
        self._calendar = calendar
        self._cache: dict[Path, tuple[tuple[int, int], pl.DataFrame]] = {}
        self._digested: tuple[dict[Path, tuple[int, int]], dict[str, str]] = ({}, {})

    def stored_range(self) -> tuple[date, date] | None:
        """First and last session within the dates of the prices file; None where there is none."""
        days = self._prices()["session_date"].unique().sort()
        sessions = self._calendar.between(days[0], days[-1])
        return (sessions[0], sessions[-1]) if sessions else None

    def contents(self) -> dict[str, str]:
        """A digest of each month's rows of all files; the order of rows and what is unreadable do not count."""
        parts = [
            (self._prices(), "session_date"),
            (self._load("corporate_actions", _read_actions, ACTIONS), "ex_date"),
            (self._load("option_prices", _read_options, OPTION_BARS), "session_date"),
            (self._load("treasury_yields", _read_yields, YIELDS), "observed_date"),
        ]
        there = {find_file(self._folder, name) for name in FILES}
        versions = {path: version for path, (version, _) in self._cache.items() if path in there}
        if self._digested[0] != versions:
            months = pl.concat(
                [
                    frame.select(month=pl.col(day).dt.strftime("%Y-%m"), row=frame.hash_rows(seed=number))
                    for number, (frame, day) in enumerate(parts)
                ]
            )
            sums = months.group_by("month").agg(pl.col("row").cast(pl.UInt128).sum(), pl.len().alias("rows"))
            self._digested = (
                versions,
                {
                    month: sha256(f"{total}:{rows}".encode()).hexdigest()[:8]
                    for month, total, rows in sums.sort("month").iter_rows()
                },
            )
        return dict(self._digested[1])

    def changed_at(self) -> datetime | None:
        """When the newest of the files was written."""
        paths = [find_file(self._folder, name) for name in FILES]
        written = [path.stat().st_mtime for path in paths if path is not None]
        return datetime.fromtimestamp(max(written), UTC) if written else None

    def symbols(self) -> Collection[str]:
        """Every symbol of the prices file, sorted."""
        return tuple(self._prices()["symbol"].unique().sort())

    def daily_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """The rows of the prices file, in its order, whatever they are worth."""
        return _chosen(self._prices(), symbols, "session_date", first, last)

    def corporate_actions(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Splits and dividends by the ex-date the file states."""
        return _chosen(self._load("corporate_actions", _read_actions, ACTIONS), symbols, "ex_date", first, last)

    def option_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Quotes by compact OCC symbol."""
        return _chosen(self._load("option_prices", _read_options, OPTION_BARS), symbols, "session_date", first, last)

    def treasury_yields(self, first: date, last: date) -> pl.DataFrame:
        """Yields as the file states them."""
        return self._load("treasury_yields", _read_yields, YIELDS).filter(
            pl.col("observed_date").is_between(first, last)
        )

    def instruments(self, symbols: Collection[str]) -> pl.DataFrame:
        """The rows of the instruments file about `symbols`."""
        return self._load("instruments", _read_instruments, INSTRUMENTS).filter(pl.col("symbol").is_in(list(symbols)))

    def _prices(self) -> pl.DataFrame:
        return self._load("prices", _read_prices, BARS)

    def _load(
        self, name: str, read: Callable[[DataFile], pl.DataFrame], schema: dict[str, pl.DataType]
    ) -> pl.DataFrame:
        if not self._folder.is_dir():
            raise MarketDataError(
                f"the folder of the files source, {self._folder}, does not exist: create it with prices.csv or "
                "prices.parquet in it, or set SIGMASIGHT_FILES_DIR to the right folder"
            )
        path = find_file(self._folder, name)
        if path is None:
            if name == "prices":
                raise MarketDataError(
                    f"{self._folder} has neither prices.csv nor prices.parquet: put one there with the columns "
                    "symbol, date, close, or set SIGMASIGHT_FILES_DIR to the right folder"
                )
            return pl.DataFrame(schema=schema)
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        known = self._cache.get(path)
        if known is None or known[0] != version:
            known = (version, read(DataFile(path, FILES[name])).select(list(schema)))
            self._cache[path] = known
        return known[1]


def _chosen(frame: pl.DataFrame, symbols: Collection[str], day: str, first: date, last: date) -> pl.DataFrame:
    return frame.filter(pl.col(day).is_between(first, last) & pl.col("symbol").is_in(list(symbols)))


def _listed_symbol(text: str) -> str:
    if looks_like_option(text):
        raise ValueError(f"{text!r} is an option; its closes belong in option_prices, its underlying's actions apply")
    return canonical_symbol(text)


def _read_prices(file: DataFile) -> pl.DataFrame:
    frame = file.read().rename({"date": "session_date"})
    if frame.is_empty():
        raise MarketDataError(f"{file.path} has a header and no rows; expected at least one price")
    rows = frame.filter(UNREADABLE)[ROW]
    problems = pl.DataFrame(
        {
            ROW: rows,
            "problem": [Reason.VOLUME_NOT_A_NUMBER.value] * len(rows),
            "received": [json.dumps(cells, sort_keys=True) for cells in file.received(rows.to_list())],
        },
        schema={ROW: frame.schema[ROW], "problem": pl.String(), "received": pl.String()},
    )
    frame = frame.join(problems, on=ROW, how="left", maintain_order="left")
    return file.parse(frame, "symbol", _listed_symbol)


def _read_actions(file: DataFile) -> pl.DataFrame:
    frame = file.parse(file.read(), "symbol", _listed_symbol)
    is_split = pl.col("kind") == "split"
    needed = {"split_from": is_split, "split_to": is_split, "cash_amount": ~is_split}
    for column, concerned in needed.items():
        file.refuse(frame, concerned & ~(pl.col(column) > 0).fill_null(False), column, POSITIVE)
    file.refuse_duplicates(
        frame, ["symbol", "ex_date", "kind"], "add several dividends of one ex-date up, remove a repeated row"
    )
    return frame.with_columns(pl.when(concerned).then(column) for column, concerned in needed.items())


def _read_options(file: DataFile) -> pl.DataFrame:
    frame = file.parse(file.read(), "symbol", lambda text: parse_option(text).symbol)
    file.refuse(frame, pl.col("close") <= 0, "close", f"{POSITIVE} or nothing")
    file.refuse_duplicates(frame, ["symbol", "date"], "keep one")
    return frame.rename({"date": "session_date"})


def _read_yields(file: DataFile) -> pl.DataFrame:
    frame = file.read()
    file.refuse_duplicates(frame, ["date", "tenor"], "keep one")
    return frame.rename({"date": "observed_date"})


def _read_instruments(file: DataFile) -> pl.DataFrame:
    frame = file.read()
    is_private, is_option = pl.col("kind") == "private", pl.col("kind") == "option"
    frame = file.parse(frame, "symbol", private_symbol, where=is_private)
    frame = file.parse(frame, "symbol", lambda text: parse_option(text).symbol, where=is_option)
    frame = file.parse(frame, "symbol", _listed_symbol, where=~is_private & ~is_option)
    frame = file.parse(frame, "replaced_by", _listed_symbol)
    file.refuse_duplicates(frame, ["symbol"], "keep one")
    return frame
