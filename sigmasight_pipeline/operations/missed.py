"""Sessions after the newest snapshot: what of them has prices and is to be computed, and what waits for its prices.

What belongs here: the one answer the schedule and the sensor ``gaps`` go by. What does not: sessions up to the newest
snapshot (``gaps``), and launching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations import backfills, history, jobs, restatement
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar, newest_complete_session
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import standing
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import newest_priced_session

TRIGGER = "schedule"


@dataclass(frozen=True)
class Missed:
    """The runs that compute what has prices, oldest first, and everything there is to say about the rest."""

    chunks: Sequence[Chunk]
    sentence: str


def look(
    database: Database, settings: Settings, source: MarketDataSource, calendar: SessionCalendar, now: datetime
) -> Missed:
    """What there is to compute at `now` after the newest snapshot.

    Ends at the last session the source has prices of. Where prices are stored further than the newest snapshot, an
    earlier run was stopped by the session after them: the chain catches up to them first, and that session cannot
    keep it from being valued night after night.
    """
    done = standing.newest_snapshot(database)
    newest = history.newest_session(settings, now)
    if done is not None and done >= newest:
        return Missed((), f"{newest} is done, the newest snapshot is of {done}{_ending(settings, newest, now)}")
    try:
        bounds = history.available(settings, source, calendar, now)
    except history.NothingToRunError as error:
        return Missed((), str(error))
    first = bounds.last if done is None else calendar.offset(done, 1)
    closed = standing.closing_of(database)
    if closed is not None and first > closed:
        return Missed((), f"every portfolio is closed, the last one at {closed}: nothing is due after it")
    end = bounds.last if closed is None else min(bounds.last, closed)
    waiting = bounds.waiting(calendar, first, closed)
    if first > bounds.last:
        return Missed((), waiting or f"nothing after {done} can be computed yet")
    chunks = plan_range(
        jobs.daily.name,
        first,
        _last(first, end, newest_priced_session(database)),
        calendar=calendar,
        size=settings.max_sessions_per_run,
        trigger=TRIGGER,
    )
    until = f"{first} to {chunks[-1].last}" if chunks[-1].last != first else str(first)
    return Missed(chunks, f"{until}, missed since the newest snapshot{f'; {waiting}' if waiting else ''}")


def owed_before(database: Database, settings: Settings, calendar: SessionCalendar) -> restatement.OutOfDate | None:
    """What is older than its inputs and has to be computed anew before any new session is; None where nothing is.

    The value of a session starts from that of the session before: on top of one that is older than its close, say, it
    would not add up. What is left alone (``restatement.left_alone``) keeps no session waiting for ever.
    """
    stale = restatement.out_of_date(database, settings, calendar)
    return None if stale is None or restatement.left_alone(database, settings, stale) else stale


TICK_DELAY = timedelta(hours=1)
"""After the end of a session's UTC day the schedule's own tick goes first."""


def request(
    database: Database, settings: Settings, source: MarketDataSource, calendar: SessionCalendar, now: datetime
) -> str:
    """Ask for what the schedule left waiting and has prices by now, once for each state of the source.

    Changed inputs of computed sessions come first."""
    found = look(database, settings, source, calendar, now - TICK_DELAY)
    if not found.chunks:
        return found.sentence
    if owed := owed_before(database, settings, calendar):
        return f"{found.sentence}; asked for when this is followed: {owed.what}"
    span = f"{found.chunks[0].first}:{found.chunks[-1].last}"
    number = backfills.request(
        database,
        key=f"{TRIGGER}:{span}:{source.changed_at() or 'unchanging'}",
        trigger=TRIGGER,
        reason=found.sentence,
        chunks=found.chunks,
        now=now,
    )
    asked = f"backfill {number} asked for" if number is not None else "asked for before, and the source is as it was"
    return f"{asked}: {found.sentence}"


def _last(first: date, available: date, priced: date | None) -> date:
    """Last session to ask for: the newest priced one where it was not valued yet, else all that is available."""
    return priced if priced is not None and first <= priced < available else available


def _ending(settings: Settings, newest: date, now: datetime) -> str:
    if settings.last_session is None or newest_complete_session(now) <= newest:
        return ""
    return f", and the history ends at {settings.last_session} (SIGMASIGHT_LAST_SESSION, or the end the demo recorded)"
