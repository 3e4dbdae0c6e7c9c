"""What an audit finds wrong: a closed list of codes, the sentence of each finding and the command that puts it right.

What belongs here: turning faults of what is stored into findings. What does not: the SQL (``storage.audit_faults``,
``storage.audit_integrity``) and the page they stand on (``operations.audit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sigmasight_pipeline.operations.restatement import OutOfDate
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import audit as figures
from sigmasight_pipeline.storage import audit_faults as faults
from sigmasight_pipeline.storage import audit_integrity as integrity
from sigmasight_pipeline.storage.audit import Connection, Row, Scope
from sigmasight_pipeline.storage.identities import MEANINGS

CODES: dict[str, str] = {
    "snapshot_missing": "ERROR",
    "result_missing": "ERROR",
    "scenario_missing": "ERROR",
    "net_asset_value_identity": "ERROR",
    "cash_identity": "ERROR",
    "market_value_identity": "ERROR",
    "daily_pnl_identity": "ERROR",
    "telescoping_identity": "ERROR",
    "results_out_of_date": "ERROR",
    "equity_balance": "ERROR",
    "duplicate_rows": "ERROR",
    "key_missing": "ERROR",
    "index_missing": "WARN",
    "orphan_rows": "ERROR",
    "row_off_calendar": "ERROR",
    "check_failed": "ERROR",
    "price_stale": "WARN",
    "position_unpriced": "WARN",
    "short_history": "WARN",
    "engine_incomplete": "WARN",
    "backfill_failed": "WARN",
    "run_failed": "WARN",
    "import_waiting": "WARN",
    "results_late": "WARN",
}
"""Every finding there is, and how severe it is."""

IDENTITIES = {
    **MEANINGS,
    "telescoping": "positions' P&L since entry did not move by the day's P&L",
}
"""The identities, and what it means that one is broken."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, where, and the command that puts it right. `portfolio` None: it concerns all."""

    code: str
    what: str
    command: str
    portfolio: str | None = None
    first: date | None = None
    last: date | None = None
    count: int = 1

    @property
    def severity(self) -> str:
        """ERROR: figures are wrong or missing; WARN: somebody should look."""
        return CODES[self.code]

    def as_dict(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {"severity": self.severity, **asdict(self)}


def findings(
    connection: Connection,
    scope: Scope,
    settings: Settings,
    *,
    through: date | None,
    due: date,
    identities: Sequence[Row],
    short: Sequence[Row],
) -> tuple[Finding, ...]:
    """Everything that is wrong, worst first. `through`: the newest session snapshots should reach; `due`: the newest
    session that has ended."""
    found = [
        *_of_snapshots(connection, scope, through),
        *_of_identities(connection, identities),
        *_of_rows(connection, scope, due),
        *_of_keys(connection),
        *_of_prices(connection, scope, settings, short),
        *_of_engines(connection, scope),
        *_of_runs(connection),
    ]
    return in_order(found)


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings, the worst first."""
    return tuple(sorted(found, key=lambda one: (one.severity, list(CODES).index(one.code), one.portfolio or "")))


def stale_results(stale: OutOfDate | None) -> Iterator[Finding]:
    """Results that are older than the inputs they were made from."""
    if stale is not None:
        yield Finding(
            "results_out_of_date",
            f"what depends on {stale.what} was not computed anew",
            "sigmasight gaps --fill",
            first=stale.first,
            last=stale.last,
            count=stale.outstanding.count,
        )


def late_results(late: Iterable[Row]) -> Iterator[Finding]:
    """Books that are behind the exchange's calendar (``storage.standing.late``)."""
    for row in late:
        yield Finding(
            "results_late",
            row["told"],
            row["command"],
            portfolio=row["code"],
            first=row["first_late"],
            last=row["due"],
            count=row["sessions"],
        )


def _range(command: str, first: date, last: date | None, portfolio: str | None = None) -> str:
    to = f" --to {last}" if last is not None else ""
    return f"sigmasight {command} --from {first}{to}" + (f" --portfolio {portfolio}" if portfolio else "")


def _of_snapshots(connection: Connection, scope: Scope, through: date | None) -> Iterator[Finding]:
    if through is None:
        return
    newest = _end_of_chain(connection, through)
    for row in faults.missing_snapshots(connection, scope, through):
        yield Finding(
            "snapshot_missing",
            f"no snapshot on {row['rows']} session(s)",
            _range("backfill", row["first"], newest, row["portfolio"]),
            **_where(row),
        )
    for row in faults.missing_results(connection, scope):
        yield Finding(
            "result_missing",
            f"{row['engine']} has no row on {row['rows']} session(s)",
            _range("backfill", row["first"], row["last"], row["portfolio"]),
            **_where(row),
        )
    for row in faults.missing_scenarios(connection, scope):
        yield Finding(
            "scenario_missing",
            f"{row['rows']} scenario result(s) missing, {row['example']} among them",
            _range("backfill", row["first"], row["last"], row["portfolio"]),
            **_where(row),
        )
    for row in faults.equity(connection, scope):
        balance = "nothing" if row["equity_balance"] is None else f"{row['equity_balance']} of {row['equity_as_of']}"
        value = "there is no snapshot" if row["newest"] is None else f"the newest snapshot has {row['net_asset_value']}"
        day = row["newest"] or through
        yield Finding(
            "equity_balance",
            f"the portfolio's equity balance is {balance}, {value}",
            _range("repair", day, day, row["portfolio"]),
            portfolio=row["portfolio"],
            first=day,
            last=day,
        )


def _end_of_chain(connection: Connection, day: date) -> date:
    """The newest snapshot: what changes a session of the chain changes every later one."""
    return max(figures.newest_snapshot(connection, Scope()) or day, day)


def _of_identities(connection: Connection, identities: Sequence[Row]) -> Iterator[Finding]:
    for row in identities:
        if row["broken"]:
            yield Finding(
                f"{row['identity']}_identity",
                f"{IDENTITIES[row['identity']]}; worst residual {row['worst']}",
                _range("repair", row["first"], _end_of_chain(connection, row["last"]), row["portfolio"]),
                portfolio=row["portfolio"],
                first=row["first"],
                last=row["last"],
                count=row["broken"],
            )


def _of_rows(connection: Connection, scope: Scope, due: date) -> Iterator[Finding]:
    for row in integrity.misplaced_rows(connection, scope, due):
        table, problem, first, last = row["table_name"], row["problem"], row["first"], row["last"]
        where = {"first": first, "last": last, "count": row["rows"]}
        if problem in ("future", "no_session"):
            what = f"of days after {due}, the newest session" if problem == "future" else "of days that are no sessions"
            open_days = "SELECT session_date FROM trading_sessions WHERE NOT is_closed"
            days = f"session_date > '{due}'" if problem == "future" else f"session_date NOT IN ({open_days})"
            yield Finding(
                "row_off_calendar",
                f"{table}: {row['rows']} row(s) {what}",
                f'sigmasight db psql -- -c "DELETE FROM {table} WHERE {days}"',
                **where,
            )
        else:
            yield Finding(
                "orphan_rows",
                f"{table}: {row['rows']} row(s) whose {problem} does not exist ({row['example']})",
                _range("backfill", first, last),
                **where,
            )


def _of_keys(connection: Connection) -> Iterator[Finding]:
    for row in integrity.lost_keys(connection):
        table, listed = row["table_name"], ", ".join(row["columns"])
        if row["kind"] != "index":
            for repeated in integrity.duplicates(connection, table, row["columns"]):
                first = repeated["first"]
                yield Finding(
                    "duplicate_rows",
                    f"{table}: {repeated['rows']} row(s) beyond one per {listed}",
                    _range("backfill", first, repeated["last"])
                    if first is not None
                    else f'sigmasight db psql -- -c "SELECT {listed}, count(*) FROM {table} GROUP BY {listed} '
                    'HAVING count(*) > 1"',
                    first=first,
                    last=repeated["last"],
                    count=repeated["rows"],
                )
        yield Finding(
            "index_missing" if row["kind"] == "index" else "key_missing",
            f"{table}: the {row['kind']} {row['name']} on {listed} is {row['state']}",
            f'sigmasight db psql -- -c "{row["statement"]}"',
        )


def _of_prices(connection: Connection, scope: Scope, settings: Settings, short: Sequence[Row]) -> Iterator[Finding]:
    for row in faults.stale_prices(connection, scope, settings.max_stale_sessions):
        yield Finding(
            "price_stale",
            f"{row['symbol']} is held at a price of {row['price_date']}, up to {row['age']} sessions old",
            _range("backfill", row["first"], row["last"], row["portfolio"]),
            **_where(row),
        )
    for row in faults.unpriced_positions(connection, scope):
        yield Finding(
            "position_unpriced",
            f"{row['symbol']} is held at its entry price: it was never priced",
            _range("backfill", row["first"], row["last"], row["portfolio"]),
            **_where(row),
        )
    for row in short:
        if why_short(row) is None:
            yield Finding(
                "short_history",
                f"{row['symbol']} has {row['returns']} return(s) of the {row['window_sessions']} sessions of the "
                "regression window",
                "sigmasight gaps --fill",
            )


def why_short(row: Row) -> str | None:
    """Why a symbol may have few returns; None where it should have more."""
    if row["last_session"] is not None:
        return f"stopped trading on {row['last_session']}"
    if not row["active"]:
        return "not active"
    if row["first_session"] is not None and row["returns"] >= figures.SHORT_SHARE * row["possible"]:
        return f"first priced on {row['first_session']}"
    return None


def _of_engines(connection: Connection, scope: Scope) -> Iterator[Finding]:
    for row in faults.incomplete_engines(connection, scope):
        yield Finding(
            "engine_incomplete",
            f"{row['engine']} is {row['status']} on {row['rows']} session(s): {row['reason'] or 'no reason given'}",
            "sigmasight gaps --fill" + (f" --portfolio {row['portfolio']}" if row["portfolio"] else ""),
            **{**_where(row), "portfolio": row["portfolio"] or None},
        )
    for row in faults.failed_checks(connection, scope):
        yield Finding(
            "check_failed",
            f"{row['asset']}.{row['check_name']}: {row['description'].split(';')[0]}",
            _range("backfill", row["first"], row["last"]),
            first=row["first"],
            last=row["last"],
            count=row["rows"],
        )


def _of_runs(connection: Connection) -> Iterator[Finding]:
    for row in faults.failed_backfills(connection):
        yield Finding(
            "backfill_failed",
            f"backfill {row['backfill_id']} ({row['reason']}) failed: {row['error'] or 'no error recorded'}",
            _range("backfill", row["first"], row["last"]) if row["first"] else "sigmasight backfill",
            first=row["first"],
            last=row["last"],
        )
    for row in faults.failed_runs(connection):
        error = (row["error_message"] or "no error recorded").split("\n")[0]
        yield Finding(
            "run_failed",
            f"the newest run of {row['job_name']} ({row['run_id'][:8]}, {row['ended_at']:%Y-%m-%d %H:%M} UTC) "
            f"failed: {error}",
            _range("backfill", row["first"], row["last"]) if row["first"] else "sigmasight backfill",
            first=row["first"],
            last=row["last"],
        )
    for row in faults.waiting_imports(connection):
        yield Finding(
            "import_waiting",
            "an accepted file waits to be applied",
            f"sigmasight backfill --portfolio {row['portfolio']}",
            portfolio=row["portfolio"],
        )


def _where(row: Row) -> dict[str, Any]:
    return {"portfolio": row["portfolio"], "first": row["first"], "last": row["last"], "count": row["rows"]}
