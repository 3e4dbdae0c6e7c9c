"""Rows and keys a table may not have or be without: orphans, days that are no sessions, duplicates, lost indexes.

What belongs here: questions made from the table registry alone, one pass per table. What does not: what rows mean
(``storage.audit_faults``).

A valid unique index on the key is the proof that a table holds no duplicate; only tables without one are searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.audit import IN_SCOPE, Connection, Row, Scope, fetch
from sigmasight_pipeline.storage.database import PORTFOLIO, SESSION
from sigmasight_pipeline.storage.tables.packing import NumberedArrays, PairTriangle, packing_of, stored_table

SESSION_TABLES: tuple[Table, ...] = (
    tables.daily_prices,
    tables.option_prices,
    tables.treasury_yields,
    *(
        table
        for table in tables.metadata.sorted_tables
        if SESSION in table.columns and set(tables.PROVENANCE) <= set(table.columns.keys())
    ),
)
"""Tables whose rows belong to sessions: observed prices and every result."""

_OWNERS = {
    "portfolio_id": tables.portfolios,
    "position_id": tables.positions,
    "scenario_id": tables.stress_test_scenarios,
    "factor": tables.factor_definitions,
    "symbol": tables.instruments,
}
"""Where the identifiers in keys come from."""

_NUMBERED_OWNERS = {"factor": tables.factor_definitions, "scenario": tables.stress_test_scenarios}
"""Where the members of a dimension of stored arrays come from; one without a table of its own needs a number only."""

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy types no dialect

_INDEXES = """
SELECT t.relname AS table_name, i.relname AS index_name, x.indisprimary AS is_primary, x.indisunique AS is_unique,
       x.indisvalid AND x.indisready AS is_valid, x.indpred IS NOT NULL AS is_partial,
       array(SELECT a.attname::text FROM unnest(x.indkey::int[]) WITH ORDINALITY AS k(number, place)
             JOIN pg_attribute a ON (a.attrelid, a.attnum) = (t.oid, k.number) ORDER BY k.place) AS columns
FROM pg_index x
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = 'sigmasight'
"""

# places nobody may use are few: only they are looked into
_UNKNOWN_PLACES = """
WITH longest AS (
  SELECT coalesce(max(array_length({array}, {axis})), 0) AS size FROM {table} t
  WHERE t.session_date BETWEEN %(first)s AND %(last)s
), unknown AS (
  SELECT n.number, w.member FROM longest CROSS JOIN LATERAL generate_series(1, size) AS n(number)
  LEFT JOIN sigmasight.array_members w ON (w.dimension, w.number) = ('{dimension}', n.number)
  WHERE NOT EXISTS (SELECT FROM sigmasight.array_members m{owner}
                    WHERE (m.dimension, m.number) = ('{dimension}', n.number))
)
SELECT min(t.session_date) AS first, max(t.session_date) AS last, count(*) AS rows,
       min(coalesce(n.member, 'number ' || n.number)) AS example
FROM {table} t JOIN unknown n ON EXISTS (SELECT FROM unnest({array}{slice}) AS u(value) WHERE u.value IS NOT NULL)
WHERE t.session_date BETWEEN %(first)s AND %(last)s{scope}
"""

_UNKNOWN_SYMBOLS = """
SELECT min(t.session_date) AS first, max(t.session_date) AS last, count(*) AS rows, min(u.symbol) AS example
FROM {table} t CROSS JOIN LATERAL unnest(t.{members}) AS u(symbol)
LEFT JOIN sigmasight.instruments i USING (symbol)
WHERE i.symbol IS NULL AND t.session_date BETWEEN %(first)s AND %(last)s
"""


def misplaced_rows(connection: Connection, scope: Scope, newest_session: date) -> list[Row]:
    """Rows that belong to nothing: (table_name, problem, first, last, rows, example), one per table and problem.

    `problem` is the column whose owner does not exist, `no_session` (the exchange is closed on its day) or `future`
    (after `newest_session`). Rows are those stored: of a packed table one may stand for many.
    """
    found: list[Row] = []
    for table in SESSION_TABLES:
        found += _misplaced(connection, scope, table, newest_session)
    for table in tables.long_tables.sorted_tables:
        found += _foreign_members(connection, scope, table)
    return found


def _foreign_members(connection: Connection, scope: Scope, long: Table) -> list[Row]:
    """What arrays of the stored form of `long` hold for members that are none: as in `misplaced_rows`."""
    packing = packing_of(long)
    if isinstance(packing, NumberedArrays):
        statements = [
            (column, _UNKNOWN_PLACES.format(**_axis(long, packing, place, dimension)))
            for place, (column, dimension) in enumerate(packing.over.items())
        ]
    elif isinstance(packing, PairTriangle):
        stored = stored_table(long)
        statements = [(packing.pair[0], _UNKNOWN_SYMBOLS.format(table=stored.fullname, members=packing.members))]
        if PORTFOLIO in stored.columns:
            statements = [(column, f"{statement} AND {IN_SCOPE.format('t.')}") for column, statement in statements]
    else:
        return []
    rows = [
        {"table_name": str(long.name), "problem": column, **fetch(connection, statement, scope)[0]}
        for column, statement in statements
    ]
    return [row for row in rows if row["rows"]]


def _axis(long: Table, packing: NumberedArrays, place: int, dimension: str) -> dict[str, str]:
    """The parts of `_UNKNOWN_PLACES` for one axis of the arrays of `long`, from 0."""
    stored = stored_table(long)
    slices = ["[:]"] * len(packing.over)
    slices[place] = "[n.number:n.number]"
    owner = _NUMBERED_OWNERS.get(dimension)
    joined = ""
    if owner is not None:
        joined = f" JOIN {owner.fullname} o ON o.{next(iter(owner.primary_key.columns)).name} = m.member"
    return {
        "table": stored.fullname,
        "array": f"t.{packing.present}",
        "axis": str(place + 1),
        "slice": "".join(slices),
        "dimension": dimension,
        "owner": joined,
        "scope": f" AND {IN_SCOPE.format('t.')}" if PORTFOLIO in stored.columns else "",
    }


def _misplaced(connection: Connection, scope: Scope, table: Table, newest_session: date) -> list[Row]:
    joins, problems = [], {"no_session": "c.session_date IS NULL OR c.is_closed", "future": "t.session_date > %(now)s"}
    examples = {"no_session": "t.session_date", "future": "t.session_date"}
    for number, (column, owner, condition, exempt) in enumerate(_references(table)):
        alias = f"r{number}"
        joins.append(f"LEFT JOIN {owner.fullname} {alias} ON {condition.format(alias)}")
        problems[column] = f"{alias}.{next(iter(owner.primary_key.columns)).name} IS NULL{exempt}"
        examples[column] = f"t.{column}"
    counts = ", ".join(
        f"count(*) FILTER (WHERE {condition}) AS {name}_rows, min(t.session_date) FILTER (WHERE {condition}) AS "
        f"{name}_first, max(t.session_date) FILTER (WHERE {condition}) AS {name}_last, "
        f"min({examples[name]}) FILTER (WHERE {condition}) AS {name}_example"
        for name, condition in problems.items()
    )
    statement = (
        f"SELECT {counts} FROM {table.fullname} t LEFT JOIN sigmasight.trading_sessions c USING (session_date) "
        f"{' '.join(joins)} WHERE t.session_date BETWEEN %(first)s AND %(last)s"
    )
    if PORTFOLIO in table.columns:
        statement += f" AND {IN_SCOPE.format('t.')}"
    row = fetch(connection, statement, scope, now=newest_session)[0]
    return [
        {
            "table_name": str(table.name),
            "problem": name,
            **{what: row[f"{name}_{what}"] for what in ("first", "last", "rows", "example")},
        }
        for name in problems
        if row[f"{name}_rows"]
    ]


def _references(table: Table) -> list[tuple[str, Table, str, str]]:
    """(column, owner, join condition, exemption) of the identifiers in a table's key."""
    keys = [column.name for column in table.primary_key.columns]
    found = []
    for column in keys:
        owner = _OWNERS.get(column.removesuffix("_1").removesuffix("_2"))
        # an option is quoted under the symbol it had that day, which splits of its underlying change
        if owner is None or table is tables.option_prices:
            continue
        key = next(iter(owner.primary_key.columns)).name
        condition = f"{{0}}.{key} = t.{column}"
        if column == "position_id" and PORTFOLIO in table.columns:
            condition += f" AND {{0}}.{PORTFOLIO} = t.{PORTFOLIO}"
        # portfolio 0 stands for what belongs to all of them
        exempt = f" AND t.{PORTFOLIO} <> 0" if column == PORTFOLIO and table is tables.calculation_audit else ""
        found.append((column, owner, condition, exempt))
    return found


def lost_keys(connection: Connection) -> list[Row]:
    """Keys and indexes of the registry that are not there or not valid.

    (table_name, kind: primary key, unique or index, name, columns, state: missing or invalid, statement that puts it
    right)
    """
    present: dict[str, list[Row]] = {}
    for row in fetch(connection, _INDEXES, Scope()):
        present.setdefault(row["table_name"], []).append(row)
    lost = []
    for table in tables.metadata.sorted_tables:
        for kind, name, columns, partial, statement in _declared(table):
            same = [
                row
                for row in present.get(str(table.name), [])
                if row["columns"] == columns
                and (partial or not row["is_partial"])
                and (row["is_unique"] or kind == "index")
                and (row["is_primary"] or kind != "primary key")
            ]
            if not any(row["is_valid"] for row in same):
                lost.append(
                    {
                        "table_name": str(table.name),
                        "kind": kind,
                        "name": same[0]["index_name"] if same else name,
                        "columns": columns,
                        "state": "invalid" if same else "missing",
                        "statement": f"REINDEX INDEX {same[0]['index_name']}" if same else statement,
                    }
                )
    return lost


def _declared(table: Table) -> list[tuple[str, str, list[str], bool, str]]:
    """(kind, name, columns, whether it may be partial, statement) of the keys and indexes of a table's definition."""
    keys = [("primary key", f"{table.name}_pkey", [str(column.name) for column in table.primary_key.columns])]
    keys += [
        ("unique", str(constraint.name), [str(column.name) for column in constraint.columns])
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    add = "ALTER TABLE {} ADD CONSTRAINT {} {} ({})"
    return [
        (kind, name, columns, False, add.format(table.fullname, name, kind.upper(), ", ".join(columns)))
        for kind, name, columns in keys
    ] + [
        (
            "index",
            str(index.name),
            [str(column.name) for column in index.columns],
            index.dialect_options["postgresql"]["where"] is not None,
            str(CreateIndex(index).compile(dialect=_DIALECT)),
        )
        for index in table.indexes
    ]


def duplicates(connection: Connection, table_name: str, columns: Sequence[str]) -> list[Row]:
    """Rows of a table beyond one per value of `columns`: (rows, first, last); no row where there is none."""
    table = tables.named(table_name)
    listed = ", ".join(columns)
    first, last = ("min(session_date)", "max(session_date)") if SESSION in columns else ("NULL::date", "NULL::date")
    statement = (
        f"WITH repeated AS (SELECT {listed}, count(*) AS times FROM {table.fullname} GROUP BY {listed} "
        f"HAVING count(*) > 1) SELECT {first} AS first, {last} AS last, (sum(times) - count(*))::bigint AS rows "
        "FROM repeated HAVING count(*) > 0"
    )
    return fetch(connection, statement, Scope())
