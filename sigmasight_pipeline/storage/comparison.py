"""Old rows of a table against new ones: which were added, revised, removed, and which figures differ.

What belongs here: the comparison of two frames of one table by its primary key, to the last bit. What does not: where
the frames come from, and what is done about a difference (``storage.changes``, ``storage.recomputations``).
"""

from __future__ import annotations

import json
from collections.abc import Collection

import polars as pl
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import JSONB

from sigmasight_pipeline.storage.tables import PROVENANCE

ADDED, REVISED, REMOVED, UNCHANGED = "added", "revised", "removed", "unchanged"

BEFORE = "_before"
"""Suffix of the columns with the old figures."""


def figures(table: Table, *, without: Collection[str] = ()) -> list[str]:
    """Columns of `table` that are compared: all but key, provenance, and `without`."""
    return [c.name for c in table.columns if not c.primary_key and c.name not in {*PROVENANCE, *without}]


def compare(table: Table, before: pl.DataFrame, after: pl.DataFrame, *, without: Collection[str] = ()) -> pl.DataFrame:
    """One row per key of either frame: the key, `kind`, and every figure twice, the old one with the suffix BEFORE.

    Documents are the same where they say the same, however they are spelt.
    """
    key = list(table.primary_key.columns.keys())
    compared = figures(table, without=without)
    documents = [name for name in compared if isinstance(table.columns[name].type, JSONB)]
    sides = [
        frame.select(*key, *compared)
        .with_columns(pl.col(name).map_elements(_canonical, return_dtype=pl.String) for name in documents)
        .with_columns(there=pl.lit(value=True))
        for frame in (after, before)
    ]
    joined = sides[0].join(sides[1], on=key, how="full", suffix=BEFORE, coalesce=True)
    same = [pl.col(name).eq_missing(pl.col(f"{name}{BEFORE}")) for name in compared]
    return joined.with_columns(
        kind=pl.when(pl.col(f"there{BEFORE}").is_null())
        .then(pl.lit(ADDED))
        .when(pl.col("there").is_null())
        .then(pl.lit(REMOVED))
        .when(pl.all_horizontal(pl.lit(value=True), *same))
        .then(pl.lit(UNCHANGED))
        .otherwise(pl.lit(REVISED))
    ).drop("there", f"there{BEFORE}")


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
