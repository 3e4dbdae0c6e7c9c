"""Returns and yield changes as matrices: what is missing, what is refused, and that the order of rows is nothing."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations.factor_returns import (
    HIGHEST_YIELD,
    LOWEST_YIELD,
    FactorInputError,
    FactorInputReason,
    Panel,
    factor_returns,
    return_panel,
    session_axis,
)
from sigmasight_pipeline.calculations.timeline import SessionWindowError
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame

MON, TUE, WED, THU, FRI = WEEK = [date(2024, 3, day) for day in (4, 5, 6, 7, 8)]
CLOSED = WED
OPEN = [day for day in WEEK if day != CLOSED]
CALENDAR = sessions_frame(WEEK, [CLOSED])
NAN = float("nan")


def factor(key: str, kind: str, proxy: str | None = None, **fields: Any) -> dict[str, Any]:
    """A row of ``factor_definitions``."""
    return {"factor": key, "name": key, "kind": kind, "proxy_symbol": proxy, "active": True, **fields}


def returned(symbol: str, day: date, value: float, spanned: int = 1) -> dict[str, Any]:
    """A row of ``daily_returns``."""
    return {"session_date": day, "symbol": symbol, "simple_return": value, "sessions_spanned": spanned}


def observed(day: date, value: float | None, on: date | None = None, tenor: str = "10Y") -> dict[str, Any]:
    """A row of ``treasury_yields``."""
    return {"session_date": day, "tenor": tenor, "yield": value, "observed_date": on or day, "source": "test"}


FACTORS = [
    factor("Market", "style", "SPY"),
    factor("Gold", "shock_only", "GLD"),
    factor("Interest_Rate", "rate"),
    factor("Short_Interest", "characteristic"),
    factor("Size", "style", "SIZE", active=False),
    factor("Quality", "style", None),
    factor("Value", "style", "VTV"),
]
RETURNS = [
    returned("SPY", MON, 0.01),
    returned("SPY", TUE, 0.02),
    returned("SPY", THU, 0.03),
    returned("SPY", FRI, 0.04, spanned=2),
    returned("GLD", TUE, -0.01),
    returned("AAA", TUE, 9.0),
    returned("SIZE", TUE, 9.0),
]
YIELDS = [observed(MON, 0.04), observed(TUE, 0.041), observed(THU, 0.0395), observed(TUE, 9.9, tenor="2Y")]


def made(
    returns: list[dict[str, Any]] = RETURNS,
    yields: list[dict[str, Any]] = YIELDS,
    factors: list[dict[str, Any]] = FACTORS,
    axis: list[date] = OPEN,
) -> Panel:
    return factor_returns(
        axis,
        calendar=CALENDAR,
        factors=frame(tables.factor_definitions, factors),
        returns=frame(tables.daily_returns, returns),
        yields=frame(tables.treasury_yields, yields),
    )


def column(panel: Panel, name: str) -> list[float]:
    return list(panel.values[:, panel.names.index(name)])


def test_every_factor_in_its_own_way() -> None:
    panel = made()
    assert panel.sessions == tuple(OPEN)
    assert panel.names == ("Gold", "Interest_Rate", "Market", "Quality", "Value")
    assert panel.values.dtype == np.float64
    np.testing.assert_array_equal(column(panel, "Market"), [0.01, 0.02, 0.03, NAN])
    np.testing.assert_array_equal(column(panel, "Gold"), [NAN, -0.01, NAN, NAN])
    # from Tuesday to Thursday is one session: Wednesday was an unscheduled closure; Friday has no yield
    np.testing.assert_allclose(column(panel, "Interest_Rate"), [NAN, 0.001, -0.0015, NAN], rtol=1e-12)
    for without in ("Quality", "Value"):
        assert np.isnan(column(panel, without)).all()


def test_the_first_session_takes_its_yield_change_from_the_session_before() -> None:
    found = made(axis=[THU, FRI])
    np.testing.assert_array_equal(column(found, "Interest_Rate"), column(made(), "Interest_Rate")[2:])
    assert column(found, "Interest_Rate")[0] == pytest.approx(-0.0015)


@pytest.mark.parametrize(
    ("case", "yields", "changes"),
    [
        ("carried", [observed(MON, 0.04), observed(TUE, 0.04, on=MON), observed(THU, 0.05)], [NAN, NAN, NAN, NAN]),
        ("missing", [observed(MON, 0.04), observed(THU, 0.05), observed(FRI, 0.06)], [NAN, NAN, NAN, 0.01]),
        ("of the closure", [observed(TUE, 0.04), observed(WED, 0.09), observed(THU, 0.05)], [NAN, NAN, 0.01, NAN]),
        ("none", [], [NAN] * 4),
        ("other tenors", [observed(day, 0.04, tenor="5Y") for day in OPEN], [NAN] * 4),
        ("unchanged", [observed(day, 0.04) for day in OPEN], [NAN, 0.0, 0.0, 0.0]),
    ],
)
def test_yield_changes(case: str, yields: list[dict[str, Any]], changes: list[float]) -> None:
    np.testing.assert_allclose(column(made(yields=yields), "Interest_Rate"), changes, rtol=1e-12, err_msg=case)


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        (LOWEST_YIELD, False),
        (HIGHEST_YIELD, False),
        (-0.0501, True),
        (0.3001, True),
        (4.25, True),
        (None, True),
        (NAN, True),
    ],
)
def test_yields_in_percent_are_refused(value: float | None, *, refused: bool) -> None:
    yields = [*YIELDS, observed(FRI, value)]
    if not refused:
        made(yields=yields)
        return
    with pytest.raises(
        FactorInputError, match=rf"10Y yield of 2024-03-08 is {value}, .* correct treasury_yields"
    ) as told:
        made(yields=yields)
    assert told.value.reason is FactorInputReason.BAD_YIELD


@pytest.mark.parametrize(
    ("returns", "yields", "sentence"),
    [
        ([*RETURNS, returned("SPY", TUE, 0.5)], YIELDS, "SPY has more than one return on 2024-03-05; keep one"),
        (RETURNS, [*YIELDS, observed(TUE, 0.05)], "10Y has more than one yield on 2024-03-05; keep one"),
    ],
)
def test_duplicates_are_refused(returns: list[dict[str, Any]], yields: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(FactorInputError, match=sentence) as told:
        made(returns=returns, yields=yields)
    assert told.value.reason is FactorInputReason.DUPLICATE_ROW


def test_the_order_of_rows_is_nothing() -> None:
    backward = made(RETURNS[::-1], YIELDS[::-1], FACTORS[::-1])
    np.testing.assert_array_equal(backward.values, made().values)
    assert backward.names == made().names


def test_returns_of_symbols() -> None:
    rows = frame(tables.daily_returns, [{**row, "log_return": -row["simple_return"]} for row in RETURNS])
    panel = return_panel([TUE, THU], ["SPY", "AAA", "NONE", "SPY"], rows)
    assert panel.names == ("AAA", "NONE", "SPY")
    np.testing.assert_array_equal(panel.values, [[9.0, NAN, 0.02], [NAN, NAN, 0.03]])
    assert panel.values.T.flags.c_contiguous
    logs = return_panel([TUE, THU], ["SPY"], rows, "log_return")
    np.testing.assert_array_equal(logs.values, [[-0.02], [-0.03]])
    assert return_panel([TUE, THU], [], rows).values.shape == (2, 0)
    assert return_panel([], ["SPY"], rows).values.shape == (0, 1)


def test_parts_of_a_panel() -> None:
    panel = made()
    assert panel.until(THU, 2).sessions == (TUE, THU)
    np.testing.assert_array_equal(panel.until(THU, 2).values, panel.values[1:3])
    assert panel.until(TUE, 99).sessions == (MON, TUE)
    some = panel.only(["Market", "Gold"])
    assert some.names == ("Gold", "Market")
    np.testing.assert_array_equal(some.values, panel.values[:, [0, 2]])
    with pytest.raises(ValueError, match="not in"):
        panel.only(["Oil"])


@pytest.mark.parametrize(
    ("sessions", "look_back", "axis"),
    [
        ([FRI], 1, [THU, FRI]),
        ([FRI], 2, [TUE, THU, FRI]),
        ([THU, FRI], 1, [TUE, THU, FRI]),
        ([WED, FRI], 0, [FRI]),
        ([TUE], 5, [MON, TUE]),
        ([WED], 5, []),
        ([], 5, []),
    ],
)
def test_the_axis_is_counted_in_open_sessions(sessions: list[date], look_back: int, axis: list[date]) -> None:
    assert session_axis(sessions, CALENDAR, look_back) == tuple(axis)


def test_an_unknown_session_is_refused() -> None:
    with pytest.raises(SessionWindowError, match="2024-03-09"):
        session_axis([date(2024, 3, 9)], CALENDAR, 1)


def test_no_active_factor() -> None:
    empty = made(factors=[])
    assert (empty.names, empty.values.shape) == ((), (4, 0))
    assert pl.Series(empty.values.ravel()).is_empty()
