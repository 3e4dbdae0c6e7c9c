"""What a stress result is shown with: joint betas, the naive sum, P&L by factor, effective shocks, diagnostics.

What belongs here: the figures of ``stress_test_results`` beside its P&L. What does not: that P&L (``stress_totals``),
rows by scenario alone (``stress_shocks``) and the formulas of implied returns (``stress_returns``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline.calculations.money import CENTS
from sigmasight_pipeline.calculations.stress_book import Book, Day, Outcome, cents
from sigmasight_pipeline.calculations.stress_outcomes import Solved, stacked_returns
from sigmasight_pipeline.calculations.stress_returns import NO_DIAGNOSTICS, Diagnostics
from sigmasight_pipeline.calculations.stress_totals import Totals, laid_out, money_column, number_column, repeated

FLOOR_EFFECT = "floor_effect"

SHOWN_DIGITS = 12
"""Significant digits of an effective shock in its JSON document."""


class Details(NamedTuple):
    """One session's figures beside the P&L; money in cents, arrays (scenarios, portfolios)."""

    direct: IntArray
    direct_given: BoolArray
    single: IntArray
    factor_impacts: list[list[str | None]]
    """By portfolio, then scenario: JSON, US dollars."""
    effective_shocks: list[str | None]
    """By scenario: JSON."""
    diagnostics: list[Diagnostics]
    """By scenario."""


def summed_shocks(symbols: int, betas: Sequence[FloatArray], shocks: Sequence[Sequence[float]]) -> FloatArray:
    """Sum of beta x shock, (scenarios, symbols), of betas (symbols, factors) and shocks given by scenario."""
    result = np.zeros((len(betas), symbols))
    for row, (beta, own) in enumerate(zip(betas, shocks, strict=True)):
        # added factor by factor, so that a symbol's bits do not depend on the other symbols
        for slope, shock in zip(beta.T, own, strict=True):
            result[row] += slope * shock
    return result


def direct_returns(
    factor_window: FloatArray,
    symbol_window: FloatArray,
    scenarios: Sequence[Mapping[int, float]],
    style: Sequence[int],
    *,
    min_observations: int,
    penalty: float,
) -> FloatArray:
    """Ceteris-paribus returns (scenarios, symbols): joint betas x shocks, unshocked factors held still.

    Windows as for ``joint_betas.joint_betas``; the regressors are the factors `style` and the scenario's others. NaN
    where a beta is missing, and for a scenario without shocks.
    """
    sets = [tuple(sorted({*style, *shocks})) for shocks in scenarios]
    distinct = sorted({columns for columns in sets if columns})
    found = dict(
        zip(
            distinct,
            joint_betas(
                factor_window,
                symbol_window,
                distinct,
                min_observations=min_observations,
                penalty=penalty,
                residuals=False,
            ),
            strict=True,
        )
    )
    asked = [number for number, shocks in enumerate(scenarios) if shocks]
    result = np.full((len(scenarios), symbol_window.shape[1]), np.nan)
    result[asked] = summed_shocks(
        symbol_window.shape[1],
        [found[sets[number]].beta for number in asked],
        [[scenarios[number].get(column, 0.0) for column in sets[number]] for number in asked],
    )
    return result


def naive_returns(beta: FloatArray, scenarios: Sequence[Mapping[int, float]]) -> FloatArray:
    """The sum of univariate betas x shocks, (scenarios, symbols): overlapping effects are counted several times."""
    slopes = [beta[:, list(shocks)] for shocks in scenarios]
    return summed_shocks(len(beta), slopes, [list(shocks.values()) for shocks in scenarios])


def details(
    day: Day,
    outcome: Outcome,
    totals: Totals,
    scenarios: Sequence[Solved],
    names: Sequence[str],
    *,
    direct: FloatArray,
    naive: FloatArray,
) -> Details:
    """The details of one session; `direct` and `naive` are returns (scenarios, symbols), `names` those of factors."""

    def added(by_symbol: FloatArray) -> tuple[IntArray, BoolArray]:
        """Sums over portfolios of exposure x return where a position has a figure, and whether none is missing."""
        dollars = day.exposure * by_symbol[:, day.symbol]
        missing = outcome.known & np.isnan(dollars)
        complete = day.summed(missing.astype(np.int64)) == 0
        return day.summed(cents(dollars, outcome.known & ~missing)), complete

    direct_pnl, complete = added(direct)
    single_pnl, _ = added(naive)
    labels = [json.dumps(name) for name in names]
    return Details(
        direct_pnl,
        complete & totals.given,
        single_pnl,
        list(map(list, zip(*_impacts(day, outcome, totals, scenarios, names), strict=True))),
        [_shocks_json(labels, one.effective) if one.is_solved else None for one in scenarios],
        [NO_DIAGNOSTICS if one.propagation is None else one.propagation.diagnostics for one in scenarios],
    )


def _impacts(
    day: Day, outcome: Outcome, totals: Totals, scenarios: Sequence[Solved], names: Sequence[str]
) -> Iterator[list[str | None]]:
    """factor_impacts of every portfolio, scenario by scenario."""
    counts = [0 if one.parts is None else len(one.parts) for one in scenarios]
    parts = [one.parts for one in scenarios if one.parts is not None]
    of_scenario = np.repeat(np.arange(len(scenarios)), counts)
    symbols = len(scenarios[0].raw) if scenarios else int(day.symbol.max(initial=-1)) + 1
    stacked = np.concatenate(parts) if parts else np.empty((0, symbols))
    by_part = day.summed(cents(day.exposure * stacked[:, day.symbol], outcome.known[of_scenario]))
    raw = stacked_returns(scenarios, symbols)
    by_floor = day.summed(cents(day.exposure * (outcome.implied - raw[:, day.symbol]), outcome.known & outcome.floored))
    given = totals.given
    first = 0
    for number, (one, count) in enumerate(zip(scenarios, counts, strict=True)):
        if one.parts is None:
            yield [None] * given.shape[1]
            continue
        impacts = by_part[first : first + count].copy()
        # rounding leaves a few cents; the largest impact takes them
        rest = totals.correlated[number] - impacts.sum(axis=0) - by_floor[number]
        impacts[np.abs(impacts).argmax(axis=0), np.arange(impacts.shape[1])] += rest
        shocked = [] if one.propagation is None else [names[factor] for factor in one.propagation.shocks.factors]
        keys = sorted({*shocked, *one.part_names, FLOOR_EFFECT})
        rows = {name: row.tolist() for name, row in zip(one.part_names, impacts, strict=True)}
        rows[FLOOR_EFFECT] = by_floor[number].tolist()
        zeros = [0] * given.shape[1]
        # a factor the market explains entirely adds nothing of its own
        columns = zip(*(rows.get(key, zeros) for key in keys), strict=True)
        labels = [json.dumps(key) for key in keys]
        yield [
            _document(labels, [repr(value / CENTS) for value in column]) if show else None
            for column, show in zip(columns, given[number].tolist(), strict=True)
        ]
        first += count


def _shocks_json(labels: Sequence[str], shocks: FloatArray) -> str:
    return _document(
        labels,
        [repr(float(f"{shock:.{SHOWN_DIGITS}g}")) if isfinite(shock) else "null" for shock in shocks.tolist()],
    )


def _document(labels: Sequence[str], values: Sequence[str]) -> str:
    """The JSON object of names and values written already: what ``json.dumps`` gives, in a fifth of its time."""
    return "{" + ", ".join(map(": ".join, zip(labels, values, strict=True))) + "}"


def with_details(frame: pl.DataFrame, book: Book, totals: Sequence[Totals], found: Sequence[Details]) -> pl.DataFrame:
    """Rows of ``stress_totals.portfolio_frame`` with the columns of ``stress_test_results``."""
    given = laid_out([one.given for one in totals])
    direct_given = laid_out([one.direct_given for one in found])
    correlated, total = laid_out([one.correlated for one in totals]), laid_out([one.total for one in totals])
    direct = laid_out([one.direct for one in found])
    impacts = [text for one in found for portfolio in one.factor_impacts for text in portfolio]

    def by_scenario(name: str, dtype: type[pl.DataType]) -> pl.Series:
        return repeated(book, name, [[getattr(row, name) for row in one.diagnostics] for one in found], dtype)

    return frame.select(
        "session_date",
        "portfolio_id",
        "scenario_id",
        money_column("direct_pnl", direct, direct_given),
        "correlated_pnl",
        money_column("correlation_effect", correlated - direct, direct_given),
        money_column("sum_of_single_factor_pnl", laid_out([one.single for one in found]), given),
        money_column("revaluation_effect", total - correlated, given),
        "total_pnl",
        "impact_pct",
        pl.Series("factor_impacts", impacts, dtype=pl.String),
        repeated(book, "effective_shocks", [one.effective_shocks for one in found], pl.String),
        *(number_column(name, by_scenario(name, pl.Float64).to_numpy()) for name in Diagnostics._fields),
        by_scenario("implausible", pl.Boolean),
        "coverage",
        "status",
    )
