"""The one New York Stock Exchange calendar: sessions and their order.

What belongs here: which days are sessions, the session before, after, at or following a date, and half-days. What does
not: the partitions made of them (``assets.partitions``), unscheduled closures of stored history (they are data,
``trading_sessions.is_closed``) and bond-market holidays (``market_data``).

A session is named by its date. Its partition key is that date in ISO form, never anything derived from a time
window: a Dagster window is a UTC day and ends 19:00 or 20:00 New York time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")

HORIZON_DAYS = 365
"""exchange_calendars knows one year ahead; further ahead it would be guessing holidays."""

MINIMUM_HORIZON_DAYS = 180
"""Below this a check tells the operator to restart the code location (the calendar is built when it loads)."""


class NotASessionError(ValueError):
    """A date was used as a session but the exchange is closed on it."""

    def __init__(self, day: date, following: date | None) -> None:
        hint = f"; the next session is {following}" if following else ""
        super().__init__(f"{day} is not a New York Stock Exchange session{hint}")
        self.day = day


class OutsideCalendarError(ValueError):
    """A date lies before the first or after the last day the calendar covers."""

    def __init__(self, day: date, first: date, last: date) -> None:
        super().__init__(f"{day} lies outside the session calendar, which covers {first} to {last}")
        self.day = day


@dataclass(frozen=True)
class Session:
    """One trading session: its date and its hours in UTC."""

    session_date: date
    opens_at: datetime
    closes_at: datetime
    is_half_day: bool


class SessionCalendar:
    """The sessions of a stretch of time, oldest first, with constant-time neighbours.

    `first` and `last` bound the calendar; both need not be sessions themselves.
    """

    def __init__(self, first: date, last: date) -> None:
        import exchange_calendars  # noqa: PLC0415 - it brings pandas, and not everybody who knows of sessions asks it

        calendar = exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
        schedule = calendar.schedule
        early = {stamp.date() for stamp in calendar.early_closes}
        self._sessions = tuple(
            Session(
                session_date=stamp.date(),
                opens_at=opens.to_pydatetime(),
                closes_at=closes.to_pydatetime(),
                is_half_day=stamp.date() in early,
            )
            for stamp, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
        )
        self.dates: tuple[date, ...] = tuple(session.session_date for session in self._sessions)
        self._position = {day: index for index, day in enumerate(self.dates)}
        self.first = first
        self.last = last

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every session, oldest first, with its hours."""
        return self._sessions

    def is_session(self, day: date) -> bool:
        """Whether the exchange trades on `day`."""
        return day in self._position

    def require(self, day: date) -> date:
        """`day` itself, or NotASessionError naming the next session."""
        if day not in self._position:
            index = bisect_left(self.dates, day)
            raise NotASessionError(day, self.dates[index] if index < len(self.dates) else None)
        return day

    def on_or_after(self, day: date) -> date:
        """The session `day` belongs to: itself, or the next one. OutsideCalendarError beyond the last."""
        index = bisect_left(self.dates, day)
        if day < self.first or index == len(self.dates):
            raise OutsideCalendarError(day, self.first, self.last)
        return self.dates[index]

    def on_or_before(self, day: date) -> date:
        """The last session on or before `day` (of an expiration date: the expiry session)."""
        index = bisect_right(self.dates, day)
        if day > self.last or index == 0:
            raise OutsideCalendarError(day, self.first, self.last)
        return self.dates[index - 1]

    def offset(self, day: date, count: int) -> date:
        """The session `count` sessions after `day` (before it when negative), clamped to the calendar's ends."""
        index = self._position[self.require(day)] + count
        return self.dates[min(max(index, 0), len(self.dates) - 1)]

    def between(self, first: date, last: date) -> tuple[date, ...]:
        """Every session from `first` to `last`, both included, oldest first."""
        return self.dates[bisect_left(self.dates, first) : bisect_right(self.dates, last)]

    def chunks(self, first: date, last: date, size: int) -> list[tuple[date, date]]:
        """`first` to `last` cut into consecutive ranges of at most `size` sessions, in order."""
        days = self.between(first, last)
        return [(days[i], days[min(i + size, len(days)) - 1]) for i in range(0, len(days), size)]


@lru_cache(maxsize=4)
def _calendar(first: date, last: date) -> SessionCalendar:
    return SessionCalendar(first, last)


CALENDAR_START = date(1990, 1, 1)
"""Entry dates reach back to 1990 (the oldest the import accepts); sessions before a first stored one are needed
to move such an entry to its session."""


def calendar(today: date | None = None) -> SessionCalendar:
    """The process's calendar: from 1990 to as far ahead as the library knows."""
    return _calendar(CALENDAR_START, (today or datetime.now(UTC).date()) + timedelta(days=HORIZON_DAYS))


def newest_complete_session(now: datetime | None = None) -> date:
    """The newest session whose UTC day has ended: the newest partition there is."""
    moment = now or datetime.now(UTC)
    yesterday = moment.astimezone(UTC).date() - timedelta(days=1)
    return calendar(moment.date()).on_or_before(yesterday)


def weekday_holidays(known: SessionCalendar, first: date, last: date) -> list[date]:
    """Days from `first` to `last` without a session: those of the calendar, beyond it those of the exchange's rules."""
    days = (first + timedelta(days=n) for n in range((min(last, known.last) - first).days + 1))
    closed = [day for day in days if not known.is_session(day)]
    if last <= known.last:
        return closed
    import exchange_calendars  # noqa: PLC0415 - see SessionCalendar

    rules = exchange_calendars.get_calendar("XNYS").regular_holidays
    ahead = rules.holidays((known.last + timedelta(days=1)).isoformat(), last.isoformat())
    return [*closed, *(stamp.date() for stamp in ahead)]


def keys(days: Sequence[date]) -> list[str]:
    """Partition keys of sessions."""
    return [day.isoformat() for day in days]
