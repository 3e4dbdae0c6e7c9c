"""The identities of snapshots, verified on rows just written, before anybody else can see them.

What belongs here: the statement that finds a row which does not add up, and the error that undoes its transaction. What
does not: judging what was committed (``checks.valuation``) and looking through everything stored (``audit_faults``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from sigmasight_pipeline.storage.copying import Connection

MEANINGS = {
    "net_asset_value": "net asset value is not the previous one plus P&L plus flows",
    "cash": "net asset value is not cash plus market value",
    "market_value": "market value is not the sum of the positions'",
    "daily_pnl": "the day's P&L is not the sum of the positions'",
}
"""The identities, and what it means that one is broken."""

_BROKEN = """
WITH written AS (
  SELECT w.day, w.owner FROM unnest(%(days)s::date[], %(owners)s::bigint[]) AS w(day, owner)
), held AS (
  SELECT v.session_date, v.portfolio_id, sum(v.market_value) AS market_value, sum(v.daily_pnl) AS daily_pnl
  FROM sigmasight.position_values v JOIN written w ON (v.session_date, v.portfolio_id) = (w.day, w.owner)
  GROUP BY 1, 2
), checked AS (
  SELECT s.*, p.code, p.initial_equity, b.net_asset_value AS previous_nav,
         coalesce(h.market_value, 0) AS held_value, coalesce(h.daily_pnl, 0) AS held_pnl
  FROM written w
  JOIN sigmasight.portfolio_snapshots s ON (s.session_date, s.portfolio_id) = (w.day, w.owner)
  JOIN sigmasight.portfolios p USING (portfolio_id)
  LEFT JOIN sigmasight.trading_sessions t USING (session_date)
  LEFT JOIN sigmasight.portfolio_snapshots b
    ON (b.session_date, b.portfolio_id) = (t.previous_session, s.portfolio_id)
  LEFT JOIN held h ON (h.session_date, h.portfolio_id) = (s.session_date, s.portfolio_id)
), residuals AS (
  SELECT session_date, code, 'cash' AS identity, net_asset_value - cash_balance - market_value AS residual FROM checked
  UNION ALL SELECT session_date, code, 'market_value', market_value - held_value FROM checked
  UNION ALL SELECT session_date, code, 'daily_pnl', daily_pnl - held_pnl FROM checked
  UNION ALL SELECT session_date, code, 'net_asset_value', net_asset_value
    - CASE WHEN is_first THEN initial_equity ELSE previous_nav END - daily_pnl - net_cash_flow FROM checked
)
SELECT code, session_date, identity, residual, count(*) OVER () FROM residuals WHERE residual <> 0
ORDER BY session_date, code, identity LIMIT 1
"""


class BrokenIdentityError(ValueError):
    """Snapshots that were about to be stored do not add up; nothing was written."""

    def __init__(self, code: str, session: date, identity: str, residual: Decimal, count: int) -> None:
        more = f" ({count} such residuals)" if count > 1 else ""
        super().__init__(
            f"the snapshot of {code} at {session} was not stored: {MEANINGS[identity]}, by {residual}{more}. Values of "
            "it or of the session before are older than what they are made from, or were written meanwhile: "
            f"`sigmasight gaps --fill`, then `sigmasight backfill --from {session} --portfolio {code}`"
        )


def verify_snapshots(connection: Connection, rows: Sequence[tuple[date, int]]) -> None:
    """Return only if the snapshots of these (session, portfolio) add up to the cent, as this transaction sees them.

    NAV = cash + market value; market value and P&L = sums over the positions; NAV = previous NAV + P&L + flows (of a
    first snapshot: the initial equity). Raises BrokenIdentityError, which names the first that does not.
    """
    found = connection.execute(
        _BROKEN, {"days": [day for day, _ in rows], "owners": [owner for _, owner in rows]}
    ).fetchone()
    if found is not None:
        raise BrokenIdentityError(*found)
