"""Generated books: portfolios over a few weeks of a made-up market, with everything that may happen to them.

What belongs here: the Hypothesis strategy, and running the engines over a book the way the assets do. What does not:
assertions.

A book covers the turn of a year (month, quarter and year begin inside it), holidays and maybe an unscheduled closure;
stocks with gaps, splits of all kinds, dividends (also on a split's ex-date or a weekend), a delisting continued under
another name, options through splits and expiry, private positions with marks, entries before inception and before the
first stored session, exits, and cash flows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.contract_days import contract_days
from sigmasight_pipeline.calculations.exposures import GREEKS, portfolio_exposures
from sigmasight_pipeline.calculations.group_exposures import group_exposures
from sigmasight_pipeline.calculations.money import MONEY
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.snapshots import Snapshots, portfolio_snapshots
from sigmasight_pipeline.calculations.valuation import position_values
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import (
    dividend,
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    split,
    stock,
)

MAX_STALE_SESSIONS = 3
MAX_MARK_AGE = 6

STOCKS = ("AAA", "BBB", "OLD", "NEW", "VOID")
UNDERLYINGS = ("UND", "OPT")
SPLITS = ((2, 1), (3, 2), (1, 10), (3, 1), ("1.05", 1), (2, 3), (1, 3))
WHOLE_SPLITS = ((2, 1), (3, 1), (10, 1))
HOLIDAYS = (date(2023, 12, 25), date(2024, 1, 1), date(2024, 1, 15))

TABLES = {
    "calendar": tables.trading_sessions,
    "portfolios": tables.portfolios,
    "positions": tables.positions,
    "prices": tables.daily_prices,
    "option_prices": tables.option_prices,
    "actions": tables.corporate_actions,
    "marks": tables.position_marks,
    "instruments": tables.instruments,
}


@dataclass(frozen=True)
class Book:
    """Input frames by name, the cash flows, and the seed it was made from."""

    frames: dict[str, pl.DataFrame]
    flows: pl.DataFrame
    seed: int

    def __repr__(self) -> str:
        positions = [{k: v for k, v in row.items() if v is not None} for row in self.frames["positions"].to_dicts()]
        return f"Book(seed={self.seed}, positions={positions}, actions={self.frames['actions'].to_dicts()})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def sessions(self) -> list[date]:
        """Every session of the calendar, closed ones included, that is early enough to be computed."""
        return self.frames["calendar"]["session_date"].to_list()[:-3]

    @property
    def open_sessions(self) -> list[date]:
        """The computed sessions that are not closed."""
        opened = self.frames["calendar"].filter(~pl.col("is_closed"))["session_date"].to_list()
        return [day for day in opened if day in self.sessions]

    def known(self, first: date, last: date) -> dict[str, pl.DataFrame]:
        """What an asset reads for sessions `first` to `last`: windows of prices, everything else through `last`."""
        before = max((day for day in self.open_sessions if day < first), default=first)
        return self.frames | {
            "prices": _window(self.frames["prices"], before, last),
            "option_prices": _window(self.frames["option_prices"], before, last),
            "option_model": self.frames["option_model"].filter(pl.col("session_date").is_between(before, last)),
            "actions": self.frames["actions"].filter(pl.col("ex_date") <= last),
            "marks": self.frames["marks"].filter(pl.col("session_date") <= last),
            "positions": self.frames["positions"].filter(pl.col("entry_date") <= last),
        }

    def with_positions(self, positions: pl.DataFrame) -> Book:
        """The same market with other positions."""
        return replace(self, frames=self.frames | {"positions": positions})


def _window(prices: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """Rows from `first` to `last` and each symbol's last row with a close before, in no particular order."""
    before = prices.filter(pl.col("session_date") < first, pl.col("close").is_not_null())
    newest = before.filter(pl.col("session_date") == pl.col("session_date").max().over("symbol"))
    return pl.concat([prices.filter(pl.col("session_date").is_between(first, last)), newest])


def values_of(book: Book, sessions: Sequence[date]) -> pl.DataFrame:
    """``position_values`` of a run of sessions, from what is known then."""
    known = book.known(min(sessions), max(sessions))
    return position_values(sessions=sessions, max_stale_sessions=MAX_STALE_SESSIONS, max_mark_age=MAX_MARK_AGE, **known)


def greeks_of(book: Book, values: pl.DataFrame) -> pl.DataFrame:
    """Made-up rows of ``position_greeks`` beside `values`: about one option in four is a fallback.

    What is made up depends on the position's number in the book and on the session, so that lots of one position have
    the same delta and the mirror image has the negative one.
    """
    number = pl.col("position_id") % 1000 * 37 + pl.col("session_date").to_physical() * 11
    is_option, is_exit = pl.col("investment_class") == "OPTIONS", pl.col("price_source").is_in(EXIT_SOURCES)
    fallback = is_option & ~is_exit & (number % 4 == 0)
    leverage = pl.when(is_option).then(number % 19 + 1).otherwise(1)
    adjusted = pl.when(~fallback).then((pl.col("exposure") * leverage).cast(MONEY))
    return (
        values.join(book.frames["positions"].select("position_id", "investment_class"), on="position_id")
        .filter(pl.col("investment_class") != "PRIVATE")
        .select(
            "session_date",
            "position_id",
            "portfolio_id",
            *(
                (pl.col("quantity").cast(pl.Float64) * (number % (13 + at) + 1) * 0.37).alias(greek)
                for at, greek in enumerate(GREEKS)
            ),
            status=pl.when(fallback)
            .then(pl.lit("fallback"))
            .when(is_exit)
            .then(pl.lit("exit"))
            .otherwise(pl.lit("ok")),
            delta_adjusted_exposure=adjusted,
        )
    )


def exposures_of(book: Book, sessions: Sequence[date], values: pl.DataFrame) -> pl.DataFrame:
    """``portfolio_exposures`` of a run of sessions, with Greeks of `greeks_of`."""
    return portfolio_exposures(
        sessions=sessions,
        calendar=book.frames["calendar"],
        portfolios=book.frames["portfolios"],
        positions=book.frames["positions"],
        instruments=book.frames["instruments"],
        position_values=values,
        position_greeks=greeks_of(book, values),
    )


def groups_of(book: Book, sessions: Sequence[date], values: pl.DataFrame) -> pl.DataFrame:
    """``group_exposures`` of a run of sessions, with Greeks of `greeks_of`; every third position has both tags."""
    own = book.frames["positions"]["position_id"].to_list()
    tagged = [{"position_id": key, "tag_id": tag} for key in own for tag in (1, 2) if key % 1000 % 3 < 3 - tag]
    return group_exposures(
        sessions=sessions,
        calendar=book.frames["calendar"],
        portfolios=book.frames["portfolios"],
        positions=book.frames["positions"],
        position_values=values,
        position_greeks=greeks_of(book, values),
        instruments=book.frames["instruments"],
        tags=frame(tables.tags, [{"tag_id": 1, "name": "core"}, {"tag_id": 2, "name": "hedge"}]),
        position_tags=frame(tables.position_tags, tagged),
    )


def snapshots_of(book: Book, sessions: Sequence[date], previous: pl.DataFrame | None = None) -> Snapshots:
    """``portfolio_snapshots`` of a run of sessions, continuing from `previous`."""
    values = values_of(book, sessions)
    return portfolio_snapshots(
        sessions=sessions,
        calendar=book.frames["calendar"],
        portfolios=book.frames["portfolios"],
        positions=book.frames["positions"],
        position_values=values,
        portfolio_exposures=exposures_of(book, sessions, values),
        flows=book.flows,
        previous=frame(tables.portfolio_snapshots, []) if previous is None else previous,
    )


@st.composite
def books(draw: st.DrawFn) -> Book:
    """A book of up to two portfolios and nine positions over about fifteen sessions."""
    seed = draw(st.integers(0, 2**32 - 1), label="seed of the market")
    count = draw(st.integers(1, 9), label="positions")
    splits = draw(st.integers(0, 4), label="splits")
    return made(seed, count, splits)


def made(seed: int, count: int, splits: int) -> Book:
    """The book of a seed; the same every time."""
    rng = random.Random(seed)
    days = [date(2023, 12, 18) + timedelta(days=n) for n in range(30)]
    sessions = [day for day in days if day.weekday() < 5 and day not in HOLIDAYS]
    closed = rng.sample(sessions[2:-3], rng.choice((0, 0, 1)))
    opened = [day for day in sessions if day not in closed]
    inception = rng.choice(opened[:6])
    market = _Market(rng, days, opened)
    positions = [_position(market, number + 1, sessions) for number in range(count)]
    portfolios = [
        portfolio(1, inception, initial_equity=rng.choice(("1000000", "500"))),
        portfolio(2, rng.choice(opened[:9]), active=rng.random() < 0.8),
    ]
    frames = {
        "calendar": sessions_frame(sessions, closed),
        "portfolios": frame(tables.portfolios, portfolios),
        "positions": frame(tables.positions, positions),
        "prices": frame(tables.daily_prices, market.prices()),
        "actions": frame(tables.corporate_actions, market.actions(splits)),
        "marks": frame(tables.position_marks, _marks(market, positions)),
        "instruments": frame(tables.instruments, market.instruments()),
    }
    # a symbol that was renamed has no closes under its old name afterwards: screening refuses them
    ended = frames["instruments"].select("symbol", "last_session")
    frames["prices"] = (
        frames["prices"]
        .join(ended, on="symbol", how="left")
        .filter(pl.col("last_session").is_null() | (pl.col("session_date") <= pl.col("last_session")))
        .drop("last_session")
    )
    frames["option_prices"] = frame(tables.option_prices, market.quotes(positions))
    frames["option_model"] = _model(rng, opened, frames)
    flows = [
        {"portfolio_id": 1, "session_date": day, "kind": "contribution", "sequence": number, "amount": amount}
        for number, (day, amount) in enumerate(zip(rng.sample(days, 3), ("1000.01", "-400", "-5000000"), strict=True))
        if rng.random() < 0.4
    ]
    return Book(frames=frames, flows=frame(tables.portfolio_cash_flows, flows), seed=seed)


class _Market:
    """Rows of market data drawn one after the other from one generator."""

    def __init__(self, rng: random.Random, days: list[date], opened: list[date]) -> None:
        self.rng, self.days, self.opened = rng, days, opened

    def amount(self, low: float, high: float, digits: int = 6) -> Decimal:
        return Decimal(str(round(self.rng.uniform(low, high), self.rng.choice((0, 2, digits)))))

    def prices(self) -> list[dict[str, Any]]:
        """Closes; each symbol has them always, often, seldom, or (VOID, and sometimes another) never."""
        likelihood = {symbol: self.rng.choice((0, 0.1, 0.6, 0.95, 0.95)) for symbol in (*STOCKS, *UNDERLYINGS)}
        return [
            {"session_date": day, "symbol": symbol, "close": max(self.amount(1, 200), Decimal("0.01"))}
            for symbol in (*STOCKS[:-1], *UNDERLYINGS)
            for day in [date(2023, 12, 1), *self.opened]
            if self.rng.random() < likelihood[symbol]
        ]

    def actions(self, splits: int) -> list[dict[str, Any]]:
        rows: dict[tuple[str, date, str], dict[str, Any]] = {}
        for _ in range(splits):
            symbol = self.rng.choice((*STOCKS, *UNDERLYINGS))
            new, old = self.rng.choice(WHOLE_SPLITS if symbol in UNDERLYINGS else SPLITS)
            day = self.rng.choice(self.days)
            rows[symbol, day, "split"] = split(symbol, day, new, old)
            if self.rng.random() < 0.4:
                rows[symbol, day, "dividend"] = dividend(symbol, day, self.amount(0.01, 3))
        for symbol in self.rng.sample(STOCKS, 3):
            day = self.rng.choice(self.days)
            rows[symbol, day, "dividend"] = dividend(symbol, day, max(self.amount(0.01, 3), Decimal("0.005")))
        return [row for row in rows.values() if row.get("cash_amount") != 0]

    def instruments(self) -> list[dict[str, Any]]:
        known = [{"symbol": symbol, "kind": "stock", "active": True} for symbol in (*STOCKS, *UNDERLYINGS)]
        if self.rng.random() < 0.5:
            known[2] |= {"last_session": self.rng.choice(self.opened), "replaced_by": "NEW"}
        return known

    def quotes(self, positions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Quotes under the contracts' symbols as entered and as split two, three or ten for one."""
        symbols = {row["symbol"] for row in positions if row["investment_class"] == "OPTIONS"}
        listed = {
            f"{symbol[:-8]}{round(int(symbol[-8:]) / ratio):08d}"
            for symbol in symbols
            for ratio in (1, 2, 3, 6, 10, 0.5, 0.1)
        }
        return [
            {"session_date": day, "symbol": symbol, "close": self.rng.choice((None, self.amount(0.5, 30)))}
            for symbol in sorted(listed)
            for day in self.opened
            if self.rng.random() < 0.2
        ]


def _position(market: _Market, position_id: int, sessions: list[date]) -> dict[str, Any]:
    rng = market.rng
    entry = rng.choice([date(2019, 5, 17), *market.days[:-6], *market.days[:-6]])
    later = [day for day in market.days if day >= entry]
    quantity = rng.choice((-1, 1)) * max(market.amount(1, 900), Decimal("0.000001"))
    terms: dict[str, Any] = {"portfolio_id": rng.choice((1, 1, 1, 2)), "lot": str(position_id)}
    if rng.random() < 0.4:
        terms |= {"exit_date": rng.choice(later), "exit_price": max(market.amount(1, 200), Decimal("0.01"))}
    price = max(market.amount(1, 200), Decimal("0.01"))
    kind = rng.random()
    if kind < 0.5:
        return stock(position_id, rng.choice(STOCKS), quantity, price, entry, **terms)
    if kind < 0.65:
        return private(position_id, f"FUND {position_id}", quantity, price, entry, **terms)
    expiration = rng.choice([*later, date(2024, 6, 21)])
    strike = rng.choice((50_000, 100_000, 33_000, 60_500))
    symbol = f"{rng.choice(UNDERLYINGS)}{expiration:%y%m%d}{rng.choice('CP')}{strike:08d}"
    return option(position_id, symbol, quantity.to_integral_value() or 1, price, entry, **terms)


def _marks(market: _Market, positions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"position_id": row["position_id"], "session_date": day, "price": market.amount(0, 300), "source": "file"}
        for row in positions
        if row["investment_class"] == "PRIVATE"
        for day in market.rng.sample(market.days, market.rng.randint(0, 3))
    ]


def _model(rng: random.Random, opened: list[date], frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Model prices for some contracts and sessions, by the identities ``contract_days`` gives."""
    names = ("calendar", "portfolios", "positions", "prices", "option_prices", "actions", "instruments")
    days = contract_days(sessions=opened, **{name: frames[name] for name in names})
    prices = [round(rng.uniform(0, 40), 7) if rng.random() < 0.4 else None for _ in range(len(days))]
    return days.select("contract", "session_date").with_columns(pl.Series("model_price", prices, dtype=pl.Float64))
