"""Whether two databases of the pipeline hold the same values, however each of them stores its rows.

What belongs here: the comparison of a database whose tables are stored row by row with one that is read through the
views of the schema ``staging``: every table the old one has, by primary key, value for value. What does not: making the
two databases (run the same demo with both versions of the code).

    python -m sigmasight_pipeline_tests.end_to_end.same_values OLD_URL NEW_URL [TABLE ...]

Left out are stamps, which tell when and by which run a row was made, and journals, which tell what happened.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import psycopg
from adbc_driver_postgresql import dbapi

from sigmasight_pipeline.storage.database import quoted
from sigmasight_pipeline.storage.tables import PROVENANCE, READERS_SCHEMA, SCHEMA

STAMPS = frozenset({*PROVENANCE, "fetched_at", "oldest_computed_at", "changed_at", "imported_at", "applied_at"})

JOURNALS = frozenset(
    {
        "alembic_version",
        "alert_outbox",
        "backfill_progress",
        "batch_runs",
        "calculation_audit",  # of the tables there are: which they are is the version's
        "data_quality_results",
        "inbox_files",
        "input_changes",
        "recomputation_changes",
    }
)

SHOWN = 3
"""Rows that are shown of one difference."""

AS_THEY_ARE = frozenset(
    {"bigint", "integer", "boolean", "text", "date", "double precision", "timestamp with time zone"}
)
"""Types that arrive exactly; the others are compared by their text."""


@dataclass(frozen=True)
class Comparison:
    """One table in both databases: rows, and what differs in one sentence each (nothing: the same)."""

    table: str
    old_rows: int
    new_rows: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        verdict = "different" if self.differences else "same"
        lines = [f"{self.table:35} {self.old_rows:>10,} {self.new_rows:>10,} {verdict}"]
        return "\n    ".join([*lines, *self.differences])


def compare(old_url: str, new_url: str, names: Collection[str] = ()) -> list[Comparison]:
    """Every table (of `names`, where there are any) of the database at `old_url` with that at `new_url`, by name."""
    readers = set(_relations(new_url, READERS_SCHEMA))
    plain = set(_relations(new_url, SCHEMA))
    wanted = [name for name in _relations(old_url, SCHEMA) if name in names or (not names and name not in JOURNALS)]
    return [_compared(old_url, new_url, name, READERS_SCHEMA if name in readers else SCHEMA, readers | plain)
            for name in sorted(wanted)]  # fmt: skip


def _compared(old_url: str, new_url: str, name: str, new_schema: str, known: Collection[str]) -> Comparison:
    old_types = _columns(old_url, SCHEMA, name)
    if name not in known:
        return Comparison(name, _read(old_url, SCHEMA, name, old_types).height, 0, ("the table is not there",))
    new_types = _columns(new_url, new_schema, name)
    differences = [f"no column {column}" for column in old_types if column not in new_types]
    shared = [column for column in old_types if column in new_types and column not in STAMPS]
    differences += [
        f"{column} is {new_types[column]}, it was {old_types[column]}"
        for column in shared
        if new_types[column] != old_types[column]
    ]
    before = _read(old_url, SCHEMA, name, {column: old_types[column] for column in shared})
    after = _read(new_url, new_schema, name, {column: new_types[column] for column in shared})
    if before.schema == after.schema and not before.sort(shared).equals(after.sort(shared), null_equal=True):
        differences += _differing(before, after, [key for key in _key(old_url, name) if key in shared])
    return Comparison(name, before.height, after.height, tuple(differences))


def _differing(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Which rows are in one frame only, and which column of which rows differs."""
    found = []
    for what, one, other in (("only in the old", before, after), ("only in the new", after, before)):
        alone = one.join(other, on=key, how="anti", nulls_equal=True)
        if not alone.is_empty():
            found.append(f"{alone.height:,} row(s) {what} one: {_shown(alone, key)}")
    both = before.join(after, on=key, how="inner", nulls_equal=True, suffix=" new")
    if both.height > min(before.height, after.height):
        found.append(f"rows with one {', '.join(key)} more than once")
    for column in before.columns:
        if column not in key:
            changed = both.filter(~pl.col(column).eq_missing(pl.col(f"{column} new")))
            if not changed.is_empty():
                found.append(
                    f"{column} in {changed.height:,} row(s): {_shown(changed, [*key, column, f'{column} new'])}"
                )
    return found


def _shown(rows: pl.DataFrame, columns: Sequence[str]) -> str:
    return "; ".join(
        ", ".join(f"{name} {value}" for name, value in row.items())
        for row in rows.sort(columns).select(columns).head(SHOWN).iter_rows(named=True)
    )


def _relations(url: str, schema: str) -> list[str]:
    return [name for (name,) in _asked(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = %s",
                                       schema)]  # fmt: skip


def _columns(url: str, schema: str, relation: str) -> dict[str, str]:
    """Columns of a relation in order, each with its type."""
    return dict(
        _asked(
            url,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            f"{quoted(schema)}.{quoted(relation)}",
        )
    )


def _key(url: str, table: str) -> list[str]:
    """Columns of a table's primary key."""
    return [
        name
        for (name,) in _asked(
            url,
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey) "
            "WHERE indrelid = to_regclass(%s) AND indisprimary ORDER BY attnum",
            f"{SCHEMA}.{quoted(table)}",
        )
    ]


def _asked(url: str, statement: str, value: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode(), (value,)).fetchall()


def _read(url: str, schema: str, relation: str, types: Mapping[str, str]) -> pl.DataFrame:
    """These columns of every row."""
    selected = ", ".join(
        quoted(name) if kind in AS_THEY_ARE else f"{quoted(name)}::text AS {quoted(name)}"
        for name, kind in types.items()
    )
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {selected} FROM {quoted(schema)}.{quoted(relation)}")
        arrived = pl.DataFrame(cursor.fetch_arrow_table())
    return arrived.select(list(types))


def main(old_url: str, new_url: str, *names: str) -> int:
    """Print what `compare` finds; 0 where everything is the same, 1 where something differs."""
    compared = compare(old_url, new_url, names)
    for one in compared:
        sys.stdout.write(f"{one}\n")
    different = sum(bool(one.differences) for one in compared)
    sys.stdout.write(f"{len(compared)} table(s) compared, {different} different.\n")
    return int(different > 0)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
