"""What every position is worth at every session, and what it earned: the engine behind ``position_values``.

What belongs here: which price a position is valued at, market values, P&L, dividends, exits, expiry and cash
effects. What does not: who holds what (``holdings``), observed prices and their age (``prices``),
volatilities (``option_volatility``), and anything of a whole portfolio but the weight.

One identity carries the module: `daily_pnl = market_value_D - market_value_{D-1} + cash_effect`, where the
cash effect of an entry is minus its cost, of an exit its proceeds, of an ex-date the dividend, and of a
position brought in at inception minus its opening value. Everything is whole cents, so it adds up exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, IntArray
from sigmasight_pipeline.calculations.holdings import Window, terms_at, window
from sigmasight_pipeline.calculations.money import (
    CENTS,
    MILLIONTHS,
    MONEY,
    PRICE,
    AmountOverflowError,
    decimal_columns,
    rounded_product,
    to_units,
)
from sigmasight_pipeline.calculations.position_prices import (
    VALUE_DIVISOR,
    PricedWindow,
    PriceSource,
    price_window,
    row_prices,
)
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.calculations.timeline import NEVER, day_numbers, to_dates

DIVIDEND_DIVISOR = MILLIONTHS**2 // CENTS
"""Quantity and amount per share in millionths make a dividend in cents."""

SOURCE_NAMES = pl.Series("price_source", [source.name.lower() for source in PriceSource])

AMOUNTS = (
    "market_value",
    "exposure",
    "notional",
    "cost_basis",
    "unrealized_pnl",
    "daily_pnl",
    "realized_pnl",
    "dividend_pnl",
    "total_pnl",
    "cash_effect",
)

BLOCK_ROWS = 50_000
"""Rows computed at once: few enough that their columns stay in the processor's cache (half the time for many)."""

LARGEST_SUM = 9.0e18
"""Largest sum of cents 64 bits hold exactly."""


def position_values(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    prices: pl.DataFrame,
    option_prices: pl.DataFrame,
    option_model: pl.DataFrame,
    actions: pl.DataFrame,
    marks: pl.DataFrame,
    instruments: pl.DataFrame,
    max_stale_sessions: int,
    max_mark_age: int,
) -> pl.DataFrame:
    """One row per position and open session of `sessions` from entry (or inception) to effective exit.

    Columns are those of ``position_values`` without provenance, ordered by session_date and position_id.
    Inputs are rows of ``trading_sessions`` (all, from the first stored session, reaching past the last of
    `sessions`), ``portfolios`` (inactive ones get no rows), ``positions``, ``daily_prices`` and
    ``option_prices`` (from the session before the first of `sessions` through the last, and each symbol's
    last row before), ``corporate_actions`` (all through the last), ``position_marks`` (all through the last)
    and ``instruments``. `option_model` has columns contract, session_date, model_price (Float64, US dollars
    per underlying unit, NULL without a usable volatility) for the same sessions, the one before the first
    included, keyed by ``contract_days``' contracts.

    The market value of the session before is recomputed, so `sessions` may be any part of the calendar. Rules
    and formulas: the product of quantity, price, multiplier and exact split ratio, rounded half-even once; a
    price is stale above `max_stale_sessions` sessions of age (`max_mark_age` for PRIVATE); a model or
    intrinsic price is as old as the underlying's price it rests on. Raises NonWholeSplitRatioError,
    AmountOverflowError and timeline.SessionWindowError.
    """
    held = window(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        actions=actions,
        instruments=instruments,
        look_back=1,
    )
    lots = held.lots
    dividends, dividends_since_entry = _dividends(held, actions, instruments)
    book = _Book(
        window=price_window(
            held,
            prices=prices,
            option_prices=option_prices,
            option_model=option_model,
            marks=marks,
            instruments=instruments,
        ),
        cost=rounded_product(
            [lots.quantity, lots.entry_price, lots.multiplier], divisor=VALUE_DIVISOR, what="a cost basis"
        ),
        dividends=dividends,
        dividends_since_entry=dividends_since_entry,
        max_stale_sessions=max_stale_sessions,
        age_limit=np.where(lots.is_private, max_mark_age, max_stale_sessions),
    )
    size = max(1, BLOCK_ROWS // max(1, len(lots)))
    values = np.zeros((1, len(lots)), dtype=np.int64)
    parts = []
    for start in range(0, max(1, len(held)), size):
        rows, values = _rows(book, start, min(start + size, len(held)), values[-1])
        parts.append(rows)
    known = pl.col("price_date").is_not_null()
    return (
        pl.concat(parts)
        .with_columns(
            decimal_columns(["quantity", "entry_price", "price"], PRICE),
            decimal_columns(AMOUNTS, MONEY),
            pl.when(known).then(pl.col("stale_sessions").cast(pl.Int32)),
        )
        .with_columns(pl.when("notional_known").then(pl.col("notional")))
        .drop("notional_known")
    )


@dataclass(frozen=True)
class _Book:
    """What the rows of a window are made from; arrays by lot, dividends (cents) by session and lot."""

    window: PricedWindow
    cost: IntArray
    dividends: IntArray
    dividends_since_entry: IntArray
    max_stale_sessions: int
    age_limit: IntArray


def _rows(book: _Book, start: int, stop: int, before: IntArray) -> tuple[pl.DataFrame, IntArray]:
    """Rows of the sessions asked for from `start` up to `stop` of the window, and all values by (session, lot).

    `before` are the market values by lot of the session before `start`. Amounts are still whole numbers.
    """
    held = book.window.held
    timeline, lots, first = held.timeline, held.lots, held.first
    session, lot = held.rows(start, stop)
    priced = row_prices(book.window, session, lot, book.max_stale_sessions)
    values = np.vstack([before, np.zeros((stop - start, len(lots)), dtype=np.int64)])
    values[session - start + 1, lot] = np.where(session + first == lots.end[lot], 0, priced.amount)

    kept = np.isin(session + first, held.wanted)
    if not kept.all():
        session, lot, priced = session[kept], lot[kept], priced.at(np.flatnonzero(kept))
    number = session + first
    exits: BoolArray = number == lots.end[lot]
    value, proceeds = values[session - start + 1, lot], np.where(exits, priced.amount, 0)
    cost = book.cost[lot]
    starts = number == lots.start[lot]
    brought_in, entered = starts & lots.brought_in[lot], starts & ~lots.brought_in[lot]
    previous = values[session - start, lot]
    dividend = np.where(starts, 0, book.dividends[session, lot])
    opening = np.where(brought_in, value + proceeds, 0)
    cash_effect = proceeds + dividend - opening - np.where(entered, cost, 0)
    unrealized, realized = np.where(exits, 0, value - cost), np.where(exits, proceeds - cost, 0)
    total = unrealized + realized + book.dividends_since_entry[session, lot]
    age = np.where(priced.day == NEVER, 0, number - priced.session)
    terms = terms_at(held, lot, book.window.book.node_at[session, book.window.own[lot]])
    notional, notional_known = _notional(book.window, session, lot, value, exits)
    portfolio_id = lots.frame.get_column("portfolio_id")
    rows = pl.DataFrame(
        [
            timeline.dates.gather(number).alias("session_date"),
            lots.frame.get_column("position_id").gather(lot),
            portfolio_id.gather(lot),
            terms.symbol.gather(terms.code),
            pl.Series("quantity", np.where(exits, 0, terms.quantity[terms.code])),
            pl.Series("entry_price", terms.entry_price[terms.code]),
            pl.Series("price", priced.shown),
            SOURCE_NAMES.gather(priced.source),
            to_dates(priced.day, "price_date"),
            pl.Series("stale_sessions", age),
            pl.Series("stale", age > book.age_limit[lot]),
            pl.Series("market_value", value),
            pl.Series("exposure", value),
            pl.Series("notional", notional),
            pl.Series("cost_basis", np.where(exits, 0, cost)),
            pl.Series("unrealized_pnl", unrealized),
            pl.Series("daily_pnl", value - previous + cash_effect),
            pl.Series("realized_pnl", realized),
            pl.Series("dividend_pnl", dividend),
            pl.Series("total_pnl", total),
            pl.Series("cash_effect", cash_effect),
            _weights(value, session - start, lot, portfolio_id),
            pl.Series("notional_known", notional_known),
        ]
    )
    return rows, values


def _dividends(held: Window, actions: pl.DataFrame, instruments: pl.DataFrame) -> tuple[IntArray, IntArray]:
    """Cents by (session, lot): dividends going ex on the session, and all of them since entry.

    Quantity of the session before x cash per old share; entered on the ex-date gets none, exiting on it does.
    """
    lots, timeline, steps = held.lots, held.timeline, held.steps
    ex = np.zeros((len(held), len(lots)), dtype=np.int64)
    before = np.zeros(len(lots), dtype=np.int64)
    paid = timeline.moved(continued(actions, instruments, "ex_date"), "ex_date").filter(pl.col("kind") == "dividend")
    public = pl.Series(~lots.is_option & ~lots.is_private)
    holders = pl.DataFrame({"symbol": lots.frame.get_column("symbol"), "lot": np.arange(len(lots))}).filter(public)
    events = holders.join(paid.select("symbol", "ex_date", "cash_amount"), on="symbol")
    lot = events.get_column("lot").to_numpy()
    session = timeline.on_or_after(day_numbers(events.get_column("ex_date")))
    due = (session > lots.anchor[lot]) & (session <= np.minimum(lots.end[lot], held.last))
    events, lot, session = events.filter(pl.Series(due)), lot[due], session[due]
    quantity_node = steps.nodes(lots.split_code[lot], timeline.days[session - 1])
    codes, ratios = steps.coded(lots.anchor_node[lot], quantity_node)
    cents = rounded_product(
        [lots.quantity[lot], to_units(events.get_column("cash_amount"), PRICE)],
        divisor=DIVIDEND_DIVISOR,
        what="a dividend",
        ratio_codes=codes,
        ratios=ratios,
    )
    inside = session >= held.first
    np.add.at(ex, (session[inside] - held.first, lot[inside]), cents[inside])
    np.add.at(before, lot[~inside], cents[~inside])
    return ex, before + np.cumsum(ex, axis=0)


def _notional(
    window: PricedWindow, session: IntArray, lot: IntArray, value: IntArray, exits: BoolArray
) -> tuple[IntArray, BoolArray]:
    """Cents of abs(quantity) x multiplier x underlying (else own) price, and where it is known; 0 on exits."""
    lots, book = window.held.lots, window.book
    notional = np.abs(value)
    rows = np.flatnonzero(lots.is_option[lot] & ~exits)
    seen = book.row[session[rows], window.underlying[lot[rows]]]
    known = np.ones(len(lot), dtype=bool)
    known[rows] = seen >= 0
    rows, seen = rows[seen >= 0], seen[seen >= 0]
    codes, ratios = window.held.steps.coded(lots.anchor_node[lot[rows]], book.node[seen])
    notional[rows] = rounded_product(
        [np.abs(lots.quantity[lot[rows]]), book.price[seen], lots.multiplier[lot[rows]]],
        divisor=VALUE_DIVISOR,
        what="a notional",
        ratio_codes=codes,
        ratios=ratios,
    )
    return notional, known


def _weights(value: IntArray, session: IntArray, lot: IntArray, portfolio_id: pl.Series) -> pl.Series:
    """Signed market value / gross exposure of the portfolio at the session; NULL where that is 0."""
    portfolios, code = np.unique(portfolio_id.to_numpy(), return_inverse=True)
    group, size = session * len(portfolios) + code[lot], np.abs(value)
    estimate = np.bincount(group, weights=size, minlength=1)
    if estimate.max() > LARGEST_SUM:
        raise AmountOverflowError("the gross exposure of a portfolio", float(estimate.max()) / CENTS)
    gross = np.zeros(len(estimate), dtype=np.int64)
    np.add.at(gross, group, size)
    row_gross = gross[group]
    weight = value / np.where(row_gross == 0, 1, row_gross)
    return pl.Series("weight", weight).set(pl.Series(row_gross == 0), None)
