"""Entry prices and option quantities of the demo portfolios, made from a market: the shipped files are its output.

What belongs here: re-basing a positions CSV. What does not: which positions the demo has (the files themselves).

`python -m sigmasight_pipeline.demo.rebase FOLDER` re-bases the CSVs of a folder in place with the default seed; run
it after a change of the simulated market. Re-basing a file twice changes nothing more.
"""

from __future__ import annotations

import csv
import io
import sys
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import polars as pl

from sigmasight_pipeline import sessions
from sigmasight_pipeline.demo import portfolios
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.market_data.source import MarketDataError, MarketDataSource
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.symbols import looks_like_option

OPTION_MULTIPLIER = 100

PREMIUM_TARGETS = {
    "SPY250919C00460000": Decimal(140_000),
    "QQQ250815C00420000": Decimal(105_000),
    "VIX250716C00025000": Decimal(9_000),
    "NVDA251017C00800000": Decimal(62_500),
    "AAPL250815P00200000": Decimal(-45_000),
    "MSFT250919P00380000": Decimal(-40_000),
    "TSLA250815C00300000": Decimal(-48_000),
    "META250919P00450000": Decimal(-37_500),
}
"""Premium each option position was meant to have, US dollars, negative where it was sold.

A call on the volatility index gains fifty times its premium in a crisis: a tenth of the usual premium is a hedge, all
of it is the whole book."""

AS_STATED = ("RDDT250117C00090000",)
"""Contracts bought without an exchange: nobody quotes them, their premium is what the file says."""

DEFAULT_SEED: int = Settings.model_fields["simulated_seed"].default


def rebase(content: bytes, market: MarketDataSource, calendar: SessionCalendar) -> bytes:
    """The positions CSV with entry and exit dates moved to sessions and their prices set to the market's closes.

    The number of contracts of an option with a premium target is the whole number (at least one) whose premium comes
    nearest to it. PRIVATE rows and those AS_STATED are left as
    they are. MarketDataError where the market has no close that session.
    """
    reader = csv.DictReader(io.StringIO(content.decode("utf-8")))
    target = io.StringIO()
    writer = csv.DictWriter(target, reader.fieldnames or [], lineterminator="\n")
    writer.writeheader()
    for row in reader:
        if row.get("investment_class") != "PRIVATE" and row["ticker"] not in AS_STATED:
            session = calendar.on_or_after(date.fromisoformat(row["entry_date"]))
            close = _close(row["ticker"], session, market)
            row["entry_date"] = session.isoformat()
            row["entry_price"] = f"{close:.2f}"
            if row.get("exit_date"):
                left = calendar.on_or_after(date.fromisoformat(row["exit_date"]))
                row["exit_date"], row["exit_price"] = left.isoformat(), f"{_close(row['ticker'], left, market):.2f}"
            if row["ticker"] in PREMIUM_TARGETS:
                row["quantity"] = str(_contracts(PREMIUM_TARGETS[row["ticker"]], close))
        writer.writerow(row)
    return target.getvalue().encode("utf-8")


def _contracts(premium: Decimal, price: Decimal) -> int:
    count = (abs(premium) / (price * OPTION_MULTIPLIER)).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return max(int(count), 1) * (1 if premium > 0 else -1)


def _close(symbol: str, session: date, market: MarketDataSource) -> Decimal:
    read = market.option_bars if looks_like_option(symbol) else market.daily_bars
    found = read([symbol], session, session).filter(pl.col("close").is_not_null())
    if found.is_empty():
        raise MarketDataError(f"{symbol} has no close on {session}: choose another entry date")
    close: Decimal = found.item(0, "close")
    return close


def main(folder: Path) -> None:
    """Re-base the positions CSVs of `folder` in place, with the default seed."""
    calendar = sessions.calendar()
    market = SimulatedMarket(DEFAULT_SEED, calendar)
    for book in portfolios.books():
        path = folder / book.file_name
        path.write_bytes(rebase(path.read_bytes(), market, calendar))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
