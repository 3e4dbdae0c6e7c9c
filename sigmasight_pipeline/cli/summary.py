"""Readable summaries: one table per portfolio with its newest figures and the worst data-quality finding.

What belongs here: formatting of what is stored. What does not: computing any figure.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl
from rich.table import Table
from rich.text import Text

from sigmasight_pipeline.cli.console import out
from sigmasight_pipeline.storage.database import Database

_NEWEST = """
SELECT p.portfolio_id, p.code, p.name, p.inception_date, s.session_date, s.net_asset_value::text AS net_asset_value,
       s.cash_balance::text AS cash_balance, s.daily_pnl::text AS daily_pnl, s.daily_return,
       s.mtd_pnl::text AS mtd_pnl, s.mtd_return, s.ytd_pnl::text AS ytd_pnl, s.ytd_return,
       s.cumulative_pnl::text AS cumulative_pnl, s.cumulative_return, s.gross_exposure::text AS gross_exposure,
       s.net_exposure::text AS net_exposure, s.leverage, s.drawdown, s.position_count, s.option_count,
       s.stale_positions, s.unpriced_positions, s.model_priced_positions,
       (SELECT count(*) FROM sigmasight.portfolio_snapshots c WHERE c.portfolio_id = p.portfolio_id) AS sessions
FROM sigmasight.portfolios p
LEFT JOIN LATERAL (SELECT * FROM sigmasight.portfolio_snapshots s WHERE s.portfolio_id = p.portfolio_id
                   ORDER BY session_date DESC LIMIT 1) s ON true
WHERE p.active ORDER BY p.code
"""

_FINDINGS = """
WITH verdicts AS (
  SELECT DISTINCT ON (session_date, asset, check_name) session_date, asset, check_name, severity, passed,
         description, metadata
  FROM sigmasight.data_quality_results ORDER BY session_date, asset, check_name, checked_at DESC
)
SELECT asset, check_name, severity, session_date, description,
       coalesce(metadata -> 'portfolio_ids', '[]'::jsonb)::text AS portfolio_ids,
       count(*) OVER (PARTITION BY asset, check_name) AS sessions
FROM verdicts WHERE NOT passed
ORDER BY severity, sessions DESC, session_date DESC
"""


def newest(database: Database) -> pl.DataFrame:
    """One row per active portfolio: its newest snapshot, NULLs where it has none."""
    return database.query(_NEWEST)


def open_findings(database: Database) -> pl.DataFrame:
    """Failed verdicts of each session's newest check, worst first (ERROR before WARN, then most sessions)."""
    return database.query(_FINDINGS)


def print_portfolios(database: Database, seconds: float | None = None) -> None:
    """Print every portfolio's newest figures and its worst finding."""
    findings = open_findings(database)
    for row in newest(database).iter_rows(named=True):
        out.print(_table(row, _worst(findings, row["portfolio_id"]), seconds))


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


def _table(row: dict[str, object], worst: str, seconds: float | None) -> Table:
    table = Table(
        title=Text.assemble(str(row["name"]), "  ", (f"({row['code']})", "dim")),
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
        f"{row['position_count']} ({row['option_count']} options)",
        "sessions",
        f"{row['sessions']} since {row['inception_date']}",
    )
    if seconds is not None:
        table.add_row("seconds taken (all)", f"{seconds:.1f}", "", "")
    table.caption = f"worst data-quality finding: {worst}"
    table.caption_justify = "left"
    return table


def _money(text: object) -> str:
    return "-" if text is None else f"{Decimal(str(text)):,.2f}"


def _percent(value: object) -> str:
    return f"{value:+.2%}" if isinstance(value, float) else "-"
