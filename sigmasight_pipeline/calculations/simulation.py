"""The positions held at a session on the real returns of the sessions before: P&L by session and position.

What belongs here: which returns there are for each position, which sessions and positions are left out, and the P&L
matrix. What does not: risk figures made of it (``simulated_risk``, ``risk_contributions``), options' values
(``simulated_options``), ridge regressions (``joint_betas``).

Historical simulation: nothing is assumed about how returns are distributed or move together, and options are re-priced,
so that what is nonlinear in a book is in its figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.exposures import held, portfolio_sessions, with_delta_adjusted
from sigmasight_pipeline.calculations.factor_returns import Panel, factor_returns, return_panel, session_axis
from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline.calculations.money import MONEY, to_units
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.simulated_options import HeldOptions, OptionBook
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.calculations.style_betas import STYLE
from sigmasight_pipeline.symbols import parse_option

_KEYS = ["session_date", "portfolio_id"]
_POSITION = ["session_date", "position_id"]
_PRICED_WITH = (
    "underlying_price",
    "time_to_expiry",
    "risk_free_rate",
    "volatility",
    "dividend_yield",
    "exercise_style",
)


class SimulationFrames(TypedDict):
    """Rows of the tables of these names: of the sessions, `returns` reaching back as ``SimulationRules`` says."""

    calendar: pl.DataFrame
    portfolios: pl.DataFrame
    portfolio_snapshots: pl.DataFrame
    positions: pl.DataFrame
    instruments: pl.DataFrame
    position_values: pl.DataFrame
    position_greeks: pl.DataFrame
    returns: pl.DataFrame
    factors: pl.DataFrame


@dataclass(frozen=True)
class SimulationRules:
    """Parameters of a simulation: sessions whose returns are taken, sessions of the ridge window behind the returns
    that are modelled, fewest sessions of either, least share of the gross exposure that must be covered."""

    simulation_window: int = 252
    regression_window: int = 252
    min_observations: int = 60
    min_coverage: float = 0.8

    @property
    def return_look_back(self) -> int:
        """Sessions before the first computed one whose returns are needed."""
        return max(self.simulation_window, self.regression_window) - 1


class Holdings(NamedTuple):
    """PUBLIC and OPTIONS positions in order of session, portfolio and position, arrays (rows,)."""

    position_id: IntArray
    symbol: IntArray
    """Place of the symbol held, of an option its underlying, among the simulated ones."""
    exposure: FloatArray
    """Delta-adjusted, US dollars, signed; NaN where unknown."""
    market_value: IntArray
    """Cents, signed."""
    size: IntArray
    """Absolute delta-adjusted exposure in cents; of the market value where that is unknown."""
    option: IntArray
    """Place among the options; -1 for others."""

    def at(self, rows: slice) -> Holdings:
        """Some of them."""
        return Holdings._make(values[rows] for values in self)


@dataclass(frozen=True, eq=False)
class Simulation:
    """One portfolio at one session: its positions, and the sessions whose returns they are put through.

    `sessions` (n,) are the simulated ones, oldest first; `returns` (n, positions) of the positions' symbols, at least
    -1, NaN only of positions that are not `covered` (positions,); `modelled` which of them are modelled, not real.
    """

    session: date
    portfolio_id: int
    net_asset_value: float | None
    holdings: Holdings
    options: OptionBook
    sessions: Sequence[date]
    returns: FloatArray
    modelled: BoolArray
    covered: BoolArray

    @cached_property
    def gross(self) -> int:
        """Cents of gross delta-adjusted exposure."""
        return int(self.holdings.size.sum())

    @cached_property
    def covered_gross(self) -> int:
        """Of these, cents of positions that are covered."""
        return int(self.holdings.size[self.covered].sum())

    @property
    def modelled_share(self) -> float | None:
        """Share of the covered gross exposure, session by session, whose return is modelled; None where there is
        none."""
        total = self.covered_gross * len(self.sessions)
        weighted = (self.modelled[:, self.covered] * self.holdings.size[self.covered]).sum()
        return int(weighted) / total if total else None

    def linear(self) -> FloatArray:
        """P&L by delta alone (sessions, covered positions), US dollars."""
        return self.holdings.exposure[self.covered] * self.returns[:, self.covered]

    def pnl(self, rows: IntArray | slice = slice(None)) -> FloatArray:
        """P&L with options re-priced at the simulated sessions `rows` (rows, covered positions), US dollars."""
        found = self.linear()[rows]
        option = self.holdings.option[self.covered]
        columns = np.flatnonzero(option >= 0)
        if len(columns):
            returns = self.returns[:, self.covered][rows][:, columns]
            found[:, columns] = self.options.at(option[columns]).pnl(returns)
        return found


def totals(pnl: FloatArray) -> FloatArray:
    """The portfolio's P&L by session, of (sessions, positions); added position by position."""
    return column_sums(pnl.T) if pnl.shape[1] else np.zeros(len(pnl))


def simulations(
    *, sessions: Sequence[date], rules: SimulationRules, **frames: Unpack[SimulationFrames]
) -> Iterator[Simulation]:
    """Every portfolio at every open session of `sessions` of its life, by session and portfolio.

    A position takes its symbol's real one-session return; where the symbol has none that session, the value of its
    ridge regression on the style factors over the regression window, not below -1: sum of b_k f_k (counted). A symbol
    that was renamed keeps its history. Sessions of the window on which less than `min_coverage` of the gross
    delta-adjusted exposure has either are left out; so is then a position that lacks a return on one of the others, or
    that has no delta-adjusted exposure (a fallback row, weighing with its market value). PRIVATE positions are outside.
    Raises exposures.MissingGreeksError, timeline.SessionWindowError and factor_returns.FactorInputError.
    """
    rows = _rows(sessions, frames)
    symbols = rows.get_column("held_symbol").unique().sort()
    axis = session_axis(sessions, frames["calendar"], rules.return_look_back)
    history = continued(frames["returns"], frames["instruments"], "session_date")
    own = return_panel(axis, symbols.to_list(), history)
    styles = factor_returns(
        axis,
        calendar=frames["calendar"],
        factors=frames["factors"].filter(pl.col("kind") == STYLE),
        returns=frames["returns"],
        yields=pl.DataFrame(),
    )
    holdings, options = _holdings(rows, symbols)
    wanted = portfolio_sessions(sessions, frames["calendar"], frames["portfolios"])
    counted = wanted.join(
        frames["portfolio_snapshots"].select(*_KEYS, "net_asset_value"), on=_KEYS, how="left", maintain_order="left"
    ).join(rows.group_by(_KEYS).len(), on=_KEYS, how="left", maintain_order="left")
    place = {day: number for number, day in enumerate(axis)}
    stop, known_session, returns, real = 0, None, np.empty((0, 0)), np.empty((0, 0), dtype=bool)
    for session, portfolio_id, value, count in counted.iter_rows():
        if session != known_session:
            returns, real = _returns_until(place[session], own, styles, rules)
            known_session = session
        start, stop = stop, stop + (count or 0)
        simulated = axis[place[session] + 1 - len(returns) : place[session] + 1]
        held_now = holdings.at(slice(start, stop))
        yield _simulation(
            (session, portfolio_id, None if value is None else float(value)),
            (held_now, options),
            (simulated, returns[:, held_now.symbol], real[:, held_now.symbol]),
            rules.min_coverage,
        )


def _rows(sessions: Sequence[date], frames: SimulationFrames) -> pl.DataFrame:
    """PUBLIC and OPTIONS positions held at the open sessions, by session, portfolio and position, and their facts."""
    positions, greeks = frames["positions"], frames["position_greeks"]
    wanted = portfolio_sessions(sessions, frames["calendar"], frames["portfolios"])
    values = held(frames["position_values"]).join(wanted, on=_KEYS, how="semi")
    facts = positions.select("position_id", "multiplier", held_symbol=pl.coalesce("underlying_symbol", "symbol"))
    return (
        with_delta_adjusted(values, positions, greeks)
        .filter(pl.col("investment_class") != "PRIVATE")
        .join(facts, on="position_id")
        .join(greeks.select(*_POSITION, *_PRICED_WITH), on=_POSITION)
        .sort(*_KEYS, "position_id")
    )


def _holdings(rows: pl.DataFrame, symbols: pl.Series) -> tuple[Holdings, OptionBook]:
    """The rows as arrays, and their options with premiums priced, all sessions at once."""
    option_rows = rows.with_row_index("row").filter(pl.col("investment_class") == "OPTIONS")
    contracts = {symbol: parse_option(symbol) for symbol in option_rows.get_column("symbol").unique()}
    terms = [contracts[symbol] for symbol in option_rows.get_column("symbol")]
    options = HeldOptions(
        is_call=np.array([contract.kind == "C" for contract in terms], dtype=bool),
        strike=np.array([float(contract.strike) for contract in terms]),
        is_american=(option_rows.get_column("exercise_style") == "american").fill_null(value=False).to_numpy(),
        dividend_yield=_floats(option_rows, "dividend_yield"),
        spot=_floats(option_rows, "underlying_price"),
        years=_floats(option_rows, "time_to_expiry"),
        rate=_floats(option_rows, "risk_free_rate"),
        volatility=_floats(option_rows, "volatility"),
        close=_floats(option_rows, "price"),
        units=_floats(option_rows, "quantity") * _floats(option_rows, "multiplier"),
    )
    exposure = _floats(rows, "delta_adjusted")
    place = np.full(len(rows), -1, dtype=np.int64)
    at = option_rows.get_column("row").to_numpy().astype(np.int64)
    place[at] = np.arange(len(at))
    priced = np.logical_and.reduce([np.isfinite(values) for values in options])
    exposure[at[~priced]] = np.nan
    size = pl.coalesce(pl.when(pl.Series(np.isfinite(exposure))).then("delta_adjusted"), "exposure").abs()
    codes = pl.col("held_symbol").cast(pl.Enum(symbols)).to_physical().cast(pl.Int64)
    holdings = Holdings(
        position_id=rows.get_column("position_id").to_numpy(),
        symbol=rows.select(codes).to_series().to_numpy(),
        exposure=exposure,
        market_value=to_units(rows.get_column("market_value"), MONEY),
        size=to_units(rows.select(size.alias("exposure")).to_series(), MONEY),
        option=place,
    )
    return holdings, OptionBook.of(options)


def _floats(rows: pl.DataFrame, name: str) -> FloatArray:
    """A column's numbers, to be written to; NaN where NULL."""
    return np.array(rows.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy())


def _returns_until(end: int, own: Panel, styles: Panel, rules: SimulationRules) -> tuple[FloatArray, BoolArray]:
    """Returns of every symbol in the window ending with session number `end`, and which are real; (sessions, symbols).

    NaN where there is neither a real nor a modelled one.
    """
    window = slice(max(end + 1 - rules.simulation_window, 0), end + 1)
    real: BoolArray = np.isfinite(own.values[window])
    young = np.flatnonzero(~real.all(axis=0))
    if not len(young) or not styles.names:
        return own.values[window], real
    estimated = slice(max(end + 1 - rules.regression_window, 0), end + 1)
    (ridge,) = joint_betas(
        styles.values[estimated],
        own.values[estimated][:, young],
        [range(len(styles.names))],
        min_observations=rules.min_observations,
        residuals=False,
    )
    modelled = np.zeros((window.stop - window.start, len(young)))
    for factor, moves in enumerate(styles.values[window].T):
        modelled += moves[:, None] * ridge.beta[:, factor]
    returns = own.values[window].copy()
    returns[:, young] = np.where(real[:, young], returns[:, young], np.maximum(modelled, -1.0))
    return returns, real


def _simulation(
    key: tuple[date, int, float | None],
    book: tuple[Holdings, OptionBook],
    history: tuple[Sequence[date], FloatArray, BoolArray],
    min_coverage: float,
) -> Simulation:
    """Leave out the sessions, then the positions, that are not covered."""
    (session, portfolio_id, net_asset_value), (holdings, options) = key, book
    simulated, returns, real = history
    known = np.isfinite(returns) & np.isfinite(holdings.exposure)
    kept = np.flatnonzero((known * holdings.size).sum(axis=1) >= min_coverage * holdings.size.sum())
    return Simulation(
        session=session,
        portfolio_id=portfolio_id,
        net_asset_value=net_asset_value,
        holdings=holdings,
        options=options,
        sessions=[simulated[row] for row in kept.tolist()],
        returns=returns[kept],
        modelled=~real[kept],
        covered=np.logical_and.reduce(known[kept], axis=0),
    )
