"""Which sessions need running: the range of a portfolio's history, its look-back of prices, what is missing.

What belongs here: reading what is stored and turning it into ranges for the launcher. What does not: running them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations import look_back as look_backs
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar, newest_complete_session
from sigmasight_pipeline.sessions import calendar as calendar_of
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import standing
from sigmasight_pipeline.storage.database import Database


class NothingToRunError(ValueError):
    """A range that was asked for holds no session that could be run."""


@dataclass(frozen=True)
class Available:
    """First and last session the installation and its source can be run for, and the newest that has ended.

    Sessions after `last`, up to `newest`, wait for their prices.
    """

    first: date
    last: date
    newest: date

    def waiting(self, calendar: SessionCalendar, first: date | None = None, last: date | None = None) -> str | None:
        """Sessions from `first` to `last` that have ended and wait for their prices, in words; None without any."""
        days = calendar.between(
            max(first or self.first, calendar.offset(self.last, 1)), min(last or self.newest, self.newest)
        )
        if not days:
            return None
        which = f"{days[0]} waits" if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} sessions) wait"
        return f"{which} for prices: the source has none after {self.last}"


def newest_session(settings: Settings, now: datetime | None = None) -> date:
    """The newest session that has ended, none after the last one of a fixed history (setting last_session)."""
    newest = newest_complete_session(now)
    end = settings.last_session
    return newest if end is None or newest <= end else calendar_of(now and now.date()).on_or_before(end)


def available(
    settings: Settings, source: MarketDataSource, calendar: SessionCalendar, now: datetime | None = None
) -> Available:
    """Sessions that can be run: from the first stored one, as far as time, the source and the setting last_session go.

    NothingToRunError where the installation begins after that.
    """
    newest = newest_session(settings, now)
    first, last = settings.first_session, newest
    bounds = source.stored_range()
    if bounds is not None:
        first = max(first, bounds[0])
        last = min(last, calendar.on_or_before(min(bounds[1], calendar.last)))
    if settings.first_session > last:
        raise NothingToRunError(
            f"SIGMASIGHT_FIRST_SESSION is {settings.first_session}, after the newest session with prices, {last}: "
            "set it earlier, or add prices"
        )
    return Available(calendar.on_or_after(first), last, newest)


def plan_history(
    database: Database,
    settings: Settings,
    source: MarketDataSource,
    calendar: SessionCalendar,
    *,
    first: date,
    last: date,
    portfolios: Sequence[str] = (),
    trigger: str = "manual",
    look_back: bool = False,
    prices_from: date | None = None,
) -> list[Chunk]:
    """The runs that make `first` to `last` right: the price look-back first, then the chain, in order.

    The look-back covers the sessions before `first` that lack market data (``look_back.lacking``; from `prices_from`,
    where given, else as many as the longest window needs); with `look_back` all of them, because new symbols need
    prices there too.
    NothingToRunError where no session remains.
    """
    bounds = available(settings, source, calendar)
    closing = standing.closing_of(database, portfolios)
    days = calendar.between(max(first, bounds.first), min(last, bounds.last, closing or last))
    if not days and closing is not None and closing < first:
        whose = ", ".join(portfolios) or "every portfolio"
        raise NothingToRunError(
            f"no session from {first} on can be run: {whose} is closed at {closing} (`sigmasight portfolio reopen` "
            "makes the sessions since due again)"
        )
    if not days:
        span = f"from {first} to {last}" if first <= last else f"from {first} on"
        if settings.last_session is not None and first > bounds.newest:
            raise NothingToRunError(
                f"no session {span} can be run: the history ends at {settings.last_session} (SIGMASIGHT_LAST_SESSION, "
                "or the end `sigmasight demo` recorded; `sigmasight demo --through` moves it)"
            )
        raise NothingToRunError(
            f"no session {span} can be run: prices are available for {bounds.first} to {bounds.last} "
            "(by SIGMASIGHT_FIRST_SESSION and what the price source has)"
        )
    before = look_backs.before(calendar, settings, days[0], bounds.first)
    if prices_from is not None:
        before = [day for day in calendar.between(max(bounds.first, prices_from), days[0]) if day < days[0]]
    wanted = before if look_back else look_backs.lacking(database, settings, source, before)
    size = settings.max_sessions_per_run
    chunks = (
        plan_range(
            "market_data",
            wanted[0],
            # one further: the session after has a close to measure its return from now
            min(calendar.offset(wanted[-1], 1), before[-1]),
            calendar=calendar,
            size=size,
            portfolios=portfolios,
            trigger=trigger,
        )
        if wanted
        else []
    )
    return chunks + plan_range(
        "daily", days[0], days[-1], calendar=calendar, size=size, portfolios=portfolios, trigger=trigger
    )
