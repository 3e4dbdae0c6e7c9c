"""Changes of stored inputs of computed sessions: recording those of the pipeline's own writes, and reading them all.

What belongs here: rows of ``input_changes``, and what is read to tell whether a change was followed by the results
that depend on it. What does not: changes by hand, which the database records itself (migration 0007), and deciding
what is recomputed (``operations.restatement``).

Of one write, the rows of a symbol become one change per kind: everything from its first session on depends on it.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from datetime import date

import polars as pl
from psycopg import sql
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.comparison import ADDED, BEFORE, REMOVED, UNCHANGED, compare, figures
from sigmasight_pipeline.storage.copying import Connection, copy_rows, relation
from sigmasight_pipeline.storage.database import SESSION, Database
from sigmasight_pipeline.storage.frames import polars_schema

DAY = {
    "daily_prices": SESSION,
    "option_prices": SESSION,
    "treasury_yields": SESSION,
    "corporate_actions": "ex_date",
}
"""Market tables whose changes are recorded, and the column that says from which session on results depend on a row."""

NOT_FIGURES = ("source", "fetched_at")
"""Where a row came from is nothing a result depends on."""

_SCHEMA = pl.Schema(
    {
        name: kind
        for name, kind in polars_schema(tables.input_changes).items()
        if name not in ("change_id", "by_hand", "changed_at")
    }
)


def found(connection: Connection, table: Table, after: pl.DataFrame, days: Collection[date]) -> pl.DataFrame:
    """What replacing the sessions `days` of a market table by `after` changes: rows for `record`.

    Asked before anything is deleted. Of sessions nobody has computed yet, and of other tables, nothing.
    """
    nothing = pl.DataFrame(schema=_SCHEMA)
    if table.name not in DAY or not days:
        return nothing
    newest = connection.execute(
        "SELECT greatest((SELECT max(session_date) FROM sigmasight.portfolio_snapshots), "
        "(SELECT max(session_date) FROM sigmasight.daily_returns))"
    ).fetchone()
    computed = [day for day in days if newest is not None and newest[0] is not None and day <= newest[0]]
    if not computed:
        return nothing
    day = DAY[str(table.name)]
    compared = compare(
        table,
        _stored(connection, table, day, computed),
        after.filter(pl.col(day).is_in(computed)),
        without=NOT_FIGURES,
    ).filter(pl.col("kind") != UNCHANGED)
    return _summed_up(table, day, compared)


def record(connection: Connection, rows: pl.DataFrame) -> None:
    """Add what `found` found, in the caller's transaction and as its last words: they carry the time of now."""
    if rows.is_empty():
        return
    moment = connection.execute("SELECT clock_timestamp()").fetchone()
    kind = polars_schema(tables.input_changes)["changed_at"]
    copy_rows(
        connection,
        relation(tables.input_changes),
        rows.with_columns(by_hand=pl.lit(value=False), changed_at=pl.lit(moment[0] if moment else None).cast(kind)),
    )


def _stored(connection: Connection, table: Table, day: str, days: Sequence[date]) -> pl.DataFrame:
    """The rows of `days` as this transaction sees them, without what is not compared."""
    schema = polars_schema(table)
    names = [*table.primary_key.columns.keys(), *figures(table, without=NOT_FIGURES)]
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE {} = ANY(%s)) TO STDOUT (FORMAT csv)").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), relation(table), sql.Identifier(day)
    )
    buffer = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(statement, (list(days),)) as copy:
        for block in copy:
            buffer.write(block)
    if not buffer.tell():
        return pl.DataFrame(schema={name: schema[name] for name in names})
    buffer.seek(0)
    text = pl.read_csv(buffer, has_header=False, new_columns=names, infer_schema=False)
    return text.select(
        pl.col(name).str.to_date() if schema[name] == pl.Date() else pl.col(name).cast(schema[name]) for name in names
    )


def _summed_up(table: Table, day: str, compared: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol and kind, told by its first session."""
    by_symbol = "symbol" in table.columns
    symbol = pl.col("symbol") if by_symbol else pl.lit(None, dtype=pl.String)
    told = [_told(table, name) for name in figures(table, without=NOT_FIGURES)]
    more = pl.when(pl.col("rows") > 1).then(pl.format(" (and {} more)", pl.col("rows") - 1)).otherwise(pl.lit(""))
    return (
        compared.with_columns(detail=pl.concat_str(told, separator=", ", ignore_nulls=True), of=symbol)
        .sort(day, *table.primary_key.columns.keys())
        .group_by("of", "kind", maintain_order=True)
        .agg(pl.col(day).first().alias("first"), pl.col("detail").first(), pl.len().alias("rows"))
        .select(
            table_name=pl.lit(str(table.name)),
            session_date=pl.col("first"),
            portfolio_id=pl.lit(None, dtype=pl.Int64),
            symbol=pl.col("of"),
            kind=pl.col("kind"),
            detail=pl.col("detail") + more,
        )
        .cast(_SCHEMA)
    )


def _told(table: Table, name: str) -> pl.Expr:
    """What happened to a figure in words, NULL where nothing did."""
    old, new = pl.col(f"{name}{BEFORE}"), pl.col(name)
    text = [value.cast(pl.String).fill_null("none") for value in (old, new)]
    return (
        pl.when(pl.col("kind") == ADDED)
        .then(pl.when(new.is_not_null()).then(pl.format(f"{name} {{}}", text[1])))
        .when(pl.col("kind") == REMOVED)
        .then(pl.when(old.is_not_null()).then(pl.format(f"{name} {{}}", text[0])))
        .when(~old.eq_missing(new))
        .then(pl.format(f"{name} {{}} -> {{}}", *text))
    )


def newest_state(database: Database) -> tuple[int, int]:
    """(newest change_id, number of rows): while they stay the same, so does what was found about them."""
    row = database.query(
        "SELECT coalesce(max(change_id), 0) AS newest, count(*) AS rows FROM sigmasight.input_changes"
    ).row(0)
    return int(row[0]), int(row[1])


def recorded(database: Database) -> pl.DataFrame:
    """The newest of changes alike that results depend on: table_name, session_date, portfolio_id, symbol, change_id,
    changed_at."""
    return database.query(
        "SELECT table_name, session_date, portfolio_id, symbol, max(change_id) AS change_id, "
        "max(changed_at) AS changed_at FROM sigmasight.input_changes WHERE kind <> 'described' GROUP BY 1, 2, 3, 4 "
        "ORDER BY change_id"
    )


def described(database: Database, change_id: int) -> str:
    """One change in words."""
    row = database.query(
        "SELECT c.table_name, c.session_date, c.kind, c.symbol, p.code, c.detail FROM sigmasight.input_changes c "
        "LEFT JOIN sigmasight.portfolios p USING (portfolio_id) WHERE change_id = %s",
        (change_id,),
    ).row(0, named=True)
    about = " of ".join(part for part in (row["symbol"], row["code"]) if part)
    return f"{row['table_name']} {row['session_date']} {about + ' ' if about else ''}{row['kind']}: {row['detail']}"


def named(database: Database, change_id: int) -> str:
    """What one change concerns, in as few words as possible: AAPL 2025-03-04."""
    row = database.query(
        "SELECT coalesce(c.symbol, p.code, c.table_name) AS name, c.session_date FROM sigmasight.input_changes c "
        "LEFT JOIN sigmasight.portfolios p USING (portfolio_id) WHERE change_id = %s",
        (change_id,),
    ).row(0, named=True)
    return f"{row['name']} {row['session_date']}"


def followers(database: Database) -> pl.DataFrame:
    """(symbol, portfolio_id): portfolios whose results depend on a symbol's prices.

    What they hold, its underlying, what continues it, their benchmark; and proxies of factors, which concern everybody.
    """
    return database.query(
        "WITH RECURSIVE followed AS (SELECT f.portfolio_id, f.symbol FROM ("
        "SELECT portfolio_id, symbol FROM sigmasight.positions "
        "UNION SELECT portfolio_id, underlying_symbol FROM sigmasight.positions "
        "UNION SELECT portfolio_id, benchmark_symbol FROM sigmasight.portfolios "
        "UNION SELECT p.portfolio_id, d.proxy_symbol FROM sigmasight.portfolios p, sigmasight.factor_definitions d "
        "WHERE d.active) f WHERE f.symbol IS NOT NULL "
        "UNION SELECT f.portfolio_id, i.replaced_by FROM followed f JOIN sigmasight.instruments i USING (symbol) "
        "WHERE i.replaced_by IS NOT NULL) "
        "SELECT symbol, portfolio_id FROM followed ORDER BY 1, 2"
    )


def concerned(recorded: pl.DataFrame, followers: pl.DataFrame, portfolio_ids: Collection[int]) -> pl.DataFrame:
    """`recorded` once per portfolio (of `portfolio_ids`) whose results a change may enter."""
    # a quote concerns who holds contracts on its underlying, whatever splits have made of the contract's symbol
    underlying = (
        pl.when(pl.col("table_name") == "option_prices")
        .then(pl.col("symbol").str.slice(0, pl.col("symbol").str.len_chars() - 15))
        .otherwise("symbol")
    )
    everybody = pl.DataFrame({"portfolio_id": list(portfolio_ids)}, schema={"portfolio_id": pl.Int64()})
    of_book = recorded.filter(pl.col("portfolio_id").is_not_null())
    of_market = recorded.filter(pl.col("portfolio_id").is_null()).drop("portfolio_id").with_columns(of=underlying)
    named = of_market.filter(pl.col("of").is_not_null()).join(followers, left_on="of", right_on="symbol")
    unnamed = of_market.filter(pl.col("of").is_null()).join(everybody, how="cross")
    found = pl.concat([of_book, named.drop("of"), unnamed.drop("of")], how="diagonal_relaxed")
    return found.join(everybody, on="portfolio_id", how="semi")


def first_stale(
    database: Database, table: Table, inputs: Collection[str], first: date, last: date, portfolio_ids: Collection[int]
) -> dict[int, date]:
    """Of each portfolio the first session from `first` to `last` at which rows of `table` are older than a change of
    one of their `inputs` (tables) of that session or an earlier one; portfolios without such a session are not in it.
    """
    changes = recorded(database).filter(pl.col("table_name").is_in(list(inputs)), pl.col("session_date") <= last)
    if changes.is_empty():
        return {}
    newest = (
        concerned(changes, followers(database), portfolio_ids)
        .sort("session_date")
        .select("portfolio_id", "session_date", pl.col("changed_at").cum_max().over("portfolio_id"))
    )
    rows = database.query(
        f"SELECT portfolio_id, session_date, min(computed_at) AS oldest FROM {table.fullname} "
        "WHERE session_date BETWEEN %s AND %s AND portfolio_id = ANY(%s) GROUP BY 1, 2 ORDER BY 2",
        (first, last, list(portfolio_ids)),
    )
    stale = rows.join_asof(newest, on="session_date", by="portfolio_id", check_sortedness=False).filter(
        pl.col("oldest") < pl.col("changed_at")
    )
    return dict(stale.group_by("portfolio_id").agg(pl.col("session_date").min()).iter_rows())


def owe(connection: Connection, table: Table, sessions: Mapping[int, date], detail: str) -> None:
    """Record, in the caller's transaction, that rows of `table` of these portfolios from these sessions on are older
    than what they are made from: a change of the table itself, which its dependents have to follow."""
    record(
        connection,
        pl.DataFrame(
            [(str(table.name), day, owner, None, "revised", detail) for owner, day in sorted(sessions.items())],
            schema=_SCHEMA,
            orient="row",
        ),
    )


def computed(database: Database, engines: Mapping[str, Collection[str]], since: date) -> pl.DataFrame:
    """(table_name, portfolio_id, session_date, oldest) from `since` on: when the oldest result was computed.

    `engines`: result tables by the input table they depend on. From ``calculation_audit``; sessions it does not know
    are judged by their values and their snapshot.
    """
    pairs = [(table, engine) for table, names in engines.items() for engine in names]
    return database.query(
        "WITH depends AS (SELECT * FROM unnest(%s::text[], %s::text[]) AS d(table_name, engine)), "
        "unknown AS (SELECT s.portfolio_id, s.session_date, s.computed_at FROM sigmasight.portfolio_snapshots s "
        "WHERE s.session_date >= %s AND NOT EXISTS (SELECT FROM sigmasight.calculation_audit a "
        "WHERE a.portfolio_id = s.portfolio_id AND a.session_date = s.session_date)) "
        "SELECT d.table_name, a.portfolio_id, a.session_date, min(a.oldest_computed_at) AS oldest "
        "FROM sigmasight.calculation_audit a JOIN depends d USING (engine) "
        "WHERE a.session_date >= %s AND a.oldest_computed_at IS NOT NULL AND a.portfolio_id <> 0 GROUP BY 1, 2, 3 "
        "UNION ALL SELECT t.table_name, u.portfolio_id, u.session_date, CASE WHEN t.values "
        "THEN least(u.computed_at, v.oldest) ELSE u.computed_at END FROM unknown u CROSS JOIN LATERAL ("
        "SELECT min(v.computed_at) AS oldest FROM sigmasight.position_values v "
        "WHERE v.portfolio_id = u.portfolio_id AND v.session_date = u.session_date) v "
        "CROSS JOIN (SELECT table_name, bool_or(engine = 'position_values') AS values FROM depends GROUP BY 1) t",
        ([table for table, _ in pairs], [engine for _, engine in pairs], since, since),
    )


def stale_symbols(database: Database, asked: pl.DataFrame) -> pl.DataFrame:
    """Those of `asked` (symbol, session_date, reach, changed_at) whose returns or betas are older than the change.

    A close enters the return of its session and the next one, and betas of sessions up to `reach`. Nothing after the
    newest snapshot counts: those sessions are still to be computed.
    """
    return database.query(
        "SELECT c.* FROM unnest(%s::text[], %s::date[], %s::date[], %s::timestamptz[]) "
        "AS c(symbol, session_date, reach, changed_at), (SELECT coalesce("
        "(SELECT max(session_date) FROM sigmasight.portfolio_snapshots), "
        "(SELECT max(session_date) FROM sigmasight.daily_returns)) AS newest) n WHERE EXISTS (SELECT FROM ("
        "SELECT r.session_date, r.computed_at FROM sigmasight.daily_returns r WHERE r.symbol = c.symbol "
        "AND r.session_date >= c.session_date ORDER BY r.session_date LIMIT 2) r "
        "WHERE r.session_date <= n.newest AND r.computed_at < c.changed_at) "
        "OR EXISTS (SELECT FROM staging.symbol_factor_betas b WHERE b.symbol = c.symbol "
        "AND b.session_date BETWEEN c.session_date AND least(c.reach, n.newest) AND b.computed_at < c.changed_at)",
        tuple(asked[name].to_list() for name in ("symbol", "session_date", "reach", "changed_at")),
    )


def computed_range(database: Database) -> tuple[date | None, date | None, date | None]:
    """First and newest session with a snapshot, and the newest with a return; None where there is none."""
    row = database.query(
        "SELECT (SELECT min(session_date) FROM sigmasight.portfolio_snapshots) AS first, "
        "(SELECT max(session_date) FROM sigmasight.portfolio_snapshots) AS newest, "
        "(SELECT max(session_date) FROM sigmasight.daily_returns) AS newest_return"
    ).row(0)
    return row
