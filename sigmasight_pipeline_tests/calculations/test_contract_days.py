"""Contracts through splits, and the rows the volatility engine is fed."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.contract_days import contract_days
from sigmasight_pipeline.calculations.contracts import adjusted_symbol
from sigmasight_pipeline.calculations.option_volatility import CONTRACT_DAYS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.symbols import SymbolError
from sigmasight_pipeline_tests.calculations.table_rows import (
    closes,
    frame,
    option,
    portfolio,
    sessions_frame,
    split,
    stock,
)

MON, TUE, WED, THU, FRI = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
DAYS = [MON, TUE, WED, THU, FRI]
OLD, NEW = "AAA240308C00100000", "AAA240308C00050000"


def days_of(positions: list[dict[str, Any]], **rows: Any) -> pl.DataFrame:
    return contract_days(
        sessions=rows.get("sessions", DAYS),
        calendar=sessions_frame(DAYS, rows.get("closed", ())),
        portfolios=frame(tables.portfolios, [portfolio(1, MON)]),
        positions=frame(tables.positions, positions),
        prices=frame(tables.daily_prices, rows.get("prices", [])),
        option_prices=frame(tables.option_prices, rows.get("quotes", [])),
        actions=frame(tables.corporate_actions, rows.get("actions", [])),
        instruments=frame(tables.instruments, []),
    )


def test_one_identity_before_and_after_a_split() -> None:
    """Two lots of one contract, entered before and after a 2:1 split, make one row per session, back to the first."""
    rows = days_of(
        [option(1, OLD, 1, 1, TUE), option(2, NEW, 5, 1, WED), stock(3, "AAA", 1, 1, MON)],
        prices=closes("AAA", {MON: 90, TUE: 101, WED: 52}),
        quotes=[*closes(OLD, {MON: 3, WED: 8}), *closes(NEW, {MON: 9, WED: "1.5"})],
        actions=[split("AAA", WED, 2)],
    )
    assert rows.select("session_date", "option_symbol", "strike_price", "close", "underlying_price").rows() == [
        (MON, OLD, 100.0, 3.0, 90.0),
        (TUE, OLD, 100.0, None, 101.0),
        (WED, NEW, 50.0, 1.5, 52.0),
        (THU, NEW, 50.0, None, 52.0),
    ]
    assert rows["contract"].n_unique() == 1
    assert set(CONTRACT_DAYS) <= set(rows.columns)


def test_a_contract_has_no_rows_before_an_uneven_split() -> None:
    """Entered after a 1:10 reverse split: before it, the contract had another deliverable."""
    rows = days_of(
        [option(1, OLD, 1, 1, THU)],
        prices=closes("AAA", {MON: 9, WED: 90}),
        actions=[split("AAA", WED, 1, 10)],
    )
    assert rows["session_date"].to_list() == [WED, THU]


def test_rows_end_before_expiration_and_leave_closed_sessions_and_other_contracts_out() -> None:
    gone = option(2, "BBB240308P00010000", 1, 1, MON, exit_date=TUE, exit_price=1)
    rows = days_of([option(1, OLD, 1, 1, MON), gone], closed=[WED], sessions=[WED, THU, FRI])
    assert rows["session_date"].to_list() == [THU]
    assert rows["underlying_price"].to_list() == [None]


def test_no_options() -> None:
    assert len(days_of([stock(1, "AAA", 1, 1, MON)])) == 0
    assert len(days_of([])) == 0


def test_vendor_volatility_comes_with_or_without_a_close() -> None:
    quote = {"session_date": TUE, "symbol": OLD, "implied_volatility": 0.4}
    rows = days_of([option(1, OLD, 1, 1, MON)], quotes=[quote])
    assert rows.filter(pl.col("session_date") == TUE).select("close", "vendor_volatility").row(0) == (None, 0.4)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Fraction(1), OLD),
        (Fraction(2), NEW),
        (Fraction(3), "AAA240308C00033333"),
        (Fraction(1, 2), "AAA240308C00200000"),
    ],
)
def test_adjusted_symbols(ratio: Fraction, expected: str) -> None:
    assert adjusted_symbol(OLD, ratio) == expected


def test_a_strike_no_symbol_can_hold() -> None:
    with pytest.raises(SymbolError, match="must be above 0, below 100000"):
        adjusted_symbol(OLD, Fraction(1, 1000))
