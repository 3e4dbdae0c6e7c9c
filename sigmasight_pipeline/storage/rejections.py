"""Prices that were refused or wait in quarantine: listing them, and a person's word that one is right.

What belongs here: reading and marking rows of ``rejected_prices``. What does not: deciding what is quarantined
(``market_data.screening``) and storing an accepted price (the asset ``daily_prices`` does, when its session is run).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import polars as pl

from sigmasight_pipeline.storage.database import Database


class UnknownRejectionError(ValueError):
    """Rows were named that are not in quarantine."""

    def __init__(self, missing: Collection[int]) -> None:
        named = ", ".join(str(number) for number in sorted(missing))
        super().__init__(f"no quarantined price with number {named}; `sigmasight prices rejected` lists them")


def rejected(database: Database, *, waiting_only: bool) -> pl.DataFrame:
    """Refused rows, newest session first: rejection_id, session_date, symbol, reason, status, received, source."""
    condition = "status IN ('quarantined', 'accepted')" if waiting_only else "TRUE"
    return database.query(
        "SELECT rejection_id, session_date, symbol, reason, status, received::text AS received, source "
        f"FROM sigmasight.rejected_prices WHERE {condition} ORDER BY session_date DESC, symbol, rejection_id"
    )


def accept(database: Database, numbers: Collection[int]) -> date:
    """Mark quarantined rows as accepted by a person; returns the earliest session, which must be run again.

    UnknownRejectionError where one of `numbers` is not in quarantine; then none is marked.
    """
    with database.connect() as connection:
        found = connection.execute(
            "UPDATE sigmasight.rejected_prices SET status = 'accepted' "
            "WHERE rejection_id = ANY(%s) AND status IN ('quarantined', 'accepted') AND session_date IS NOT NULL "
            "RETURNING rejection_id, session_date",
            (list(numbers),),
        ).fetchall()
        missing = set(numbers) - {row[0] for row in found}
        if missing or not found:
            raise UnknownRejectionError(missing)
    sessions: list[date] = [row[1] for row in found]
    return min(sessions)
