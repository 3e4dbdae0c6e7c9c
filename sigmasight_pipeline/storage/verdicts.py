"""Verdicts of data-quality checks that stand: of each session, asset and check the newest one.

What belongs here: reading them, and keeping those of checks that no run over sessions makes. What does not: judging
(``checks``) and showing (``cli``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import append_rows

STANDING = """
SELECT DISTINCT ON (session_date, asset, check_name) session_date, asset, check_name, severity, passed,
       description, metadata
FROM sigmasight.data_quality_results ORDER BY session_date, asset, check_name, checked_at DESC
"""
"""The verdicts that stand: a later run's replaces an earlier one's."""

_FAILED = f"""
WITH verdicts AS ({STANDING})
SELECT asset, check_name, severity, session_date, description,
       coalesce(metadata -> 'portfolio_ids', '[]'::jsonb)::text AS portfolio_ids,
       count(*) OVER (PARTITION BY asset, check_name) AS sessions
FROM verdicts WHERE NOT passed
ORDER BY severity, sessions DESC, session_date DESC
"""

_BY_CHECK = f"""
WITH verdicts AS ({STANDING}), portfolios AS (
  SELECT v.asset, v.check_name, string_agg(DISTINCT p.code, ', ' ORDER BY p.code) AS codes
  FROM verdicts v
  CROSS JOIN LATERAL jsonb_array_elements_text(v.metadata -> 'portfolio_ids') AS of(portfolio_id)
  JOIN sigmasight.portfolios p ON p.portfolio_id = of.portfolio_id::bigint
  WHERE NOT v.passed GROUP BY 1, 2
), checks AS (
  SELECT asset, check_name, (array_agg(severity ORDER BY session_date DESC))[1] AS severity,
         count(*) FILTER (WHERE NOT passed) AS sessions_failing, count(*) AS sessions_checked,
         min(session_date) FILTER (WHERE NOT passed) AS first_failing,
         max(session_date) FILTER (WHERE NOT passed) AS last_failing,
         (array_agg(description ORDER BY session_date DESC) FILTER (WHERE NOT passed))[1] AS newest_finding,
         max(portfolios.codes) AS portfolios
  FROM verdicts LEFT JOIN portfolios USING (asset, check_name)
  WHERE cardinality(%s::text[]) = 0 OR asset = ANY(%s)
  GROUP BY asset, check_name
)
SELECT * FROM checks ORDER BY sessions_failing = 0, severity, sessions_failing DESC, asset, check_name
"""


def failed(database: Database) -> pl.DataFrame:
    """Failed verdicts, worst first: ERROR before WARN, then those of most sessions, then the newest session."""
    return database.query(_FAILED)


def by_check(database: Database, assets: tuple[str, ...] = ()) -> pl.DataFrame:
    """One row per asset and check (of `assets`, default all): sessions it judged and failed, and what it found last.

    Failing ones first (ERROR before WARN, most sessions first); `portfolios`: codes of those concerned, NULL for all.
    """
    return database.query(_BY_CHECK, (list(assets), list(assets)))


@dataclass(frozen=True)
class ClockVerdict:
    """What a check found that is made now and then instead of by a run over sessions."""

    asset: str
    check_name: str
    severity: str
    passed: bool
    description: str
    figures: Mapping[str, str | int] | None = None


def current_session(database: Database, today: date) -> date:
    """The stored session `today` belongs to: itself or the newest one before it; the first one before any; without a
    calendar `today`."""
    row = database.query(
        "SELECT coalesce(max(session_date) FILTER (WHERE session_date <= %s), min(session_date)) AS current "
        "FROM sigmasight.trading_sessions",
        (today,),
    )["current"][0]
    return row if isinstance(row, date) else today


def keep_by_the_clock(database: Database, found: Sequence[ClockVerdict], run_id: str) -> None:
    """Store verdicts made now as rows of the current session; a later one of the same `run_id` replaces them.

    `run_id`: the run that made them, or what else did (a sensor).
    """
    if not found:
        return
    now = datetime.now(UTC)
    frame = pl.DataFrame(
        {
            "session_date": [current_session(database, now.date())] * len(found),
            "asset": [one.asset for one in found],
            "check_name": [one.check_name for one in found],
            "run_id": [run_id] * len(found),
            "severity": [one.severity for one in found],
            "passed": [one.passed for one in found],
            "description": [one.description for one in found],
            "metadata": [None if one.figures is None else json.dumps(dict(one.figures)) for one in found],
            "checked_at": [now] * len(found),
        },
        schema=polars_schema(tables.data_quality_results),
    )
    keep(database, frame)


def keep(database: Database, rows: pl.DataFrame) -> None:
    """Store rows of ``data_quality_results``; those with the same key replace earlier ones."""
    with database.connect() as connection:
        append_rows(connection, tables.data_quality_results, rows, replace=True)
