"""How a long table is stored at its own grain: what is computed as a matrix is one row with arrays.

What belongs here: the declarations that say so, and the stored table each of them stands for. What does not: turning
frames into such rows and back (``storage.packing``), and the views that unpack them (``dbt_like_sql/models/staging``).

A long table keeps its definition: engines return it, rules judge it, readers see it under the schema ``staging``. The
table of the same name in the schema ``sigmasight`` is made from it here, and nobody but the storage layer reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ARRAY, Column, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from .columns import PROVENANCE, metadata


@dataclass(frozen=True)
class NumberedArrays:
    """One row per `by`; every other column an array in which a member of `over` has the place of its number.

    `over`: key columns to the dimension of ``array_members`` that numbers their values; of two, the array is a matrix.
    `shared` columns are the same in all rows of a `by`. `present` is a column that is never NULL in a row: where it is,
    there is none. `elsewhere`: columns that are not stored, because the view takes them from another table.
    """

    by: tuple[str, ...]
    over: Mapping[str, str]
    present: str
    shared: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairTriangle:
    """One row per `by`: its members in order, and of every symmetric column the lower triangle with the diagonal.

    The pair of members i >= j (from 1) stands at place i (i - 1) / 2 + j.
    """

    by: tuple[str, ...]
    pair: tuple[str, str]
    members: str = "symbols"
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemberColumns:
    """One row per `by`, one column per member of the key column `over` with its figure `value`, NULL without a row."""

    by: tuple[str, ...]
    over: str
    value: str
    members: tuple[str, ...]
    shared: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)


Packing = NumberedArrays | PairTriangle | MemberColumns

_PACKING, _STORED, _DERIVED = "packing", "stored", "derived"


def stored_as(long: Table, packing: Packing, *, indexes: Sequence[tuple[str, ...]] = ()) -> Table:
    """Declare that `long` is stored packed; returns the stored table. `indexes`: columns of its further indexes."""
    columns: list[Column[Any]] = [_copied(long.columns[name], primary_key=True) for name in packing.by]
    columns += [_copied(long.columns[name]) for name in packing.shared]
    columns += _packed_columns(long, packing)
    columns += [_copied(long.columns[name]) for name in PROVENANCE]
    stored = Table(
        long.name,
        metadata,
        *columns,
        *(
            Index(f"{long.name}_{'_'.join(part.removesuffix('_id').removesuffix('_date') for part in names)}", *names)
            for names in indexes
        ),
        comment=f"Stored form of staging.{long.name}, one row per {', '.join(packing.by)}: read that instead.",
    )
    long.info |= {_PACKING: packing, _STORED: stored}
    return stored


def derived(long: Table) -> None:
    """Declare that no row of `long` is stored: its view makes them of other tables."""
    long.info[_DERIVED] = True


def is_derived(table: Table) -> bool:
    """Whether rows of `table` are nowhere stored."""
    return bool(table.info.get(_DERIVED))


def packing_of(table: Table) -> Packing | None:
    """How `table` is stored, or None for one that is stored as it is."""
    packing: Packing | None = table.info.get(_PACKING)
    return packing


def stored_table(table: Table) -> Table:
    """The table of the database that holds the rows of `table`: itself, or its packed form."""
    stored: Table = table.info.get(_STORED, table)
    return stored


def _packed_columns(long: Table, packing: Packing) -> list[Column[Any]]:
    if isinstance(packing, MemberColumns):
        kind = long.columns[packing.value].type
        return [
            Column(member, kind, nullable=True, comment=packing.about.get(member, f"{packing.value} of {member}"))
            for member in packing.members
        ]
    figures = figure_columns(long, packing)
    if isinstance(packing, PairTriangle):
        members: Column[Any] = Column(
            packing.members, ARRAY(Text()), nullable=False, comment="Members in order; pairs stand in a triangle"
        )
        return [members, *(_array(column, 1, "lower triangle with the diagonal") for column in figures)]
    return [_array(column, len(packing.over), f"by number of the {' and '.join(packing.over)}") for column in figures]


def figure_columns(long: Table, packing: NumberedArrays | PairTriangle) -> list[Column[Any]]:
    """The columns of `long` that become arrays."""
    keys = packing.pair if isinstance(packing, PairTriangle) else tuple(packing.over)
    elsewhere = packing.elsewhere if isinstance(packing, NumberedArrays) else ()
    left_out = {*packing.by, *packing.shared, *keys, *elsewhere, *PROVENANCE}
    return [column for column in long.columns if column.name not in left_out]


def _array(column: Column[Any], dimensions: int, where: str) -> Column[Any]:
    # a document is an array of its own kind
    kind = column.type if isinstance(column.type, JSONB) else ARRAY(column.type, dimensions=dimensions)
    return Column(column.name, kind, nullable=False, comment=f"{column.comment}; {where}", info={"array": True})


def _copied(column: Column[Any], *, primary_key: bool = False) -> Column[Any]:
    return Column(
        column.name,
        column.type,
        primary_key=primary_key,
        nullable=column.nullable,
        comment=column.comment,
        info=dict(column.info),
        autoincrement=False,
    )


array_members = Table(
    "array_members",
    metadata,
    Column("dimension", Text(), primary_key=True, comment="What is numbered: factor, scenario or shock"),
    Column("number", Integer(), primary_key=True, autoincrement=False, comment="Place in arrays, from 1; never reused"),
    Column("member", Text(), nullable=False, comment="Key of the factor, scenario or shock"),
    Index("array_members_dimension_member", "dimension", "member", unique=True),
    comment="Which place in stored arrays belongs to which factor, scenario or shock.",
)
