"""Readable summaries: one table per portfolio with its newest figures and the worst data-quality finding.

What belongs here: formatting of what is stored. What does not: computing any figure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sigmasight_pipeline.cli.console import print_table

if TYPE_CHECKING:
    import polars as pl

    from sigmasight_pipeline.storage.database import Database


def print_portfolios(database: Database, seconds: float | None = None) -> None:
    """Print every portfolio's newest figures and its worst finding."""
    from sigmasight_pipeline.operations import scenarios
    from sigmasight_pipeline.storage import standing, verdicts

    findings, rows = verdicts.failed(database), standing.figures(database)
    marks = scenarios.marks(database, rows["session_date"].drop_nulls().unique().to_list())
    for row in rows.iter_rows(named=True):
        mark = marks.get((row["session_date"], row["worst_scenario"]), "")
        print_table(_table(row, _worst(findings, row["portfolio_id"]), f", {mark}" if mark else "", seconds))


def _worst(findings: pl.DataFrame, portfolio_id: int) -> str:
    import polars as pl

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
