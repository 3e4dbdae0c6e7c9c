"""The session calendar: which days are sessions, their neighbours, and the partitions made of them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import exchange_calendars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmasight_pipeline.assets.partitions import session_partitions
from sigmasight_pipeline.sessions import (
    NotASessionError,
    OutsideCalendarError,
    SessionCalendar,
    calendar,
    keys,
    newest_complete_session,
)

KNOWN = calendar(date(2026, 11, 20))

CLOSED_DAYS = [
    (date(2024, 1, 1), "New Year's Day"),
    (date(2024, 1, 15), "Martin Luther King Day"),
    (date(2024, 1, 20), "a Saturday"),
    (date(2024, 3, 29), "Good Friday"),
    (date(2024, 6, 19), "Juneteenth"),
    (date(2025, 1, 9), "day of mourning for Jimmy Carter, unscheduled"),
    (date(2018, 12, 5), "day of mourning for George Bush, unscheduled"),
]

OPEN_DAYS = [
    (date(2024, 10, 14), "Columbus Day: the bond market is closed, the exchange is not"),
    (date(2024, 11, 11), "Veterans Day"),
    (date(2024, 11, 29), "the half-day after Thanksgiving"),
]


@pytest.mark.parametrize(("day", "why"), CLOSED_DAYS)
def test_closed_days_are_no_sessions(day: date, why: str) -> None:
    assert not KNOWN.is_session(day), why
    with pytest.raises(NotASessionError, match=str(KNOWN.on_or_after(day))):
        KNOWN.require(day)


@pytest.mark.parametrize(("day", "why"), OPEN_DAYS)
def test_open_days_are_sessions(day: date, why: str) -> None:
    assert KNOWN.is_session(day), why


def test_half_days_close_at_one() -> None:
    half = [s.session_date for s in KNOWN.sessions if s.is_half_day and s.session_date.year == 2024]
    assert half == [date(2024, 7, 3), date(2024, 11, 29), date(2024, 12, 24)]


@given(st.dates(min_value=date(1990, 1, 2), max_value=date(2027, 11, 1)))
def test_neighbours_enclose_a_day(day: date) -> None:
    after, before = KNOWN.on_or_after(day), KNOWN.on_or_before(day)
    assert before <= day <= after
    if KNOWN.is_session(day):
        assert before == after == day
        assert KNOWN.offset(KNOWN.offset(day, 1), -1) == day
    else:
        assert KNOWN.offset(before, 1) == after
        assert KNOWN.between(before, after) == (before, after)


@given(st.integers(1, 252), st.dates(date(2015, 1, 1), date(2020, 1, 1)), st.integers(0, 800))
def test_chunks_cover_a_range_once_and_in_order(size: int, first: date, length: int) -> None:
    days = KNOWN.dates[KNOWN.dates.index(KNOWN.on_or_after(first)) :][: length + 1]
    chunks = KNOWN.chunks(days[0], days[-1], size)
    assert [day for start, end in chunks for day in KNOWN.between(start, end)] == list(days)
    assert all(len(KNOWN.between(start, end)) <= size for start, end in chunks)


def test_outside_the_calendar_is_an_error() -> None:
    short = SessionCalendar(date(2024, 1, 1), date(2024, 12, 31))
    for call in (lambda: short.on_or_after(date(2025, 2, 1)), lambda: short.on_or_before(date(2023, 1, 1))):
        with pytest.raises(OutsideCalendarError, match="2024-01-01 to 2024-12-31"):
            call()


def test_partitions_are_exactly_the_sessions_over_eleven_years() -> None:
    partitions = session_partitions(date(2016, 1, 4), date(2026, 11, 20))
    now = datetime(2026, 11, 21, 0, 1, tzinfo=UTC)
    expected = exchange_calendars.get_calendar("XNYS", start="2016-01-04", end="2026-11-20").sessions
    assert partitions.get_partition_keys(current_time=now) == [day.date().isoformat() for day in expected]


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        (
            datetime(2024, 1, 5, 23, 59, tzinfo=UTC),
            date(2024, 1, 4),
        ),  # Friday evening UTC: Friday is not over
        (datetime(2024, 1, 6, 0, 1, tzinfo=UTC), date(2024, 1, 5)),  # and then it is, not on Monday
        (datetime(2024, 1, 8, 12, 0, tzinfo=UTC), date(2024, 1, 5)),
        (datetime(2024, 3, 11, 0, 30, tzinfo=UTC), date(2024, 3, 8)),  # the Monday after clocks changed
        (datetime(2024, 11, 5, 0, 30, tzinfo=UTC), date(2024, 11, 4)),
    ],
)
def test_a_session_becomes_a_partition_when_its_utc_day_has_ended(now: datetime, newest: date) -> None:
    assert newest_complete_session(now) == newest
    partitions = session_partitions(date(2023, 12, 1), now.date())
    assert partitions.get_partition_keys(current_time=now)[-1] == newest.isoformat()


@pytest.mark.parametrize("last", [date(2025, 6, 30), date(2025, 6, 29), date(2025, 7, 4)])
def test_a_fixed_history_has_no_partition_after_its_last_session(last: date) -> None:
    partitions = session_partitions(date(2022, 12, 1), last_session=last)
    expected = keys(KNOWN.between(date(2022, 12, 1), last))
    assert partitions.get_partition_keys(current_time=datetime(2026, 11, 21, tzinfo=UTC)) == expected
    before_it_ends = datetime(2025, 1, 3, 12, tzinfo=UTC)
    assert partitions.get_partition_keys(current_time=before_it_ends)[-1] == "2025-01-02"


def test_a_code_server_that_lives_for_years_knows_the_holidays_of_each() -> None:
    """The partitions are made once, when it loads; the calendar of that day reaches one year ahead."""
    loaded = date(2024, 3, 1)
    partitions = session_partitions(date(2024, 1, 2), loaded)
    found = partitions.get_partition_keys(current_time=datetime(2026, 11, 21, 0, 1, tzinfo=UTC))
    unforeseen = date(2025, 1, 9)  # a day of mourning; the library knows it by now, its rules do not
    expected = keys([*KNOWN.between(date(2024, 1, 2), date(2026, 11, 20))])
    assert [day for day in found if day != unforeseen.isoformat()] == expected
    assert max(exclusion for exclusion in map(str, partitions.exclusions or ())) > "2029"


def test_keys_are_the_dates() -> None:
    assert keys([date(2024, 1, 2)]) == ["2024-01-02"]
