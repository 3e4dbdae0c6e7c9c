"""What is stored, counted for the audit: coverage, history, scenarios, correlations, prices, instruments, runs.

What belongs here: set-based SQL that counts what there is, all of it on one connection, so that an audit beside a
running pipeline sees one moment. What does not: finding what is wrong (``storage.audit_faults``), and what a figure
means to a reader (``operations.audit``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
from psycopg.rows import dict_row

from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.verdicts import STANDING

Connection = psycopg.Connection[tuple[Any, ...]]
Row = dict[str, Any]

RECENT_RUNS = 100
"""Runs the success rate is taken over."""

COMMON_ERRORS = 5
"""Errors of runs that are listed, the most frequent first."""

SHORT_SHARE = 0.8
"""A symbol with fewer returns than this share of the regression window is listed."""


@contextmanager
def one_moment(database: Database) -> Iterator[Connection]:
    """A connection whose every statement sees the same moment and which can write nothing."""
    with database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


@dataclass(frozen=True)
class Scope:
    """What an audit looks at: portfolios (None: all) and sessions, both ends included."""

    portfolio_ids: tuple[int, ...] | None = None
    first: date = date.min
    last: date = date.max

    @property
    def params(self) -> Row:
        """The parameters every statement of an audit may name."""
        ids = None if self.portfolio_ids is None else list(self.portfolio_ids)
        return {"portfolios": ids, "first": self.first, "last": self.last}


IN_SCOPE = "(%(portfolios)s::bigint[] IS NULL OR {0}portfolio_id = ANY(%(portfolios)s::bigint[]))"
IN_RANGE = "{0}session_date BETWEEN %(first)s AND %(last)s"


def both(prefix: str = "") -> str:
    """The condition that a row (of the table alias `prefix`) is in scope."""
    return f"{IN_RANGE.format(prefix)} AND {IN_SCOPE.format(prefix)}"


def fetch(connection: Connection, statement: str, scope: Scope, **more: object) -> list[Row]:
    """Rows of `statement`, whose parameters are those of `scope` and `more`, as dictionaries."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), {**scope.params, **more}).fetchall()


def portfolio_ids(connection: Connection) -> dict[str, int]:
    """Identifier of every portfolio by its code."""
    return dict(connection.execute("SELECT code, portfolio_id FROM sigmasight.portfolios ORDER BY code").fetchall())


def newest_priced(connection: Connection, scope: Scope) -> date | None:
    """The newest session with prices, not after the end of the scope."""
    row = connection.execute(
        "SELECT max(session_date) FROM sigmasight.daily_prices WHERE session_date <= %s", (scope.last,)
    ).fetchone()
    return None if row is None else row[0]


def closing(connection: Connection, scope: Scope) -> date | None:
    """The newest closing session of the portfolios asked for; None where one is open, or there is none."""
    row = connection.execute(
        f"SELECT max(closing_date) FROM sigmasight.portfolios WHERE {IN_SCOPE.format('')} HAVING bool_and(NOT active)",
        scope.params,
    ).fetchone()
    return row[0] if row else None


def newest_snapshot(connection: Connection, scope: Scope) -> date | None:
    """The newest session of any portfolio's snapshots, not after the end of the scope."""
    row = connection.execute(
        "SELECT max(session_date) FROM sigmasight.portfolio_snapshots WHERE session_date <= %s", (scope.last,)
    ).fetchone()
    return None if row is None else row[0]


# the last row of each portfolio in scope, over which the figures of "the newest session" are taken
_NEWEST = f"""
newest AS (
  SELECT p.portfolio_id, p.code, s.session_date
  FROM sigmasight.portfolios p
  CROSS JOIN LATERAL (SELECT session_date FROM sigmasight.portfolio_snapshots s
                      WHERE s.portfolio_id = p.portfolio_id AND {IN_RANGE.format("s.")}
                      ORDER BY session_date DESC LIMIT 1) s
  WHERE {IN_SCOPE.format("p.")}
)
"""

_COVERAGE = f"""
WITH {_NEWEST}, held AS (
  SELECT n.portfolio_id, n.session_date, v.position_id, i.investment_class = 'PRIVATE' AS private
  FROM newest n
  JOIN sigmasight.position_values v USING (session_date, portfolio_id)
  LEFT JOIN sigmasight.positions i USING (position_id)
  WHERE v.quantity <> 0
)
SELECT n.code AS portfolio, n.session_date AS session, h.*, f.factors, f.factors_ok
FROM newest n
LEFT JOIN LATERAL (
  SELECT count(*) AS positions, count(*) FILTER (WHERE h.private) AS private,
         count(*) FILTER (WHERE g.status = 'ok') AS greeks,
         count(*) FILTER (WHERE g.status = 'fallback') AS greeks_fallback,
         count(*) FILTER (WHERE NOT h.private AND coalesce(g.status, '') NOT IN ('ok', 'fallback')) AS greeks_none,
         count(*) FILTER (WHERE b.ok) AS betas,
         count(*) FILTER (WHERE NOT h.private AND b.ok IS NOT TRUE) AS betas_none,
         count(*) FILTER (WHERE r.quality IN ('ok', 'constant')) AS rate_betas,
         count(*) FILTER (WHERE NOT h.private AND coalesce(r.quality, '') NOT IN ('ok', 'constant')) AS rate_betas_none
  FROM held h
  LEFT JOIN sigmasight.position_greeks g USING (session_date, position_id)
  LEFT JOIN staging.position_interest_rate_betas r USING (session_date, position_id)
  LEFT JOIN LATERAL (SELECT bool_or(x.quality IN ('ok', 'constant')) AS ok FROM staging.position_factor_exposures x
                     WHERE (x.session_date, x.position_id) = (h.session_date, h.position_id)) b ON true
  WHERE h.portfolio_id = n.portfolio_id
) h ON true
LEFT JOIN LATERAL (
  SELECT count(*) AS factors, count(*) FILTER (WHERE status = 'ok') AS factors_ok
  FROM staging.portfolio_factor_exposures f
  WHERE (f.session_date, f.portfolio_id) = (n.session_date, n.portfolio_id)
) f ON true
ORDER BY n.code
"""

_BETAS = """
SELECT b.session_date AS session, b.factor, count(*) AS symbols,
       count(*) FILTER (WHERE b.quality IN ('ok', 'constant')) AS ok,
       min(b.n_obs) FILTER (WHERE b.quality = 'ok') AS smallest_n_obs,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY b.n_obs) FILTER (WHERE b.quality = 'ok') AS median_n_obs,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY b.r_squared) FILTER (WHERE b.quality = 'ok') AS median_r_squared,
       max(b.r_squared) FILTER (WHERE b.quality = 'ok') AS largest_r_squared
FROM staging.symbol_factor_betas b
LEFT JOIN sigmasight.factor_definitions d USING (factor)
WHERE b.session_date = (SELECT max(session_date) FROM staging.symbol_factor_betas
                        WHERE session_date BETWEEN %(first)s AND %(last)s)
GROUP BY b.session_date, b.factor, d.display_order ORDER BY d.display_order, b.factor
"""

_CORRELATIONS = f"""
WITH {_NEWEST}
SELECT n.code AS portfolio, n.session_date AS session, r.runs, r.runs_ok, r.lowest_data_quality,
       x.pairs, x.pairs_missing, c.clusters
FROM newest n
LEFT JOIN LATERAL (SELECT count(*) AS runs, count(*) FILTER (WHERE status = 'ok') AS runs_ok,
                          min(data_quality) AS lowest_data_quality
                   FROM sigmasight.correlation_calculations r
                   WHERE r.portfolio_id = n.portfolio_id AND {IN_RANGE.format("r.")}) r ON true
LEFT JOIN LATERAL (SELECT count(*) AS pairs, count(*) FILTER (WHERE x.status <> 'ok') AS pairs_missing
                   FROM staging.pairwise_correlations x
                   WHERE (x.session_date, x.portfolio_id) = (n.session_date, n.portfolio_id)
                     AND x.symbol_1 < x.symbol_2) x ON true
LEFT JOIN LATERAL (SELECT count(*) AS clusters FROM sigmasight.correlation_clusters c
                   WHERE (c.session_date, c.portfolio_id) = (n.session_date, n.portfolio_id)) c ON true
ORDER BY n.code
"""

_STRESS = f"""
WITH {_NEWEST}
SELECT n.code AS portfolio, r.newest, a.scenarios, r.sessions, x.present, x.present_ok
FROM newest n
CROSS JOIN (SELECT count(*) AS scenarios FROM sigmasight.stress_test_scenarios WHERE active) a
LEFT JOIN LATERAL (SELECT max(session_date) AS newest, count(DISTINCT session_date) AS sessions
                   FROM staging.stress_test_results r
                   WHERE r.portfolio_id = n.portfolio_id AND {IN_RANGE.format("r.")}) r ON true
LEFT JOIN LATERAL (SELECT count(*) AS present, count(*) FILTER (WHERE x.status = 'ok') AS present_ok
                   FROM staging.stress_test_results x
                   JOIN sigmasight.stress_test_scenarios s ON s.scenario_id = x.scenario_id AND s.active
                   WHERE (x.session_date, x.portfolio_id) = (r.newest, n.portfolio_id)) x ON true
ORDER BY n.code
"""

_PRICES = """
WITH numbered AS (
  SELECT session_date, row_number() OVER (ORDER BY session_date) AS number
  FROM sigmasight.trading_sessions WHERE NOT is_closed
), spans AS (
  SELECT d.symbol, count(*) AS rows, min(d.session_date) AS first, max(d.session_date) AS last,
         max(t.number) - min(t.number) + 1 - count(t.number) AS missing
  FROM sigmasight.daily_prices d LEFT JOIN numbered t USING (session_date)
  WHERE d.session_date BETWEEN %(first)s AND %(last)s GROUP BY 1
)
SELECT symbol, rows, first, last, coalesce(missing, 0) AS missing FROM spans ORDER BY missing DESC NULLS LAST, symbol
"""

_PRICED_SESSIONS = """
SELECT count(*) AS sessions FROM sigmasight.trading_sessions t
WHERE t.session_date BETWEEN %(first)s AND %(last)s
  AND EXISTS (SELECT FROM sigmasight.daily_prices d WHERE d.session_date = t.session_date)
"""

_BEHIND = """
SELECT count(*) AS sessions FROM sigmasight.trading_sessions
WHERE NOT is_closed AND session_date > %(newest)s AND session_date <= %(due)s
"""

_REJECTED = """
SELECT status, count(*) AS rows FROM sigmasight.rejected_prices
WHERE session_date IS NULL OR session_date BETWEEN %(first)s AND %(last)s GROUP BY 1 ORDER BY 1
"""

_INSTRUMENTS = """
SELECT kind, count(*) AS instruments, count(name) AS with_name, count(sector) AS with_sector,
       count(*) FILTER (WHERE active) AS active, count(last_session) AS delisted
FROM sigmasight.instruments GROUP BY 1 ORDER BY 1
"""

_SHORT = f"""
WITH open_sessions AS (
  SELECT session_date, row_number() OVER (ORDER BY session_date DESC) AS back
  FROM sigmasight.trading_sessions WHERE NOT is_closed AND session_date <= %(newest)s
), in_window AS (
  SELECT session_date FROM open_sessions WHERE back <= %(window)s
)
SELECT i.symbol, i.active, i.first_session, i.last_session, h.returns, %(window)s::int AS window_sessions,
       (SELECT count(*) FROM in_window w WHERE w.session_date > i.first_session
        AND w.session_date <= coalesce(i.last_session, w.session_date)) AS possible
FROM sigmasight.instruments i
CROSS JOIN LATERAL (SELECT count(*) AS returns FROM sigmasight.daily_returns r WHERE r.symbol = i.symbol
                    AND r.session_date BETWEEN (SELECT min(session_date) FROM in_window) AND %(newest)s) h
WHERE i.kind NOT IN ('option', 'private') AND h.returns < {SHORT_SHARE} * %(window)s
ORDER BY i.symbol
"""

_RUNS = f"""
WITH recent AS (SELECT * FROM sigmasight.batch_runs ORDER BY ended_at DESC, run_id LIMIT {RECENT_RUNS})
SELECT count(*) AS runs, count(*) FILTER (WHERE status = 'success') AS succeeded,
       count(*) FILTER (WHERE status = 'failure') AS failed, count(*) FILTER (WHERE status = 'canceled') AS canceled,
       min(ended_at) AS since, max(ended_at) AS newest FROM recent
"""

_RUN_ERRORS = f"""
WITH recent AS (SELECT * FROM sigmasight.batch_runs ORDER BY ended_at DESC, run_id LIMIT {RECENT_RUNS})
SELECT left(split_part(error_message, E'\\n', 1), 200) AS error, count(*) AS runs, max(ended_at) AS newest
FROM recent WHERE status = 'failure' GROUP BY 1 ORDER BY 2 DESC, 3 DESC LIMIT {COMMON_ERRORS}
"""

_OPEN_BACKFILLS = """
SELECT backfill_id, requested_by, reason, status, done_sessions, total_sessions, requested_at
FROM sigmasight.backfill_progress WHERE status IN ('pending', 'processing') ORDER BY backfill_id
"""

_CALCULATION_AUDIT = f"""
SELECT status, count(*) AS rows, count(DISTINCT session_date) AS sessions FROM sigmasight.calculation_audit
WHERE {IN_RANGE.format("")} AND (portfolio_id = 0 OR {IN_SCOPE.format("")}) GROUP BY 1 ORDER BY 1
"""

_CHECKS = f"""
WITH verdicts AS ({STANDING}), checks AS (
  SELECT asset, check_name, severity, count(*) FILTER (WHERE NOT passed) AS failing FROM verdicts
  WHERE {IN_RANGE.format("")} GROUP BY 1, 2, 3
)
SELECT severity, count(*) AS checks, count(*) FILTER (WHERE failing > 0) AS checks_failing,
       sum(failing)::bigint AS sessions_failing
FROM checks GROUP BY 1 ORDER BY 1
"""


def coverage(connection: Connection, scope: Scope) -> list[Row]:
    """Per portfolio, of its newest session: positions with and without Greeks, betas, rate betas; factors covered."""
    return fetch(connection, _COVERAGE, scope)


def betas(connection: Connection, scope: Scope) -> list[Row]:
    """Per factor, of the newest session with betas: how many came out, their observations and R-squared."""
    return fetch(connection, _BETAS, scope)


def correlations(connection: Connection, scope: Scope) -> list[Row]:
    """Per portfolio: correlation runs of the range; pairs, missing pairs and clusters of its newest session."""
    return fetch(connection, _CORRELATIONS, scope)


def stress(connection: Connection, scope: Scope) -> list[Row]:
    """Per portfolio: the newest session with scenarios, how many there are of it, and how many there should be."""
    return fetch(connection, _STRESS, scope)


def prices(connection: Connection, scope: Scope) -> list[Row]:
    """Per symbol: rows, first and last session, open sessions in between without a price; most of these first."""
    return fetch(connection, _PRICES, scope)


def priced_sessions(connection: Connection, scope: Scope) -> int:
    """Sessions of the range with any price."""
    return int(fetch(connection, _PRICED_SESSIONS, scope)[0]["sessions"])


def sessions_between(connection: Connection, newest: date, due: date) -> int:
    """Open sessions after `newest`, up to and with `due`."""
    return int(fetch(connection, _BEHIND, Scope(), newest=newest, due=due)[0]["sessions"])


def rejected_prices(connection: Connection, scope: Scope) -> list[Row]:
    """Refused rows by what became of them."""
    return fetch(connection, _REJECTED, scope)


def instruments(connection: Connection) -> list[Row]:
    """Per kind: instruments, and how many of them have a name, a sector, are active, stopped trading."""
    return fetch(connection, _INSTRUMENTS, Scope())


def short_histories(connection: Connection, newest: date, window: int) -> list[Row]:
    """Symbols with returns on less than 80 % of the `window` sessions to `newest`; `possible`: as many as there could
    be since the symbol's first price and until it stopped trading."""
    return fetch(connection, _SHORT, Scope(), newest=newest, window=window)


def runs(connection: Connection) -> Row:
    """Outcomes of the newest runs, and their most frequent errors."""
    return {**fetch(connection, _RUNS, Scope())[0], "errors": fetch(connection, _RUN_ERRORS, Scope())}


def open_backfills(connection: Connection) -> list[Row]:
    """Ranges that wait or are being run."""
    return fetch(connection, _OPEN_BACKFILLS, Scope())


def calculation_audit(connection: Connection, scope: Scope) -> list[Row]:
    """Rows of calculation_audit by status."""
    return fetch(connection, _CALCULATION_AUDIT, scope)


def checks(connection: Connection, scope: Scope) -> list[Row]:
    """Per severity: checks of the range, how many of them fail on some session, and on how many."""
    return fetch(connection, _CHECKS, scope)
