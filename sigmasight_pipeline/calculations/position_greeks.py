"""Greeks, volatility and delta-adjusted exposure of every position: the engine behind ``position_greeks``.

What belongs here: laying the volatility engine's rows, one per contract, out to the positions that hold it, and what
a position's Greeks are where no formula gives them (stocks, exits, fallback). What does not: the formulas
(``option_pricing``), volatilities and model prices (``option_volatility``), and sums over positions (``exposures``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.black_scholes import Greeks
from sigmasight_pipeline.calculations.exercise_styles import ExerciseStyle
from sigmasight_pipeline.calculations.exposures import with_trading_symbol
from sigmasight_pipeline.calculations.holdings import window
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatilityStatus
from sigmasight_pipeline.calculations.money import MONEY, PRICE, from_units, nearest_units
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, option_greeks
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES


class GreeksStatus(StrEnum):
    """How the Greeks of a row came about."""

    OK = "ok"
    """By the exercise style for an option; a delta of 1 per share for a stock."""
    FALLBACK = "fallback"
    """An option without usable volatility or underlying price: a flat table by type."""
    EXPIRED = "expired"
    """The exit session of an option that expired: zeros."""
    EXIT = "exit"
    """The exit session of any other position: zeros."""


class FlatGreeks(NamedTuple):
    """Greeks per underlying unit of an option held, already signed by its side; units as ``black_scholes.Greeks``."""

    delta: float
    gamma: float
    theta: float
    vega: float


FALLBACK_GREEKS: Mapping[str, FlatGreeks] = MappingProxyType(
    {
        "LC": FlatGreeks(0.6, 0.02, -0.5, 0.3),
        "SC": FlatGreeks(-0.4, -0.02, 0.5, -0.3),
        "LP": FlatGreeks(-0.4, 0.02, -0.5, 0.3),
        "SP": FlatGreeks(0.3, -0.02, 0.5, -0.3),
    }
)
"""Flat Greeks by position type, a rough guess that is flagged and left out of totals. Source: calculations.md
section 5. The sides do not mirror each other there, and do not here."""

_KEYS = ["contract", "session_date"]
_INPUTS = ("option_spot", "strike_price", "time_to_expiry", "risk_free_rate", "volatility")
_MODELLED = (
    "vol_status",
    "implied_volatility",
    "risk_free_rate",
    "rate_source",
    "time_to_expiry",
)

_AT_EXERCISE = ImpliedVolatilityStatus.NO_TIME_VALUE.code


def position_greeks(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    option_model: pl.DataFrame,
    contract_days: pl.DataFrame,
    fallback: Mapping[str, FlatGreeks] = FALLBACK_GREEKS,
) -> pl.DataFrame:
    """One row per row of `position_values` in `sessions` whose position is not PRIVATE, the exit session included.

    Columns are those of ``position_greeks`` without provenance, ordered by session_date and position_id. Greeks per
    share are those of one underlying unit held long, in mibian's units (``black_scholes.Greeks``); those of the
    position are per share x quantity x multiplier, negative quantity for short. Source: calculations.md sections 5, 6.

    - risk_symbol is the symbol whose returns and betas the position takes (``exposures.with_trading_symbol``).
    - Stocks: delta 1 per share, the other Greeks 0; underlying_price is the price they are valued at,
      delta_adjusted_exposure their exposure.
    - Options: under their exercise style on the session's volatility, rate, dividend yield, time, strike and
      underlying price; delta_adjusted_exposure = delta x underlying price, rounded half-even to the cent. An American
      one whose own close is its exercise value or less (vol_status `no_time_value`) moves with the underlying one for
      one, delta 1 or -1, and has no other Greek, whatever volatility it is re-priced with.
    - Options without a volatility or underlying price (vol_source `fallback`, or no row in `option_model`): the
      `fallback` of their type, per share signed by the side, for the position x abs(quantity) x multiplier; rho,
      volatility, model price and delta_adjusted_exposure NULL.
    - The exit session: zeros, and nothing modelled (NULL).

    `option_model` is what ``option_volatility.model_options`` made of `contract_days`
    (``contract_days.contract_days``). The other frames are rows of the
    tables of those names, as for ``valuation.position_values``. Raises NonWholeSplitRatioError, AmountOverflowError
    and timeline.SessionWindowError.
    """
    own_names = with_trading_symbol(position_values, positions, instruments)
    held = window(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        actions=actions,
        instruments=instruments,
    )
    contracts = held.lots.frame.select(
        "position_id",
        contract=pl.Series([contract and contract.contract for contract in held.lots.contracts], dtype=pl.String),
    )
    rows = _rows(sessions, position_values, positions, contracts, _modelled(option_model, contract_days), fallback)
    spot, strike, time, rate, volatility = (_floats(rows[name]) for name in _INPUTS)
    is_call, is_american = rows["is_call"].to_numpy(), rows["is_american"].fill_null(value=False).to_numpy()
    terms = OptionTerms(is_call, strike, is_american, _floats(rows["dividend_yield"]))
    modelled = option_greeks(terms, spot, time, rate, volatility)
    at_exercise = is_american & (rows["vol_status"] == _AT_EXERCISE).fill_null(value=False).to_numpy()
    at_exercise &= np.isfinite(modelled.delta)
    for values in modelled:
        values[at_exercise] = 0.0
    modelled.delta[at_exercise] = np.where(is_call, 1.0, -1.0)[at_exercise]
    is_option, is_exit = rows["is_option"].to_numpy(), rows["is_exit"].to_numpy()
    usable = is_option & np.logical_and.reduce([np.isfinite(values) for values in modelled])
    falls_back = is_option & ~is_exit & ~usable
    status = np.select(
        [is_exit & rows["has_expired"].to_numpy(), is_exit, falls_back],
        [GreeksStatus.EXPIRED.value, GreeksStatus.EXIT.value, GreeksStatus.FALLBACK.value],
        GreeksStatus.OK.value,
    )
    per_share = Greeks(
        *(
            np.select([is_exit, ~is_option, usable], [0.0, stock, values], _floats(rows[f"fallback_{name}"]))
            for name, values, stock in zip(Greeks._fields, modelled, (1.0, 0.0, 0.0, 0.0, 0.0), strict=True)
        )
    )
    rows = rows.join(
        own_names.select("session_date", "position_id", risk_symbol="symbol"),
        on=["session_date", "position_id"],
        how="left",
        maintain_order="left",
    )
    units = _floats(rows["quantity"]) * _floats(rows["multiplier"])
    scale = np.where(falls_back, np.abs(units), units)
    dollars = np.where(usable, modelled.delta * units * spot, 0.0)
    known = pl.Series(~falls_back)
    return (
        rows.with_columns(
            # adding 0 leaves no negative zeros
            *(_nullable(name, values * scale + 0.0) for name, values in per_share._asdict().items()),
            *(_nullable(f"{name}_per_share", values + 0.0) for name, values in per_share._asdict().items()),
            status=pl.Series(status),
            volatility=pl.when(known).then("volatility"),
            model_price=pl.when(known).then("model_price"),
            vol_source=pl.when(known).then("vol_source").otherwise(pl.lit("fallback")),
            exposure=pl.when("is_exit").then(pl.lit(0, dtype=MONEY)).otherwise("exposure"),
            modelled_exposure=_cents("delta_adjusted_exposure", dollars),
        )
        .with_columns(
            delta_adjusted_exposure=pl.when(~pl.col("is_option") | pl.col("is_exit"))
            .then("exposure")
            .when(known)
            .then("modelled_exposure")
        )
        .select(
            "session_date",
            "position_id",
            "portfolio_id",
            "risk_symbol",
            *Greeks._fields,
            *(f"{greek}_per_share" for greek in Greeks._fields),
            "status",
            "volatility",
            "vol_source",
            "vol_status",
            "implied_volatility",
            "underlying_price",
            "risk_free_rate",
            "rate_source",
            "time_to_expiry",
            "dividend_yield",
            "exercise_style",
            "model_price",
            "delta_adjusted_exposure",
        )
    )


def _modelled(option_model: pl.DataFrame, contract_days: pl.DataFrame) -> pl.DataFrame:
    """What a contract is modelled with at each session, by contract and session_date."""
    price = option_model.get_column("model_price")
    units = nearest_units(price.fill_null(0.0), PRICE)
    terms = contract_days.select(
        *_KEYS,
        "strike_price",
        "is_american",
        "dividend_yield",
        exercise_style=pl.when("is_american")
        .then(pl.lit(ExerciseStyle.AMERICAN.value))
        .otherwise(pl.lit(ExerciseStyle.EUROPEAN.value)),
        option_spot="underlying_price",
        option_underlying="underlying_price_exact",
    )
    return option_model.select(
        *_KEYS,
        *_MODELLED,
        "volatility",
        "vol_source",
        from_units(units, PRICE, "model_price").set(price.is_null(), None),
    ).join(terms, on=_KEYS, how="left")


def _rows(
    sessions: Sequence[date],
    position_values: pl.DataFrame,
    positions: pl.DataFrame,
    contracts: pl.DataFrame,
    modelled: pl.DataFrame,
    fallback: Mapping[str, FlatGreeks],
) -> pl.DataFrame:
    """The result's rows in its order, each with what its Greeks are made from."""
    flat = pl.DataFrame(
        [(kind, *greeks, None) for kind, greeks in fallback.items()],
        schema={"position_type": pl.String} | {f"fallback_{name}": pl.Float64 for name in Greeks._fields},
        orient="row",
    )
    public = positions.filter(pl.col("investment_class") != "PRIVATE").select(
        "position_id",
        "position_type",
        "expiration_date",
        "multiplier",
        is_option=pl.col("investment_class") == "OPTIONS",
        is_call=(pl.col("option_kind") == "C").fill_null(value=False),
    )
    is_exit = pl.col("price_source").is_in(EXIT_SOURCES)
    underlying = pl.when("is_option").then("option_underlying").otherwise("price")
    return (
        position_values.filter(pl.col("session_date").is_in(list(sessions)))
        .select("session_date", "position_id", "portfolio_id", "quantity", "price", "price_source", "exposure")
        .join(public, on="position_id")
        .join(contracts, on="position_id", how="left")
        .with_columns(
            is_exit=is_exit,
            has_expired=pl.col("is_option")
            & ((pl.col("price_source") != "exit") | (pl.col("session_date") >= pl.col("expiration_date"))),
            contract=pl.when(~is_exit).then("contract"),
        )
        .join(modelled, on=_KEYS, how="left")
        .join(flat, on="position_type", how="left")
        .with_columns(underlying_price=pl.when(~pl.col("is_exit") & (underlying > 0)).then(underlying).cast(PRICE))
        .sort("session_date", "position_id")
    )


def _floats(series: pl.Series) -> FloatArray:
    """The numbers of a column; NaN where NULL."""
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _nullable(name: str, values: FloatArray) -> pl.Series:
    return pl.Series(name, values).fill_nan(None)


def _cents(name: str, amounts: FloatArray) -> pl.Series:
    """US dollars rounded half-even to the cent."""
    return from_units(nearest_units(pl.Series(name, amounts), MONEY), MONEY, name)
