"""Verdicts of data-quality checks that stand: of each session, asset and check the newest one.

What belongs here: reading them. What does not: judging (``checks``) and showing (``cli``).
"""

from __future__ import annotations

import polars as pl

from sigmasight_pipeline.storage.database import Database

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
