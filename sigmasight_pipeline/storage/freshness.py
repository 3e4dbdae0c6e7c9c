"""How far stored results reach: the newest session of every table, in one statement.

What belongs here: reading it. What does not: which session should be there (``operations.freshness``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database


@dataclass(frozen=True)
class Stored:
    """Newest session by table, newest session with prices, earliest inception, unscheduled closures; the newest closing
    session, where no portfolio is open."""

    newest: dict[str, date | None]
    priced: date | None
    inception: date | None
    closed: frozenset[date]
    closing: date | None = None


def stored(database: Database, names: Sequence[str]) -> Stored:
    """How far the tables `names` reach; NULLs where there is nothing."""
    known = {str(table.name): table for table in tables.metadata.sorted_tables}
    newest = ", ".join(f"(SELECT max(session_date) FROM {known[name].fullname}) AS {name}" for name in names)
    row = database.query(
        f"SELECT {newest}, (SELECT max(session_date) FROM sigmasight.daily_prices) AS newest_priced, "
        "(SELECT min(inception_date) FROM sigmasight.portfolios) AS earliest_inception, "
        "(SELECT max(closing_date) FROM sigmasight.portfolios HAVING bool_and(NOT active)) AS newest_closing"
    ).row(0, named=True)
    closed = database.query("SELECT session_date FROM sigmasight.trading_sessions WHERE is_closed")
    return Stored(
        newest={name: row[name] for name in names},
        priced=row["newest_priced"],
        inception=row["earliest_inception"],
        closed=frozenset(closed["session_date"]),
        closing=row["newest_closing"],
    )
