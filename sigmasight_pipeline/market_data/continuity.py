"""Whether value is continuous through splits: the sign that prices and corporate actions fit each other.

What belongs here: comparing closes before and after a split, of the symbol and of options on it. What does
not: returns, and what happens when a split does not fit (``checks``).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.black_scholes import DAYS_PER_YEAR
from sigmasight_pipeline.calculations.exercise_styles import is_american
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, implied_by_price, option_price
from sigmasight_pipeline.calculations.option_volatility import sensible
from sigmasight_pipeline.calculations.returns import add_gross
from sigmasight_pipeline.symbols import SymbolError, adjusted_occ, parse_option

CHANGES = ("symbol", "ex_date", "previous_date", "session_date", "change", "allowed", "forgotten")
"""Columns of one row per split and symbol: the last session before the ex-date with a close, the first from it on,
the change of value between the two (decimal, the split applied), the largest size of it that counts as continuous, and
whether a larger one looks like a forgotten adjustment."""

TICK = 0.01
"""US dollars an option's close may be off by rounding, before and after the split."""

NEAR_RATIO = 0.25
"""An option worth the split's ratio times what it should be, or that part of it, within this share, was not adjusted;
any other difference is the market's."""


def split_breaks(
    *,
    prices: pl.DataFrame,
    option_prices: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame | None = None,
    tolerance: float = 0.05,
    rate: float = 0.0,
) -> pl.DataFrame:
    """Splits through which value is not continuous: the columns CHANGES and `detail`, a sentence; empty where all fit.

    Arguments as of `share_changes` and `option_changes`. `forgotten` tells what must be mended from what may be.
    """
    return (
        pl.concat(
            [
                share_changes(prices, actions, tolerance=tolerance),
                option_changes(option_prices, prices, actions, instruments=instruments, tolerance=tolerance, rate=rate),
            ]
        )
        .filter(pl.col("change").abs() > pl.col("allowed"))
        .with_columns(
            detail=pl.format(
                "{}: value changed by {} % through the split of {}, allowed are {} %",
                "symbol",
                (pl.col("change") * 100).round(1),
                "ex_date",
                (pl.col("allowed") * 100).round(1),
            )
        )
        .sort("session_date", "symbol", "ex_date")
    )


def share_changes(prices: pl.DataFrame, actions: pl.DataFrame, *, tolerance: float = 0.05) -> pl.DataFrame:
    """The change of a holding's value through each split of `actions`: columns CHANGES, `allowed` is `tolerance`.

    `prices` has session_date, symbol, close (rows of ``daily_prices``), `actions` rows of ``corporate_actions``. A
    split without a close on either side cannot be judged and has no row. Dividends between the closes count as value.
    """
    return (
        add_gross(_around_splits(prices, actions), actions)
        .with_columns(
            change=pl.col("gross") / pl.col("previous_close").cast(pl.Float64) - 1.0,
            allowed=pl.lit(tolerance),
            forgotten=pl.lit(value=True),
        )
        .select(CHANGES)
    )


def option_changes(
    option_prices: pl.DataFrame,
    prices: pl.DataFrame,
    actions: pl.DataFrame,
    *,
    instruments: pl.DataFrame | None = None,
    tolerance: float = 0.05,
    rate: float = 0.0,
) -> pl.DataFrame:
    """The same for options on a symbol that splits, `symbol` being the contract as listed before.

    Judged are contracts with a close on the underlying's last session before the split and, the strike divided by the
    ratio, on its first one from it on (rows of ``option_prices``). The close after is compared with what the option is
    worth there at the volatility of the close before, so that neither the move of the underlying nor the days between
    count: `change` is the difference, `allowed` = tolerance + rounding of both closes / that value. Where the close
    before implies no volatility, an option may change with its underlying, at most one for one. `forgotten`: the value
    changed by about the split's ratio. A ratio that is no whole number has no row: such contracts are refused
    elsewhere. `rate` is continuously compounded; `instruments` may state exercise styles.
    """
    quotes = option_prices.filter(pl.col("close").is_not_null()).select(
        "session_date", "symbol", pl.col("close").cast(pl.Float64)
    )
    contracts = {contract: parse_option(contract).underlying for contract in quotes["symbol"].unique()}
    before = quotes.select(
        pl.col("symbol").replace_strict(contracts, return_dtype=pl.String),
        contract="symbol",
        previous_date="session_date",
        before="close",
    )
    pairs = _around_splits(prices, actions).join(before, on=["symbol", "previous_date"])
    ratios = SplitRatios(actions)
    keys = ["contract", "symbol", "previous_date", "session_date"]
    renamed = [
        (*key, adjusted, float(ratio))
        for key in pairs.select(keys).unique().iter_rows()
        if (adjusted := _listed_after(key[0], ratio := ratios.ratio(*key[1:]))) is not None
    ]
    listed = pl.DataFrame(
        renamed,
        schema={**{name: pairs.schema[name] for name in keys}, "listed": pl.String(), "ratio": pl.Float64()},
        orient="row",
    )
    after = quotes.select("session_date", listed="symbol", after="close")
    judged = pairs.join(listed, on=keys).join(after, on=["listed", "session_date"])
    judged = judged.with_columns(*_expected(judged, instruments, rate))
    spot, previous_spot = pl.col("close").cast(pl.Float64), pl.col("previous_close").cast(pl.Float64)
    slack = (spot * pl.col("ratio") - previous_spot).abs() + TICK * (1 + pl.col("ratio"))
    repriced = pl.col("expected").is_not_null()
    value = pl.when(repriced).then("expected").otherwise(pl.col("before") / pl.col("ratio"))
    factor = pl.col("after") / value
    near = pl.any_horizontal(
        ((factor / of).log().abs() <= (pl.lit(1.0 + NEAR_RATIO)).log()) for of in (pl.col("ratio"), 1 / pl.col("ratio"))
    )
    rounding = TICK * (1 + 1 / pl.col("ratio")) / pl.col("expected")
    return judged.with_columns(
        symbol=pl.col("contract"),
        change=factor - 1.0,
        allowed=tolerance + pl.when(repriced).then(rounding).otherwise(slack / pl.col("before")),
        forgotten=near,
    ).select(CHANGES)


def _expected(judged: pl.DataFrame, instruments: pl.DataFrame | None, rate: float) -> list[pl.Series]:
    """What each option is worth after the split at the volatility of its close before it; NULL without one."""
    contracts = [parse_option(contract) for contract in judged["contract"]]
    stated = (
        instruments
        if instruments is not None
        else pl.DataFrame(schema={"symbol": pl.String, "exercise_style": pl.String})
    )
    american = is_american(judged.select(option_symbol="contract", underlying_symbol="symbol"), stated).to_numpy()
    is_call = np.array([contract.kind == "C" for contract in contracts], dtype=np.bool_)
    strike = np.array([float(contract.strike) for contract in contracts], dtype=np.float64)
    expires = pl.Series([contract.expiration_date for contract in contracts], dtype=pl.Date)
    years_before, years_after = (
        (expires - judged[day]).dt.total_days().to_numpy() / DAYS_PER_YEAR for day in ("previous_date", "session_date")
    )
    spot_before, spot_after, before, ratio = (
        judged[name].cast(pl.Float64).to_numpy() for name in ("previous_close", "close", "before", "ratio")
    )
    terms = OptionTerms(is_call, strike, american, np.zeros(len(strike)))
    rates = np.full(len(strike), rate)
    inverted = implied_by_price(terms, before, spot_before, years_before, rates)
    volatility = sensible(terms, inverted, spot_before, years_before, rates).volatility
    after = OptionTerms(is_call, strike / ratio, american, terms.dividend_yield)
    value = option_price(after, spot_after, np.maximum(years_after, 0.0), rates, volatility)
    return [pl.Series("expected", value, dtype=pl.Float64).fill_nan(None)]


def _around_splits(prices: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Every split with the closes around it: symbol, ex_date, previous_date, previous_close, session_date,
    close."""
    ordered = prices.select("symbol", "session_date", "close").sort("session_date")
    return (
        actions.filter(pl.col("kind") == "split")
        .select("symbol", "ex_date")
        .sort("ex_date")
        .join_asof(
            ordered.rename({"session_date": "previous_date", "close": "previous_close"}),
            left_on="ex_date",
            right_on="previous_date",
            by="symbol",
            strategy="backward",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,
        )
        .join_asof(
            ordered,
            left_on="ex_date",
            right_on="session_date",
            by="symbol",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("previous_date").is_not_null() & pl.col("session_date").is_not_null())
    )


def _listed_after(contract: str, ratio: Fraction) -> str | None:
    """The contract's symbol after a split by a whole number; None where it has none."""
    if ratio.denominator != 1:
        return None
    try:
        return adjusted_occ(contract, ratio)
    except SymbolError:  # the divided strike is no listed one: the contract is refused where it is valued
        return None
