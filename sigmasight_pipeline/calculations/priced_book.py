"""The engines of position values and Greeks as they are run: from rows of market data, options modelled first.

What belongs here: feeding the option model with the sessions it needs and handing its result on. What does not: the
model (``option_volatility``), values (``valuation``) and Greeks (``position_greeks``).

Both engines model the options themselves instead of one reading the other's model, so that a value never depends on
whether an earlier session was computed, or when. Greeks take quantities, prices and exits from the values of the same
sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypedDict, Unpack

import polars as pl

from sigmasight_pipeline.calculations import contract_days, position_greeks, valuation
from sigmasight_pipeline.calculations.option_volatility import historical_lookback, model_options, yield_lookback


@dataclass(frozen=True)
class VolatilityRules:
    """Parameters of the volatility and rate of an option; see ``option_volatility.model_options``."""

    max_carried_volatility_age: int
    historical_volatility_window: int
    historical_volatility_min: int
    max_yield_age: int
    default_treasury_yield: float

    @property
    def quote_look_back(self) -> int:
        """Sessions before the first computed one whose quotes and prices are needed: the session before is valued
        too, and may carry a volatility."""
        return self.max_carried_volatility_age + 1

    @property
    def return_look_back(self) -> int:
        """Sessions before the first computed one whose returns are needed."""
        return historical_lookback(self.historical_volatility_window)

    @property
    def yield_look_back(self) -> int:
        """Sessions before the first computed one whose yields are needed."""
        return yield_lookback(self.max_carried_volatility_age, self.max_yield_age)


class BookFrames(TypedDict):
    """Rows of the tables of these names, reaching back as ``VolatilityRules`` says."""

    calendar: pl.DataFrame
    portfolios: pl.DataFrame
    positions: pl.DataFrame
    prices: pl.DataFrame
    option_prices: pl.DataFrame
    actions: pl.DataFrame
    instruments: pl.DataFrame


def model_book(
    *,
    sessions: Sequence[date],
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    volatility: VolatilityRules,
    **frames: Unpack[BookFrames],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Contract days and option model of every contract held, for `sessions` and the one before them.

    Returns the frames of ``contract_days.contract_days`` and ``option_volatility.model_options``, both with the
    look-back sessions.
    """
    calendar = frames["calendar"]
    opened = calendar.filter(~pl.col("is_closed"))["session_date"].unique().sort().to_list()
    first, last = opened.index(min(sessions)), opened.index(max(sessions))
    quoted = opened[max(0, first - volatility.quote_look_back) : last + 1]
    days = contract_days.contract_days(sessions=quoted, **frames)
    reach = max(volatility.quote_look_back, volatility.return_look_back, volatility.yield_look_back)
    model = model_options(
        days,
        returns,
        yields,
        opened[max(0, first - reach) : last + 1],
        max_carried_volatility_age=volatility.max_carried_volatility_age,
        historical_volatility_window=volatility.historical_volatility_window,
        historical_volatility_min=volatility.historical_volatility_min,
        max_yield_age=volatility.max_yield_age,
        default_treasury_yield=volatility.default_treasury_yield,
    )
    return days, model


def book_values(
    *,
    sessions: Sequence[date],
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    marks: pl.DataFrame,
    volatility: VolatilityRules,
    max_stale_sessions: int,
    max_mark_age: int,
    **frames: Unpack[BookFrames],
) -> pl.DataFrame:
    """Values every position at every session from its entry to its exit, and measures the session's P&L.

    Options are modelled first (`model_book`); frames, result and errors are those of ``valuation.position_values``.
    """
    _, model = model_book(sessions=sessions, returns=returns, yields=yields, volatility=volatility, **frames)
    return valuation.position_values(
        sessions=sessions,
        option_model=model,
        marks=marks,
        max_stale_sessions=max_stale_sessions,
        max_mark_age=max_mark_age,
        **frames,
    )


def book_greeks(
    *,
    sessions: Sequence[date],
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    position_values: pl.DataFrame,
    volatility: VolatilityRules,
    **frames: Unpack[BookFrames],
) -> pl.DataFrame:
    """Greeks and delta-adjusted exposure of every position valued, and the volatility its option is modelled with.

    `position_values` are the rows of these sessions (others change nothing). Options are modelled first
    (`model_book`); the other frames, result and errors are those of ``position_greeks.position_greeks``.
    """
    days, model = model_book(sessions=sessions, returns=returns, yields=yields, volatility=volatility, **frames)
    return position_greeks.position_greeks(
        sessions=sessions,
        calendar=frames["calendar"],
        portfolios=frames["portfolios"],
        positions=frames["positions"],
        actions=frames["actions"],
        instruments=frames["instruments"],
        position_values=position_values,
        option_model=model,
        contract_days=days,
    )
