"""Gaps for tests: looking for them, and rows that are gone for a while.

What belongs here: what several modules of tests about gaps do. What does not: assertions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import gaps
from sigmasight_pipeline.operations.gaps import Gap
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.partitions import append_rows
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR


def found(opened: Installation, **changed: Any) -> list[Gap]:
    """The gaps there are, by the settings as `changed`."""
    source = open_source(opened.settings, CALENDAR)
    return gaps.find(opened.database, opened.settings.model_copy(update=changed), source)


@contextmanager
def lost(opened: Installation, names: Sequence[str], where: str, *params: object) -> Iterator[None]:
    """Rows of these tables are gone inside the block, and there again after it unless they were written meanwhile.

    That inputs were gone is forgotten with it: it is no change anything has to follow.
    """
    chosen: list[tuple[Table, pl.DataFrame]] = []
    for name in names:
        table = tables.metadata.tables[f"sigmasight.{name}"]
        chosen.append((table, opened.database.read(table, where=where, params=params)))
        with opened.database.connect() as connection:
            connection.execute(f"DELETE FROM {table.fullname} WHERE {where}".encode(), list(params))
    try:
        yield
    finally:
        with opened.database.connect() as connection:
            for table, rows in chosen:
                append_rows(connection, table, rows, replace=True)
            connection.execute("DELETE FROM sigmasight.input_changes")
