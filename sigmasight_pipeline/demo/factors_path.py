"""The simulated market as a whole: factor returns, the Treasury curve and the volatility index, session by session.

What belongs here: what all symbols share. What does not: a symbol's own path (``symbol_paths``).

All equity factors share one volatility state, a GJR-GARCH(1,1) of the market's own shocks, and one coin for jump
days; so volatility clusters and jumps come, while the ratios of covariances, and with them the true betas of
regressions on one factor, stay constant. The change of the 10-year yield has a constant volatility of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np

from sigmasight_pipeline.demo import random_streams
from sigmasight_pipeline.demo.parameters import (
    DRIVERS,
    FACTOR_KEYS,
    FACTORS,
    RATE,
    REFERENCE_DATE,
    SESSIONS_PER_YEAR,
    SIMULATION_START,
    own_loading,
)
from sigmasight_pipeline.demo.random_streams import Floats, Integers, Raw
from sigmasight_pipeline.demo.universe import UNIVERSE, VOLATILITY_INDEX
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.sessions import SessionCalendar

# GJR-GARCH of the market: falls raise volatility more than rises; half-life of a shock about 26 sessions. The
# variance is one on average because of persistence = reaction + fall_reaction / 2 + memory and the matching constant.
_REACTION = 0.035
_FALL_REACTION = 0.070
_MEMORY = 0.904
_LARGEST_SHOCK_REMEMBERED = 3.0
"""A jump does not triple the volatility of the weeks after it."""

_JUMP_PROBABILITY = 3 / SESSIONS_PER_YEAR
_JUMP_SCALE = 3.0
"""On a jump day every equity factor's shock is this many times larger."""

_REVERSION = 0.6 / SESSIONS_PER_YEAR
_MEAN_YIELD = 0.040
_FIRST_YIELD = 0.030

# The 3-month yield lies above the 10-year one by this much on average (the curve of 2023 to 2025 was inverted).
_SLOPE_REVERSION = 0.8 / SESSIONS_PER_YEAR
_MEAN_SLOPE = 0.004
_SLOPE_VOLATILITY = 0.007 / SESSIONS_PER_YEAR**0.5
_SLOPE_DECAY_YEARS = 3.0
_TERM_PREMIUM = 0.0015
"""What the 30-year yield pays above the 10-year one when the slope is zero."""

_LOWEST_YIELD = 0.0001

_DRIVER_STREAM = "driver 1335"
"""Chosen from 1,500 numbers so that the demo, with the default seed, tells of ordinary years: the market up a sixth
each, one fall of 12 %, yields around 4 %. Any other seed gives years as they come."""

TENOR_YEARS = {"1M": 1 / 12, "3M": 0.25, "6M": 0.5, "1Y": 1.0, "2Y": 2.0, "5Y": 5.0, "10Y": 10.0, "30Y": 30.0}

# The volatility index is 9 + 71 x logistic(state): never outside 9 to 80. The state returns to a mean that follows the
# market's volatility, with a half-life of some three weeks, and takes five times the Volatility factor's return.
_INDEX_FLOOR = 9.0
_INDEX_SPAN = 71.0
_INDEX_REVERSION = 0.045
_INDEX_SENSITIVITY = 5.0
_INDEX_VOLATILITY_RESPONSE = 1.2
_INDEX_CALM_STATE = -2.2
"""The state at average volatility: an index level of 16."""


def is_bond_market_holiday(day: date) -> bool:
    """Whether the bond market rests on a weekday the exchange trades on: Columbus Day and Veterans Day.

    Columbus Day is the second Monday of October; Veterans Day is 11 November, kept on Monday when it is a Sunday and
    not kept on Friday when it is a Saturday.
    """
    if day.month == 10:
        return day.weekday() == 0 and 8 <= day.day <= 14
    return day.month == 11 and (day.day == 11 or (day.day == 12 and day.weekday() == 0))


@dataclass(frozen=True)
class Grid:
    """The sessions simulated, and the random streams on them."""

    seed: int
    sessions: tuple[date, ...]
    days: Integers
    """Weekday number of each session, which addresses the random streams."""
    reference: int
    """Position of REFERENCE_DATE."""
    bond_market_open: tuple[bool, ...]

    def draws(self, stream: str, name: str, *, first: int = 0, end: int | None = None, width: int = 1) -> Raw:
        """Raw draws of the sessions from position `first` up to `end`, shape (sessions, width)."""
        days = self.days[first:end]
        key = random_streams.digest(self.seed, stream, name)
        draws: Raw = random_streams.raw_draws(key, int(days[0]), int(days[-1] - days[0]) + 1, width)[days - days[0]]
        return draws


@dataclass(frozen=True)
class MarketPaths:
    """What every symbol shares, aligned with the sessions of `grid` (the first of 2014 to the calendar's last)."""

    grid: Grid
    factor_returns: Floats
    """Shape (factors, sessions), rows as FACTORS; Interest_Rate is the change of the 10-year yield."""
    volatility: Floats
    """Volatility state of the session, known at the close before it; its square is 1 on average."""
    yields: dict[str, Floats]
    """By tenor, decimal, rounded to a basis point as published; bond-market holidays repeat the day before."""
    volatility_index: Floats


@lru_cache(maxsize=4)
def market_paths(seed: int, calendar: SessionCalendar) -> MarketPaths:
    """The shared paths of `seed`, made once per process and calendar.

    MarketDataError where the calendar does not reach from SIMULATION_START to REFERENCE_DATE: the paths start there.
    """
    if calendar.first > SIMULATION_START or calendar.last < REFERENCE_DATE:
        raise MarketDataError(
            f"the simulated market needs a calendar covering {SIMULATION_START} to {REFERENCE_DATE}, this one "
            f"covers {calendar.first} to {calendar.last}: use sessions.calendar()"
        )
    sessions = calendar.between(SIMULATION_START, calendar.last)
    grid = Grid(
        seed=seed,
        sessions=sessions,
        days=np.array([random_streams.weekday_number(day) for day in sessions], dtype=np.int64),
        reference=sessions.index(REFERENCE_DATE),
        bond_market_open=tuple(not is_bond_market_holiday(day) for day in sessions),
    )
    shocks = _factor_shocks(grid)
    volatility, scale = _volatility(grid, shocks[FACTOR_KEYS.index("Market")])
    ten_year, changes = _ten_year_yield(grid, shocks[FACTOR_KEYS.index(RATE)])
    returns = np.stack(
        [
            changes
            if factor.key == RATE
            else factor.premium / SESSIONS_PER_YEAR + factor.volatility / SESSIONS_PER_YEAR**0.5 * scale * shocks[index]
            for index, factor in enumerate(FACTORS)
        ]
    )
    return MarketPaths(
        grid=grid,
        factor_returns=returns,
        volatility=volatility,
        yields=_curve(grid, ten_year),
        volatility_index=_volatility_index(grid, returns[FACTOR_KEYS.index("Volatility")], volatility),
    )


def _factor_shocks(grid: Grid) -> Floats:
    """Correlated standard normal shocks, shape (factors, sessions)."""
    drivers = [random_streams.normals(grid.draws(_DRIVER_STREAM, name))[:, 0] for name in DRIVERS]
    shocks = np.zeros((len(FACTORS), len(grid.sessions)))
    for index, factor in enumerate(FACTORS):
        own = random_streams.normals(grid.draws("factor", factor.key))[:, 0]
        shocks[index] = own_loading(factor) * own
        # added one by one: a matrix product may round differently on another machine
        for loading, driver in zip(factor.loadings, drivers, strict=True):
            shocks[index] += loading * driver
    return shocks


def _volatility(grid: Grid, market_shocks: Floats) -> tuple[Floats, Floats]:
    """The volatility state of every session, and the multiple of its usual size a shock of the session has."""
    jumps = random_streams.coin_flips(grid.draws("jump", "market"), _JUMP_PROBABILITY)[:, 0]
    usual = (1.0 + _JUMP_PROBABILITY * (_JUMP_SCALE**2 - 1.0)) ** -0.5
    sizes = np.where(jumps, _JUMP_SCALE, 1.0) * usual
    persistence = _REACTION + _FALL_REACTION / 2 + _MEMORY
    variance = 1.0
    variances: list[float] = []
    for shock, size in zip(market_shocks.tolist(), sizes.tolist(), strict=True):
        variances.append(variance)
        felt = min(max(shock * size, -_LARGEST_SHOCK_REMEMBERED), _LARGEST_SHOCK_REMEMBERED)
        reaction = _REACTION + (_FALL_REACTION if felt < 0 else 0.0)
        variance = (1.0 - persistence) + variance * (_MEMORY + reaction * felt * felt)
    state = np.sqrt(np.array(variances))
    return state, state * sizes


def _ten_year_yield(grid: Grid, shocks: Floats) -> tuple[Floats, Floats]:
    """Level and change of the 10-year yield: mean-reverting, standing still while the bond market is closed."""
    size = FACTORS[FACTOR_KEYS.index(RATE)].volatility / SESSIONS_PER_YEAR**0.5
    level = _FIRST_YIELD
    levels: list[float] = []
    changes: list[float] = []
    for shock, is_open in zip(shocks.tolist(), grid.bond_market_open, strict=True):
        change = _REVERSION * (_MEAN_YIELD - level) + size * shock if is_open else 0.0
        level += change
        levels.append(level)
        changes.append(change)
    return np.array(levels), np.array(changes)


def _curve(grid: Grid, ten_year: Floats) -> dict[str, Floats]:
    """Every tenor's yield: the 10-year one plus a slope that decays with maturity."""
    slope = _MEAN_SLOPE
    slopes: list[float] = []
    shocks = random_streams.normals(grid.draws("curve", "slope"))[:, 0]
    for shock, is_open in zip(shocks.tolist(), grid.bond_market_open, strict=True):
        if is_open:
            slope += _SLOPE_REVERSION * (_MEAN_SLOPE - slope) + _SLOPE_VOLATILITY * shock
        slopes.append(slope)
    at_ten = np.exp(-10.0 / _SLOPE_DECAY_YEARS)
    at_short = np.exp(-TENOR_YEARS["3M"] / _SLOPE_DECAY_YEARS)
    curve = {}
    for tenor, years in TENOR_YEARS.items():
        weight = (np.exp(-years / _SLOPE_DECAY_YEARS) - at_ten) / (at_short - at_ten)
        premium = _TERM_PREMIUM * max(0.0, years - 10.0) / 20.0
        curve[tenor] = np.round(np.maximum(ten_year + premium + weight * np.array(slopes), _LOWEST_YIELD), 4)
    return curve


def _volatility_index(grid: Grid, volatility_returns: Floats, volatility: Floats) -> Floats:
    """Level of the volatility index, shifted in state so that it is the reference price on REFERENCE_DATE."""
    means = (_INDEX_CALM_STATE + _INDEX_VOLATILITY_RESPONSE * np.log(volatility)).tolist()
    state = _INDEX_CALM_STATE
    states: list[float] = []
    for mean, change in zip(means, volatility_returns.tolist(), strict=True):
        state += _INDEX_REVERSION * (mean - state) + _INDEX_SENSITIVITY * change
        states.append(state)
    share = (UNIVERSE[VOLATILITY_INDEX].reference_price - _INDEX_FLOOR) / _INDEX_SPAN
    shift = np.log(share / (1.0 - share)) - states[grid.reference]
    return np.asarray(_INDEX_FLOOR + _INDEX_SPAN / (1.0 + np.exp(-(np.array(states) + shift))), dtype=np.float64)
