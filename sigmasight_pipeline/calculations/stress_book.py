"""What a scenario acts on: the PUBLIC and OPTIONS positions held at each session and their symbols' betas, as arrays.

What belongs here: laying frames out as arrays by session, portfolio and position, what scenarios do to the positions of
one session, and sums over portfolios. What does not: implied returns (``stress_returns``), prices of options
(``stress_revaluation``) and result frames (``stress``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.exposures import (
    held,
    portfolio_sessions,
    with_delta_adjusted,
    with_trading_symbol,
)
from sigmasight_pipeline.calculations.money import CENTS, MONEY, nearest_units, to_units
from sigmasight_pipeline.calculations.stress_returns import floored
from sigmasight_pipeline.calculations.stress_revaluation import Options, option_pnl
from sigmasight_pipeline.symbols import parse_option

_POSITION = ["session_date", "position_id"]
_PRICED_WITH = (
    "underlying_price",
    "time_to_expiry",
    "risk_free_rate",
    "volatility",
    "dividend_yield",
    "exercise_style",
)


WITHOUT_PRICES = ("option", "private")
"""Kinds of instruments that follow another's price, or have none."""

PRICED_TOGETHER = 100_000
"""Prices of options computed at once: a few megabytes, and nothing left of what a call costs."""


class Moves(NamedTuple):
    """What scenarios do to the market at a session."""

    raw: FloatArray
    """(scenarios, symbols): implied returns before the floor; NaN where unknown."""
    volatility_shift: FloatArray
    """(scenarios,): relative, of option volatilities."""
    rate_shift: FloatArray
    """(scenarios,): decimal, added to rates."""


class Outcome(NamedTuple):
    """What scenarios do to the positions of a session, arrays (scenarios, positions); money in cents, 0 if unknown."""

    implied: FloatArray
    """Return of the symbol, at least -1; NaN where unknown."""
    floored: BoolArray
    linear: IntArray
    pnl: IntArray
    known: BoolArray
    """Whether there is a figure: an implied return and a delta-adjusted exposure."""


@dataclass(frozen=True, eq=False)
class Day:
    """The positions of one session in order of portfolio and position, arrays (positions,).

    `portfolio` are rows of the session's portfolios, `symbol` codes of the book's symbols; `exposure` is
    delta-adjusted, US dollars, signed, NaN where unknown; `size` its absolute value in cents, of the market value where
    it is unknown. `options` are those of the positions `option_rows`.
    """

    session: date
    portfolio_ids: IntArray
    net_asset_value: FloatArray
    portfolio: IntArray
    position_id: IntArray
    symbol: IntArray
    exposure: FloatArray
    size: IntArray
    option_rows: IntArray
    options: Options

    @cached_property
    def _starts(self) -> tuple[IntArray, IntArray]:
        return np.unique(self.portfolio, return_index=True)

    @cached_property
    def has_positions(self) -> BoolArray:
        """(portfolios,): whether a PUBLIC or OPTIONS position is held."""
        return np.bincount(self.portfolio, minlength=len(self.portfolio_ids)) > 0

    def summed(self, values: npt.NDArray[np.int64]) -> IntArray:
        """Sums over each portfolio's positions of whole numbers (rows, positions): (rows, portfolios), exact."""
        totals = np.zeros((values.shape[0], len(self.portfolio_ids)), dtype=np.int64)
        owners, starts = self._starts
        if len(owners):
            totals[:, owners] = np.add.reduceat(values, starts, axis=1)
        return totals

    def underlying_returns(self, moves: Moves) -> FloatArray:
        """(scenarios, options): implied return of each option's underlying, at least -1."""
        return floored(moves.raw[:, self.symbol[self.option_rows]])

    def outcome(self, moves: Moves, of_options: FloatArray) -> Outcome:
        """What the scenarios do, given what the options gain or lose, (scenarios, options), US dollars."""
        before = moves.raw[:, self.symbol]
        implied = floored(before)
        linear = self.exposure * implied
        pnl = linear.copy()
        pnl[:, self.option_rows] = of_options
        known = np.isfinite(linear)
        return Outcome(implied, implied > before, cents(linear, known), cents(pnl, known), known)


def outcomes(days: Sequence[Day], moves: Sequence[Moves]) -> list[Outcome]:
    """What the scenarios of each session do to its positions; options are priced for many sessions at once."""
    found: list[Outcome] = []
    for part in _batches([moved.raw.shape[0] * len(day.option_rows) for day, moved in zip(days, moves, strict=True)]):
        own, moved = days[part], moves[part]
        counts = [len(day.option_rows) for day in own]
        shifts = np.array([(one.volatility_shift, one.rate_shift) for one in moved])
        of_volatility, of_rate = np.repeat(shifts, counts, axis=0).transpose(1, 2, 0)
        pnl = option_pnl(
            Options(*(np.concatenate(columns) for columns in zip(*(day.options for day in own), strict=True))),
            np.concatenate([day.underlying_returns(one) for day, one in zip(own, moved, strict=True)], axis=1),
            of_volatility,
            of_rate,
        )
        by_day = np.split(pnl, np.cumsum(counts)[:-1], axis=1)
        found += [day.outcome(one, gained) for day, one, gained in zip(own, moved, by_day, strict=True)]
    return found


def _batches(sizes: Sequence[int]) -> Iterator[slice]:
    """Consecutive sessions that are priced together: as many as keep to `PRICED_TOGETHER`, one at least."""
    start = together = 0
    for place, size in enumerate(sizes):
        if place > start and together + size > PRICED_TOGETHER:
            yield slice(start, place)
            start, together = place, 0
        together += size
    if sizes:
        yield slice(start, len(sizes))


def cents(dollars: FloatArray, known: BoolArray) -> IntArray:
    """US dollars as whole cents, half-even; 0 where not `known`. Raises AmountOverflowError."""
    flat = pl.Series("a position's P&L in a scenario", np.where(known, dollars, 0.0).ravel())
    return nearest_units(flat, MONEY).reshape(dollars.shape)


@dataclass(frozen=True, eq=False)
class Book:
    """Every session's positions, and the symbols betas are looked up for."""

    days: list[Day]
    symbols: pl.Series


def book(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    priced_symbols: bool = False,
) -> Book:
    """The positions of the open sessions of `sessions`; frames are rows of the tables of those names.

    With `priced_symbols`, the book's symbols are all of `instruments` that have prices of their own, whoever holds
    them.

    An option belongs to its underlying, a renamed symbol to the name it trades under. Raises
    exposures.MissingGreeksError and timeline.SessionWindowError.
    """
    keys = ["session_date", "portfolio_id"]
    wanted = portfolio_sessions(sessions, calendar, portfolios).join(
        portfolio_snapshots.select(*keys, pl.col("net_asset_value").cast(pl.Float64)),
        on=keys,
        how="left",
        maintain_order="left",
    )
    values = held(position_values).join(wanted, on=keys, how="semi")
    adjusted = with_delta_adjusted(values, positions, position_greeks).select(
        *_POSITION, "delta_adjusted", "exposure", "quantity", "price", option_symbol="symbol"
    )
    rows = (
        with_trading_symbol(values, positions, instruments)
        .filter(pl.col("investment_class") != "PRIVATE")
        .join(adjusted, on=_POSITION)
        .join(position_greeks.select(*_POSITION, *_PRICED_WITH), on=_POSITION)
        .join(positions.select("position_id", "multiplier"), on="position_id")
        .sort(*keys, "position_id")
    )
    owners = wanted.with_columns(
        portfolio=pl.int_range(pl.len()).over("session_date"), day=pl.col("session_date").rle_id()
    )
    rows = rows.join(owners.select(*keys, "portfolio", "day"), on=keys, maintain_order="left")
    named = [rows.get_column("symbol")]
    if priced_symbols:
        named.append(instruments.filter(~pl.col("kind").is_in(WITHOUT_PRICES)).get_column("symbol"))
    symbols = pl.concat(named).unique().sort()
    columns = _columns(rows, symbols)
    sizes = owners.group_by("session_date", maintain_order=True).agg("portfolio_id", "net_asset_value")
    ends = np.searchsorted(rows.get_column("day").to_numpy(), np.arange(len(sizes) + 1))
    return Book(
        [
            _day(session, ids, values, columns, slice(ends[number], ends[number + 1]))
            for number, (session, ids, values) in enumerate(sizes.iter_rows())
        ],
        symbols,
    )


class _Columns(NamedTuple):
    """The rows of every session, arrays (rows,)."""

    portfolio: IntArray
    position_id: IntArray
    symbol: IntArray
    exposure: FloatArray
    size: IntArray
    is_option: BoolArray
    options: Options


def _columns(rows: pl.DataFrame, symbols: pl.Series) -> _Columns:
    is_option = (rows.get_column("investment_class") == "OPTIONS").to_numpy()
    contracts = rows.filter(pl.col("investment_class") == "OPTIONS").get_column("option_symbol").unique()
    terms = {symbol: parse_option(symbol) for symbol in contracts}
    named = pl.DataFrame(
        {
            "option_symbol": list(terms),
            "is_call": [contract.kind == "C" for contract in terms.values()],
            "strike": [float(contract.strike) for contract in terms.values()],
        },
        schema={"option_symbol": pl.String, "is_call": pl.Boolean, "strike": pl.Float64},
    )
    rows = rows.join(named, on="option_symbol", how="left", maintain_order="left")
    options = Options(
        rows.get_column("is_call").fill_null(value=False).to_numpy(),
        _floats(rows, "underlying_price"),
        _floats(rows, "strike"),
        _floats(rows, "time_to_expiry"),
        _floats(rows, "risk_free_rate"),
        _floats(rows, "volatility"),
        _floats(rows, "quantity") * _floats(rows, "multiplier"),
        _floats(rows, "price"),
        (rows.get_column("exercise_style") == "american").fill_null(value=False).to_numpy(),
        _floats(rows, "dividend_yield"),
    )
    modelled = np.logical_and.reduce([np.isfinite(column) for column in options])
    exposure = rows.get_column("delta_adjusted")
    dollars = to_units(exposure, MONEY) / CENTS
    known = exposure.is_not_null().to_numpy() & (modelled | ~is_option)
    size = pl.coalesce(pl.when(pl.Series(known)).then("delta_adjusted"), "exposure").abs()
    return _Columns(
        portfolio=rows.get_column("portfolio").to_numpy(),
        position_id=rows.get_column("position_id").to_numpy(),
        symbol=rows.select(pl.col("symbol").cast(pl.Enum(symbols)).to_physical().cast(pl.Int64)).to_series().to_numpy(),
        exposure=np.where(known, dollars, np.nan),
        size=to_units(rows.select(size.alias("exposure")).to_series(), MONEY),
        is_option=is_option,
        options=options,
    )


def _day(session: date, ids: list[int], values: list[float | None], columns: _Columns, rows: slice) -> Day:
    option_rows = np.flatnonzero(columns.is_option[rows])
    chosen = option_rows + rows.start
    return Day(
        session=session,
        portfolio_ids=np.array(ids, dtype=np.int64),
        net_asset_value=np.array(values, dtype=np.float64),
        portfolio=columns.portfolio[rows],
        position_id=columns.position_id[rows],
        symbol=columns.symbol[rows],
        exposure=columns.exposure[rows],
        size=columns.size[rows],
        option_rows=option_rows,
        options=Options(*(column[chosen] for column in columns.options)),
    )


def _floats(rows: pl.DataFrame, name: str) -> FloatArray:
    return rows.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy()


class Betas(NamedTuple):
    """Univariate betas of every session."""

    values: FloatArray
    """(sessions, symbols, factors); NaN where there is none."""
    has_data: BoolArray
    """(sessions, factors): whether anything was estimated on the factor."""


def betas(symbol_factor_betas: pl.DataFrame, found: Book, names: Sequence[str]) -> Betas:
    """The betas (winsorised) of the book's symbols on the factors `names` at its sessions."""
    days = {day.session: number for number, day in enumerate(found.days)}
    shape = (len(days), len(found.symbols), len(names))
    values, has_data = np.full(shape, np.nan), np.zeros((shape[0], shape[2]), dtype=bool)
    numbered = symbol_factor_betas.select(
        "beta",
        "quality",
        day=pl.col("session_date").replace_strict(days, default=None, return_dtype=pl.Int64),
        factor=pl.col("factor").cast(pl.Enum(list(names)), strict=False).to_physical().cast(pl.Int64),
        symbol=pl.col("symbol").cast(pl.Enum(found.symbols), strict=False).to_physical().cast(pl.Int64),
    ).filter(pl.col("day").is_not_null(), pl.col("factor").is_not_null())
    with_data = numbered.filter(pl.col("quality") != "factor_without_data")
    has_data[with_data.get_column("day").to_numpy(), with_data.get_column("factor").to_numpy()] = True
    own = numbered.filter(pl.col("symbol").is_not_null(), pl.col("beta").is_not_null())
    at = tuple(own.get_column(name).to_numpy() for name in ("day", "symbol", "factor"))
    values[at] = own.get_column("beta").to_numpy()
    return Betas(values, has_data)
