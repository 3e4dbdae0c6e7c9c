"""Tags beside the files that bring them: their kind, colour and name, and which positions carry them.

What belongs here: reading and writing ``tags`` and ``position_tags`` for commands. What does not: what may be written
(``operations.tagging``), the tags of a file (``imports``), and recording the change, which the database does itself
(migration 0017).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import psycopg

from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import reference_lock


def listed(database: Database) -> pl.DataFrame:
    """Every tag by name: kind, colour, how many positions carry it, and the codes of their portfolios."""
    return database.query(
        "SELECT t.name, t.kind, t.colour, count(q.position_id) AS positions, "
        "coalesce(json_agg(DISTINCT p.code ORDER BY p.code) FILTER (WHERE p.code IS NOT NULL), '[]')::text "
        "AS portfolios "
        "FROM sigmasight.tags t LEFT JOIN sigmasight.position_tags x USING (tag_id) "
        "LEFT JOIN sigmasight.positions q USING (position_id) LEFT JOIN sigmasight.portfolios p USING (portfolio_id) "
        "GROUP BY t.tag_id ORDER BY t.name"
    ).with_columns(pl.col("portfolios").str.json_decode(pl.List(pl.String)))


def held_symbols(database: Database, code: str) -> list[str]:
    """Symbols of the positions of a portfolio, sorted."""
    return database.query(
        "SELECT DISTINCT q.symbol FROM sigmasight.positions q JOIN sigmasight.portfolios p USING (portfolio_id) "
        "WHERE p.code = %s ORDER BY 1",
        (code,),
    )["symbol"].to_list()


def state(connection: psycopg.Connection, name: str, *, kind: str | None = None, colour: str | None = None) -> None:
    """Have a tag of this name; kind and colour stay as they are where they are None (a new one is regular)."""
    reference_lock(connection)
    connection.execute(
        "INSERT INTO sigmasight.tags (name, kind, colour) VALUES (%s, coalesce(%s, 'regular'), %s) "
        "ON CONFLICT (name) DO UPDATE SET kind = coalesce(%s, tags.kind), colour = coalesce(%s, tags.colour)",
        (name, kind, colour, kind, colour),
    )


def uncolour(connection: psycopg.Connection, name: str) -> None:
    """Take a tag's colour away."""
    reference_lock(connection)
    connection.execute("UPDATE sigmasight.tags SET colour = NULL WHERE name = %s", (name,))


def rename(connection: psycopg.Connection, name: str, new_name: str) -> None:
    """Give a tag another name; positions keep it."""
    reference_lock(connection)
    connection.execute("UPDATE sigmasight.tags SET name = %s WHERE name = %s", (new_name, name))


_OF = (
    "FROM sigmasight.positions q JOIN sigmasight.portfolios p USING (portfolio_id), sigmasight.tags t "
    "WHERE t.name = %s AND p.code = %s AND (%s::text[] IS NULL OR q.symbol = ANY(%s))"
)


def put_on(connection: psycopg.Connection, name: str, code: str, symbols: Sequence[str] | None) -> int:
    """Tag the positions of a portfolio in `symbols` (None: all of them); how many did not carry it before."""
    reference_lock(connection)
    given = None if symbols is None else list(symbols)
    return connection.execute(
        f"INSERT INTO sigmasight.position_tags (position_id, tag_id) SELECT q.position_id, t.tag_id {_OF} "
        "ON CONFLICT DO NOTHING",
        (name, code, given, given),
    ).rowcount


def take_off(connection: psycopg.Connection, name: str, code: str, symbols: Sequence[str] | None) -> int:
    """The reverse of `put_on`; how many carried it."""
    reference_lock(connection)
    given = None if symbols is None else list(symbols)
    return connection.execute(
        f"DELETE FROM sigmasight.position_tags WHERE (position_id, tag_id) IN (SELECT q.position_id, t.tag_id {_OF})",
        (name, code, given, given),
    ).rowcount


def remove(connection: psycopg.Connection, name: str) -> None:
    """Remove a tag, also from every position that carries it."""
    reference_lock(connection)
    connection.execute("DELETE FROM sigmasight.tags WHERE name = %s", (name,))
