"""What is wrong with what is stored: missing rows, broken identities, stale prices, failures nobody put right.

What belongs here: set-based SQL that returns one row per fault, consecutive sessions of one fault together; no rows
on a healthy system. What does not: rows and keys a table itself may not have (``storage.audit_integrity``), counting
what is right (``storage.audit``), and saying what to do about a fault (``operations.audit``).
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.audit import IN_RANGE, IN_SCOPE, Connection, Row, Scope, both, fetch
from sigmasight_pipeline.storage.verdicts import STANDING

EVERY_SNAPSHOT: tuple[Table, ...] = (
    tables.portfolio_exposures,
    tables.portfolio_factor_exposures,
    tables.market_risk_scenarios,
    tables.correlation_calculations,
    tables.portfolio_risk_metrics,
)
"""Tables with a row for every snapshot, whatever is held: where a figure cannot be computed the row says why."""


def _kept(table: Table) -> str:
    """That the rows a table has at the session of the snapshot `s` have not been removed for their age."""
    return (
        "s.session_date >= coalesce((SELECT kept_from FROM sigmasight.result_retention "
        f"WHERE table_name = '{table.name}'), '-infinity')"
    )


# open sessions by number, so that consecutive ones can be told from others
_NUMBERED = """
numbered AS (
  SELECT session_date, previous_session, row_number() OVER (ORDER BY session_date) AS number
  FROM sigmasight.trading_sessions WHERE NOT is_closed
)
"""

_SNAPSHOTS = f"""
WITH {_NUMBERED}, expected AS (
  SELECT p.portfolio_id, p.code, t.session_date, t.number, s.session_date IS NOT NULL AS present
  FROM sigmasight.portfolios p
  JOIN numbered t ON t.session_date BETWEEN greatest(p.inception_date, %(first)s)
    AND least(p.closing_date, %(through)s)
  LEFT JOIN sigmasight.portfolio_snapshots s USING (session_date, portfolio_id)
  WHERE {IN_SCOPE.format("p.")}
)
"""

_HISTORY = f"""
{_SNAPSHOTS}
SELECT p.code AS portfolio, p.inception_date AS inception, p.active, p.closing_date AS closing,
       count(e.session_date) FILTER (WHERE e.present) AS present,
       count(e.session_date) FILTER (WHERE NOT e.present) AS missing,
       min(e.session_date) FILTER (WHERE e.present) AS first, max(e.session_date) FILTER (WHERE e.present) AS last
FROM sigmasight.portfolios p LEFT JOIN expected e USING (portfolio_id)
WHERE {IN_SCOPE.format("p.")}
GROUP BY p.portfolio_id ORDER BY p.code
"""

_MISSING_SNAPSHOTS = f"""
{_SNAPSHOTS}, islands AS (
  SELECT *, number - row_number() OVER (PARTITION BY portfolio_id ORDER BY number) AS island
  FROM expected WHERE NOT present
)
SELECT code AS portfolio, min(session_date) AS first, max(session_date) AS last, count(*) AS rows
FROM islands GROUP BY code, island ORDER BY code, 2
"""

# an identity across a hole of the chain says nothing: the hole itself is found
_IDENTITIES = f"""
WITH {_NUMBERED}, chain AS (
  SELECT s.*, p.initial_equity, t.previous_session,
         lag(s.net_asset_value) OVER portfolio AS previous_nav, lag(s.session_date) OVER portfolio AS previous_date
  FROM sigmasight.portfolio_snapshots s
  JOIN sigmasight.portfolios p USING (portfolio_id)
  LEFT JOIN numbered t USING (session_date)
  WHERE s.session_date <= %(last)s AND {IN_SCOPE.format("s.")}
  WINDOW portfolio AS (PARTITION BY s.portfolio_id ORDER BY s.session_date)
), positions AS (
  SELECT session_date, portfolio_id, sum(market_value) AS market_value, sum(daily_pnl) AS daily_pnl
  FROM sigmasight.position_values WHERE {both()} GROUP BY 1, 2
), lots AS (
  SELECT v.session_date, v.portfolio_id, v.daily_pnl, t.previous_session,
         v.total_pnl - lag(v.total_pnl) OVER position AS moved, lag(v.session_date) OVER position AS previous_date
  FROM sigmasight.position_values v LEFT JOIN numbered t USING (session_date)
  WHERE v.session_date <= %(last)s AND {IN_SCOPE.format("v.")}
  WINDOW position AS (PARTITION BY v.position_id ORDER BY v.session_date)
), residuals AS (
  SELECT portfolio_id, session_date, 'net_asset_value' AS identity,
         net_asset_value - CASE WHEN is_first THEN initial_equity ELSE previous_nav END - daily_pnl - net_cash_flow
         AS residual
  FROM chain WHERE is_first OR previous_date = previous_session
  UNION ALL SELECT portfolio_id, session_date, 'cash', net_asset_value - cash_balance - market_value FROM chain
  UNION ALL SELECT c.portfolio_id, c.session_date, 'market_value', c.market_value - coalesce(p.market_value, 0)
  FROM chain c LEFT JOIN positions p USING (session_date, portfolio_id)
  UNION ALL SELECT c.portfolio_id, c.session_date, 'daily_pnl', c.daily_pnl - coalesce(p.daily_pnl, 0)
  FROM chain c LEFT JOIN positions p USING (session_date, portfolio_id)
  UNION ALL SELECT portfolio_id, session_date, 'telescoping', moved - daily_pnl
  FROM lots WHERE previous_date = previous_session
)
SELECT r.identity, p.code AS portfolio, count(*) AS checked, count(*) FILTER (WHERE residual <> 0) AS broken,
       CASE WHEN max(residual) >= -min(residual) THEN max(residual) ELSE min(residual) END AS worst,
       min(session_date) FILTER (WHERE residual <> 0) AS first, max(session_date) FILTER (WHERE residual <> 0) AS last
FROM residuals r LEFT JOIN sigmasight.portfolios p USING (portfolio_id)
WHERE session_date BETWEEN %(first)s AND %(last)s GROUP BY 1, 2 ORDER BY 1, 2
"""

_SCENARIOS = f"""
WITH {_NUMBERED}, missing AS (
  SELECT s.portfolio_id, s.session_date, t.number, count(*) AS scenarios, min(a.scenario_id) AS example
  FROM sigmasight.portfolio_snapshots s
  JOIN numbered t USING (session_date)
  JOIN sigmasight.stress_test_scenarios a ON a.active
  LEFT JOIN staging.stress_test_results r
    ON (r.session_date, r.portfolio_id, r.scenario_id) = (s.session_date, s.portfolio_id, a.scenario_id)
  WHERE r.scenario_id IS NULL AND {both("s.")} AND {_kept(tables.stress_test_results)} GROUP BY 1, 2, 3
), islands AS (
  SELECT *, number - row_number() OVER (PARTITION BY portfolio_id ORDER BY number) AS island FROM missing
)
SELECT p.code AS portfolio, min(session_date) AS first, max(session_date) AS last, sum(scenarios)::bigint AS rows,
       min(example) AS example
FROM islands JOIN sigmasight.portfolios p USING (portfolio_id) GROUP BY p.code, island ORDER BY 1, 2
"""

# the age of a price is counted here too: a row may say less than the date beside it
_STALE = f"""
WITH {_NUMBERED}, aged AS (
  SELECT v.portfolio_id, v.position_id, v.session_date, t.number, v.price_date, i.symbol, i.underlying_symbol,
         CASE WHEN v.price_source = 'mark' THEN v.stale_sessions
              ELSE greatest(v.stale_sessions, t.number - d.number) END AS age,
         v.stale OR (v.price_source IN ('market', 'carried')
                     AND greatest(v.stale_sessions, t.number - d.number) > %(max_stale)s) AS too_old
  FROM sigmasight.position_values v
  JOIN sigmasight.positions i USING (position_id)
  JOIN numbered t USING (session_date)
  LEFT JOIN numbered d ON d.session_date = v.price_date
  WHERE v.quantity <> 0 AND {both("v.")}
), islands AS (
  SELECT a.*, a.number - row_number() OVER (PARTITION BY a.position_id ORDER BY a.number) AS island
  FROM aged a
  WHERE a.too_old AND NOT EXISTS (  -- a symbol that stopped trading, and says so, has no newer price
    SELECT FROM sigmasight.instruments s WHERE s.symbol = coalesce(a.underlying_symbol, a.symbol)
    AND s.last_session <= a.price_date)
)
SELECT p.code AS portfolio, symbol, min(session_date) AS first, max(session_date) AS last, count(*) AS rows,
       max(age) AS age, min(price_date) AS price_date
FROM islands JOIN sigmasight.portfolios p USING (portfolio_id)
GROUP BY p.code, position_id, symbol, island ORDER BY 1, 2, 3
"""

_UNPRICED = f"""
SELECT p.code AS portfolio, i.symbol, min(v.session_date) AS first, max(v.session_date) AS last, count(*) AS rows
FROM sigmasight.position_values v
JOIN sigmasight.positions i USING (position_id)
JOIN sigmasight.portfolios p ON p.portfolio_id = v.portfolio_id
WHERE v.price_source = 'entry_price' AND v.quantity <> 0 AND {both("v.")}
GROUP BY p.code, v.position_id, i.symbol ORDER BY 1, 2
"""

_EQUITY = f"""
SELECT p.code AS portfolio, p.equity_balance, p.equity_as_of, n.session_date AS newest, n.net_asset_value
FROM sigmasight.portfolios p
LEFT JOIN LATERAL (SELECT session_date, net_asset_value FROM sigmasight.portfolio_snapshots s
                   WHERE s.portfolio_id = p.portfolio_id ORDER BY session_date DESC LIMIT 1) n ON true
WHERE (p.equity_balance, p.equity_as_of) IS DISTINCT FROM (n.net_asset_value, n.session_date)
  AND {IN_SCOPE.format("p.")}
ORDER BY 1
"""

_FAILED_CHECKS = f"""
WITH verdicts AS ({STANDING}), failed AS (
  SELECT *, coalesce(metadata -> 'portfolio_ids', '[]'::jsonb) AS portfolio_ids FROM verdicts
  WHERE NOT passed AND severity = 'ERROR' AND {IN_RANGE.format("")}
)
SELECT asset, check_name, min(session_date) AS first, max(session_date) AS last, count(*) AS rows,
       (array_agg(description ORDER BY session_date DESC))[1] AS description
FROM failed
WHERE %(portfolios)s::bigint[] IS NULL OR portfolio_ids = '[]'::jsonb OR EXISTS (
  SELECT FROM jsonb_array_elements_text(portfolio_ids) AS of(portfolio_id)
  WHERE of.portfolio_id::bigint = ANY(%(portfolios)s::bigint[]))
GROUP BY 1, 2 ORDER BY 1, 2
"""

_INCOMPLETE = f"""
SELECT coalesce(p.code, '') AS portfolio, engine, status, reason, min(session_date) AS first,
       max(session_date) AS last, count(*) AS rows
FROM sigmasight.calculation_audit a LEFT JOIN sigmasight.portfolios p USING (portfolio_id)
WHERE status IN ('missing', 'partial') AND {IN_RANGE.format("")}
  AND (a.portfolio_id = 0 OR {IN_SCOPE.format("a.")})
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 5
"""

_FAILED_RUNS = """
SELECT DISTINCT ON (job_name) job_name, run_id, status, ended_at, error_message, partition_start AS first,
       partition_end AS last
FROM sigmasight.batch_runs ORDER BY job_name, ended_at DESC
"""

# put right by a later range (of the same portfolios or of all, not of fewer assets) or run that reaches over it
_FAILED_BACKFILLS = """
WITH spans AS (
  SELECT b.backfill_id, b.status, b.reason, b.error_details, b.completed_at, b.scope -> 'portfolios' AS portfolios,
         min((run ->> 'first')::date) AS first, max((run ->> 'last')::date) AS last,
         bool_or(run -> 'assets' <> '[]'::jsonb) AS restricted
  FROM sigmasight.backfill_progress b
  CROSS JOIN LATERAL jsonb_array_elements(b.scope -> 'runs') AS run
  WHERE run ->> 'job' <> 'market_data' OR b.status = 'failed'
  GROUP BY b.backfill_id
)
SELECT f.backfill_id, f.reason, f.first, f.last, f.error_details ->> 'message' AS error
FROM spans f
WHERE f.status = 'failed' AND NOT EXISTS (
  SELECT FROM spans d WHERE d.backfill_id > f.backfill_id AND d.status IN ('completed', 'pending', 'processing')
  AND (d.portfolios = '[]'::jsonb OR d.portfolios @> f.portfolios AND f.portfolios <> '[]'::jsonb)
  AND (f.restricted OR NOT d.restricted)
  AND (f.first IS NULL OR (d.first <= f.first AND d.last >= f.last)))
AND NOT EXISTS (
  SELECT FROM sigmasight.batch_runs r WHERE r.job_name = 'daily' AND r.status = 'success'
  AND r.ended_at > f.completed_at AND r.partition_start <= f.first AND r.partition_end >= f.last)
ORDER BY 1
"""

_WAITING = "SELECT DISTINCT portfolio_code AS portfolio FROM sigmasight.portfolio_imports WHERE applied_at IS NULL"


def history(connection: Connection, scope: Scope, through: date) -> list[Row]:
    """Per portfolio: its snapshots from inception to `through` or its closing, and how many sessions lack one."""
    return fetch(connection, _HISTORY, scope, through=min(through, scope.last))


def missing_snapshots(connection: Connection, scope: Scope, through: date) -> list[Row]:
    """Stretches of open sessions, of a portfolio's life up to `through` without its snapshot."""
    return fetch(connection, _MISSING_SNAPSHOTS, scope, through=min(through, scope.last))


def missing_results(connection: Connection, scope: Scope) -> list[Row]:
    """Stretches of sessions whose snapshot is there and whose row of a table that has one for every snapshot is not."""
    found = []
    for table in EVERY_SNAPSHOT:
        statement = f"""
        WITH {_NUMBERED}, islands AS (
          SELECT s.portfolio_id, s.session_date,
                 t.number - row_number() OVER (PARTITION BY s.portfolio_id ORDER BY t.number) AS island
          FROM sigmasight.portfolio_snapshots s JOIN numbered t USING (session_date)
          WHERE {both("s.")} AND {_kept(table)} AND NOT EXISTS (
            SELECT FROM {table.fullname} r
            WHERE r.session_date = s.session_date AND r.portfolio_id = s.portfolio_id)
        )
        SELECT '{table.name}' AS engine, p.code AS portfolio, min(session_date) AS first, max(session_date) AS last,
               count(*) AS rows
        FROM islands JOIN sigmasight.portfolios p USING (portfolio_id) GROUP BY p.code, island ORDER BY 2, 3
        """
        found += fetch(connection, statement, scope)
    return found


def identities(connection: Connection, scope: Scope) -> list[Row]:
    """Per identity and portfolio: how often it was checked and broken, and the worst residual, signed, to the cent."""
    return fetch(connection, _IDENTITIES, scope)


def missing_scenarios(connection: Connection, scope: Scope) -> list[Row]:
    """Stretches of sessions whose snapshot is there and whose result of an active scenario is not."""
    return fetch(connection, _SCENARIOS, scope)


def stale_prices(connection: Connection, scope: Scope, max_stale: int) -> list[Row]:
    """Positions held at a price older than the limit, except of symbols known to have stopped trading."""
    return fetch(connection, _STALE, scope, max_stale=max_stale)


def unpriced_positions(connection: Connection, scope: Scope) -> list[Row]:
    """Positions held at their entry price for want of any other."""
    return fetch(connection, _UNPRICED, scope)


def equity(connection: Connection, scope: Scope) -> list[Row]:
    """Portfolios whose equity balance is not the net asset value of their newest snapshot."""
    return fetch(connection, _EQUITY, scope)


def failed_checks(connection: Connection, scope: Scope) -> list[Row]:
    """Checks of severity ERROR whose standing verdict on a session is that it failed."""
    return fetch(connection, _FAILED_CHECKS, scope)


def incomplete_engines(connection: Connection, scope: Scope) -> list[Row]:
    """Engines that calculation_audit says have rows missing; portfolio '' for those that work for all."""
    return fetch(connection, _INCOMPLETE, scope)


def failed_runs(connection: Connection) -> list[Row]:
    """The newest run of each job, where it failed."""
    return [row for row in fetch(connection, _FAILED_RUNS, Scope()) if row["status"] == "failure"]


def failed_backfills(connection: Connection) -> list[Row]:
    """Ranges that failed and that no later range reaches over."""
    return fetch(connection, _FAILED_BACKFILLS, Scope())


def waiting_imports(connection: Connection) -> list[Row]:
    """Portfolios whose accepted files wait to be applied."""
    return fetch(connection, _WAITING, Scope())
