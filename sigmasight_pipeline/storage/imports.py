"""Accepted files: kept as they were validated, and applied to the reference tables by the reference assets.

What belongs here: recording an import and turning recorded rows into portfolios, positions, tags, marks and flows.
What does not: parsing or judging a file (``importing``), and deciding what is recomputed (``operations``).

An import is recorded by the command line and applied by an asset, so that the tables are written by assets only. Of
several waiting files of one portfolio and kind the newest counts, except marks, which add up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import polars as pl
import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import MergeCounts, merge_rows, reference_lock

Kind = Literal["positions", "marks", "flows"]

PORTFOLIO_FIELDS = (
    "code",
    "name",
    "description",
    "base_currency",
    "benchmark_symbol",
    "inception_date",
    "initial_equity",
)
"""What an import states of a portfolio; the rest of the row belongs to portfolio_snapshots, its closing to
``portfolio_changes``."""

MANUAL = "manual"
"""Source of a mark whose file names none."""

NOTHING = MergeCounts(inserted=0, updated=0, deleted=0, unchanged=0)


def record_import(
    connection: psycopg.Connection,
    *,
    portfolio_code: str,
    kind: Kind,
    file_name: str,
    content_sha256: str,
    content: Mapping[str, Any],
) -> int:
    """Keep an accepted file until the reference assets apply it; returns its import_id."""
    row = connection.execute(
        "INSERT INTO sigmasight.portfolio_imports "
        "(portfolio_code, kind, file_name, content_sha256, content, imported_at) "
        "VALUES (%s, %s, %s, %s, %s, %s) RETURNING import_id",
        (
            portfolio_code,
            kind,
            file_name,
            content_sha256,
            json.dumps(content, default=str),
            datetime.now(UTC),
        ),
    ).fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL returned no import_id for the recorded import")
    return int(row[0])


def lock_imports(connection: psycopg.Connection, portfolio_code: str) -> None:
    """Keep every other import of the portfolio from being recorded until this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('import ' || %s, 0))", (portfolio_code,))


def newest_import(connection: psycopg.Connection, portfolio_code: str, kind: Kind) -> int:
    """import_id of the newest import of a portfolio and kind, applied or not; 0 where there is none."""
    row = connection.execute(
        "SELECT coalesce(max(import_id), 0) FROM sigmasight.portfolio_imports WHERE (portfolio_code, kind) = (%s, %s)",
        (portfolio_code, kind),
    ).fetchone()
    return int(row[0]) if row else 0


def waiting_hash(connection: psycopg.Connection, portfolio_code: str, kind: Kind) -> str | None:
    """Content hash of the newest import of a portfolio and kind that waits to be applied, or None."""
    row = connection.execute(
        "SELECT content_sha256 FROM sigmasight.portfolio_imports "
        "WHERE portfolio_code = %s AND kind = %s AND applied_at IS NULL ORDER BY import_id DESC LIMIT 1",
        (portfolio_code, kind),
    ).fetchone()
    return None if row is None else str(row[0])


def waiting_positions(connection: psycopg.Connection) -> pl.DataFrame:
    """Positions of imports that wait: portfolio_code, symbol, investment_class, entry_date, exit_date."""
    names = ["symbol", "investment_class", "entry_date", "exit_date"]
    parts = [
        _typed(tables.positions, item["content"]["rows"], names).select(
            pl.lit(item["portfolio_code"]).alias("portfolio_code"), *names
        )
        for item in _newest(_waiting(connection, "positions"))
    ]
    schema = {"portfolio_code": pl.String(), **{name: polars_schema(tables.positions)[name] for name in names}}
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def waiting_inceptions(connection: psycopg.Connection) -> dict[str, date]:
    """Inception date, by code, of every portfolio whose import waits."""
    headers = [item["content"]["portfolio"] for item in _newest(_waiting(connection, "positions"))]
    return {header["code"]: date.fromisoformat(header["inception_date"]) for header in headers}


def waiting_count(connection: psycopg.Connection) -> int:
    """How many accepted files the reference assets have not applied yet."""
    row = connection.execute("SELECT count(*) FROM sigmasight.portfolio_imports WHERE applied_at IS NULL").fetchone()
    return int(row[0]) if row else 0


def apply_portfolios(connection: psycopg.Connection) -> MergeCounts:
    """Apply waiting portfolio headers (the imports themselves wait on for their positions) and cash flows."""
    reference_lock(connection)
    counts = _apply_headers(connection, _waiting(connection, "positions"))
    waiting = _waiting(connection, "flows")
    identifiers = _portfolio_ids(connection)
    for item in _newest(waiting):
        portfolio_id = identifiers[item["portfolio_code"]]
        rows = [{**row, "portfolio_id": portfolio_id} for row in item["content"]["rows"]]
        merge_rows(
            connection,
            tables.portfolio_cash_flows,
            _typed(tables.portfolio_cash_flows, rows),
            key=("portfolio_id", "session_date", "kind", "sequence"),
            scope={"portfolio_id": portfolio_id},
            delete_missing=True,
        )
    _mark_applied(connection, waiting)
    return counts


def apply_positions(connection: psycopg.Connection) -> MergeCounts:
    """Apply waiting positions with their tags, then waiting marks."""
    reference_lock(connection)
    # files may be accepted meanwhile: marks are read first, so that the portfolio of each is among what is read next
    marks = _all(connection, "marks")
    waiting = _waiting(connection, "positions")
    # a file accepted since the portfolios were written counts as applied below, so its header must be too
    _apply_headers(connection, waiting)
    total = NOTHING
    identifiers = _portfolio_ids(connection)
    columns = [c.name for c in tables.positions.columns if c.name != "position_id"]
    for item in _newest(waiting):
        portfolio_id = identifiers[item["portfolio_code"]]
        rows = [{**row, "portfolio_id": portfolio_id} for row in item["content"]["rows"]]
        counts = merge_rows(
            connection,
            tables.positions,
            _typed(tables.positions, rows, columns),
            key=("portfolio_id", "symbol", "entry_date", "lot"),
            scope={"portfolio_id": portfolio_id},
            delete_missing=True,
        )
        total = MergeCounts(
            inserted=total.inserted + counts.inserted,
            updated=total.updated + counts.updated,
            deleted=total.deleted + counts.deleted,
            unchanged=total.unchanged + counts.unchanged,
        )
        _apply_tags(connection, portfolio_id, rows)
    _mark_applied(connection, waiting)
    # a position that was replaced is a new row without marks: what was ever stated of it is applied anew
    renewed = {item["portfolio_code"] for item in waiting}
    for item in marks:
        if item["applied_at"] is None or item["portfolio_code"] in renewed:
            _apply_marks(connection, identifiers[item["portfolio_code"]], item["content"]["rows"])
    _mark_applied(connection, [item for item in marks if item["applied_at"] is None])
    return total


def _apply_headers(connection: psycopg.Connection, waiting: Sequence[dict[str, Any]]) -> MergeCounts:
    headers = [item["content"]["portfolio"] for item in _newest(waiting)]
    if not headers:
        return NOTHING
    frame = _typed(tables.portfolios, headers, PORTFOLIO_FIELDS)
    return merge_rows(connection, tables.portfolios, frame, key=("code",), scope=None, delete_missing=False)


def _apply_tags(connection: psycopg.Connection, portfolio_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({tag for row in rows for tag in row.get("tags") or ()})
    connection.execute(
        "INSERT INTO sigmasight.tags (name, kind) SELECT unnest(%s::text[]), 'regular' ON CONFLICT (name) DO NOTHING",
        (names,),
    )
    # only what differs is touched: the rest is no change of inputs
    pairs = [(row["symbol"], str(row["entry_date"]), row["lot"], tag) for row in rows for tag in row.get("tags") or ()]
    symbols, entries, lots, tag_names = ([pair[i] for pair in pairs] for i in range(4))
    connection.execute(
        "WITH stated AS (SELECT DISTINCT p.position_id, t.tag_id "
        "FROM unnest(%s::text[], %s::date[], %s::text[], %s::text[]) AS given(symbol, entry_date, lot, tag) "
        "JOIN sigmasight.positions p ON p.portfolio_id = %s AND p.symbol = given.symbol "
        "AND p.entry_date = given.entry_date AND p.lot = given.lot "
        "JOIN sigmasight.tags t ON t.name = given.tag), "
        "gone AS (DELETE FROM sigmasight.position_tags x USING sigmasight.positions p "
        "WHERE p.position_id = x.position_id AND p.portfolio_id = %s "
        "AND NOT EXISTS (SELECT FROM stated s WHERE (s.position_id, s.tag_id) = (x.position_id, x.tag_id))) "
        "INSERT INTO sigmasight.position_tags (position_id, tag_id) "
        "SELECT position_id, tag_id FROM stated ON CONFLICT DO NOTHING",
        (symbols, entries, lots, tag_names, portfolio_id, portfolio_id),
    )


def _apply_marks(connection: psycopg.Connection, portfolio_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.execute(
        "INSERT INTO sigmasight.position_marks (position_id, session_date, price, source) "
        "SELECT p.position_id, given.session_date, given.price, given.source "
        "FROM unnest(%s::text[], %s::date[], %s::numeric[], %s::text[]) AS given(symbol, session_date, price, source) "
        "JOIN sigmasight.positions p ON p.portfolio_id = %s AND p.symbol = given.symbol "
        "AND p.investment_class = 'PRIVATE' AND p.entry_date <= given.session_date "
        "AND (p.exit_date IS NULL OR p.exit_date >= given.session_date) "
        "ON CONFLICT (position_id, session_date) DO UPDATE SET price = excluded.price, source = excluded.source",
        (
            [row["symbol"] for row in rows],
            [str(row["session_date"]) for row in rows],
            [str(row["price"]) for row in rows],
            [row.get("source") or MANUAL for row in rows],
            portfolio_id,
        ),
    )


def _all(connection: psycopg.Connection, kind: Kind) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT import_id, portfolio_code, content, applied_at FROM sigmasight.portfolio_imports "
            "WHERE kind = %s ORDER BY import_id",
            (kind,),
        ).fetchall()


def _waiting(connection: psycopg.Connection, kind: Kind) -> list[dict[str, Any]]:
    return [item for item in _all(connection, kind) if item["applied_at"] is None]


def _newest(waiting: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({item["portfolio_code"]: item for item in waiting}.values())


def _mark_applied(connection: psycopg.Connection, items: Sequence[Mapping[str, Any]]) -> None:
    connection.execute(
        "UPDATE sigmasight.portfolio_imports SET applied_at = %s WHERE import_id = ANY(%s)",
        (datetime.now(UTC), [item["import_id"] for item in items]),
    )


def _portfolio_ids(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT code, portfolio_id FROM sigmasight.portfolios").fetchall())


def _typed(table: Table, rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows as recorded (decimals and dates as text) as a frame with the table's dtypes."""
    schema = polars_schema(table)
    wanted = list(names or schema)
    text = pl.DataFrame(
        {name: [_text(row.get(name)) for row in rows] for name in wanted},
        schema=dict.fromkeys(wanted, pl.String()),
    )
    return text.select(_from_text(name, schema[name]) for name in wanted)


def _from_text(name: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Boolean():
        return pl.col(name) == "true"
    return pl.col(name).str.to_date() if dtype == pl.Date() else pl.col(name).cast(dtype)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
