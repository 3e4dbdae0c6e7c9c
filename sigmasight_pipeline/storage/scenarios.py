"""Scenarios as they are stored, with what sessions made of them.

What belongs here: reading scenarios, their diagnostics and their shocks together. What does not: judging them
(``checks.stress_scenarios``) and showing them (``cli.scenarios``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import NamedTuple

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database


class ToldScenarios(NamedTuple):
    """Rows of ``stress_scenario_diagnostics`` and ``stress_scenario_shocks`` without provenance, by their keys."""

    diagnostics: pl.DataFrame
    shocks: pl.DataFrame


def newest_session(database: Database) -> date | None:
    """The newest session with scenarios; None before any was computed."""
    newest = database.query("SELECT max(session_date) AS newest FROM sigmasight.stress_scenario_diagnostics").item()
    return newest if isinstance(newest, date) else None


def told(database: Database, sessions: Collection[date]) -> ToldScenarios:
    """What is told of the scenarios of some sessions."""

    def rows(table: Table) -> pl.DataFrame:
        names = [column.name for column in table.columns if column.name not in tables.PROVENANCE]
        found = database.read(table, columns=names, where="session_date = ANY(%s)", params=[list(sessions)])
        return found.sort(table.primary_key.columns.keys())

    return ToldScenarios(rows(tables.stress_scenario_diagnostics), rows(tables.stress_scenario_shocks))


def stated(database: Database) -> pl.DataFrame:
    """All rows of ``stress_test_scenarios`` in order of their id."""
    return database.read(tables.stress_test_scenarios, order_by="scenario_id")
