"""Groups of symbols of a portfolio that move together, and what to call them.

What belongs here: connected components of the correlation graph, their figures and nicknames. What does not: the
correlations and the choice of symbols (``correlations``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse.csgraph import connected_components

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.correlations import (
    CLUSTER_CORRELATION,
    FilterMode,
    IncludedSymbols,
    included_symbols,
    symbol_values,
)
from sigmasight_pipeline.calculations.exposures import held
from sigmasight_pipeline.calculations.money import MONEY, from_units

_KEYS = {"session_date": pl.Date, "portfolio_id": pl.Int64, "cluster_number": pl.Int32}


@dataclass(frozen=True)
class Labels:
    """What symbols have in common: tags of the positions held in them, by (session, portfolio, symbol), and sectors."""

    tags: dict[tuple[date, int, str], frozenset[str]] = field(default_factory=dict)
    sectors: dict[str, str] = field(default_factory=dict)


def clusters(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    pairwise_correlations: pl.DataFrame,
    tags: pl.DataFrame,
    position_tags: pl.DataFrame,
    instruments: pl.DataFrame,
    min_position_value: Decimal | int = 10_000,
    min_portfolio_weight: float = 0.01,
    filter_mode: FilterMode = "both",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The clusters of every portfolio at the open `sessions`, and their members.

    Columns are those of ``correlation_clusters`` and ``correlation_cluster_positions`` without provenance, each ordered
    by its key. A cluster is a connected component, of two symbols or more, of the graph of included symbols with an
    edge where the signed correlation is `CLUSTER_CORRELATION` or more; numbered from 1 by value descending, then by
    first symbol. Nickname: a tag shared by all members (the first by name), else their sector if it is one, else
    "<largest symbol> lookalikes". A member's tags are those of all positions held in the symbol, options included.
    Averages are over the pairs that have a correlation.

    Frames as for ``correlations.correlation_calculations``; `tags`, `position_tags` and `instruments` are those tables.
    Raises correlations.MissingPairsError and timeline.SessionWindowError.
    """
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
    labels = _labels(position_values, positions, tags, position_tags, instruments)
    groups: list[dict[str, Any]] = []
    members: list[dict[str, Any]] = []
    for item in included_symbols(values, pairwise_correlations):
        for number, group in enumerate(components(item), start=1):
            key = {"session_date": item.session_date, "portfolio_id": item.portfolio_id, "cluster_number": number}
            matrix = item.matrix[np.ix_(group, group)]
            total = int(item.value[group].sum())
            groups.append(
                key
                | {
                    "nickname": nickname(item, group, labels),
                    "average_correlation": _mean(matrix[np.triu_indices(len(group), k=1)]),
                    "total_value": total,
                    "portfolio_weight": math.fsum(item.weight[group]),
                    "member_count": len(group),
                }
            )
            members += [
                key
                | {
                    "symbol": item.symbols[code],
                    "value": int(item.value[code]),
                    "portfolio_weight": float(item.weight[code]),
                    "correlation_to_cluster": _mean(np.delete(matrix[place], place)),
                }
                for place, code in enumerate(group)
            ]
    return (
        _frame(
            groups,
            {
                "nickname": pl.String,
                "average_correlation": pl.Float64,
                "total_value": pl.Int64,
                "portfolio_weight": pl.Float64,
                "member_count": pl.Int32,
            },
        ),
        _frame(
            members,
            {
                "symbol": pl.String,
                "value": pl.Int64,
                "portfolio_weight": pl.Float64,
                "correlation_to_cluster": pl.Float64,
            },
        ),
    )


def components(item: IncludedSymbols) -> list[IntArray]:
    """The clusters of a portfolio's symbols in order, each as the ascending numbers of its members."""
    edges = np.where(np.isnan(item.matrix), 0.0, item.matrix) >= CLUSTER_CORRELATION
    count, label = connected_components(edges, directed=False)
    found = [np.flatnonzero(label == number).astype(np.int64) for number in range(count)]
    return sorted(
        (group for group in found if len(group) > 1), key=lambda group: (-int(item.value[group].sum()), group[0])
    )


def nickname(item: IncludedSymbols, group: IntArray, labels: Labels) -> str:
    """What to call the cluster of the symbols of `item` with the numbers of `group`."""
    symbols = [item.symbols[code] for code in group]
    own = [labels.tags.get((item.session_date, item.portfolio_id, symbol), frozenset()) for symbol in symbols]
    shared = frozenset.intersection(*own)
    if shared:
        return min(shared)
    sectors = {labels.sectors.get(symbol) for symbol in symbols}
    if len(sectors) == 1 and (sector := sectors.pop()) is not None:
        return sector
    largest = group[int(np.argmax(item.value[group]))]
    return f"{item.symbols[largest]} lookalikes"


def _labels(
    position_values: pl.DataFrame,
    positions: pl.DataFrame,
    tags: pl.DataFrame,
    position_tags: pl.DataFrame,
    instruments: pl.DataFrame,
) -> Labels:
    named = position_tags.join(tags.select("tag_id", "name"), on="tag_id").join(
        positions.select("position_id", held_symbol=pl.coalesce("underlying_symbol", "symbol")), on="position_id"
    )
    rows = (
        held(position_values)
        .select("session_date", "portfolio_id", "position_id")
        .join(named, on="position_id")
        .group_by("session_date", "portfolio_id", "held_symbol")
        .agg(pl.col("name").unique())
    )
    return Labels(
        tags={(day, portfolio, symbol): frozenset(names) for day, portfolio, symbol, names in rows.iter_rows()},
        sectors=dict(instruments.drop_nulls("sector").select("symbol", "sector").iter_rows()),
    )


def _mean(correlations: FloatArray) -> float | None:
    known = correlations[~np.isnan(correlations)]
    return math.fsum(known) / len(known) if len(known) else None


def _frame(rows: list[dict[str, Any]], columns: dict[str, Any]) -> pl.DataFrame:
    """Rows as a frame; whole-dollar columns are still cents in `rows`."""
    frame = pl.DataFrame(rows, schema={**_KEYS, **columns})
    amounts = [name for name in ("total_value", "value") if name in columns]
    return frame.with_columns(from_units(frame.get_column(name).to_numpy(), MONEY, name) for name in amounts)
