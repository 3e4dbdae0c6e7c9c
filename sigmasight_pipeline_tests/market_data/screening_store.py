"""A store for screening tests: applies what `screen` decides as the pipeline's writer does, in memory."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl

from sigmasight_pipeline.market_data.screening import Screened, screen
from sigmasight_pipeline.market_data.source import ACTIONS, BARS
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame

CALENDAR = SessionCalendar(date(2024, 1, 1), date(2024, 12, 31))
DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 3, 28))
LIMITS = {"large_move": 0.5, "quarantine_rise": 4.0, "quarantine_fall": 0.8, "confirmation_band": 0.2}


def bar(symbol, day, close, *, open_=None, high=None, low=None, volume=None, problem=None, received=None):
    """A received row; `day` is a date or the number of a session."""
    prices = [None if value is None else Decimal(str(value)) for value in (open_, high, low, close)]
    return (symbol, DAYS[day] if isinstance(day, int) else day, *prices, volume, problem, received)


def bars(*rows):
    return pl.DataFrame(list(rows), schema=BARS, orient="row")


def actions(*rows):
    """Rows (symbol, day number, 'split' or 'dividend', new shares per old one or amount)."""
    return pl.DataFrame(
        [
            (
                symbol,
                DAYS[n],
                kind,
                Decimal(1) if kind == "split" else None,
                Decimal(str(value)) if kind == "split" else None,
                Decimal(str(value)) if kind == "dividend" else None,
                None,
            )
            for symbol, n, kind, value in rows
        ],
        schema=ACTIONS,
        orient="row",
    )


class Store:
    """Stored prices, rejections and revisions; every run takes a minute of its own."""

    def __init__(self, *, symbols=("A", "B"), kinds=None, actions=None, closed=(), renamed=None):
        self.symbols, self.kinds, self.closed, self.renamed = symbols, kinds or {}, closed, renamed or {}
        self.actions = pl.DataFrame(schema=ACTIONS) if actions is None else actions
        self.prices = empty_frame(tables.daily_prices)
        self.rejected = empty_frame(tables.rejected_prices)
        self.revisions = empty_frame(tables.daily_price_revisions).drop("revision_id")
        self.runs = 0

    def run(self, received: pl.DataFrame, first=0, last=None, *, accept=(), later=False) -> Screened:
        """Screen `received` for sessions `first` to `last` (numbers) and store it; `later`: later stored rows seen."""
        start, end = DAYS[first], DAYS[first if last is None else last]
        before = self.prices.filter(pl.col("session_date") < start).sort("session_date")
        self.runs += 1
        result = screen(
            received,
            symbols=self.symbols,
            first=start,
            last=end,
            calendar=CALENDAR,
            closed=self.closed,
            previous=before.unique("symbol", keep="last").select("symbol", "session_date", "close"),
            stored=self.prices.filter(pl.col("session_date").is_between(start, DAYS[-1] if later else end)),
            actions=self.actions,
            kinds=self.kinds,
            renamed=self.renamed,
            rejections=self.rejected,
            accepted_rejections=accept,
            source="test",
            now=datetime(2024, 7, 1, 12, self.runs % 60, tzinfo=UTC),
            **LIMITS,
        )
        key = ["session_date", "symbol"]
        self.prices = pl.concat([self.prices.join(result.accepted, on=key, how="anti"), result.accepted]).sort(key)
        new = result.rejected.filter(pl.col("rejection_id").is_null())
        old = result.rejected.filter(pl.col("rejection_id").is_not_null())
        numbered = new.with_columns(rejection_id=pl.int_range(pl.len(), dtype=pl.Int64) + 1 + len(self.rejected))
        kept = self.rejected.join(old, on="rejection_id", how="anti")
        self.rejected = pl.concat([kept, old, numbered]).sort("rejection_id")
        self.revisions = pl.concat([self.revisions, result.revisions])
        return result

    def run_each(self, received: pl.DataFrame, first: int, last: int) -> list[Screened]:
        """Session by session."""
        return [self.run(received.filter(pl.col("session_date") == DAYS[n]), n) for n in range(first, last + 1)]

    def closes(self, symbol="A"):
        """Session number to stored close."""
        rows = self.prices.filter(pl.col("symbol") == symbol)
        return {DAYS.index(day): float(close) for day, close in rows.select("session_date", "close").iter_rows()}

    def verdicts(self):
        """(symbol, session number, reason, status) of everything refused, sorted."""
        rows = self.rejected.select("symbol", "session_date", "reason", "status").iter_rows()
        return sorted((s, DAYS.index(d) if d in DAYS else d, r, status) for s, d, r, status in rows)

    def lasting(self):
        """What must not depend on how the sessions were cut into runs."""
        return (
            self.prices.drop("fetched_at").rows(),
            sorted(self.rejected.drop("rejection_id", "rejected_at").rows()),
            sorted(self.revisions.drop("fetched_at", "replaced_at").rows()),
        )
