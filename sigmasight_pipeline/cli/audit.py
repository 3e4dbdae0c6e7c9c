"""`sigmasight audit` and `sigmasight checks`: is everything there and right, and which checks fail.

What belongs here: how the two look on a terminal and as JSON, and their exit status. What does not: counting and
finding (``operations.audit``, ``storage.verdicts``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from sigmasight_pipeline.cli.console import OptionError, err, out, print_table, timed
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import connected
from sigmasight_pipeline.cli.options import parse_day

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.audit import Audit
    from sigmasight_pipeline.operations.audit_findings import Finding


def audit(
    portfolio: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only this portfolio, by its code (repeatable); default: all."),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First session; default: the first stored.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last session; default: the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say whether everything is there and right, and for each thing that is not the command that puts it right.

    Exit status 0: healthy; 1: something was found; 2: it could not be looked at.
    """
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.operations import restatement
    from sigmasight_pipeline.operations.audit import audit as make_audit
    from sigmasight_pipeline.storage import standing
    from sigmasight_pipeline.storage.audit import one_moment

    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    if start is not None and end is not None and start > end:
        raise OptionError(f"--from {start} lies after --to {end}; exchange them")
    now = datetime.now(UTC)
    with (
        connected() as installation,
        timed("Looking at every table ..."),
        one_moment(installation.database) as connection,
    ):
        database, settings = installation.database, installation.settings
        page = make_audit(
            connection,
            settings,
            now=now,
            portfolios=portfolio or (),
            first=start,
            last=end,
            stale=restatement.out_of_date(database, settings, sessions.calendar()),
            late=standing.late(database, settings, now).to_dicts(),
        )
    if as_json:
        out.print(json.dumps(page.as_dict(), default=str, indent=2))
    else:
        _print(page)
    raise typer.Exit(ExitStatus.FINE if page.healthy else ExitStatus.FOUND)


def _print(page: Audit) -> None:
    seen, sections = page.looked_at, page.sections
    if not seen["portfolios"]:
        out.print("No portfolio yet.")
    behind = seen["sessions_behind"]
    out.print(
        f"Audit of {', '.join(seen['portfolios']) or 'an empty installation'}"
        + (f", {_span(seen['first'], seen['last'])}" if seen["first"] or seen["last"] else "")
    )
    out.print(
        f"Newest snapshot {seen['newest_session'] or 'none'}, newest session {seen['session_due']}"
        + (f": {behind} session(s) behind" if behind else "")
    )
    _table("Snapshots", sections["snapshots"], "portfolio inception closing first last present missing")
    _table(
        "Coverage of the newest session: Greeks (fallback, none), betas (none), rate betas (none)",
        [_coverage(row) for row in sections["coverage"]],
        "portfolio session positions private greeks betas rate_betas factors",
    )
    _table(
        "Betas of the newest session: observations, R-squared",
        sections["betas"],
        "factor symbols ok smallest_n_obs median_n_obs median_r_squared",
    )
    _table(
        "Correlations: runs of all sessions; pairs and clusters of the newest",
        sections["correlations"],
        "portfolio session runs runs_ok pairs pairs_missing clusters",
    )
    _table("Scenarios", sections["stress"], "portfolio newest scenarios present present_ok sessions missing")
    _table("Identities", sections["identities"], "identity checked broken worst_residual portfolio")
    _print_prices(sections["prices"])
    _table("Instruments", sections["instruments"], "kind instruments with_name with_sector active delisted")
    _table(
        "Symbols with returns on under 80 % of the regression window",
        sections["short_histories"],
        "symbol returns window_sessions possible reason",
    )
    _print_work(sections)
    _print_findings(page.findings)


def _coverage(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "greeks": f"{row['greeks']} ({row['greeks_fallback']}, {row['greeks_none']})",
        "betas": f"{row['betas']} ({row['betas_none']})",
        "rate_betas": f"{row['rate_betas']} ({row['rate_betas_none']})",
        "factors": f"{row['factors_ok']} of {row['factors']}",
    }


def _print_prices(prices: Mapping[str, Any]) -> None:
    rejected = ", ".join(f"{rows} {status}" for status, rows in prices["rejected"].items()) or "none"
    out.print(
        f"Prices: {prices['symbols']} symbols on {prices['sessions']} sessions, {prices['first']} to {prices['last']}\n"
        f"  {prices['missing']} missing between a symbol's first and last; stale valuations: {prices['stale']}; "
        f"refused: {rejected}"
    )
    for row in prices["gaps"]:
        out.print(f"  {row['symbol']} lacks {row['missing']}, {_span(row['first'], row['last'])}", style="dim")


def _print_work(sections: Mapping[str, Any]) -> None:
    for row in sections["checks"]:
        out.print(
            f"Checks, {row['severity']}: {row['checks']}, of which {row['checks_failing']} fail"
            + (f" on {row['sessions_failing']} session(s) (`sigmasight checks`)" if row["checks_failing"] else "")
        )
    counted = sections["calculation_audit"]
    out.print("Engines: " + (", ".join(f"{rows:,} {status}" for status, rows in counted.items()) or "not audited yet"))
    runs = sections["runs"]
    share = f"{runs['succeeded'] / runs['runs']:.0%} succeeded" if runs["runs"] else "none recorded"
    out.print(
        f"Runs, the newest {runs['runs']}: {share}"
        + (f", the last ended {_minute(runs['newest'])}" if runs["runs"] else "")
    )
    for row in runs["errors"]:
        out.print(f"  {row['runs']} x {row['error']}, last {_minute(row['newest'])}", style="dim")
    opened = sections["open_backfills"]
    out.print("Open backfills: " + (f"{len(opened)}" if opened else "none"))
    for row in opened:
        out.print(
            f"  {row['backfill_id']} ({row['requested_by']}: {row['reason']}): {row['done_sessions']} of "
            f"{row['total_sessions']} sessions, {row['status']}",
            style="dim",
        )


def _print_findings(findings: Sequence[Finding]) -> None:
    if not findings:
        out.print("Healthy: nothing was found.", style="green")
        return
    errors = sum(finding.severity == "ERROR" for finding in findings)
    out.print(f"{errors} finding(s) of severity ERROR, {len(findings) - errors} of severity WARN:", style="red")
    for finding in findings:
        where = ", ".join(
            filter(None, [finding.portfolio, _span(finding.first, finding.last) if finding.first else None])
        )
        out.print(
            f"{finding.severity:5} {finding.code}{f' ({where})' if where else ''}: {finding.what}",
            style="red" if finding.severity == "ERROR" else "yellow",
        )
        out.print(f"      {finding.command}", style="dim")


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: str) -> None:
    if not rows:
        out.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in columns.split():
        table.add_column(name.replace("_", " "), justify="left" if _is_text(rows, name) else "right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns.split()))
    print_table(table)


def _is_text(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    return not any(isinstance(row[name], int | float | Decimal) and row[name] is not True for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)


def _span(first: date | None, last: date | None) -> str:
    if first == last:
        return str(first)
    return " ".join(filter(None, [f"from {first}" if first else "", f"to {last}" if last else ""]))


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def checks(
    asset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only checks of this asset (repeatable); default: all.")
    ] = None,
    severity: Annotated[
        Literal["ERROR", "WARN"] | None, typer.Option(case_sensitive=False, help="Only checks of this severity.")
    ] = None,
    failing: Annotated[bool, typer.Option("--failing", help="Only checks that fail on some session.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many checks, the worst first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show the newest verdict of every data-quality check on every session, failing checks first.

    Exit status 1 where a check of severity ERROR fails.
    """
    from sigmasight_pipeline.storage import verdicts

    with connected() as installation:
        found = verdicts.by_check(installation.database, tuple(asset or ())).to_dicts()
    rows = [row for row in found if severity in (None, row["severity"])]
    if asset and (unknown := sorted(set(asset) - {row["asset"] for row in found})):
        raise OptionError(
            f"no check of {', '.join(unknown)} has ever run; `sigmasight checks` without --asset lists all"
        )
    failed = [row for row in rows if row["sessions_failing"]]
    passed = [row for row in rows if not row["sessions_failing"]]
    shown = failed if failing else [*failed, *passed]
    if as_json:
        counted = {"failing": len(failed), "passing": len(passed)}
        out.print(json.dumps({"counts": counted, "checks": shown[:limit]}, default=str, indent=2))
    else:
        _print_checks(failed[:limit], passed, asset is not None and not failing)
        if len(failed) > limit:
            err.print(f"{len(failed) - limit} more failing check(s); --limit shows more.")
    raise typer.Exit(ExitStatus.FOUND if any(row["severity"] == "ERROR" for row in failed) else ExitStatus.FINE)


def _print_checks(failed: Sequence[Mapping[str, Any]], passed: Sequence[Mapping[str, Any]], list_passed: bool) -> None:
    for row in failed:
        where = ", ".join(filter(None, [_span(row["first_failing"], row["last_failing"]), row["portfolios"]]))
        first, *more = row["newest_finding"].split("; ")
        out.print(
            f"{row['severity']:5} {row['asset']}.{row['check_name']}: {row['sessions_failing']} of "
            f"{row['sessions_checked']} session(s), {where}",
            style="red" if row["severity"] == "ERROR" else "yellow",
        )
        out.print(f"      {row['last_failing']}: {first}{f' and {len(more)} more' if more else ''}", style="dim")
    if not failed and not passed:
        out.print("No check has run yet.")
        return
    out.print(f"{len(failed)} check(s) fail, {len(passed)} pass on every session they judged.")
    if list_passed:
        for row in passed:
            out.print(f"pass  {row['asset']}.{row['check_name']}: {row['sessions_checked']} session(s)", style="dim")
