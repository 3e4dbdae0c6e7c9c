"""The write and read paths of the storage layer against PostgreSQL's own: raw COPY, `psql \\copy`, COPY to CSV.

What belongs here: timings of storage alone, on rows that mean nothing. What does not: engines and whole runs.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import psycopg
from psycopg.conninfo import conninfo_to_dict

from sigmasight_pipeline.storage import schema, tables, windows
from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.copying import ROWS_PER_CHUNK
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded_binaries import find_binaries, find_psql
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

SESSIONS = 252
REPLACE_BUDGET = 2.0
"""Replacing may take at most this many times a raw COPY of the same rows into an empty table of the same kind."""

TABLE = tables.position_values
PEER = "sigmasight_bench.raw"


def run(url: str, *, size: int = 1_000_000, times: int = 2) -> list[Measurement]:
    """Time writing and reading about `size` rows over 252 sessions in the database at `url` (left with the rows).

    Every duration is the fastest of `times`; ours and the peer's alternate, so that a busy machine slows both.
    """
    schema.upgrade(url)
    database = Database(url)
    sessions = weekdays(SESSIONS)
    frame = rows(TABLE, sessions, size // SESSIONS)
    with psycopg.connect(connection_string(url), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS sigmasight_bench CASCADE")
        connection.execute("CREATE SCHEMA sigmasight_bench")
        connection.execute(f"CREATE TABLE {PEER} (LIKE {TABLE.fullname} INCLUDING ALL)")
        try:
            measured = _writing(database, connection, frame, sessions, times)
            connection.execute(f"VACUUM ANALYZE {TABLE.fullname}")
            return measured + _reading(database, connection, frame, sessions, times)
        finally:
            connection.execute("DROP SCHEMA sigmasight_bench CASCADE")
            database.close()


def _writing(
    database: Database, connection: psycopg.Connection, frame: pl.DataFrame, sessions: list[date], times: int
) -> list[Measurement]:
    chunks = _csv_chunks(frame)

    def raw() -> None:
        with connection.cursor() as cursor, cursor.copy(f"COPY {PEER} FROM STDIN (FORMAT csv)") as copy:
            for chunk in chunks:
                copy.write(chunk)

    def ours() -> None:
        replace_sessions(database, [(TABLE, frame)], sessions)

    seconds: dict[str, list[float]] = {"raw": [], "first": [], "replace": [], "psql": []}
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "rows.csv"
        csv.write_bytes(b"".join(chunks))
        stages = (("raw", PEER, raw), ("first", TABLE.fullname, ours), ("psql", PEER, _psql_copy(database.url, csv)))
        for _ in range(times):
            for stage, target, action in stages:
                connection.execute(f"TRUNCATE {target}")
                seconds[stage].append(fastest(action, 1))
            seconds["replace"].append(fastest(ours, 1))
    best = {stage: min(taken) for stage, taken in seconds.items()}
    over_raw = {stage: taken / best["raw"] for stage, taken in best.items()}
    height = frame.height
    return [
        Measurement("raw COPY into an empty table", best["raw"], height),
        Measurement("psql \\copy into an empty table", best["psql"], height, over_raw["psql"], "raw COPY"),
        Measurement(
            "replace_sessions, first time", best["first"], height, over_raw["first"], "raw COPY", REPLACE_BUDGET
        ),
        Measurement(
            "replace_sessions over the same sessions",
            best["replace"],
            height,
            over_raw["replace"],
            "raw COPY",
            REPLACE_BUDGET,
        ),
        Measurement("replace_sessions, first time", best["first"], height, best["first"] / best["psql"], "psql \\copy"),
    ]


def _reading(
    database: Database, connection: psycopg.Connection, frame: pl.DataFrame, sessions: list[date], times: int
) -> list[Measurement]:
    def window(first: date, last: date) -> Callable[[], object]:
        return lambda: windows.read(database, windows.on_sessions(TABLE), first, last)

    def csv() -> None:
        buffer = io.BytesIO()
        with connection.cursor() as cursor, cursor.copy(f"COPY {TABLE.fullname} TO STDOUT (FORMAT csv)") as copy:
            for chunk in copy:
                buffer.write(chunk)
        buffer.seek(0)
        text = pl.read_csv(buffer, has_header=False, schema=dict.fromkeys(polars_schema(TABLE), pl.String()))
        text.select(_typed(text[name], dtype) for name, dtype in polars_schema(TABLE).items())

    def distinct_on() -> None:
        connection.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT ON (position_id) * FROM {TABLE.fullname} "
            "WHERE session_date < %s ORDER BY position_id, session_date DESC) AS newest",
            (sessions[-1],),
        )

    positions = frame["position_id"].n_unique()
    last = windows.last_known(TABLE, per=("position_id",))
    csv_seconds = fastest(csv, times)
    whole = fastest(window(sessions[0], sessions[-1]), times)
    one = fastest(window(sessions[-1], sessions[-1]), 5 * times)
    known = fastest(lambda: windows.read(database, last, sessions[-1], sessions[-1]), 5 * times)
    distinct = fastest(distinct_on, times)
    return [
        Measurement("read 252 sessions", whole, frame.height, whole / csv_seconds, "COPY to CSV, parsed"),
        Measurement("read 1 session", one, positions),
        Measurement("read 1 session and the last row before it", known, 2 * positions, known / distinct, "DISTINCT ON"),
    ]


def _typed(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """A column of PostgreSQL's CSV as `dtype`."""
    if dtype == pl.Boolean():
        return text == "t"
    if dtype == pl.Datetime("us", "UTC"):
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="us")
    return text.str.to_date() if dtype == pl.Date() else text.cast(dtype)


def _csv_chunks(frame: pl.DataFrame) -> list[bytes]:
    assert frame.schema == polars_schema(TABLE)
    slices = (frame.slice(start, ROWS_PER_CHUNK) for start in range(0, frame.height, ROWS_PER_CHUNK))
    return [part.write_csv(include_header=False).encode() for part in slices]


def _psql_copy(url: str, csv: Path) -> Callable[[], None]:
    """`psql \\copy` of the file; the address goes through the environment, for arguments show in the process list."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    address = {names[key]: str(value) for key, value in conninfo_to_dict(url).items() if key in names}
    command: list[str | Path] = [
        find_psql(find_binaries()),
        "-X",
        "-q",
        "-c",
        f"\\copy {PEER} FROM '{csv}' (FORMAT csv)",
    ]

    def copy() -> None:
        subprocess.run(command, env={**os.environ, **address}, check=True)

    return copy
