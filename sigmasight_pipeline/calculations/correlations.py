"""How the symbols a portfolio holds move together: pairwise correlations, and what they add up to for the portfolio.

What belongs here: the value of each symbol in a portfolio, which symbols are large enough to be looked at, their
correlations and the portfolio's figures made of them. What does not: the arithmetic of a correlation (``pearson``) and
groups of symbols (``correlation_clusters``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.division import ratio
from sigmasight_pipeline.calculations.exposures import held, portfolio_sessions, with_delta_adjusted
from sigmasight_pipeline.calculations.factor_returns import return_panel, session_axis
from sigmasight_pipeline.calculations.money import CENTS, MONEY
from sigmasight_pipeline.calculations.pearson import correlation_matrix, p_values
from sigmasight_pipeline.calculations.splits import continued

FilterMode: TypeAlias = Literal["both", "value_only", "weight_only", "either"]

CLUSTER_CORRELATION = 0.7
"""From this correlation on two symbols belong to one cluster."""

DUPLICATE_CORRELATION = 0.9999
"""Above this correlation two symbols are one instrument under two names."""

TOP_PAIRS = 10

_KEYS = ["session_date", "portfolio_id"]


class MissingPairsError(ValueError):
    """``pairwise_correlations`` of a portfolio and session are not those of the symbols it includes."""

    def __init__(self, portfolio_id: int, session: date, rows: int, symbols: int) -> None:
        super().__init__(
            f"portfolio {portfolio_id} has {rows} pairwise correlations at {session} for {symbols} symbols; "
            "compute pairwise_correlations of these sessions with the same filter first"
        )


@dataclass(frozen=True)
class IncludedSymbols:
    """The symbols of one portfolio and session that pass the filter, ordered by symbol, and their correlations.

    `value` in cents; `weight` of the portfolio's value before filtering; `matrix` (symbols, symbols) with NaN where a
    pair has no correlation; `constant` where a symbol's own returns do not vary.
    """

    session_date: date
    portfolio_id: int
    symbols: list[str]
    value: IntArray
    weight: FloatArray
    matrix: FloatArray
    constant: BoolArray


def symbol_values(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    min_position_value: Decimal | int,
    min_portfolio_weight: float,
    filter_mode: FilterMode,
) -> pl.DataFrame:
    """Every symbol held by a portfolio at an open session of `sessions`, and whether it passes the filter.

    A symbol is that of a PUBLIC position or the underlying of an option. Columns session_date, portfolio_id, symbol,
    value (money: absolute sum of delta-adjusted exposures, without those that are NULL; NULL if all are), weight
    (value / sum of the portfolio's values; NULL where that is 0 or the value NULL) and included; ordered by the first
    three. Nothing is included where the sum is 0. Raises exposures.MissingGreeksError and timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    owners = positions.select("position_id", held_symbol=pl.coalesce("underlying_symbol", "symbol"))
    cents = pl.col("delta_adjusted").to_physical().cast(pl.Int128)
    values = (
        with_delta_adjusted(held(position_values).join(wanted, on=_KEYS, how="semi"), positions, position_greeks)
        .filter(pl.col("investment_class") != "PRIVATE")
        .join(owners, on="position_id")
        .group_by(*_KEYS, symbol="held_symbol")
        .agg(value=pl.when(cents.is_not_null().any()).then(cents.sum().abs()))
        .sort(*_KEYS, "symbol")
        .with_columns(total=pl.col("value").sum().over(_KEYS))
    )
    value, weight = pl.col("value"), pl.col("weight")
    large, heavy = value >= int(Decimal(min_position_value) * CENTS), weight >= min_portfolio_weight
    passes = {"both": large & heavy, "value_only": large, "weight_only": heavy, "either": large | heavy}[filter_mode]
    return (
        values.with_columns(ratio(values["value"], values["total"]).alias("weight"))
        .with_columns(included=(passes & weight.is_not_null()).fill_null(value=False))
        .with_columns(value.reinterpret(dtype=MONEY))
        .drop("total")
    )


def pairwise_correlations(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    returns: pl.DataFrame,
    instruments: pl.DataFrame,
    correlation_window: int = 90,
    min_common_observations: int = 20,
    min_position_value: Decimal | int = 10_000,
    min_portfolio_weight: float = 0.01,
    filter_mode: FilterMode = "both",
) -> pl.DataFrame:
    """Correlation of every ordered pair of symbols a portfolio includes, the diagonal too, at each open session.

    Columns are those of ``pairwise_correlations`` without provenance, ordered by its key. Pearson on log returns over
    the `correlation_window` open sessions ending with the session, pairwise complete; a return over a gap is missing,
    not zero. Status insufficient_history below `min_common_observations` (at least 3), no_variance where one of the two
    does not vary over the common sessions. p_value as ``pearson.p_values``, NULL on the diagonal. A portfolio that
    includes nothing has no rows.

    `position_values` and `position_greeks` are rows of these sessions, `returns` rows of ``daily_returns`` of these and
    the `correlation_window` - 1 open sessions before; `instruments` continues a renamed symbol under the name held.
    Symbols that portfolios share are correlated once where that is less work (``_matrices``). Raises
    exposures.MissingGreeksError and timeline.SessionWindowError, ValueError for a window or minimum that cannot be.
    """
    if min_common_observations < 3 or correlation_window < min_common_observations:
        raise ValueError(
            f"a correlation of {correlation_window} sessions with at least {min_common_observations} in common has no "
            "p-value; ask for at least 3 in common and a window no shorter than that"
        )
    included = (
        symbol_values(
            sessions=sessions,
            calendar=calendar,
            portfolios=portfolios,
            positions=positions,
            position_values=position_values,
            position_greeks=position_greeks,
            min_position_value=min_position_value,
            min_portfolio_weight=min_portfolio_weight,
            filter_mode=filter_mode,
        )
        .filter("included")
        .select(*_KEYS, "symbol")
    )
    axis = session_axis(sessions, calendar, correlation_window - 1)
    series = return_panel(
        axis, included.get_column("symbol").to_list(), continued(returns, instruments, "session_date"), "log_return"
    )
    names = np.array(series.names, dtype=object)
    parts = [_no_pairs()]
    for (session,), own in included.group_by(["session_date"], maintain_order=True):
        columns = np.searchsorted(names, own.get_column("symbol").to_numpy())
        sizes = own.group_by("portfolio_id", maintain_order=True).len().get_column("len").to_numpy()
        window = series.until(session, correlation_window).values
        matrices = list(_matrices(window, np.split(columns, np.cumsum(sizes)[:-1]), min_common_observations))
        found = np.concatenate([correlation.ravel() for correlation, _ in matrices])
        common = np.concatenate([n_obs.ravel() for _, n_obs in matrices])
        first = np.repeat(np.arange(len(columns)), np.repeat(sizes, sizes))
        start = np.repeat(np.cumsum(sizes) - sizes, sizes * sizes)
        second = start + np.concatenate([np.tile(np.arange(size), size) for size in sizes])
        significance = np.where(first == second, np.nan, p_values(found, common))
        parts.append(
            pl.DataFrame(
                [
                    own.get_column("session_date").gather(first),
                    own.get_column("portfolio_id").gather(first),
                    own.get_column("symbol").gather(first).alias("symbol_1"),
                    own.get_column("symbol").gather(second).alias("symbol_2"),
                    pl.Series("correlation", found).fill_nan(None),
                    pl.Series("p_value", significance).fill_nan(None),
                    pl.Series("n_obs", common.astype(np.int32)),
                ]
            ).with_columns(
                status=pl.when(pl.col("n_obs") < min_common_observations)
                .then(pl.lit("insufficient_history"))
                .when(pl.col("correlation").is_null())
                .then(pl.lit("no_variance"))
                .otherwise(pl.lit("ok"))
            )
        )
    return pl.concat(parts)


def correlation_calculations(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    pairwise_correlations: pl.DataFrame,
    correlation_window: int = 90,
    min_position_value: Decimal | int = 10_000,
    min_portfolio_weight: float = 0.01,
    filter_mode: FilterMode = "both",
) -> pl.DataFrame:
    """One row per portfolio and open session of `sessions` of its life: how much its symbols move
    together.

    Columns are those of ``correlation_calculations`` without provenance, ordered by its key.
    `pairwise_correlations` are the rows that engine returned for these sessions and the same filter; the other frames
    as there. overall_correlation: mean of the pairs i < j that have one, signed. correlation_concentration: value of
    the symbols correlated at `CLUSTER_CORRELATION` or more with another, over the included value. effective_positions =
    (sum w)^2 / (w' C w) with unsigned weights, C the matrix with 0 for a missing pair and 1 on the diagonal, repaired
    (``repaired``); at most the number of symbols, which ones that move against each other would exceed. min_eigenvalue
    is that of C before the repair. data_quality: share of the pairs that have a correlation. top_pairs: JSON, the 10
    largest correlations by size, then by symbols. A symbol whose returns do not vary (a money market fund) is
    correlated with nothing by nature: counted in positions_constant, and no member of C, w and the pairs. Statuses:
    no_positions, no_variance and single_position (nothing passes the filter, only constant symbols do, or one that
    varies), where all of these are NULL; no_pairs (no pair has a correlation), where overall_correlation,
    correlation_concentration and top_pairs are. Raises MissingPairsError and timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    values = symbol_values(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        position_values=position_values,
        position_greeks=position_greeks,
        min_position_value=min_position_value,
        min_portfolio_weight=min_portfolio_weight,
        filter_mode=filter_mode,
    )
    counts = values.group_by(_KEYS).agg(
        positions_included=pl.col("included").sum().cast(pl.Int32),
        positions_excluded=(~pl.col("included")).sum().cast(pl.Int32),
    )
    figures = pl.DataFrame(
        [_portfolio_figures(item) for item in included_symbols(values, pairwise_correlations)],
        schema={
            "session_date": pl.Date,
            "portfolio_id": pl.Int64,
            "overall_correlation": pl.Float64,
            "correlation_concentration": pl.Float64,
            "effective_positions": pl.Float64,
            "min_eigenvalue": pl.Float64,
            "data_quality": pl.Float64,
            "duplicate_pairs": pl.Int32,
            "positions_constant": pl.Int32,
            "top_pairs": pl.String,
            "status": pl.String,
        },
    )
    return (
        wanted.join(counts, on=_KEYS, how="left", maintain_order="left")
        .join(figures, on=_KEYS, how="left", maintain_order="left")
        .select(
            *_KEYS,
            "overall_correlation",
            "correlation_concentration",
            "effective_positions",
            pl.col("positions_included").fill_null(0),
            pl.col("positions_excluded").fill_null(0),
            pl.col("positions_constant").fill_null(0),
            "min_eigenvalue",
            "data_quality",
            pl.col("duplicate_pairs").fill_null(0),
            "top_pairs",
            pl.lit(correlation_window, dtype=pl.Int32).alias("window_sessions"),
            pl.lit(Decimal(min_position_value)).cast(MONEY).alias("min_position_value"),
            pl.lit(float(min_portfolio_weight)).alias("min_portfolio_weight"),
            pl.lit(filter_mode).alias("filter_mode"),
            pl.col("status").fill_null("no_positions"),
        )
    )


def included_symbols(values: pl.DataFrame, pairwise_correlations: pl.DataFrame) -> Iterator[IncludedSymbols]:
    """The included symbols of each portfolio and session of `values` (``symbol_values``) that includes any, in order.

    Raises MissingPairsError where the rows of ``pairwise_correlations`` are not the square of these symbols.
    """
    included = values.filter("included")
    rows = (
        pairwise_correlations.select(*_KEYS, "symbol_1", "symbol_2", "correlation", "status")
        .join(included.select(*_KEYS, symbol_1="symbol"), on=[*_KEYS, "symbol_1"], how="semi")
        .join(included.select(*_KEYS, symbol_2="symbol"), on=[*_KEYS, "symbol_2"], how="semi")
        .sort(*_KEYS, "symbol_1", "symbol_2")
    )
    sizes = included.group_by(_KEYS, maintain_order=True).agg(symbols=pl.len())
    pairs = rows.group_by(_KEYS).agg(pairs=pl.len())
    expected = sizes.join(pairs, on=_KEYS, how="left", maintain_order="left").fill_null(0)
    correlation = rows.get_column("correlation").fill_null(float("nan")).to_numpy()
    still = (rows.get_column("status") == "no_variance").fill_null(value=False).to_numpy()
    symbols = included.get_column("symbol").to_list()
    value = included.get_column("value").to_physical().cast(pl.Int64).to_numpy()
    weight = included.get_column("weight").to_numpy()
    symbol, pair = 0, 0
    for session, portfolio_id, size, found in expected.iter_rows():
        if found != size * size:
            raise MissingPairsError(portfolio_id, session, found, size)
        own = slice(symbol, symbol + size)
        matrix = correlation[pair : pair + found].reshape(size, size)
        constant = np.diagonal(still[pair : pair + found].reshape(size, size))
        yield IncludedSymbols(session, portfolio_id, symbols[own], value[own], weight[own], matrix, constant)
        symbol, pair = symbol + size, pair + found


def repaired(matrix: FloatArray) -> tuple[FloatArray, float]:
    """The nearest-in-spirit correlation matrix of a symmetric one, and the smallest eigenvalue of what was given.

    Negative eigenvalues are raised to 0 and the diagonal is rescaled to 1 (Rebonato and Jaeckel, "The most general
    methodology to create a valid correlation matrix", 2000); a matrix without negative ones is returned as it is.
    """
    eigenvalues, vectors = np.linalg.eigh(matrix)
    smallest = float(eigenvalues[0])
    if smallest >= 0:
        return matrix, smallest
    clipped = (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
    scale = np.sqrt(np.diagonal(clipped))
    return clipped / np.outer(scale, scale), smallest


def _matrices(window: FloatArray, chosen: Sequence[IntArray], min_common: int) -> Iterator[tuple[FloatArray, IntArray]]:
    """The correlation matrix of each set of columns of `window`, and its numbers of common observations.

    One by one, or cut out of one matrix of all columns used, whichever has fewer pairs: a pair's bits are the same.
    """
    used = np.unique(np.concatenate(chosen))
    if sum(len(columns) ** 2 for columns in chosen) < len(used) ** 2:
        for columns in chosen:
            yield correlation_matrix(window[:, columns], min_common=min_common)
        return
    correlation, common = correlation_matrix(window[:, used], min_common=min_common)
    for columns in chosen:
        place = np.searchsorted(used, columns)
        yield correlation[np.ix_(place, place)], common[np.ix_(place, place)]


def _no_pairs() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "session_date": pl.Date,
            "portfolio_id": pl.Int64,
            "symbol_1": pl.String,
            "symbol_2": pl.String,
            "correlation": pl.Float64,
            "p_value": pl.Float64,
            "n_obs": pl.Int32,
            "status": pl.String,
        }
    )


def _portfolio_figures(item: IncludedSymbols) -> dict[str, Any]:
    """The figures of one portfolio and session that includes symbols; missing names are NULL."""
    keys: dict[str, Any] = {
        "session_date": item.session_date,
        "portfolio_id": item.portfolio_id,
        "positions_constant": int(item.constant.sum()),
    }
    varying = np.flatnonzero(~item.constant)
    size = len(varying)
    if size < 2:
        return keys | {"status": "single_position" if size else "no_variance"}
    weight, matrix = item.weight[varying], item.matrix[np.ix_(varying, varying)]
    row, column = np.triu_indices(size, k=1)
    upper = matrix[row, column]
    known = np.flatnonzero(~np.isnan(upper))
    filled = np.where(np.isnan(matrix), 0.0, matrix)
    np.fill_diagonal(filled, 1.0)
    valid, smallest = repaired(filled)
    risk = math.fsum((np.outer(weight, weight) * valid).ravel())
    figures = keys | {
        "effective_positions": min(math.fsum(weight) ** 2 / risk, size) if risk > 0 else float(size),
        "min_eigenvalue": smallest,
        "data_quality": len(known) / len(upper),
    }
    if not len(known):
        return figures | {"status": "no_pairs"}
    largest = known[np.lexsort((column[known], row[known], -np.abs(upper[known])))][:TOP_PAIRS]
    clustered = (filled - np.eye(size) >= CLUSTER_CORRELATION).any(axis=1)
    return figures | {
        "overall_correlation": math.fsum(upper[known]) / len(known),
        "correlation_concentration": int(item.value[varying[clustered]].sum()) / int(item.value.sum()),
        "duplicate_pairs": int((upper[known] > DUPLICATE_CORRELATION).sum()),
        "top_pairs": json.dumps(
            [
                {
                    "symbol_1": item.symbols[varying[row[pair]]],
                    "symbol_2": item.symbols[varying[column[pair]]],
                    "correlation": upper[pair],
                }
                for pair in largest
            ]
        ),
        "status": "ok",
    }
