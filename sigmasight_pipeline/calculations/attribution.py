"""Where each position's P&L of the session came from: factors, Greeks, dividends, trades, and what is left.

What belongs here: splitting the day's P&L into components that add up to it. What does not: the P&L (``valuation``),
Greeks (``position_greeks``) and betas (``factor_model``, ``style_betas``).

Everything a component is made of, but the moves of the session itself, is known at the session before: betas, Greeks
and market value. A component whose inputs are missing has no row; what it would have explained is in the remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.exposures import portfolio_sessions
from sigmasight_pipeline.calculations.holdings import brought_in
from sigmasight_pipeline.calculations.money import MONEY, decimal_columns, nearest_units
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.calculations.stress_factors import MARKET
from sigmasight_pipeline.calculations.style_betas import style_betas
from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers, open_sessions

REMAINDERS = {"PUBLIC": "specific", "OPTIONS": "unexplained", "PRIVATE": "mark"}
"""What takes the rest of the P&L of a position held through the session, by investment class."""

PERCENT = 100
"""Points in 1.00 of a volatility or a rate."""

_ROW = ["number", "position_id"]
_GREEKS = ("delta", "gamma", "theta", "vega", "rho")
_FACTOR_COMPONENTS = ("market", "other_factors")


def pnl_attribution(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    instruments: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    factors: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
    regression_window: int = 252,
    min_observations: int = 60,
) -> pl.DataFrame:
    """One row per position of ``position_values`` at the open `sessions` and component of its daily P&L, US dollars.

    Columns are those of ``pnl_attribution`` without provenance, ordered by its key. The components of a position add up
    to its daily_pnl exactly. A position entered or exiting on the session: `trade`, and `dividend` of stocks. Held
    through it, with betas b, Greeks and market value V of the session before:

    - PUBLIC: `market` = beta f V with the symbol's univariate beta on the Market factor; `other_factors` = (sum of b_k
      f_k) V - market with the joint betas on the style factors (``style_betas``); `dividend`; `specific` the remainder;
    - OPTIONS: `delta` dS, `gamma` dS^2 / 2 with dS the move of the underlying's valuation price in shares of the
      session before (a split in between is undone); `theta` x calendar days; `vega` x change of the volatility in
      points; `rho` x change of the rate in points; `unexplained` the remainder;
    - PRIVATE: `mark`.

    Each is rounded half-even to the cent before the remainder is taken. Without V (brought in at inception, or the row
    before is missing), a beta, a return of every factor over this one session, or with fallback Greeks, the components
    concerned have no row. `position_values` and `position_greeks` are rows of the sessions and of the open session
    before the first, `symbol_factor_betas` too; `returns` and `yields` reach back `regression_window` sessions from
    that one. Raises AmountOverflowError and timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    days = pl.DataFrame([timeline.dates, pl.Series("number", np.arange(len(timeline)))])
    rows = _held_through(
        position_values.join(days, on="session_date"), wanted, _facts(positions, portfolios, timeline), position_greeks
    )
    held = rows.filter(~pl.col("traded"), pl.col("value_before").is_not_null())
    stocks = _factor_components(
        held.filter(pl.col("investment_class") == "PUBLIC"),
        timeline=timeline,
        calendar=calendar,
        factors=factors,
        returns=returns,
        yields=yields,
        instruments=instruments,
        symbol_factor_betas=symbol_factor_betas.join(days, on="session_date"),
        regression_window=regression_window,
        min_observations=min_observations,
    )
    options = _greek_components(held.filter(pl.col("investment_class") == "OPTIONS"), timeline)
    remainder = pl.when("traded").then(pl.lit("trade")).otherwise(pl.col("investment_class").replace_strict(REMAINDERS))
    explained = (*_FACTOR_COMPONENTS, *_GREEKS, "dividend")
    wide = (
        rows.drop(_GREEKS)
        .join(stocks, on=_ROW, how="left")
        .join(options, on=_ROW, how="left")
        .with_columns(
            # only stocks pay dividends; a zero for an option or a PRIVATE position would say nothing
            dividend=pl.when((pl.col("investment_class") == "PUBLIC") | (pl.col("dividend") != 0)).then("dividend"),
            remainder=remainder,
        )
        .with_columns(rest=pl.col("earned") - pl.sum_horizontal(explained))
    )
    keys = ["session_date", "position_id", "portfolio_id"]
    long = wide.unpivot(on=explained, index=keys, variable_name="component", value_name="pnl").drop_nulls("pnl")
    return (
        pl.concat([long, wide.select(*keys, component="remainder", pnl="rest")])
        .select("session_date", "position_id", "component", "portfolio_id", decimal_columns(["pnl"], MONEY))
        .sort("session_date", "position_id", "component")
    )


def _facts(positions: pl.DataFrame, portfolios: pl.DataFrame, timeline: Timeline) -> pl.DataFrame:
    """Of every position: investment class, symbol of its betas, number of the session it is entered on (NULL if it was
    brought in at inception)."""
    owned = positions.join(portfolios.select("portfolio_id", "inception_date"), on="portfolio_id")
    entry = day_numbers(owned.get_column("entry_date"))
    inception = timeline.on_or_after(day_numbers(owned.get_column("inception_date")))
    entered = pl.Series("entered", timeline.on_or_after(entry))
    return owned.select(
        "position_id",
        "investment_class",
        held_symbol=pl.coalesce("underlying_symbol", "symbol"),
        entered=entered.set(pl.Series(brought_in(timeline, entry, inception)), None),
    )


def _held_through(
    values: pl.DataFrame, wanted: pl.DataFrame, facts: pl.DataFrame, position_greeks: pl.DataFrame
) -> pl.DataFrame:
    """Rows of `wanted` portfolios and sessions with their figures of the session before, and Greeks of both."""
    greeks = position_greeks.select(
        "session_date", "position_id", "status", *_GREEKS, "underlying_price", "volatility", "risk_free_rate"
    )
    moves = ["underlying_price", "volatility", "risk_free_rate"]
    before = (
        values.filter(~pl.col("price_source").is_in(EXIT_SOURCES))
        .join(greeks, on=["session_date", "position_id"], how="left")
        .select(
            "position_id",
            *_GREEKS,
            *(pl.col(name).alias(f"{name}_before") for name in moves),
            number=pl.col("number") + 1,
            value_before="market_value",
            quantity_before="quantity",
            greeks_before="status",
        )
    )
    return (
        values.join(wanted, on=["session_date", "portfolio_id"], how="semi")
        .join(facts, on="position_id")
        .join(greeks.select("session_date", "position_id", *moves), on=["session_date", "position_id"], how="left")
        .join(before, on=_ROW, how="left")
        .sort(_ROW)
        .with_columns(
            traded=pl.col("price_source").is_in(EXIT_SOURCES)
            | (pl.col("number") == pl.col("entered")).fill_null(value=False),
            earned=pl.col("daily_pnl").to_physical().cast(pl.Int64),
            dividend=pl.col("dividend_pnl").to_physical().cast(pl.Int64),
        )
    )


def _factor_components(
    held: pl.DataFrame,
    *,
    timeline: Timeline,
    calendar: pl.DataFrame,
    factors: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    instruments: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
    regression_window: int,
    min_observations: int,
) -> pl.DataFrame:
    """Cents of `market` and `other_factors` of each row of `held`; NULL where an input is missing."""
    number = held.get_column("number").to_numpy()
    ends = np.unique(number) - 1
    joint = style_betas(
        timeline=timeline,
        calendar=calendar,
        ends=ends,
        symbols=held.get_column("held_symbol").to_list(),
        factors=factors,
        returns=returns,
        yields=yields,
        instruments=instruments,
        regression_window=regression_window,
        min_observations=min_observations,
    )
    own = continued(symbol_factor_betas.filter(pl.col("factor") == MARKET), instruments, "session_date").select(
        "beta", number=pl.col("number") + 1, held_symbol="symbol"
    )
    beta = _floats(held.join(own, on=["number", "held_symbol"], how="left", maintain_order="left"), "beta")
    value = _floats(held, "value_before")
    column_of = np.array(joint.symbols, dtype=object)
    place = (np.searchsorted(ends, number - 1), np.searchsorted(column_of, held.get_column("held_symbol").to_numpy()))
    systematic = np.zeros(len(held)) if joint.names else np.full(len(held), np.nan)
    market = np.full(len(held), np.nan)
    for column, name in enumerate(joint.names):
        moved = joint.returns[number, column]
        systematic = systematic + joint.beta[(*place, column)] * moved
        if name == MARKET:
            market = beta * moved * value
    cents = _cents("market", market)
    return held.select(*_ROW).with_columns(
        cents, (_cents("other_factors", systematic * value) - cents).alias("other_factors")
    )


def _greek_components(held: pl.DataFrame, timeline: Timeline) -> pl.DataFrame:
    """Cents of each Greek's share of each row of `held`; NULL where an input is missing."""
    known = held.get_column("greeks_before").eq_missing("ok").to_numpy()
    greeks = {name: np.where(known, _floats(held, name), np.nan) for name in _GREEKS}
    ratio = _floats(held, "quantity") / _floats(held, "quantity_before")
    moved = _floats(held, "underlying_price") * ratio - _floats(held, "underlying_price_before")
    number = held.get_column("number").to_numpy()
    points = {
        name: (_floats(held, name) - _floats(held, f"{name}_before")) * PERCENT
        for name in ("volatility", "risk_free_rate")
    }
    explained = {
        "delta": greeks["delta"] * moved,
        "gamma": greeks["gamma"] * moved**2 / 2,
        "theta": greeks["theta"] * (timeline.days[number] - timeline.days[number - 1]),
        "vega": greeks["vega"] * points["volatility"],
        "rho": greeks["rho"] * points["risk_free_rate"],
    }
    return held.select(*_ROW).with_columns(_cents(name, dollars) for name, dollars in explained.items())


def _floats(rows: pl.DataFrame, name: str) -> FloatArray:
    """A column's numbers; NaN where NULL."""
    return rows.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _cents(name: str, dollars: FloatArray) -> pl.Series:
    """Whole cents, half-even; NULL where NaN."""
    unknown = np.isnan(dollars)
    units = pl.Series(name, nearest_units(pl.Series(name, np.where(unknown, 0.0, dollars)), MONEY))
    return units.set(pl.Series(unknown), None)
