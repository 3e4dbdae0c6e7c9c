"""Scenarios with what is applied of them and what there is to say against them.

What belongs here: putting together what is stored of a scenario for whoever shows it. What does not: judging it
(``checks.stress_scenarios``) and results of portfolios.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date

import polars as pl

from sigmasight_pipeline.checks import stress_scenarios as rules
from sigmasight_pipeline.storage import scenarios as stored
from sigmasight_pipeline.storage.database import Database

Document = dict[str, object]


def described(database: Database) -> tuple[date | None, list[Document]]:
    """The newest session with scenarios (None before any), and every scenario as one document.

    It has what the scenario says (stated: its shocks as in the file), its diagnostics, its shocks as applied at that
    session, and the findings against it.
    """
    session = stored.newest_session(database)
    diagnostics, shocks = stored.told(database, [] if session is None else [session])
    findings = rules.all_of_them(diagnostics, shocks)
    told = {row["scenario_id"]: row for row in diagnostics.drop("session_date", "kind").to_dicts()}
    documents: list[Document] = []
    for scenario in stored.stated(database).to_dicts():
        own = pl.col("scenario_id") == scenario["scenario_id"]
        documents.append(
            {
                **{name: value for name, value in scenario.items() if name not in ("shocks", "volatility_shift")},
                "stated": json.loads(scenario["shocks"]),
                "stated_volatility_shift": scenario["volatility_shift"],
                **told.get(scenario["scenario_id"], {"status": None}),
                "shocks": shocks.filter(own).drop("session_date", "scenario_id").to_dicts(),
                "findings": findings.filter(own)["told"].to_list(),
            }
        )
    return session, documents


def marks(database: Database, sessions: Collection[date]) -> dict[tuple[date, str], str]:
    """By session and scenario: the mark without which its figures must not be shown, accepted or not."""
    missed = rules.not_honoured(*stored.told(database, sessions))
    return dict.fromkeys(missed.select("session_date", "scenario_id").iter_rows(), rules.NOT_HONOURED)
