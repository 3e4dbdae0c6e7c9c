"""Dagster's partitions of sessions: the same days as the exchange's calendar, each there once its day has ended.

What belongs here: the partitions definition. What does not: the calendar (``sessions``) and what is read with a
partition (``partition_memory``).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from sigmasight_pipeline import sessions

PARTITIONS_HORIZON_DAYS = 5 * 366
"""How far ahead the partitions leave the exchange's rule-based holidays out: they are made once, when the code location
loads, and a code server may live for years; without this the first holiday beyond the horizon became a partition."""

WEEKEND_CRON = "0 0 * * 6,0"

SATURDAY = 5
"""``date.weekday()`` of the first day of the weekend."""


def session_partitions(
    first_session: date, today: date | None = None, *, last_session: date | None = None
) -> dg.DailyPartitionsDefinition:
    """One Dagster partition per session from `first_session`; the partition appears when its UTC day has ended.

    With `last_session` none appears after that day (which need not be a session). Weekends go out by one cron string
    and each holiday by its date: the weekday list `0 0 * * 1-5` would hide Friday until Monday, and a list of every
    closed day costs 130 kB per asset.
    """
    known = sessions.calendar(today)
    last = known.last + timedelta(days=PARTITIONS_HORIZON_DAYS)
    if last_session is not None:
        last = min(last, last_session)
    holidays = [
        datetime(day.year, day.month, day.day, tzinfo=UTC)
        for day in sessions.weekday_holidays(known, first_session, last)
        if day.weekday() < SATURDAY
    ]
    return dg.DailyPartitionsDefinition(
        start_date=first_session.isoformat(),
        # Dagster's end is the first day without a partition
        end_date=None if last_session is None else (last_session + timedelta(days=1)).isoformat(),
        timezone="UTC",
        end_offset=0,
        exclusions=[WEEKEND_CRON, *holidays],
    )
