"""Which volatility and rate each option contract is modelled with, and the model price that follows.

What belongs here: the order implied, carried, vendor, historical, fallback; the Treasury rate for a time to
expiry; the model price per underlying unit. What does not: the formulas (``option_pricing``),
which contracts there are (``contracts``, ``contract_days``), and the order of prices of a position (``valuation``).

The result for session D reads the contract's rows of D and `max_carried_volatility_age` sessions before, the
returns of `historical_lookback` and the yields of `yield_lookback` sessions ending with D. Given these, computing
D alone or within a range gives the same row, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.black_scholes import DAYS_PER_YEAR
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatility, ImpliedVolatilityStatus
from sigmasight_pipeline.calculations.option_inputs import (
    TENOR_DAYS,
    OptionInputError,
    OptionInputReason,
    require_sound,
    require_sound_yields,
)
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, implied_by_price, option_greeks, option_price
from sigmasight_pipeline.calculations.timeline import day_numbers

SESSIONS_PER_YEAR = 252

TICK = 0.01
"""US dollars an option's close may be off by rounding."""

LARGEST_TICK_VALUE = 2.0
"""Volatility points a tick may be worth: beyond that a close says nothing about volatility."""

CONTRACT_DAYS = (
    "contract",
    "session_date",
    "underlying_symbol",
    "option_kind",
    "strike_price",
    "expiration_date",
    "close",
    "vendor_volatility",
    "underlying_price",
    "is_american",
    "dividend_yield",
)
"""Columns `model_options` reads of `contract_days`; others are ignored."""

MODEL = {
    "contract": pl.String(),
    "session_date": pl.Date(),
    "time_to_expiry": pl.Float64(),
    "risk_free_rate": pl.Float64(),
    "rate_source": pl.String(),
    "implied_volatility": pl.Float64(),
    "vol_status": pl.String(),
    "volatility": pl.Float64(),
    "vol_source": pl.String(),
    "model_price": pl.Float64(),
}
"""Columns of the result of `model_options`."""

_STATUS_CODES = {status.value: status.code for status in ImpliedVolatilityStatus}
_VOL_SOURCES = ("implied", "carried", "vendor", "historical", "fallback")
_RATE_SOURCES = ("observed", "carried", "default")
_NONE = -1


def historical_lookback(historical_volatility_window: int) -> int:
    """Sessions, the computed one included, in which the returns of a historical volatility must lie.

    Twice the window: a symbol with gaps still finds its returns, and the look-back is the same everywhere.
    """
    return 2 * historical_volatility_window


def yield_lookback(max_carried_volatility_age: int, max_yield_age: int) -> int:
    """Sessions, the computed one included, whose yields are read.

    The two ages add up: a carried volatility was inverted with the rate of its own session.
    """
    return max_carried_volatility_age + max_yield_age + 1


def model_options(
    contract_days: pl.DataFrame,
    log_returns: pl.DataFrame,
    yields: pl.DataFrame,
    sessions: Sequence[date],
    *,
    max_carried_volatility_age: int,
    historical_volatility_window: int,
    historical_volatility_min: int,
    max_yield_age: int,
    default_treasury_yield: float,
) -> pl.DataFrame:
    """Volatility, its source, the rate and the model price of every row of `contract_days`.

    `contract_days` (columns `CONTRACT_DAYS`): one row per contract, an identity that outlives splits, and
    session: option_kind C or P, strike_price as of the session, and as Float64 or NULL the contract's own
    close, vendor_volatility and underlying_price; is_american whether it may be exercised early, dividend_yield
    of the underlying, continuously compounded. `log_returns`: session_date, symbol, log_return,
    sessions_spanned; only returns over one session count. `yields`: session_date, tenor, yield (decimal),
    observed_date. `sessions`: the open sessions in order, from the earliest look-back on; ages are counted in
    them, and rows of `log_returns` and `yields` on other days are left out.

    Columns of the result (`MODEL`), ordered by contract and session_date:

    - time_to_expiry: calendar days / 365.
    - risk_free_rate: ln(1 + y) with y the newest yield, observed at most `max_yield_age` sessions ago, of the
      tenor nearest in days (of two the shorter) among those that have one. rate_source: observed (on the
      session), carried (earlier) or default (`default_treasury_yield`).
    - implied_volatility, inverted under the contract's exercise style, and vol_status: a code of
      ImpliedVolatilityStatus (`bad_input` also without a price of the underlying); NULL without a close of the
      contract. `insensitive`, and no implied volatility, where a tick is worth more than `LARGEST_TICK_VALUE`
      volatility points: deep in the money a cent more or less would be any volatility.
    - volatility and vol_source: implied on the session; else carried, the contract's last implied one, at
      most `max_carried_volatility_age` sessions old; else vendor; else historical, the standard deviation
      (ddof 1) of the underlying's last `historical_volatility_window` returns, at least
      `historical_volatility_min`, times sqrt(252); else fallback, which has neither volatility nor model
      price. Without a price of the underlying it is fallback whatever the volatility.
    - model_price: under the exercise style and dividend yield, US dollars per underlying unit.
    - On the expiration date model_price is the intrinsic value, vol_status `expired`, volatility and
      vol_source NULL: none is needed, so it is no fallback.

    Source: calculations.md section 5. Raises OptionInputError.
    """
    days = contract_days.select(CONTRACT_DAYS).sort("contract", "session_date")
    line = day_numbers(pl.Series(sessions, dtype=pl.Date))
    if (np.diff(line) <= 0).any():
        raise OptionInputError(
            OptionInputReason.SESSIONS_NOT_ASCENDING,
            "`sessions` must be ascending and without duplicates; sort them first",
        )
    require_sound(days, sessions)
    require_sound_yields(yields)
    if days.is_empty():
        return pl.DataFrame(schema=MODEL)
    session = _positions(days["session_date"], line)
    days_left = day_numbers(days["expiration_date"]) - line[session]
    time = days_left / DAYS_PER_YEAR
    rate, rate_source = _risk_free_rates(
        session, days_left, yields, line, max_age=max_yield_age, default=default_treasury_yield
    )

    is_call = (days["option_kind"] == "C").to_numpy()
    strike, spot = _floats(days["strike_price"]), _floats(days["underlying_price"])
    american, dividend_yield = days["is_american"].to_numpy(), _floats(days["dividend_yield"])
    terms = OptionTerms(is_call, strike, american, dividend_yield)
    inverted = implied_by_price(terms, _floats(days["close"]), spot, time, rate)
    implied, status = sensible(terms, inverted, spot, time, rate)
    expired = days_left == 0
    status = np.where(expired, ImpliedVolatilityStatus.EXPIRED, status)
    reported = expired | days["close"].is_not_null().to_numpy()

    usable = np.isfinite(spot) & (spot > 0.0) & ~expired
    contract = days["contract"].rle_id().to_numpy()
    candidates = (
        implied,
        _carried(implied, contract, session, max_carried_volatility_age),
        _floats(days["vendor_volatility"]),
    )
    volatility = np.full(len(days), np.nan)
    source = np.full(len(days), len(_VOL_SOURCES) - 1)
    for place, candidate in enumerate(candidates):
        _take(volatility, source, place, np.where(usable, candidate, np.nan))
    wanting = np.flatnonzero(usable & np.isnan(volatility))
    historical = np.full(len(days), np.nan)
    historical[wanting] = _historical_volatility(
        days["underlying_symbol"].gather(wanting),
        session[wanting],
        log_returns,
        line,
        window=historical_volatility_window,
        minimum=historical_volatility_min,
    )
    _take(volatility, source, len(candidates), historical)
    # At time 0 the price does not depend on volatility; any finite one gives the intrinsic value.
    model_price = option_price(terms, spot, time, rate, np.where(expired, 0.0, volatility))
    return days.select("contract", "session_date").with_columns(
        pl.Series("time_to_expiry", time),
        pl.Series("risk_free_rate", rate),
        _named("rate_source", rate_source, dict(enumerate(_RATE_SOURCES))),
        _nullable("implied_volatility", implied),
        _named("vol_status", np.where(reported, status, _NONE), _STATUS_CODES),
        _nullable("volatility", volatility),
        _named("vol_source", np.where(expired, _NONE, source), dict(enumerate(_VOL_SOURCES))),
        _nullable("model_price", model_price),
    )


def sensible(
    terms: OptionTerms, inverted: ImpliedVolatility, spot: FloatArray, time: FloatArray, rate: FloatArray
) -> ImpliedVolatility:
    """`inverted` without the volatilities of closes of which a tick is worth too much; every array (options,)."""
    implied, status = inverted.volatility.copy(), inverted.status.copy()
    found = np.flatnonzero(status == ImpliedVolatilityStatus.OK)
    vega = option_greeks(terms.at(found), spot[found], time[found], rate[found], implied[found]).vega
    insensitive = found[~(vega * LARGEST_TICK_VALUE >= TICK)]
    implied[insensitive] = np.nan
    status[insensitive] = ImpliedVolatilityStatus.INSENSITIVE
    return ImpliedVolatility(implied, status)


def _floats(series: pl.Series) -> FloatArray:
    """The numbers of a column; NaN where NULL."""
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _nullable(name: str, values: FloatArray) -> pl.Series:
    return pl.Series(name, values).fill_nan(None)


def _named(name: str, codes: NDArray[np.integer], names: dict[int, str]) -> pl.Series:
    """Codes as their names; NULL for _NONE."""
    return pl.Series(name, codes.astype(np.int64)).replace_strict(names | {_NONE: None}, return_dtype=pl.String)


def _take(volatility: FloatArray, source: IntArray, place: int, candidate: FloatArray) -> None:
    """Fills in the usable candidates (finite and positive) where no earlier source gave a volatility."""
    taken = np.isnan(volatility) & np.isfinite(candidate) & (candidate > 0.0)
    volatility[taken] = candidate[taken]
    source[taken] = place


def _carried(implied: FloatArray, contract: IntArray, session: IntArray, max_age: int) -> FloatArray:
    """The contract's last implied volatility, at most `max_age` sessions old; rows by contract and session."""
    row = np.arange(len(implied))
    last = np.maximum.accumulate(np.where(np.isnan(implied), _NONE, row))
    own = (last >= 0) & (contract[last] == contract) & (session - session[last] <= max_age)
    return np.where(own, implied[last], np.nan)


def _positions(dates: pl.Series, line: IntArray) -> IntArray:
    """The number of each session on the line; _NONE for other days."""
    days = day_numbers(dates)
    position = np.minimum(np.searchsorted(line, days), len(line) - 1)
    return np.where(line[position] == days, position, _NONE).astype(np.int64)


def historical_volatilities(
    symbols: pl.Series,
    session_dates: pl.Series,
    log_returns: pl.DataFrame,
    sessions: Sequence[date],
    *,
    window: int,
    minimum: int,
) -> FloatArray:
    """Historical volatility of each symbol at its session, annual decimal, as `model_options` takes it, or NaN.

    `sessions`: the open sessions in order; `log_returns` as for `model_options`.
    """
    line = day_numbers(pl.Series(sessions, dtype=pl.Date))
    if symbols.is_empty() or not len(line):
        return np.full(len(symbols), np.nan)
    session = _positions(session_dates, line)
    return _historical_volatility(symbols, session, log_returns, line, window=window, minimum=minimum)


def _historical_volatility(
    symbols: pl.Series,
    session: IntArray,
    log_returns: pl.DataFrame,
    line: IntArray,
    *,
    window: int,
    minimum: int,
) -> FloatArray:
    """Annualised standard deviation of the last returns of each symbol through each session; NaN if too few."""
    owners = {name: number for number, name in enumerate(symbols.unique().sort())}
    returns = log_returns.filter(
        pl.col("symbol").is_in(list(owners)),
        pl.col("sessions_spanned") == 1,
        pl.col("log_return").is_finite(),
    )
    position = _positions(returns["session_date"], line)
    # One ascending number per symbol and session makes every window a stretch of one sorted array.
    key = _numbered(returns["symbol"], owners) * len(line) + position
    order = np.argsort(key, kind="stable")
    order = order[position[order] != _NONE]
    if not len(order):
        return np.full(len(session), np.nan)
    key, values = key[order], _floats(returns["log_return"])[order]

    first_key = _numbered(symbols, owners) * len(line)
    rows = np.searchsorted(key, first_key + session, side="right")[:, None] + np.arange(-window, 0)
    oldest = first_key + np.maximum(session - historical_lookback(window) + 1, 0)
    inside = (rows >= 0) & (key[np.maximum(rows, 0)] >= oldest[:, None])
    picked = np.where(inside, values[np.maximum(rows, 0)], 0.0)
    count = inside.sum(axis=1)
    # Measured from the newest return, so that equal returns have exactly no spread; summed from left to
    # right (cumsum), so that the last bit does not depend on how many rows are computed together.
    shifted = np.where(inside, picked - picked[:, -1:], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.cumsum(shifted, axis=1)[:, -1] / count
        squares = np.where(inside, shifted - mean[:, None], 0.0) ** 2
        variance = np.cumsum(squares, axis=1)[:, -1] / (count - 1)
    enough = count >= max(minimum, 2)
    return np.where(enough, np.sqrt(np.where(enough, variance, 0.0) * SESSIONS_PER_YEAR), np.nan)


def _numbered(names: pl.Series, numbers: dict[str, int]) -> IntArray:
    return names.replace_strict(numbers, return_dtype=pl.Int64).to_numpy()


def _risk_free_rates(
    session: IntArray,
    days_left: IntArray,
    yields: pl.DataFrame,
    line: IntArray,
    *,
    max_age: int,
    default: float,
) -> tuple[FloatArray, IntArray]:
    """Continuously compounded rate of each row, and its place in _RATE_SOURCES."""
    position = _positions(yields["session_date"], line)
    column = _numbered(yields["tenor"], {tenor: number for number, tenor in enumerate(TENOR_DAYS)})
    on_line = position != _NONE
    cell = (position[on_line], column[on_line])
    rate = np.full((len(line), len(TENOR_DAYS)), np.nan)
    rate[cell] = np.log1p(_floats(yields["yield"])[on_line])
    seen = np.full(rate.shape, _NONE)
    seen[cell] = np.searchsorted(line, day_numbers(yields["observed_date"]), side="right")[on_line] - 1

    row = np.arange(len(line))[:, None]
    newest = np.maximum.accumulate(np.where(np.isnan(rate), _NONE, row), axis=0)
    tenor = np.arange(len(TENOR_DAYS))
    rate = rate[newest, tenor]
    age = row - seen[newest, tenor]
    usable = (newest != _NONE) & (age <= max_age)

    distance = np.abs(days_left[:, None] - np.array(list(TENOR_DAYS.values()), dtype=np.float64))
    nearest = np.argmin(np.where(usable[session], distance, np.inf), axis=1)
    found = usable[session, nearest]
    observed_today = age[session, nearest] == 0
    source = np.where(observed_today, _RATE_SOURCES.index("observed"), _RATE_SOURCES.index("carried"))
    return (
        np.where(found, rate[session, nearest], np.log1p(default)),
        np.where(found, source, _RATE_SOURCES.index("default")),
    )
