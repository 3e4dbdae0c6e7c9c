"""A source whose past changed: which stored sessions are read again, so that prices compare themselves.

What belongs here: telling from what a source has of each month what changed since it was last looked at, and asking for
the range of market data. What does not: comparing prices (``assets.market_data``) and what follows from a price that
changed (``operations.restatement``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline.market_data.source import MarketDataError, MarketDataSource
from sigmasight_pipeline.operations import backfills, jobs
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import priced_range

TRIGGER = "sensor"


@dataclass(frozen=True)
class Looked:
    """What a look at the source came to: `contents` is what it is remembered by from now on."""

    contents: Mapping[str, str] | None
    sentence: str | None = None


def look(
    database: Database,
    settings: Settings,
    source: MarketDataSource,
    calendar: SessionCalendar,
    *,
    known: Mapping[str, str] | None,
    last_read: datetime | None,
    busy: str | None,
    now: datetime,
) -> Looked:
    """Ask for stored sessions of months that changed since `known` to be read again.

    Where nothing is known yet, all of them, if the source was changed since it was `last_read`. What is remembered
    moves on when the range has ended: one that fails is asked for again, as often as `gap_attempts` says.
    """
    try:
        contents = source.contents()
    except MarketDataError as error:  # a file being written, say: changes of what is stored must not wait for it
        return Looked(known, f"the {source.name} source cannot be read: {error}")
    if known is None:
        changed_at = source.changed_at()
        untouched = last_read is None or changed_at is None or changed_at <= last_read
        known = contents if untouched else {}
    months = sorted(month for month in {*contents, *known} if contents.get(month) != known.get(month))
    stored = priced_range(database)
    days = [
        day
        for day in (calendar.between(*stored) if stored and months else ())
        if months[0] <= day.isoformat()[:7] <= months[-1] and day >= settings.first_session
    ]
    if not days:
        return Looked(contents)
    what = f"the {source.name} source changed in {len(months)} month(s) from {months[0]} on"
    chunks = plan_range(
        jobs.market_data.name,
        days[0],
        days[-1],
        calendar=calendar,
        size=settings.max_sessions_per_run,
        trigger=TRIGGER,
    )
    return _asked(database, settings, known, contents, what, chunks, busy=busy, now=now)


def _asked(
    database: Database,
    settings: Settings,
    known: Mapping[str, str],
    contents: Mapping[str, str],
    what: str,
    chunks: Sequence[Chunk],
    *,
    busy: str | None,
    now: datetime,
) -> Looked:
    """What became of reading it again, or asking for it."""
    span = f"{chunks[0].first} to {chunks[-1].last}"
    prefix = f"reread:{_digest(known)}:{_digest(contents)}:"
    earlier = backfills.attempts(database, prefix)
    if earlier and earlier[-1].status == "completed":
        return Looked(contents, f"{what}; {span} were read again")
    if earlier and earlier[-1].canceled:
        return Looked(contents, f"{what}; {backfills.CANCELED}: left until the files change again")
    if len(earlier) >= settings.gap_attempts and earlier[-1].status == "failed":
        return Looked(contents, f"{what}; given up after {len(earlier)} attempts: {earlier[-1].error}")
    waiting = busy or next((str(request) for request in backfills.open_requests(database)), None)
    if waiting:
        return Looked(known, f"{what}; looked at again when this has ended: {waiting}")
    backfills.request(
        database,
        key=f"{prefix}{len(earlier) + 1}",
        trigger=TRIGGER,
        reason=what,
        chunks=chunks,
        now=now,
    )
    return Looked(known, f"{what}; asked for {span} to be read again")


def last_read(instance: dg.DagsterInstance) -> datetime | None:
    """When prices were last read from the source."""
    event = instance.get_latest_materialization_event(dg.AssetKey(tables.daily_prices.name))
    return None if event is None else datetime.fromtimestamp(event.timestamp, UTC)


def _digest(contents: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:12]
