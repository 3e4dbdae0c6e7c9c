"""What recomputing the valuation of a range would change, computed in memory: nothing is written.

What belongs here: calling the declared engines one after another, each on what the one before computed instead of what
is stored, and comparing. What does not: engines and their declarations (``assets.valuation``) and the run that really
does it (``operations.repair``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from sigmasight_pipeline.assets import snapshot_chain, valuation
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import recomputations, tables, windows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.windows import look_back, on_sessions

ENGINES = (valuation.VALUES, valuation.GREEKS, valuation.EXPOSURES, valuation.GROUPS)
"""In the order they depend on each other; snapshots follow."""

NAV = "net_asset_value"


@dataclass(frozen=True)
class Rehearsal:
    """What would change. `counts`: columns of ``recomputations.SCHEMA``. `snapshots`: portfolio_id, session_date, old
    and new net asset value (`before`, `after`), NULL where there is none, of sessions where they differ. `identities`:
    portfolio_id and the largest residual of NAV = cash + market value (`cash_residual`) and of NAV = previous NAV +
    flows + P&L (`chain_residual`) over the snapshots computed."""

    counts: pl.DataFrame
    snapshots: pl.DataFrame
    identities: pl.DataFrame

    @property
    def worst(self) -> dict[str, object] | None:
        """The row of `snapshots` with the largest difference; None where nothing would change."""
        if self.snapshots.is_empty():
            return None
        difference = (pl.col("after") - pl.col("before")).cast(pl.Float64).abs().fill_null(-1.0)
        return self.snapshots.sort(difference, descending=True, maintain_order=True).row(0, named=True)


def rehearse(
    database: Database,
    settings: Settings,
    ranges: Sequence[tuple[date, date]],
    *,
    portfolio_ids: Sequence[int] | None,
    listener: Callable[[str, date, date], None] = lambda _name, _first, _last: None,
) -> Rehearsal:
    """Compute consecutive `ranges`, each as large as one run, as the assets would; `listener` hears of each step."""
    counts: list[pl.DataFrame] = []
    rolled: list[pl.DataFrame] = []
    previous: pl.DataFrame | None = None
    for first, last in ranges:
        days = _open_sessions(database, first, last)
        computed: dict[str, pl.DataFrame] = {}
        for declared in ENGINES:
            listener(declared.name, first, last)
            frames = _frames(database, declared.reads, first, last, portfolio_ids, computed)
            (frame,) = declared.compute(days, frames, settings)
            computed[declared.name] = frame
            counts.append(_counted(database, declared.name, frame, days, portfolio_ids))
        name = tables.portfolio_snapshots.name
        listener(name, first, last)
        if previous is None:
            before = look_back(tables.portfolio_snapshots, sessions=1)
            previous = windows.read(database, before, first, last, portfolio_ids).filter(pl.col("session_date") < first)
        result = snapshot_chain.roll(
            snapshot_chain.Stored(database, portfolio_ids, valuation.value_inputs()),
            sessions=days,
            frames=_frames(database, snapshot_chain.READS, first, last, portfolio_ids, computed),
            previous=previous,
            last=last,
            onward=(first, last) == ranges[-1],
        )
        previous = result.own.filter(pl.col("session_date") == days[-1]) if days else previous
        rolled.append(result.frame)
        counts.append(_counted(database, name, result.frame, days, portfolio_ids, result.beyond))
    chain = pl.concat(rolled)
    return Rehearsal(
        recomputations.added_up(counts),
        _differing(database, chain, ranges[-1][1], portfolio_ids),
        _identities(database, chain, ranges[0][0], portfolio_ids),
    )


def _frames(
    database: Database,
    reads: Mapping[str, windows.Read],
    first: date,
    last: date,
    portfolio_ids: Sequence[int] | None,
    computed: Mapping[str, pl.DataFrame],
) -> dict[str, pl.DataFrame]:
    """Every declared read, what was computed in the place of what is stored."""
    found: dict[str, pl.DataFrame] = {}
    for name, read in reads.items():
        own = computed.get(str(read.table.name))
        if own is None:
            found[name] = windows.read(database, read, first, last, portfolio_ids)
            continue
        if read != on_sessions(read.table):
            raise ValueError(f"{name}: the computed sessions cannot stand in for {read}")
        found[name] = own.sort(read.table.primary_key.columns.keys())
    return found


def _open_sessions(database: Database, first: date, last: date) -> list[date]:
    rows = database.read(
        tables.trading_sessions,
        where="session_date BETWEEN %s AND %s AND NOT is_closed",
        params=(first, last),
        columns=["session_date"],
        order_by="session_date",
    )
    return rows["session_date"].to_list()


def _counted(
    database: Database,
    name: str,
    frame: pl.DataFrame,
    days: Sequence[date],
    portfolio_ids: Sequence[int] | None,
    beyond: Sequence[tuple[date, int]] = (),
) -> pl.DataFrame:
    table = tables.named(name)
    return recomputations.counted(table, recomputations.stored(database, table, days, portfolio_ids, beyond), frame)


def _differing(
    database: Database, chain: pl.DataFrame, last: date, portfolio_ids: Sequence[int] | None
) -> pl.DataFrame:
    key = ["portfolio_id", "session_date"]
    days = chain["session_date"].unique().to_list()
    stored = recomputations.stored(database, tables.portfolio_snapshots, days, portfolio_ids)
    # after the range, what the chain is not continued to stays
    carried = stored.select(key).join(chain, on=key, how="semi").with_columns(carried=pl.lit(value=True))
    stored = stored.join(carried, on=key, how="left").filter((pl.col("session_date") <= last) | pl.col("carried"))
    return (
        stored.select(*key, before=NAV)
        .join(chain.select(*key, after=NAV), on=key, how="full", coalesce=True)
        .filter(~pl.col("before").eq_missing(pl.col("after")))
        .sort(key)
    )


def _identities(
    database: Database, chain: pl.DataFrame, first: date, portfolio_ids: Sequence[int] | None
) -> pl.DataFrame:
    """The largest residual of each identity over the computed snapshots, by portfolio; exact cents."""
    before = windows.read(database, look_back(tables.portfolio_snapshots, sessions=1), first, first, portfolio_ids)
    ordered = pl.concat([before.filter(pl.col("session_date") < first).select(chain.columns), chain]).sort(
        "portfolio_id", "session_date"
    )
    cash = pl.col(NAV) - pl.col("cash_balance") - pl.col("market_value")
    chained = pl.col(NAV) - pl.col(NAV).shift(1) - pl.col("net_cash_flow") - pl.col("daily_pnl")
    return (
        ordered.with_columns(cash=cash, chained=chained.over("portfolio_id"))
        .filter(pl.col("session_date") >= first)
        .group_by("portfolio_id", maintain_order=True)
        .agg(cash_residual=pl.col("cash").abs().max(), chain_residual=pl.col("chained").abs().max().fill_null(0))
    )
