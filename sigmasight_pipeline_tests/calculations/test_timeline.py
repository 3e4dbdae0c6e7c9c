"""Dates on the line of open sessions."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from sigmasight_pipeline.calculations.timeline import (
    NEVER,
    SessionWindowError,
    Timeline,
    day_numbers,
    open_sessions,
    to_dates,
)
from sigmasight_pipeline_tests.calculations.table_rows import sessions_frame

THU, FRI, SAT, MON, TUE, WED = (date(2024, 3, day) for day in (7, 8, 9, 11, 12, 13))
CALENDAR = sessions_frame([THU, FRI, MON, TUE], closed=[MON])


@pytest.mark.parametrize(
    ("day", "on_or_after", "on_or_before", "expiry"),
    [
        (date(2024, 3, 6), 0, -1, -1),
        (THU, 0, 0, 0),
        (FRI, 1, 1, 1),
        (SAT, 2, 1, 1),
        (MON, 2, 1, 1),
        (TUE, 2, 2, 2),
        (WED, 3, 2, 3),  # beyond the calendar: whether it has come is not known
        (None, 3, 2, 3),
    ],
)
def test_a_day_finds_its_session(day: date | None, on_or_after: int, on_or_before: int, expiry: int) -> None:
    timeline, days = Timeline(CALENDAR), day_numbers(pl.Series([day], dtype=pl.Date))
    assert timeline.on_or_after(days).tolist() == [on_or_after]
    assert timeline.on_or_before(days).tolist() == [on_or_before]
    assert timeline.expiry(days).tolist() == [expiry]


def test_dates_move_to_their_session_only_within_the_calendar() -> None:
    days = pl.DataFrame({"ex_date": [date(2020, 1, 4), THU, SAT, MON, WED, None]}, schema={"ex_date": pl.Date})
    moved = Timeline(CALENDAR).moved(days, "ex_date")["ex_date"].to_list()
    assert moved == [date(2020, 1, 4), THU, TUE, TUE, WED, None]


def test_positions_leave_closed_sessions_out_and_refuse_other_days() -> None:
    timeline = open_sessions([TUE, MON, THU], CALENDAR)
    assert timeline.positions([TUE, MON, THU, TUE]).tolist() == [0, 2]
    with pytest.raises(
        SessionWindowError, match=r"2024-03-09 is not in trading_sessions \(2 such sessions asked for\)"
    ):
        open_sessions([SAT, WED, TUE], CALENDAR)


def test_an_empty_calendar() -> None:
    timeline = Timeline(CALENDAR.clear())
    assert len(timeline) == 0
    assert timeline.positions([]).tolist() == []
    frame = pl.DataFrame({"ex_date": [SAT]})
    assert timeline.moved(frame, "ex_date").equals(frame)


def test_day_numbers_and_back() -> None:
    dates = pl.Series("x", [date(1969, 12, 31), date(1970, 1, 1), None, TUE], dtype=pl.Date)
    assert day_numbers(dates).tolist() == [-1, 0, NEVER, 19794]
    assert to_dates(day_numbers(dates), "x").equals(dates)
