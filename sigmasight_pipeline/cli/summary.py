"""Readable summaries: one table per portfolio with its newest figures and the worst data-quality finding.

What belongs here: formatting of what is stored. What does not: computing any figure.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl
from rich.table import Table
from rich.text import Text

from sigmasight_pipeline.cli.console import out
from sigmasight_pipeline.operations import scenarios
from sigmasight_pipeline.storage import verdicts
from sigmasight_pipeline.storage.database import Database

_NEWEST = """
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
LEFT JOIN sigmasight.portfolio_factor_exposures m
  ON (m.session_date, m.portfolio_id, m.factor) = (s.session_date, p.portfolio_id, 'Market')
LEFT JOIN sigmasight.portfolio_factor_exposures r
  ON (r.session_date, r.portfolio_id, r.factor) = (s.session_date, p.portfolio_id, 'Interest_Rate')
LEFT JOIN LATERAL (SELECT x.factor, x.beta FROM sigmasight.portfolio_factor_exposures x
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
LEFT JOIN LATERAL (SELECT x.scenario_id, x.total_pnl, x.impact_pct FROM sigmasight.stress_test_results x
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)
                     AND x.total_pnl IS NOT NULL
                   ORDER BY x.total_pnl, x.scenario_id LIMIT 1) w ON true
LEFT JOIN LATERAL (SELECT sum(x.pnl) FILTER (WHERE component = 'market') AS market,
                          sum(x.pnl) FILTER (WHERE component IN ('specific', 'unexplained')) AS rest
                   FROM sigmasight.pnl_attribution x
                   WHERE (x.session_date, x.portfolio_id) = (s.session_date, p.portfolio_id)) a ON true
ORDER BY p.active DESC, p.code
"""


def newest(database: Database) -> pl.DataFrame:
    """One row per portfolio, closed ones last: its newest snapshot, NULLs where it has none."""
    return database.query(_NEWEST)


def open_findings(database: Database) -> pl.DataFrame:
    """Failed verdicts of each session's newest check, worst first (ERROR before WARN, then most sessions)."""
    return verdicts.failed(database)


def print_portfolios(database: Database, seconds: float | None = None) -> None:
    """Print every portfolio's newest figures and its worst finding."""
    findings, rows = open_findings(database), newest(database)
    marks = scenarios.marks(database, rows["session_date"].drop_nulls().unique().to_list())
    for row in rows.iter_rows(named=True):
        mark = marks.get((row["session_date"], row["worst_scenario"]), "")
        out.print(_table(row, _worst(findings, row["portfolio_id"]), f", {mark}" if mark else "", seconds))


def _worst(findings: pl.DataFrame, portfolio_id: int) -> str:
    own = findings.filter(
        (pl.col("portfolio_ids") == "[]")
        | pl.col("portfolio_ids").str.json_decode(pl.List(pl.Int64)).list.contains(portfolio_id)
    )
    if own.is_empty():
        return "none: every check passed"
    # a finding of this portfolio says more to its reader than one that concerns all of them
    worst = (
        own.with_columns(shared=pl.col("portfolio_ids") == "[]")
        .sort("severity", "shared", "sessions", descending=[False, False, True], maintain_order=True)
        .row(0, named=True)
    )
    text = worst["description"].split(";")[0]
    return (
        f"{worst['severity']} {worst['asset']}.{worst['check_name']}, {worst['sessions']} session(s), "
        f"latest {worst['session_date']}: {text}"
    )


def _table(row: dict[str, object], worst: str, mark: str, seconds: float | None) -> Table:
    table = Table(
        title=Text.assemble(str(row["name"]), "  ", (f"({row['code']}{_closed(row)})", "dim")),
        title_justify="left",
        show_header=False,
        min_width=78,
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    if row["session_date"] is None:
        table.add_row("no snapshot yet", "", "inception", str(row["inception_date"]))
        return table
    table.add_row("session", str(row["session_date"]), "net asset value", _money(row["net_asset_value"]))
    table.add_row("P&L day", _money(row["daily_pnl"]), "return day", _percent(row["daily_return"]))
    table.add_row("P&L month to date", _money(row["mtd_pnl"]), "return MTD", _percent(row["mtd_return"]))
    table.add_row("P&L year to date", _money(row["ytd_pnl"]), "return YTD", _percent(row["ytd_return"]))
    table.add_row("P&L since inception", _money(row["cumulative_pnl"]), "return", _percent(row["cumulative_return"]))
    table.add_row("gross exposure", _money(row["gross_exposure"]), "net exposure", _money(row["net_exposure"]))
    table.add_row("cash", _money(row["cash_balance"]), "drawdown", _percent(row["drawdown"]))
    table.add_row(
        "positions",
        f"{row['position_count']}, {row['option_count']} options",
        "sessions",
        f"{row['sessions']}",
    )
    _add_exposures(table, row)
    if seconds is not None:
        table.add_row("seconds taken", f"{seconds:.1f}", "", "")
    table.caption = f"{_simulated(row)}{_worst_scenario(row, mark)}worst data-quality finding: {worst}"
    table.caption_justify = "left"
    return table


def _closed(row: dict[str, object]) -> str:
    return f", closed at {row['closing_date']}" if row["closing_date"] else ""


def _add_exposures(table: Table, row: dict[str, object]) -> None:
    """Rows on options, factors and risk; a figure that could not be computed shows its reason."""
    table.add_section()
    table.add_row(
        "delta-adjusted net",
        _money(row["delta_adjusted_net"], row["greeks_status"]),
        "implied volatilities",
        f"{row['implied']} of {row['option_count']}" if row["option_count"] else "no options",
    )
    table.add_row("theta, a day", _number(row["theta"], ",.0f"), "vega, a point", _number(row["vega"], ",.0f"))
    table.add_row(
        "market beta",
        _number(row["market_beta"], "+.2f", row["market_status"]),
        f"{row['largest_factor'] or 'other'} beta",
        _number(row["largest_beta"], "+.2f"),
    )
    table.add_row(
        "yields up 1 bp",
        _money(row["basis_point"], row["rate_status"]),
        "factor coverage",
        _number(row["market_coverage"], ".0%", row["market_status"]),
    )
    table.add_row(
        "effective positions",
        _number(row["effective_positions"], ".1f"),
        "average correlation",
        _number(row["overall_correlation"], ".2f", row["correlation_status"]),
    )
    table.add_row(
        "volatility, 63 days",
        _number(row["volatility"], ".1%", row["metrics_status"]),
        "factor VaR 95 %",
        _number(row["factor_var_95"], ".2%", row["factor_var_status"]),
    )
    table.add_row(
        "simulated VaR 95 %",
        _number(row["simulated_var"], ".2%", row["simulated_status"]),
        "simulated ES 97.5 %",
        _number(row["simulated_shortfall"], ".2%", row["simulated_status"]),
    )
    table.add_row("P&L day, market", _money(row["market_pnl"]), "P&L day, specific", _money(row["rest_pnl"]))


def _simulated(row: dict[str, object]) -> str:
    """What today's positions would have lost on the worst of the sessions, and who makes up most of the shortfall."""
    if row["worst_session"] is None:
        return ""
    lost = f"today's positions on the worst past session: {_money(row['simulated_worst'])} ({row['worst_session']})"
    if row["largest_contributor"] is None:
        return f"{lost}\n"
    return f"{lost}; {_number(row['contribution'], '.0%')} of the shortfall is {row['largest_contributor']}\n"


def _worst_scenario(row: dict[str, object], mark: str) -> str:
    if row["worst_scenario"] is None:
        return ""
    share = _number(row["worst_impact"], ".1%", "no net asset value")
    return f"worst scenario: {row['worst_scenario']} {_money(row['worst_pnl'])} ({share}){mark}\n"


def _number(value: object, form: str, reason: object = None) -> str:
    return format(value, form) if isinstance(value, int | float) else str(reason or "-")


def _money(text: object, reason: object = None) -> str:
    return str(reason or "-") if text is None else f"{Decimal(str(text)):,.2f}"


def _percent(value: object) -> str:
    return f"{value:+.2%}" if isinstance(value, float) else "-"
