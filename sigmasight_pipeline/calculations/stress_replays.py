"""What really happened in a window: which window a replay is of, and the compounded returns of that window.

What belongs here: finding the windows of replays in stored history without looking ahead, which days must be read for
them, and compounding. What does not: what a scenario makes of factor returns (``stress_returns``), and stated shocks.

A window runs from one close to another: its returns are those of the sessions after the first and up to the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from math import nan
from typing import NamedTuple

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.factor_returns import RATE_TENOR
from sigmasight_pipeline.calculations.stress_factors import (
    MARKET,
    Scenario,
    ScenarioFactors,
    ScenarioKind,
    active_scenarios,
)
from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers

VOLATILITY_INDEX = "VIX"
"""Symbol of the index whose relative change in the window options' volatilities take."""

LEAST_HISTORY = 252
"""Sessions a worst stretch is searched in beyond its own length: in less, it would only be the last one that fell."""


class WindowStatus(StrEnum):
    """Whether a replay can be done at a session."""

    OK = "ok"
    NOT_STORED = "window_not_stored"
    """The market's own returns do not cover the window, or the history is too short to search."""
    AFTER_SESSION = "window_after_session"
    """The window ends after the session: what nobody knew then."""


class Window(NamedTuple):
    """The window of a replay at a session, by its closes; dates None where there is none."""

    status: WindowStatus
    first: date | None = None
    last: date | None = None


class Replayed(NamedTuple):
    """What happened in a window; decimal returns, NaN where a name did not trade throughout."""

    symbols: FloatArray
    factors: FloatArray
    """(factors,): of Interest_Rate the change of the yield."""
    volatility_shift: float
    """Relative change of the volatility index; NaN where it is not stored."""


def market_symbols(frames: Mapping[str, pl.DataFrame], _sessions: Sequence[date]) -> list[str]:
    """Symbols whose whole history is searched: the market's proxy, where an active scenario asks for a worst stretch.

    `frames` has rows of ``stress_test_scenarios`` (scenarios) and ``factor_definitions`` (factors).
    """
    asked = any(one.kind is ScenarioKind.WORST for one in active_scenarios(frames["scenarios"]))
    proxy = _market_proxy(frames["factors"])
    return [proxy] if asked and proxy is not None else []


def window_days(frames: Mapping[str, pl.DataFrame], sessions: Sequence[date]) -> list[date]:
    """The sessions whose returns and yields replays at `sessions` need, ascending; the first close of each included.

    `frames`: scenarios, factors, calendar (``trading_sessions``), market_history (``daily_returns`` of
    `market_symbols`).
    """
    timeline = Timeline(frames["calendar"])
    scenarios = active_scenarios(frames["scenarios"])
    ends = set()
    for scenario in scenarios:
        if scenario.kind is ScenarioKind.REPLAY:
            ends.add(_stated(scenario, timeline))
    worst = _worst_by_session(scenarios, sessions, timeline, frames["market_history"], _market_proxy(frames["factors"]))
    ends |= {found for by_session in worst.values() for found in by_session}
    last = int(timeline.on_or_before(day_numbers(pl.Series([max(sessions)], dtype=pl.Date)))[0]) if sessions else -1
    numbers = {
        number for pair in ends if pair is not None and pair[1] <= last for number in range(pair[0], pair[1] + 1)
    }
    return timeline.dates.gather(sorted(numbers)).to_list()


class ReplayWindows:
    """The windows of all replays at all sessions of a run, and what happened in them.

    `symbols` are the names returns are asked for. Frames are rows of the tables they are named after, of the days
    `window_days` says (`market_history`: of `market_symbols`).
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        sessions: Sequence[date],
        symbols: Sequence[str],
        factors: pl.DataFrame,
        frames: Mapping[str, pl.DataFrame],
    ) -> None:
        self._timeline = Timeline(frames["calendar"])
        self._scenarios = scenarios
        self._factors = ScenarioFactors.of(factors)
        proxies = dict(factors.select("factor", "proxy_symbol").iter_rows())
        self._proxies = [proxies[name] for name in self._factors.names]
        self._market = _market_proxy(factors)
        self._symbols = list(symbols)
        known = {*symbols, VOLATILITY_INDEX, *(proxy for proxy in self._proxies if proxy), self._market}
        self._names = sorted(name for name in known if name is not None)
        self._returns = frames["window_returns"].filter(pl.col("symbol").is_in(self._names)).sort("session_date")
        self._yields = dict(
            frames["window_yields"].filter(pl.col("tenor") == RATE_TENOR).select("session_date", "yield").iter_rows()
        )
        history = frames["market_history"]
        self._worst = _worst_by_session(scenarios, sessions, self._timeline, history, self._market)
        self._stated = {
            one.scenario_id: _stated(one, self._timeline) for one in scenarios if one.kind is ScenarioKind.REPLAY
        }
        self._row = {day: row for row, day in enumerate(sessions)}
        self._compounded: dict[tuple[int, int], FloatArray] = {}
        self._happened: dict[tuple[int, int], Replayed] = {}

    def at(self, scenario: Scenario, session: date) -> tuple[Window, Replayed | None]:
        """The window of a replay at one of the sessions, and what happened in it where that can be told."""
        if scenario.kind is ScenarioKind.REPLAY:
            if scenario.replay_to is not None and scenario.replay_to > session:
                return Window(WindowStatus.AFTER_SESSION, scenario.replay_from, scenario.replay_to), None
            ends = self._stated[scenario.scenario_id]
        else:
            ends = self._worst[scenario.scenario_id][self._row[session]]
        if ends is None or self._market is None or np.isnan(self._of_names(ends)[self._names.index(self._market)]):
            return Window(WindowStatus.NOT_STORED, scenario.replay_from, scenario.replay_to), None
        if ends not in self._happened:
            self._happened[ends] = self._replayed(ends)
        return Window(WindowStatus.OK, *(self._timeline.dates[number] for number in ends)), self._happened[ends]

    def _replayed(self, ends: tuple[int, int]) -> Replayed:
        by_name = dict(zip(self._names, self._of_names(ends).tolist(), strict=True))
        before, after = (self._yields.get(self._timeline.dates[number], nan) for number in ends)
        factors = [after - before if proxy is None else by_name.get(proxy, nan) for proxy in self._proxies]
        return Replayed(
            np.array([by_name[symbol] for symbol in self._symbols], dtype=np.float64),
            np.array(factors, dtype=np.float64),
            by_name[VOLATILITY_INDEX],
        )

    def _of_names(self, ends: tuple[int, int]) -> FloatArray:
        """Compounded returns of every name between two closes; NaN where its returns do not join the one to the other.

        A return over a gap counts: it happened. Multiplied session by session, so that bits depend on the name alone.
        """
        if ends not in self._compounded:
            days = self._timeline.dates.slice(ends[0] + 1, ends[1] - ends[0])
            inside = self._returns.filter(pl.col("session_date").is_in(days.implode()))
            row = np.searchsorted(day_numbers(days), day_numbers(inside.get_column("session_date")))
            code = np.searchsorted(np.array(self._names), inside.get_column("symbol").to_numpy())
            growth, spans = np.ones((len(days), len(self._names))), np.zeros((len(days), len(self._names)), np.int64)
            growth[row, code] = 1.0 + inside.get_column("simple_return").to_numpy()
            spans[row, code] = inside.get_column("sessions_spanned").to_numpy()
            begun = np.argmax(spans > 0, axis=0)
            joined = (
                (spans.sum(axis=0) == len(days))
                & (spans[-1] > 0)
                & (spans[begun, np.arange(len(self._names))] == begun + 1)
            )
            total = np.multiply.reduce(growth, axis=0) - 1.0
            self._compounded[ends] = np.where(joined, total, nan)
        return self._compounded[ends]


def _market_proxy(factors: pl.DataFrame) -> str | None:
    proxies = factors.filter("active", pl.col("factor") == MARKET).get_column("proxy_symbol").to_list()
    return proxies[0] if proxies else None


def _stated(scenario: Scenario, timeline: Timeline) -> tuple[int, int] | None:
    """Numbers of the closes a dated replay runs between: of its dates, or the last sessions before; None without."""
    ends = timeline.on_or_before(day_numbers(pl.Series([scenario.replay_from, scenario.replay_to], dtype=pl.Date)))
    return (int(ends[0]), int(ends[1])) if 0 <= ends[0] < ends[1] else None


def _worst_by_session(
    scenarios: Sequence[Scenario],
    sessions: Sequence[date],
    timeline: Timeline,
    history: pl.DataFrame,
    market: str | None,
) -> dict[str, list[tuple[int, int] | None]]:
    """By scenario of the kind: the closes of its window at every session, None where the history is too short.

    Of equal ones the earliest, and nothing after a session has a part in its window.
    """
    asked = {one.scenario_id: one.worst_sessions for one in scenarios if one.worst_sessions is not None}
    own = history.filter(
        pl.col("symbol").is_in([] if market is None else [market]), pl.col("simple_return").is_finite()
    ).sort("session_date")
    place = timeline.on_or_before(day_numbers(own.get_column("session_date")))
    returns = np.full(len(timeline), nan)
    single = (own.get_column("sessions_spanned") == 1).to_numpy()
    returns[place[single]] = own.get_column("simple_return").to_numpy()[single]
    first = int(place[0]) if len(place) else len(timeline)
    ends = timeline.on_or_before(day_numbers(pl.Series(list(sessions), dtype=pl.Date)))
    found: dict[str, list[tuple[int, int] | None]] = {}
    for scenario_id, length in asked.items():
        compounded = _compounded(returns, length)
        best = _lowest_so_far(compounded)
        found[scenario_id] = [
            (int(best[end]) - length, int(best[end]))
            if end >= first + length + LEAST_HISTORY - 1 and best[end] >= 0
            else None
            for end in ends.tolist()
        ]
    return found


def _compounded(returns: FloatArray, length: int) -> FloatArray:
    """Compounded return of the `length` sessions ending with each; NaN where one is missing.

    Each window is multiplied by itself from its first session on, so that it does not depend on what came before.
    """
    total = np.full(len(returns), nan)
    if len(returns) >= length:
        windows = np.lib.stride_tricks.sliding_window_view(1.0 + returns, length)
        product = windows[:, 0].copy()
        for step in range(1, length):
            product *= windows[:, step]
        total[length - 1 :] = product - 1.0
    return total


def _lowest_so_far(values: FloatArray) -> IntArray:
    """The place of the lowest value up to each place, the first of equal ones; -1 where there is none yet."""
    comparable = np.where(np.isnan(values), np.inf, values)
    lowest = np.minimum.accumulate(comparable)
    is_lower = comparable < np.concatenate([[np.inf], lowest])[: len(values)]
    places: IntArray = np.maximum.accumulate(np.where(is_lower, np.arange(len(values)), -1))
    return places
