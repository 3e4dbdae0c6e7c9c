"""Where the books stand: which portfolios there are, their newest figures, and which snapshots are missing or late.

What belongs here: reading that, in few statements and without the calendar's library, for whoever looks first. What
does not: what an audit adds up (``audit``), single verdicts (``verdicts``) and showing (``cli``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.database import Database

_FIGURES = """
SELECT p.portfolio_id, p.code, p.name, p.inception_date, p.closing_date, s.session_date,
       s.net_asset_value::text AS net_asset_value,
       s.cash_balance::text AS cash_balance, s.daily_pnl::text AS daily_pnl, s.daily_return,
       s.mtd_pnl::text AS mtd_pnl, s.mtd_return, s.ytd_pnl::text AS ytd_pnl, s.ytd_return,
       s.cumulative_pnl::text AS cumulative_pnl, s.cumulative_return, s.gross_exposure::text AS gross_exposure,
       s.net_exposure::text AS net_exposure, s.leverage, s.drawdown, s.position_count, s.option_count,
       s.stale_positions, s.unpriced_positions, s.model_priced_positions,
       (SELECT count(*) FROM sigmasight.portfolio_snapshots c WHERE c.portfolio_id = p.portfolio_id) AS sessions,
       e.delta_adjusted_net::text AS delta_adjusted_net, e.greeks_status, e.vega, e.theta,
       e.effective_positions, e.top_3_weight, m.beta AS market_beta, m.coverage AS market_coverage,
       m.status AS market_status, r.exposure_dollar * 0.0001 AS basis_point, r.status AS rate_status,
       f.factor AS largest_factor, f.beta AS largest_beta, g.implied,
       k.volatility, k.factor_var_95, k.status AS metrics_status, k.factor_var_status,
       h.var_95 AS simulated_var, h.expected_shortfall_975 AS simulated_shortfall, h.status AS simulated_status,
       h.worst_pnl::text AS simulated_worst, h.worst_session, t.symbol AS largest_contributor, t.share AS contribution,
       c.overall_correlation, c.status AS correlation_status,
       w.scenario_id AS worst_scenario, w.total_pnl::text AS worst_pnl, w.impact_pct AS worst_impact,
       a.market::text AS market_pnl, a.rest::text AS rest_pnl
FROM sigmasight.portfolios p
LEFT JOIN LATERAL (SELECT * FROM sigmasight.portfolio_snapshots s WHERE s.portfolio_id = p.portfolio_id
                   ORDER BY session_date DESC LIMIT 1) s ON true
LEFT JOIN sigmasight.portfolio_exposures e
  ON (e.session_date, e.portfolio_id) = (s.session_date, p.portfolio_id)
LEFT JOIN staging.portfolio_factor_exposures m
  ON (m.session_date, m.portfolio_id, m.factor) = (s.session_date, p.portfolio_id, 'Market')
LEFT JOIN staging.portfolio_factor_exposures r
  ON (r.session_date, r.portfolio_id, r.factor) = (s.session_date, p.portfolio_id, 'Interest_Rate')
LEFT JOIN LATERAL (SELECT x.factor, x.beta FROM staging.portfolio_factor_exposures x
                   JOIN sigmasight.factor_definitions d USING (factor)
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id) AND d.kind = 'style'
                     AND x.factor <> 'Market' AND x.beta IS NOT NULL
                   ORDER BY abs(x.beta) DESC, x.factor LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE vol_source = 'implied') AS implied
                   FROM sigmasight.position_greeks x
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)) g ON true
LEFT JOIN sigmasight.portfolio_risk_metrics k
  ON (k.session_date, k.portfolio_id, k.window_sessions) = (s.session_date, p.portfolio_id, 63)
LEFT JOIN sigmasight.portfolio_simulated_risk h
  ON (h.session_date, h.portfolio_id) = (s.session_date, p.portfolio_id)
LEFT JOIN LATERAL (SELECT coalesce(o.underlying_symbol, o.symbol) AS symbol, sum(x.share_of_es_975) AS share
                   FROM sigmasight.position_risk_contributions x JOIN sigmasight.positions o USING (position_id)
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)
                     AND x.share_of_es_975 IS NOT NULL
                   GROUP BY 1 ORDER BY share DESC, 1 LIMIT 1) t ON true
LEFT JOIN sigmasight.correlation_calculations c
  ON (c.session_date, c.portfolio_id) = (s.session_date, p.portfolio_id)
LEFT JOIN LATERAL (SELECT x.scenario_id, x.total_pnl, x.impact_pct FROM staging.stress_test_results x
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)
                     AND x.total_pnl IS NOT NULL
                   ORDER BY x.total_pnl, x.scenario_id LIMIT 1) w ON true
LEFT JOIN LATERAL (SELECT sum(x.pnl) FILTER (WHERE component = 'market') AS market,
                          sum(x.pnl) FILTER (WHERE component IN ('specific', 'unexplained')) AS rest
                   FROM staging.pnl_attribution x
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)) a ON true
ORDER BY p.active DESC, p.code
"""

_LATE = """
WITH open_sessions AS (
  SELECT session_date FROM sigmasight.trading_sessions WHERE NOT is_closed AND session_date <= %s
  AND session_date <> ALL(%s)
), books AS (
  SELECT p.portfolio_id, p.code, p.inception_date,
         (SELECT max(s.session_date) FROM sigmasight.portfolio_snapshots s WHERE s.portfolio_id = p.portfolio_id)
         AS newest
  FROM sigmasight.portfolios p WHERE p.active
)
SELECT b.portfolio_id, b.code, b.newest, max(o.session_date) AS due, count(*) AS sessions,
       min(o.session_date) AS first_late, (SELECT max(session_date) FROM sigmasight.daily_prices) AS priced
FROM books b
JOIN open_sessions o ON o.session_date >= b.inception_date AND (b.newest IS NULL OR o.session_date > b.newest)
GROUP BY 1, 2, 3 ORDER BY 2
"""


class UnknownPortfolioError(ValueError):
    """A run was asked for portfolios that do not exist."""

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(
            f"unknown portfolio(s) {', '.join(sorted(unknown))}; known: {', '.join(sorted(known)) or 'none yet'}"
        )


def stated_portfolios(database: Database) -> pl.DataFrame:
    """(code, inception_date, closing_date) of portfolios and of those whose import waits to be applied."""
    return database.query(
        "SELECT code, inception_date, closing_date FROM sigmasight.portfolios UNION ALL "
        "SELECT i.portfolio_code, (i.content -> 'portfolio' ->> 'inception_date')::date, p.closing_date "
        "FROM sigmasight.portfolio_imports i LEFT JOIN sigmasight.portfolios p ON p.code = i.portfolio_code "
        "WHERE i.kind = 'positions' AND i.applied_at IS NULL"
    )


def inception_of(database: Database, portfolios: Sequence[str]) -> date | None:
    """Earliest inception of the named (else all) portfolios, waiting imports included; None without any."""
    rows = _named(stated_portfolios(database), portfolios)
    earliest = rows["inception_date"].min()
    return earliest if isinstance(earliest, date) else None


def closing_of(database: Database, portfolios: Sequence[str] = ()) -> date | None:
    """The newest closing session of the named (else all) portfolios; None where one is open, or there is none.

    After it nothing is due of them.
    """
    rows = _named(stated_portfolios(database), portfolios)
    newest = None if rows["closing_date"].has_nulls() else rows["closing_date"].max()
    return newest if isinstance(newest, date) else None


def _named(rows: pl.DataFrame, portfolios: Sequence[str]) -> pl.DataFrame:
    return rows.filter(pl.col("code").is_in(list(portfolios))) if portfolios else rows


def require_portfolios(database: Database, portfolios: Sequence[str]) -> None:
    """Return only if every named portfolio is there or about to be (its import waits); else UnknownPortfolioError."""
    known = stated_portfolios(database)["code"].unique().to_list()
    if unknown := [code for code in portfolios if code not in known]:
        raise UnknownPortfolioError(unknown, known)


def newest_snapshot(database: Database) -> date | None:
    """Session of the newest stored snapshot of any portfolio."""
    row = database.query("SELECT max(session_date) AS newest FROM sigmasight.portfolio_snapshots")
    newest = row["newest"][0]
    return newest if isinstance(newest, date) else None


def missing_snapshots(database: Database, through: date) -> pl.DataFrame:
    """(portfolio_id, code, first_missing, missing) of portfolios that lack snapshots from inception to
    `through` or their closing session; closures do not count."""
    return database.query(
        "SELECT p.portfolio_id, p.code, min(t.session_date) AS first_missing, count(*) AS missing "
        "FROM sigmasight.portfolios p "
        "JOIN sigmasight.trading_sessions t ON NOT t.is_closed "
        "AND t.session_date BETWEEN p.inception_date AND least(%s, p.closing_date) "
        "LEFT JOIN sigmasight.portfolio_snapshots s USING (session_date, portfolio_id) "
        "WHERE s.portfolio_id IS NULL GROUP BY 1, 2 ORDER BY 2",
        (through,),
    )


def figures(database: Database) -> pl.DataFrame:
    """One row per portfolio, closed ones last: figures of its newest snapshot, NULLs where it has none."""
    return database.query(_FIGURES)


def prices(database: Database) -> dict[str, object]:
    """Stored closes: `rows`, `symbols`, and the `first` and `last` session with any (None without)."""
    return database.query(
        "SELECT count(*) AS rows, count(DISTINCT symbol) AS symbols, min(session_date) AS first, "
        "max(session_date) AS last FROM sigmasight.daily_prices"
    ).row(0, named=True)


def ended_day(now: datetime, grace_hours: float) -> date:
    """The newest day whose end (UTC) is at least `grace_hours` before `now`."""
    return (now - timedelta(hours=grace_hours)).astimezone(UTC).date() - timedelta(days=1)


def late(database: Database, settings: Settings, now: datetime) -> pl.DataFrame:
    """Active portfolios whose newest snapshot is older than the newest session that should be there by now, by code.

    Columns: portfolio_id, code, newest (NULL: none yet), due, sessions (how many are late), first_late, and in words
    `told` and the `command` that catches up. The calendar is the stored one of the exchange, so that no weekend and no
    holiday is late; a session is due `freshness_grace_hours` after its UTC day, none after `last_session`. Nothing is
    late where prices are simulated: no market waits.
    """
    end, known = ended_day(now, settings.freshness_grace_hours), settings.last_session
    through = end if known is None else min(end, known)
    rows = database.query(_LATE, (through, list(settings.closed_sessions)))
    if settings.price_source == "simulated":
        rows = rows.clear()
    since = pl.coalesce(pl.format("the newest snapshot is of {}", "newest"), pl.lit("no snapshot is stored"))
    waits = (pl.col("newest") >= pl.col("priced")).fill_null(value=False) | pl.col("priced").is_null()
    why = (
        pl.when(waits).then(pl.lit("; it waits for prices, of which none are stored after that")).otherwise(pl.lit(""))
    )
    return rows.with_columns(
        told=pl.format("late by {} session(s): {}, {} was due{}", "sessions", since, "due", why),
        command=pl.format("sigmasight backfill --from {} --portfolio {}", "first_late", "code"),
    ).drop("priced")
