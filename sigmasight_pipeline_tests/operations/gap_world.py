"""Gaps for tests: looking for them, and rows that are gone for a while.

What belongs here: what several modules of tests about gaps do. What does not: assertions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import gaps
from sigmasight_pipeline.operations.gaps import Gap
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
    kept = {name: f"kept_{name}_{uuid4().hex[:8]}" for name in names}
    for name, copy in kept.items():
        with opened.database.connect() as connection:
            connection.execute(
                f"CREATE TABLE {copy} AS SELECT * FROM sigmasight.{name} WHERE {where}".encode(), list(params)
            )
            connection.execute(f"DELETE FROM sigmasight.{name} WHERE {where}".encode(), list(params))
    try:
        yield
    finally:
        with opened.database.connect() as connection:
            for name, copy in kept.items():
                connection.execute(
                    f"INSERT INTO sigmasight.{name} SELECT * FROM {copy} ON CONFLICT DO NOTHING".encode()
                )
                connection.execute(f"DROP TABLE {copy}".encode())
            connection.execute("DELETE FROM sigmasight.input_changes")
