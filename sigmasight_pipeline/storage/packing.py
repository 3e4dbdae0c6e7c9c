"""Long rows to stored rows with arrays and back, as ``tables.packing`` declares it: frames only, no database.

What belongs here: both directions, exact to the last bit. What does not: numbering the members of a dimension
(``storage.members``), reading and writing (``storage.windows``, ``storage.partitions``).

An array column leaves here as text, PostgreSQL's own spelling of an array (``{1.5,NULL,...}``): COPY takes it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import polars as pl
from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB

from sigmasight_pipeline.storage.frames import polars_schema, polars_type
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline.storage.tables.packing import (
    MemberColumns,
    NumberedArrays,
    Packing,
    PairTriangle,
    figure_columns,
    packing_of,
)

Numbers = Mapping[str, Mapping[str, int]]
"""Dimension to the number of each of its members."""

_ROW, _PLACE = "_row", "_place"


class IncompleteTriangleError(ValueError):
    """The pairs of a row are not all there."""

    def __init__(self, table: Table) -> None:
        super().__init__(f"{table.name}: not every pair of members of a row is there, with the diagonal")


def stored_columns(long: Table, columns: Sequence[str]) -> list[str]:
    """The columns of the stored table that `columns` of the long one are made from."""
    packing = packing_of(long)
    match packing:
        case NumberedArrays():
            wanted = {*packing.by, packing.present, *columns} - set(packing.over)
        case PairTriangle():
            wanted = {*packing.by, packing.members, *columns} - set(packing.pair)
        case MemberColumns():
            wanted = {*packing.by, *packing.members, *columns} - {packing.over, packing.value}
        case None:
            wanted = set(columns)
    known = [column.name for column in long.columns if column.name not in PROVENANCE or column.name in columns]
    return [name for name in [*known, *_extra(packing)] if name in wanted]


def _extra(packing: Packing | None) -> tuple[str, ...]:
    match packing:
        case PairTriangle():
            return (packing.members,)
        case MemberColumns():
            return packing.members
    return ()


def dimensions(long: Table) -> Mapping[str, str]:
    """Key columns of `long` whose values need numbers before it is packed, with the dimension each belongs to."""
    packing = packing_of(long)
    return packing.over if isinstance(packing, NumberedArrays) else {}


def packed(long: Table, frame: pl.DataFrame, numbers: Numbers) -> pl.DataFrame:
    """The stored rows of the rows `frame` of `long`, every member of which has a number; arrays are text."""
    packing = packing_of(long)
    if packing is None:
        return frame
    return _packed(packing, long, frame, numbers)


def unpacked(long: Table, stored: pl.DataFrame, numbers: Numbers, columns: Sequence[str]) -> pl.DataFrame:
    """The rows of `long`, `columns` of it, that the rows `stored` stand for; in no order.

    An array is the list of its cells, of a matrix row by row.
    """
    packing = packing_of(long)
    if packing is None:
        return stored.select(columns)
    return _unpacked(packing, long, stored, numbers, columns)


@singledispatch
def _packed(packing: Any, long: Table, frame: pl.DataFrame, numbers: Numbers) -> pl.DataFrame:
    raise TypeError(f"{long.name}: {packing!r} is no way of storing")


@singledispatch
def _unpacked(
    packing: Any, long: Table, stored: pl.DataFrame, numbers: Numbers, columns: Sequence[str]
) -> pl.DataFrame:
    raise TypeError(f"{long.name}: {packing!r} is no way of storing")


@_packed.register
def _(packing: NumberedArrays, long: Table, frame: pl.DataFrame, numbers: Numbers) -> pl.DataFrame:
    sizes = [max(numbers.get(dimension, {}).values(), default=0) for dimension in packing.over.values()]
    cells = int(np.prod(sizes))
    keyed = frame.sort(*packing.by).with_columns(pl.struct(packing.by).rle_id().alias(_ROW))
    row = keyed.get_column(_ROW).to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    place = np.zeros(len(row), dtype=np.int64)
    for (column, dimension), size in zip(packing.over.items(), sizes, strict=True):
        place = place * size + _numbered(keyed.get_column(column), numbers[dimension]) - 1 if len(row) else place
    at = np.full(len(starts) * cells, -1, dtype=np.int64)
    at[row * cells + place] = np.arange(len(row))
    source = pl.Series(at).replace(-1, None)
    shape = (len(starts), *(sizes if len(sizes) > 1 else [cells]))
    arrays = [
        _literal(column, keyed.get_column(column.name).gather(source), shape)
        for column in figure_columns(long, packing)
    ]
    scalars = keyed[starts].select(*packing.by, *packing.shared)
    return scalars.with_columns(arrays).with_columns(keyed[starts].select(PROVENANCE).get_columns())


@_packed.register
def _(packing: PairTriangle, long: Table, frame: pl.DataFrame, numbers: Numbers) -> pl.DataFrame:
    first, second = packing.pair
    _require_every_pair(packing, long, frame)
    lower = frame.filter(pl.col(first) >= pl.col(second)).sort(*packing.by, first, second)
    figures = figure_columns(long, packing)
    made = lower.group_by(packing.by, maintain_order=True).agg(
        pl.col(first).unique(maintain_order=True).alias(packing.members),
        *(_texts(column).alias(column.name) for column in figures),
        *(pl.col(name).first() for name in (*packing.shared, *PROVENANCE)),
    )
    quoted = pl.col(packing.members).list.eval(_quoted(pl.element()))
    return made.select(
        *packing.by,
        *packing.shared,
        _braced(quoted.list.join(",")).alias(packing.members),
        *(_braced(pl.col(column.name).list.join(",")).alias(column.name) for column in figures),
        *PROVENANCE,
    )


def _require_every_pair(packing: PairTriangle, long: Table, frame: pl.DataFrame) -> None:
    """Rows, unique by key, are all pairs of their members where these are as many as both sides and the diagonal."""
    first, second = (pl.col(name) for name in packing.pair)
    sizes = frame.group_by(packing.by).agg(
        pairs=pl.len(), first=first.n_unique(), second=second.n_unique(), same=(first == second).sum()
    )
    same = pl.col("same")
    whole = (pl.col("pairs") == same.cast(pl.Int64) ** 2) & (pl.col("first") == same) & (pl.col("second") == same)
    if not sizes.select(whole.all()).item():
        raise IncompleteTriangleError(long)


@_packed.register
def _(packing: MemberColumns, long: Table, frame: pl.DataFrame, numbers: Numbers) -> pl.DataFrame:
    keys = [*packing.by, *packing.shared]
    wide = (
        frame.sort(keys)
        .with_columns(pl.struct(keys).rle_id().alias(_ROW))
        .pivot(packing.over, on_columns=list(packing.members), index=_ROW, values=packing.value)
    )
    owners = frame.sort(keys).group_by(keys, maintain_order=True).agg(pl.col(PROVENANCE).first())
    return owners.with_columns(wide.select(packing.members).get_columns()).select(*keys, *packing.members, *PROVENANCE)


@_unpacked.register
def _(
    packing: NumberedArrays, long: Table, stored: pl.DataFrame, numbers: Numbers, columns: Sequence[str]
) -> pl.DataFrame:
    arrays = [column for column in figure_columns(long, packing) if column.name in {packing.present, *columns}]
    lists = stored.with_columns(_as_list(column) for column in arrays)
    names = [column.name for column in arrays]
    size = pl.col(packing.present).list.len()
    rows = (
        lists.with_columns(_size=size, **{_PLACE: pl.int_ranges(0, size)})
        .explode(*names, _PLACE)
        .filter(pl.col(packing.present).is_not_null())
    )
    for name, dimension in reversed(list(packing.over.items())):
        own = numbers.get(dimension, {})
        width = 1.0 if len(packing.over) == 1 else 0.5
        side = pl.col("_size").cast(pl.Float64).pow(width).round().cast(pl.Int64)
        rows = rows.with_columns(
            (pl.col(_PLACE) % side + 1)
            .replace_strict(list(own.values()), list(own), default=None, return_dtype=pl.String)
            .alias(name),
            (pl.col(_PLACE) // side).alias(_PLACE),
        )
    return _typed(long, rows, columns)


@_unpacked.register
def _(
    packing: PairTriangle, long: Table, stored: pl.DataFrame, numbers: Numbers, columns: Sequence[str]
) -> pl.DataFrame:
    first, second = packing.pair
    arrays = [column for column in figure_columns(long, packing) if column.name in columns]
    numbered = stored.with_row_index(_ROW).with_columns(_as_list(column) for column in arrays)
    members = numbered.select(_ROW, packing.members, _i=pl.int_ranges(0, pl.col(packing.members).list.len())).explode(
        packing.members, "_i"
    )
    count = pl.col(packing.members).list.len()
    places = pl.int_ranges(0, count * (count + 1) // 2)
    pairs = (
        numbered.with_columns(places.alias(_PLACE))
        .drop(packing.members)
        .explode(*(column.name for column in arrays), _PLACE)
    )
    # exact below 2^50, far above what an array holds
    larger = (((pl.col(_PLACE) * 8 + 1).cast(pl.Float64).sqrt() - 1) / 2).floor().cast(pl.Int64)
    pairs = pairs.with_columns(_larger=larger).with_columns(
        _smaller=pl.col(_PLACE) - pl.col("_larger") * (pl.col("_larger") + 1) // 2
    )
    named = [
        pairs.join(members.rename({packing.members: a, "_i": "_larger"}), on=[_ROW, "_larger"]).join(
            members.rename({packing.members: b, "_i": "_smaller"}), on=[_ROW, "_smaller"]
        )
        for a, b in ((first, second), (second, first))
    ]
    both = pl.concat([named[0], named[1].filter(pl.col("_larger") != pl.col("_smaller")).select(named[0].columns)])
    return _typed(long, both, columns)


@_unpacked.register
def _(
    packing: MemberColumns, long: Table, stored: pl.DataFrame, numbers: Numbers, columns: Sequence[str]
) -> pl.DataFrame:
    rows = stored.unpivot(
        packing.members,
        index=[name for name in stored.columns if name not in packing.members],
        variable_name=packing.over,
        value_name=packing.value,
    )
    return _typed(long, rows.filter(pl.col(packing.value).is_not_null()), columns)


def _numbered(members: pl.Series, numbers: Mapping[str, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return members.replace_strict(list(numbers), list(numbers.values()), return_dtype=pl.Int64).to_numpy()


def _literal(column: Column[Any], values: pl.Series, shape: tuple[int, ...]) -> pl.Series:
    """Values in the order of their cells as one array literal per row of `shape`."""
    if not len(values):
        return pl.Series(column.name, [], dtype=pl.String)
    made = pl.select(_spelt(column, pl.lit(values))).to_series()
    opening, closing = ("[", "]") if isinstance(column.type, JSONB) else ("{", "}")
    for width in reversed(shape[1:]):
        made = opening + made.reshape((len(made) // width, width)).arr.join(",") + closing
    return made.alias(column.name)


def _spelt(column: Column[Any], values: pl.Expr) -> pl.Expr:
    """Values as elements of an array literal."""
    if isinstance(column.type, JSONB):
        return values.fill_null("null")
    text = values.cast(pl.String)
    if polars_type(column) == pl.String() and "isin" not in column.info:
        text = _quoted(text)
    return text.fill_null("NULL")


def _quoted(text: pl.Expr) -> pl.Expr:
    return '"' + text.str.replace_all(r'([\\"])', r"\$1") + '"'


def _texts(column: Column[Any]) -> pl.Expr:
    return _spelt(column, pl.col(column.name))


def _braced(text: pl.Expr) -> pl.Expr:
    return "{" + text + "}"


def _as_list(column: Column[Any]) -> pl.Expr:
    """A document, an array of its own kind, as a list of documents like the other columns."""
    if isinstance(column.type, JSONB):
        return pl.col(column.name).map_elements(_documents, return_dtype=pl.List(pl.String))
    return pl.col(column.name)


def _documents(text: str) -> list[str | None]:
    return [None if one is None else json.dumps(one) for one in json.loads(text)]


def _typed(long: Table, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    schema = polars_schema(long)
    return rows.select(pl.col(name).cast(schema[name]) for name in columns)
