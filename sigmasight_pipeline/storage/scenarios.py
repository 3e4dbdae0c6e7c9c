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


def windows(database: Database) -> pl.DataFrame:
    """(window_from, window_to) of every replay of any session, as it was done or could not be."""
    return database.query(
        "SELECT DISTINCT window_from, window_to FROM sigmasight.stress_scenario_diagnostics "
        "WHERE window_from IS NOT NULL AND window_to IS NOT NULL ORDER BY 1, 2"
    )


def searched_symbols(database: Database) -> list[str]:
    """The market's proxy, where an active scenario looks for the worst stretch of its whole history."""
    found = database.query(
        "SELECT DISTINCT d.proxy_symbol FROM sigmasight.factor_definitions d WHERE d.active AND d.factor = 'Market' "
        "AND EXISTS (SELECT FROM sigmasight.stress_test_scenarios s WHERE s.active AND s.kind = 'worst')"
    )
    return found["proxy_symbol"].drop_nulls().to_list()
