"""What the volatility engine is fed: one row per option contract and session, quotes and underlying beside
it.

What belongs here: joining contracts with their own quotes and their underlying's valuation price. What does
not: volatilities and model prices (``option_volatility``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.contracts import Contract, listings, own_quotes
from sigmasight_pipeline.calculations.dividend_yields import dividend_yields
from sigmasight_pipeline.calculations.exercise_styles import is_american
from sigmasight_pipeline.calculations.holdings import window
from sigmasight_pipeline.calculations.money import PRICE, from_units
from sigmasight_pipeline.calculations.prices import PriceBook, stock_observations, symbol_series
from sigmasight_pipeline.calculations.timeline import to_dates


def contract_days(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    prices: pl.DataFrame,
    option_prices: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
) -> pl.DataFrame:
    """One row per contract and open session from the first to the last of `sessions`, before its expiration
    date.

    A contract has rows if a position holds it at one of these sessions, also at sessions before the
    position's entry (an implied volatility may be carried from there). `contract` stays the same through
    splits; option_symbol and strike_price are those of the session. Input frames are rows of the tables of
    those names, as for ``valuation.position_values``. Columns: contract, session_date, option_symbol,
    underlying_symbol, option_kind, strike_price (Float64), expiration_date, close and vendor_volatility
    (Float64, NULL without a quote under the session's OCC symbol), underlying_price (Float64, valuation
    price; NULL if never priced), underlying_price_exact (Decimal, the same), is_american
    (``exercise_styles``), dividend_yield (``dividend_yields``). Ordered by contract and session_date. Raises
    NonWholeSplitRatioError and timeline.SessionWindowError.
    """
    held = window(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        actions=actions,
        instruments=instruments,
    )
    steps = held.steps
    contracts: dict[str, Contract] = {item.contract: item for item in held.lots.contracts if item}
    listed = listings(list(contracts.values()), steps)
    terms = pl.DataFrame(
        [
            (item.contract, item.underlying_symbol, item.option_kind, item.expiration_date)
            for item in contracts.values()
        ],
        schema={
            "contract": pl.String,
            "underlying_symbol": pl.String,
            "option_kind": pl.String,
            "expiration_date": pl.Date,
        },
        orient="row",
    )
    number = pl.Series("number", np.arange(len(held)))
    days = pl.DataFrame([number, to_dates(held.days, "session_date")])
    day = pl.col("session_date").cast(pl.Int32).cast(pl.Int64)
    rows = (
        listed.join(days, how="cross")
        .filter(day >= pl.col("from_day"), day < pl.col("until_day"))
        .join(terms, on="contract")
        .filter(pl.col("session_date") < pl.col("expiration_date"))
        .join(symbol_series(steps), left_on="underlying_symbol", right_on="symbol")
        .join(own_quotes(option_prices, listed), on=["contract", "session_date"], how="left")
        .sort("contract", "session_date")
    )
    observed = stock_observations(prices, instruments, steps)
    book = PriceBook(observed, held=held, split_codes=np.arange(len(steps.codes)))
    at, of = rows.get_column("number").to_numpy(), rows.get_column("series").to_numpy()
    exact = from_units(book.shown(at, of), PRICE, "underlying_price_exact")
    known = pl.Series("known", book.row[at, of] >= 0)
    result = rows.with_columns(exact, known).select(
        "contract",
        "session_date",
        "option_symbol",
        "underlying_symbol",
        "option_kind",
        "strike_price",
        "expiration_date",
        pl.col("close").cast(pl.Float64),
        vendor_volatility="implied_volatility",
        # a cast rounds once; a division by a constant would not give every frame the same last bit
        underlying_price=pl.when("known").then(pl.col("underlying_price_exact").cast(pl.Float64)),
        underlying_price_exact=pl.when("known").then("underlying_price_exact"),
    )
    styled = result.select("contract", "option_symbol", "underlying_symbol").unique("contract", keep="first")
    styled = styled.select("contract").with_columns(is_american(styled, instruments))
    underlyings = result.select("session_date", symbol="underlying_symbol", price="underlying_price").unique(
        ["symbol", "session_date"], keep="first"
    )
    paying = dividend_yields(
        underlyings, calendar=calendar, prices=prices, actions=actions, instruments=instruments
    ).select("session_date", "dividend_yield", underlying_symbol="symbol")
    return result.join(styled, on="contract", how="left", maintain_order="left").join(
        paying, on=["underlying_symbol", "session_date"], how="left", maintain_order="left"
    )
