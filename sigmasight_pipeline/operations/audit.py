"""The audit page: whether everything is there and right, figure by figure, and what to do where it is not.

What belongs here: the sections of the page. What does not: its findings (``operations.audit_findings``), the SQL
(``storage.audit`` and its siblings) and how the page looks (``cli.audit``).

What is expected and explained is counted, and is no finding: a symbol whose history is short because it was first
priced then, one that stopped trading and says so, gaps in prices and failed checks of severity WARN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sigmasight_pipeline.operations.audit_findings import (
    IDENTITIES,
    Finding,
    findings,
    in_order,
    late_results,
    stale_results,
    why_short,
)
from sigmasight_pipeline.operations.history import newest_session
from sigmasight_pipeline.operations.restatement import OutOfDate
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import audit as figures
from sigmasight_pipeline.storage import audit_faults as faults
from sigmasight_pipeline.storage.audit import Connection, Row, Scope
from sigmasight_pipeline.storage.standing import UnknownPortfolioError

SHOWN_GAPS = 10
"""Symbols with gaps in their prices that are listed."""


@dataclass(frozen=True)
class Audit:
    """The page: what was looked at, the sections, and what is wrong, worst first."""

    looked_at: Row
    sections: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """The page as one JSON object."""
        return {
            "healthy": self.healthy,
            "looked_at": self.looked_at,
            "findings": [finding.as_dict() for finding in self.findings],
            "sections": self.sections,
        }


def audit(
    connection: Connection,
    settings: Settings,
    *,
    now: datetime,
    portfolios: Sequence[str] = (),
    first: date | None = None,
    last: date | None = None,
    stale: OutOfDate | None = None,
    late: Iterable[Row] = (),
) -> Audit:
    """The page for `portfolios` (default all) and the sessions `first` to `last` (default all), as of `now`.

    What belongs to no portfolio or session (keys, runs, instruments, what changed inputs still ask for, `stale`) is
    looked at in any case; books that are `late` (``storage.standing.late``) where the newest session is in the range.
    UnknownPortfolioError.
    """
    known = figures.portfolio_ids(connection)
    if unknown := [code for code in portfolios if code not in known]:
        raise UnknownPortfolioError(unknown, list(known))
    ids = tuple(known[code] for code in portfolios) if portfolios else None
    scope = Scope(ids, first or date.min, last or date.max)
    due = min(filter(None, (newest_session(settings, now), figures.closing(connection, scope))))
    newest = figures.newest_snapshot(connection, scope)
    through = newest or figures.newest_priced(connection, scope)
    identities = faults.identities(connection, scope)
    short = figures.short_histories(connection, through, settings.regression_window) if through else []
    found = findings(connection, scope, settings, through=through, due=due, identities=identities, short=short)
    behind = [row for row in late if last is None and (not portfolios or row["code"] in portfolios)]
    found = in_order([*found, *stale_results(stale), *late_results(behind)])
    prices = figures.prices(connection, scope)
    sections: dict[str, Any] = {
        "snapshots": faults.history(connection, scope, through) if through else [],
        "coverage": figures.coverage(connection, scope),
        "betas": figures.betas(connection, scope),
        "correlations": figures.correlations(connection, scope),
        "stress": _stress(connection, scope, found),
        "identities": _worst(identities),
        "prices": {
            "symbols": len(prices),
            "sessions": figures.priced_sessions(connection, scope),
            "rows": sum(row["rows"] for row in prices),
            "first": min((row["first"] for row in prices), default=None),
            "last": max((row["last"] for row in prices), default=None),
            "missing": sum(row["missing"] for row in prices),
            "gaps": [row for row in prices if row["missing"]][:SHOWN_GAPS],
            "stale": sum(finding.count for finding in found if finding.code == "price_stale"),
            "rejected": {row["status"]: row["rows"] for row in figures.rejected_prices(connection, scope)},
        },
        "instruments": figures.instruments(connection),
        "short_histories": [{**row, "reason": why_short(row) or "returns are missing"} for row in short],
        "checks": figures.checks(connection, scope),
        "calculation_audit": {row["status"]: row["rows"] for row in figures.calculation_audit(connection, scope)},
        "runs": figures.runs(connection),
        "open_backfills": figures.open_backfills(connection),
    }
    return Audit(
        looked_at={
            "at": now,
            "portfolios": list(portfolios) or list(known),
            "first": first,
            "last": last,
            "newest_session": newest,
            "session_due": due,
            "sessions_behind": figures.sessions_between(connection, newest, due) if newest and not last else None,
        },
        sections=sections,
        findings=found,
    )


def _worst(identities: Sequence[Row]) -> list[Row]:
    """The identities over all portfolios: how often checked and broken, the worst residual and where it is."""
    found = []
    for name in IDENTITIES:
        rows = [row for row in identities if row["identity"] == name]
        worst = max(rows, key=lambda row: abs(row["worst"] or 0), default=None)
        found.append(
            {
                "identity": name,
                "checked": sum(row["checked"] for row in rows),
                "broken": sum(row["broken"] for row in rows),
                "worst_residual": None if worst is None else worst["worst"],
                "portfolio": None if worst is None or not worst["broken"] else worst["portfolio"],
            }
        )
    return found


def _stress(connection: Connection, scope: Scope, findings: Sequence[Finding]) -> list[Row]:
    missing = [finding for finding in findings if finding.code == "scenario_missing"]
    return [
        {**row, "missing": sum(finding.count for finding in missing if finding.portfolio == row["portfolio"])}
        for row in figures.stress(connection, scope)
    ]
