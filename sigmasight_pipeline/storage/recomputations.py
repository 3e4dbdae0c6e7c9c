"""What computing stored sessions anew moved: old result rows against new ones, counted by table and portfolio.

What belongs here: reading the rows a write is about to replace, counting, and keeping the counts in
``recomputation_changes``. What does not: the comparison itself (``storage.comparison``) and which runs report
(``assets.session_run``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.comparison import ADDED, BEFORE, REMOVED, REVISED, UNCHANGED, compare
from sigmasight_pipeline.storage.copying import Connection
from sigmasight_pipeline.storage.database import PORTFOLIO, SESSION, Database
from sigmasight_pipeline.storage.frames import polars_schema

COUNTS = {"rows_created": ADDED, "rows_updated": REVISED, "rows_deleted": REMOVED, "rows_unchanged": UNCHANGED}

SCHEMA = pl.Schema(
    {
        name: kind
        for name, kind in polars_schema(tables.recomputation_changes).items()
        if name not in ("run_id", "recorded_at")
    }
)
"""Columns of the counts."""

_NAV = "net_asset_value"


def moved(
    database: Database,
    writes: Sequence[tuple[Table, pl.DataFrame]],
    sessions: Collection[date],
    portfolio_ids: Collection[int] | None,
    beyond: Collection[tuple[date, int]] = (),
) -> pl.DataFrame:
    """What replacing `sessions` of each table (and `beyond`) by its frame moves: columns SCHEMA."""
    return pl.concat(
        [
            pl.DataFrame(schema=SCHEMA),
            *(
                counted(table, stored(database, table, sessions, portfolio_ids, beyond), frame)
                for table, frame in writes
            ),
        ]
    )


def stored(
    database: Database,
    table: Table,
    sessions: Collection[date],
    portfolio_ids: Collection[int] | None,
    beyond: Collection[tuple[date, int]] = (),
) -> pl.DataFrame:
    """The rows a write of `sessions` (of `portfolio_ids`, where the table has portfolios) would replace, and those of
    the (session, portfolio) `beyond` them."""
    where, params = f"{SESSION} = ANY(%s)", list[object]([list(sessions)])
    if portfolio_ids is not None and PORTFOLIO in table.columns:
        where, params = f"{where} AND {PORTFOLIO} = ANY(%s)", [*params, list(portfolio_ids)]
    if beyond:
        pairs = "SELECT * FROM unnest(%s::date[], %s::bigint[])"
        where = f"({where}) OR ({SESSION}, {PORTFOLIO}) IN ({pairs})"
        params += [[day for day, _ in beyond], [owner for _, owner in beyond]]
    return database.read(table, where=where, params=params)


def counted(table: Table, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows created, updated, deleted and unchanged by portfolio (0 where the table has none): columns SCHEMA."""
    compared = compare(table, before, after)
    owner: pl.Expr = pl.lit(0)
    if PORTFOLIO in table.primary_key.columns:
        owner = pl.col(PORTFOLIO)
    elif PORTFOLIO in table.columns:
        owner = pl.coalesce(PORTFOLIO, f"{PORTFOLIO}{BEFORE}")
    differs = pl.col("kind") != UNCHANGED
    difference = (pl.col(_NAV) - pl.col(f"{_NAV}{BEFORE}")) if table is tables.portfolio_snapshots else pl.lit(None)
    return (
        compared.with_columns(owner=owner.cast(pl.Int64), difference=difference.cast(SCHEMA["largest_nav_difference"]))
        .sort(SESSION)
        .group_by("owner")
        .agg(
            **{name: (pl.col("kind") == kind).sum() for name, kind in COUNTS.items()},
            first_changed=pl.col(SESSION).filter(differs).min(),
            last_changed=pl.col(SESSION).filter(differs).max(),
            largest_nav_difference=pl.col("difference").get(
                pl.col("difference").cast(pl.Float64).abs().fill_null(-1.0).arg_max()
            ),
        )
        .with_columns(table_name=pl.lit(str(table.name)), portfolio_id=pl.col("owner"))
        .select(list(SCHEMA))
        .cast(SCHEMA)
        .sort("portfolio_id")
    )


def keep(connection: Connection, run_id: str, counts: pl.DataFrame) -> None:
    """Add the counts of one write to those of its run, in the caller's transaction."""
    names = list(SCHEMA)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO sigmasight.recomputation_changes AS c "
            f"(run_id, recorded_at, {', '.join(names)}) VALUES (%s, %s, {', '.join(['%s'] * len(names))}) "
            "ON CONFLICT (run_id, table_name, portfolio_id) DO UPDATE SET "
            + ", ".join(f"{name} = c.{name} + excluded.{name}" for name in COUNTS)
            + ", first_changed = least(c.first_changed, excluded.first_changed), "
            "last_changed = greatest(c.last_changed, excluded.last_changed), "
            "largest_nav_difference = CASE WHEN abs(coalesce(excluded.largest_nav_difference, 0)) > "
            "abs(coalesce(c.largest_nav_difference, 0)) THEN excluded.largest_nav_difference "
            "ELSE c.largest_nav_difference END, recorded_at = excluded.recorded_at",
            [(run_id, datetime.now(UTC), *row) for row in counts.select(names).rows()],
        )


def added_up(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Counts of several writes or runs as those of one: columns SCHEMA."""
    return (
        pl.concat([pl.DataFrame(schema=SCHEMA), *parts])
        .group_by("table_name", "portfolio_id", maintain_order=True)
        .agg(
            *(pl.col(name).sum() for name in COUNTS),
            pl.col("first_changed").min(),
            pl.col("last_changed").max(),
            pl.col("largest_nav_difference").get(
                pl.col("largest_nav_difference").cast(pl.Float64).abs().fill_null(-1.0).arg_max()
            ),
        )
        .cast(SCHEMA)
    )


def of_runs(database: Database, run_ids: Collection[str]) -> pl.DataFrame:
    """What these runs moved together: columns SCHEMA."""
    rows = database.read(
        tables.recomputation_changes,
        where="run_id = ANY(%s)",
        params=(list(run_ids),),
        order_by=["recorded_at", "table_name", "portfolio_id"],
    )
    return added_up([rows.select(list(SCHEMA))])


def not_computed(
    database: Database,
    names: Collection[str],
    first: date,
    last: date,
    run_ids: Collection[str],
    portfolio_ids: Collection[int] | None,
) -> dict[tuple[str, int], int]:
    """(table, portfolio) to stored rows from `first` to `last` that none of these runs wrote."""
    parts = [
        f"SELECT '{name}' AS name, portfolio_id, count(*) AS rows FROM {tables.named(name).fullname} "
        "WHERE session_date BETWEEN %s AND %s AND run_id <> ALL(%s) "
        "AND (%s::bigint[] IS NULL OR portfolio_id = ANY(%s)) GROUP BY portfolio_id"
        for name in names
    ]
    owners = None if portfolio_ids is None else list(portfolio_ids)
    rows = database.query(" UNION ALL ".join(parts), [first, last, list(run_ids), owners, owners] * len(parts))
    return {(name, owner): count for name, owner, count in rows.iter_rows()}
