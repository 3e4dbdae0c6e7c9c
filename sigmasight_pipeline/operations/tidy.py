"""Removing what is older than somebody wants to keep: results of ours, and what Dagster keeps of ended runs.

What belongs here: which tables are purged, from which session on each is kept, and the order of the steps. What does
not: the SQL (``storage.retention``, ``storage.event_retention``) and how it is told (``cli.tidy``).

Kept for ever, whatever the settings: market data and returns, which nobody could compute again; snapshots and what they
are made from, so that the chain of net asset values is whole and any session can be computed from the one before; and
of Dagster's tables what its UI shows of the newest state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache

import dagster as dg
from sqlalchemy import Table

from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.operations import dependence
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import event_retention, retention, tables
from sigmasight_pipeline.storage.database import SESSION, Database
from sigmasight_pipeline.storage.event_retention import Removed

Told = Callable[[str], None]
"""Takes one line about how far a step has come."""


@cache
def purged_tables() -> dict[Table, int]:
    """Tables old sessions are removed of, each with how many sessions before the first kept one others still read."""
    market = graph.in_groups(["market_data"])
    return {
        table: _read_back(str(table.name))
        for table in tables.metadata.sorted_tables
        if SESSION in table.primary_key.columns
        and (set(tables.PROVENANCE) <= set(table.columns.keys()) or table is tables.data_quality_results)
        and table.name not in dependence.chained()
        and table.name not in market
    }


def _read_back(name: str) -> int:
    """How many sessions later an asset may still read a session of the table `name`; 0 for what no asset reads."""
    furthest = dependence.read_back(name)
    if math.isinf(furthest):
        raise ValueError(f"{name} is read however old it is, so no session of it can be removed")
    return int(furthest)


def cutoffs(database: Database, kept_sessions: int | None) -> dict[Table, date]:
    """The first session that is kept of each purged table; none where everything is kept, or there is nothing older."""
    if kept_sessions is None:
        return {}
    furthest = kept_sessions + max(purged_tables().values())
    days = retention.newest_sessions(database, furthest)
    return {
        table: days[-(kept_sessions + before)]
        for table, before in purged_tables().items()
        if kept_sessions + before <= len(days)
    }


def tidy_results(database: Database, settings: Settings, now: datetime, told: Told, *, dry_run: bool) -> dict[str, int]:
    """Rows removed by table (with `dry_run`: that would be), tables without any left out."""
    found = cutoffs(database, settings.retention_sessions)
    if dry_run:
        return {name: rows for name, rows in retention.rows_before(database, found).items() if rows}
    removed: dict[str, int] = {}
    for part in retention.purge(database, found, now) if found else ():
        for name, rows in part.items():
            removed[name] = removed.get(name, 0) + rows
            told(f"{name}: {removed[name]:,} rows")
    return removed


def tidy_events(dagster_url: str, settings: Settings, now: datetime, told: Told, *, dry_run: bool) -> Removed:
    """What is removed of Dagster's tables, with the output of runs (with `dry_run`: what would be)."""
    before = now - timedelta(days=settings.dagster_retention_days)
    runs = event_retention.old_runs(dagster_url, before=before)
    removed = Removed()
    for part in event_retention.remove(dagster_url, runs, before=before, dry_run=dry_run):
        removed += part
        told(f"runs of Dagster: {removed.events:,} events of {len(runs):,} old runs")
    if not dry_run and runs:
        _remove_output(runs)
    return removed


def _remove_output(runs: Sequence[str]) -> None:
    """Remove what processes of old runs have printed."""
    with dg.DagsterInstance.get() as instance:
        for run in runs:
            instance.compute_log_manager.delete_logs(prefix=[run])


def summary(results: Mapping[str, int], events: Removed) -> list[tuple[str, int]]:
    """(what, rows) of everything that was removed, most rows first."""
    found = [(f"sigmasight.{name}", rows) for name, rows in results.items()]
    found += [
        ("dagster: checks planned and never evaluated", events.planned_checks),
        ("dagster: verdicts followed by newer ones", events.verdicts),
        ("dagster: events of ended runs", events.events),
        ("dagster: runs of which nothing is left", events.runs),
        ("dagster: ticks of schedules and sensors", events.ticks),
    ]
    return sorted(((what, rows) for what, rows in found if rows), key=lambda one: (-one[1], one[0]))
