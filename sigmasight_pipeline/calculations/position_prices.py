"""Which price every held position is valued at: the order of price sources, exits and expiry.

What belongs here: gathering the prices the lots of a window can be valued at, choosing one for each row, and the
product of quantity, price and multiplier. What does not: observed prices and their age (``prices``), model prices
(``option_volatility``), and what a value means for P&L (``valuation``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import IntArray
from sigmasight_pipeline.calculations.contracts import Contract, listings, own_quotes
from sigmasight_pipeline.calculations.holdings import Window
from sigmasight_pipeline.calculations.money import CENTS, MILLIONTHS, PRICE, nearest_units, rounded, rounded_product
from sigmasight_pipeline.calculations.prices import PriceBook, stock_observations
from sigmasight_pipeline.calculations.splits import NO_SPLITS
from sigmasight_pipeline.calculations.timeline import day_numbers

VALUE_DIVISOR = MILLIONTHS**3 // CENTS
"""Quantity, price and multiplier in millionths make a value in cents."""


class PriceSource(IntEnum):
    """Where a valuation price comes from; the names in lower case are ``position_values.price_source``."""

    MARKET = 0
    CARRIED = 1
    MODEL = 2
    MARK = 3
    INTRINSIC = 4
    ENTRY_PRICE = 5
    SETTLEMENT = 6
    SETTLEMENT_UNPRICED = 7
    EXIT = 8


EXIT_SOURCES = ("exit", "settlement", "settlement_unpriced")
"""Price sources of the row of the exit session, which is held no more."""


@dataclass(frozen=True)
class PricedWindow:
    """A window with every price its lots can be valued at.

    Series are numbered: symbols first (codes of `held.steps`), then option contracts, then PRIVATE positions.
    `own` and `underlying` are each lot's series (-1: no underlying); `model` has model prices in millionths by
    (session, series), -1 where there is none.
    """

    held: Window
    book: PriceBook
    own: IntArray
    underlying: IntArray
    model: IntArray


@dataclass(frozen=True)
class RowPrices:
    """The price of each row, a lot at a session.

    `source` is a PriceSource; `amount` the cents of quantity x price x multiplier; `shown` the price per unit in
    millionths; `day` and `session` (number of the timeline) when it was observed, NEVER and 0 where it was not.
    """

    source: IntArray
    amount: IntArray
    shown: IntArray
    day: IntArray
    session: IntArray

    def at(self, rows: IntArray) -> RowPrices:
        """Some of the rows, by number."""
        return RowPrices(self.source[rows], self.amount[rows], self.shown[rows], self.day[rows], self.session[rows])


def price_window(
    held: Window,
    *,
    prices: pl.DataFrame,
    option_prices: pl.DataFrame,
    option_model: pl.DataFrame,
    marks: pl.DataFrame,
    instruments: pl.DataFrame,
) -> PricedWindow:
    """Number the series of the lots and gather their observations and model prices.

    Frames as for ``valuation.position_values``.
    """
    lots, symbols = held.lots, held.steps.codes
    contracts: dict[str, Contract] = {item.contract: item for item in lots.contracts if item}
    contract_codes = {name: len(symbols) + code for code, name in enumerate(contracts)}
    private = np.flatnonzero(lots.is_private)
    private_codes = len(symbols) + len(contracts) + np.arange(len(private))
    own = np.array(
        [
            contract_codes[item.contract] if item else code
            for item, code in zip(lots.contracts, lots.split_code, strict=True)
        ],
        dtype=np.int64,
    )
    own[private] = private_codes
    split_codes = np.concatenate(
        [
            np.arange(len(symbols)),
            np.array([symbols[item.underlying_symbol] for item in contracts.values()], dtype=np.int64),
            np.full(len(private), NO_SPLITS, dtype=np.int64),
        ]
    )
    contract_series = pl.DataFrame(
        {"contract": list(contract_codes), "series": list(contract_codes.values())},
        schema={"contract": pl.String, "series": pl.Int64},
    )
    private_series = pl.DataFrame(
        [lots.frame.get_column("position_id").gather(private), pl.Series("series", private_codes)]
    )
    quotes = own_quotes(option_prices, listings(list(contracts.values()), held.steps)).drop_nulls("close")
    columns = ["series", "session_date", "price"]
    observed = pl.concat(
        [
            stock_observations(prices, instruments, held.steps),
            quotes.rename({"close": "price"}).join(contract_series, on="contract").select(columns),
            marks.join(private_series, on="position_id").select(columns),
        ]
    )
    return PricedWindow(
        held=held,
        book=PriceBook(observed, held=held, split_codes=split_codes),
        own=own,
        underlying=np.where(lots.is_option, lots.split_code, -1),
        model=_model_prices(held, option_model.join(contract_series, on="contract"), len(split_codes)),
    )


def _model_prices(held: Window, model: pl.DataFrame, series: int) -> IntArray:
    prices = np.full((len(held), series), -1, dtype=np.int64)
    known = model.drop_nulls("model_price")
    session = held.timeline.on_or_before(day_numbers(known.get_column("session_date"))) - held.first
    inside = (session >= 0) & (session < len(prices))
    units = nearest_units(known.get_column("model_price"), PRICE)
    prices[session[inside], known.get_column("series").to_numpy()[inside]] = units[inside]
    return prices


def row_prices(window: PricedWindow, session: IntArray, lot: IntArray, max_stale_sessions: int) -> RowPrices:
    """The price of each row, a lot at a session of the window, by the order of price sources.

    Stocks: the last close, else the entry price. PRIVATE: the last mark, else the entry price. Options: own close of
    the session, else model, else last own close, else intrinsic, else entry price; model and intrinsic are as old as
    the underlying's price. Exit: the exit price. Expiry: intrinsic on an underlying price of at most
    `max_stale_sessions` sessions; else the last own close, else 0, both flagged settlement_unpriced.
    Raises AmountOverflowError.
    """
    held = window.held
    lots, book, steps = held.lots, window.book, held.steps
    own = window.own[lot]
    row = book.row[session, own]
    seen = row >= 0
    node_now = book.node_at[session, own]
    price = np.where(seen, book.price[row], lots.entry_price[lot])
    node = np.where(seen, book.node[row], lots.anchor_node[lot])
    day, observed = book.day[row], book.session[row]
    fresh = seen & (observed == session + held.first)
    source = np.where(fresh, int(PriceSource.MARKET), int(PriceSource.CARRIED))
    source[lots.is_private[lot]] = PriceSource.MARK
    source[~seen] = PriceSource.ENTRY_PRICE

    options = np.flatnonzero(lots.is_option[lot] & ~fresh)
    model = window.model[session[options], own[options]]
    under = book.row[session[options], window.underlying[lot[options]]]
    by_model = (model >= 0) & (under >= 0)
    by_intrinsic = ~by_model & ~seen[options] & (under >= 0)
    for chosen, chosen_source in ((by_model, PriceSource.MODEL), (by_intrinsic, PriceSource.INTRINSIC)):
        rows, seen_under = options[chosen], under[chosen]
        source[rows] = chosen_source
        node[rows] = node_now[rows]
        day[rows], observed[rows] = book.day[seen_under], book.session[seen_under]
    price[options[by_model]] = model[by_model]

    exits = session + held.first == lots.end[lot]
    settles = exits & lots.settles[lot]
    source[exits] = PriceSource.EXIT
    price[exits], node[exits] = lots.exit_price[lot[exits]], node_now[exits]
    observed[exits] = session[exits] + held.first
    day[exits] = held.timeline.days[observed[exits]]

    codes, ratios = steps.coded(lots.anchor_node[lot], node)
    amount = rounded_product(
        [lots.quantity[lot], price, lots.multiplier[lot]],
        divisor=VALUE_DIVISOR,
        what="a market value",
        ratio_codes=codes,
        ratios=ratios,
    )
    shown = price.copy()
    moved = np.flatnonzero(node != node_now)
    codes, ratios = steps.coded(node_now[moved], node[moved])
    shown[moved] = rounded_product([price[moved]], divisor=1, what="a price", ratio_codes=codes, ratios=ratios)
    result = RowPrices(source=source, amount=amount, shown=shown, day=day, session=observed)
    for index in np.flatnonzero((source == PriceSource.INTRINSIC) | settles):
        _from_underlying(window, result, int(index), int(session[index]), int(lot[index]), max_stale_sessions)
    return result


def _from_underlying(
    window: PricedWindow, rows: RowPrices, index: int, session: int, lot: int, max_stale_sessions: int
) -> None:
    """Intrinsic value of one row: exact, from the underlying's unrounded price and the exact strike.

    A settlement without an underlying price of at most `max_stale_sessions` sessions takes the last own
    close, else 0, and is flagged settlement_unpriced either way.
    """
    lots, book = window.held.lots, window.book
    contract = lots.contracts[lot]
    if contract is None:
        raise TypeError(f"{lots.frame.get_column('symbol')[lot]} is priced as an option but is none")
    under, own = int(window.underlying[lot]), int(window.own[lot])
    ratio = window.held.steps.ratio(contract.node, int(book.node_at[session, own]))
    settles = rows.source[index] == PriceSource.EXIT
    age = book.age(session, under)
    spot, quote = book.exact(session, under), book.exact(session, own)
    if spot is not None and age is not None and (age <= max_stale_sessions or not settles):
        strike = contract.strike / ratio
        price = max(spot - strike if contract.option_kind == "C" else strike - spot, Fraction(0))
        used, source = int(book.row[session, under]), PriceSource.SETTLEMENT
    else:
        price = Fraction(0) if quote is None else quote
        used, source = int(book.row[session, own]), PriceSource.SETTLEMENT_UNPRICED
    if settles:
        rows.source[index] = source
        rows.day[index], rows.session[index] = book.day[used], book.session[used]
    quantity = Fraction(int(lots.quantity[lot]) * int(lots.multiplier[lot]), MILLIONTHS**2) * ratio
    rows.amount[index] = rounded(quantity * price * CENTS, "a market value")
    rows.shown[index] = rounded(price * MILLIONTHS, "a price")
