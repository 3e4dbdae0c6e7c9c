"""Estimates from fewer returns than are stored: counted as the engine counts, session by session."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.estimation_windows import SHORT_WINDOWS, short_windows
from sigmasight_pipeline_tests.calculations.risk_rows import weekdays
from sigmasight_pipeline_tests.calculations.table_rows import sessions_frame

DAYS = weekdays(12, date(2024, 1, 2))
CLOSED = DAYS[7]
CALENDAR = sessions_frame(DAYS, [CLOSED])
OPEN = [day for day in DAYS if day != CLOSED]
WINDOW = 5


def returns(**days: Collection[date]) -> pl.DataFrame:
    rows = [(day, symbol) for symbol, own in days.items() for day in own]
    return pl.DataFrame(rows, schema={"session_date": pl.Date(), "symbol": pl.String()}, orient="row")


def estimated(*rows: tuple[date, str, int | None]) -> pl.DataFrame:
    schema = {"session_date": pl.Date(), "symbol": pl.String(), "n_obs": pl.Int32()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def found(rows: pl.DataFrame, stored: pl.DataFrame) -> list[tuple[object, ...]]:
    return short_windows(rows, stored, CALENDAR, proxy="SPY", window=WINDOW).rows()


def test_a_full_window_is_not_short_and_an_emptier_one_is() -> None:
    stored = returns(SPY=OPEN, AAA=OPEN, BBB=OPEN)
    last = OPEN[-1]
    assert found(estimated((last, "AAA", WINDOW), (last, "SPY", WINDOW)), stored) == []
    rows = estimated((last, "AAA", 2), (last, "BBB", 3), (last, "SPY", WINDOW))
    assert found(rows, stored) == [(last, 2, "AAA", 2, WINDOW)]


def test_a_young_calendar_a_young_symbol_and_a_hole_are_as_short_as_they_can_be() -> None:
    stored = returns(SPY=OPEN, AAA=OPEN[8:], BBB=[day for day in OPEN if day != OPEN[-2]])
    rows = estimated((OPEN[2], "SPY", 3), (OPEN[-1], "AAA", 3), (OPEN[-1], "BBB", 4))
    assert found(rows, stored) == []
    assert found(estimated((OPEN[-1], "BBB", 3)), stored) == [(OPEN[-1], 1, "BBB", 3, 4)]


def test_only_sessions_the_proxy_has_too_count_and_closures_do_not() -> None:
    stored = returns(SPY=OPEN[:-2], AAA=OPEN)
    assert found(estimated((OPEN[-1], "AAA", 3)), stored) == []
    assert found(estimated((OPEN[7], "AAA", 4)), returns(SPY=OPEN, AAA=OPEN)) == [(OPEN[7], 1, "AAA", 4, WINDOW)]


def test_nothing_estimated_or_nothing_stored_is_nothing_short() -> None:
    assert found(estimated((OPEN[-1], "AAA", None)), returns(SPY=OPEN, AAA=OPEN)) == []
    assert found(estimated((OPEN[-1], "AAA", 0)), returns()) == []
    empty = short_windows(estimated(), returns(), CALENDAR, proxy="SPY", window=WINDOW)
    assert dict(empty.schema) == SHORT_WINDOWS
