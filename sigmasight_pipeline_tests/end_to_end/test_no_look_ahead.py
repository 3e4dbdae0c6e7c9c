"""Nothing depends on the future: every market figure after a session is falsified, and the session computed again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    RESULT_TABLES,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    rows,
    run_history,
    run_sessions,
)

FIRST, LAST = date(2024, 1, 2), date(2024, 3, 15)
AGAIN, DAY = date(2024, 2, 2), date(2024, 2, 9)
"""First and last session computed again; the last is a Friday, so that weekly figures are among them."""

FALSIFIED = {
    "daily_prices": "open = open * 3, high = high * 3, low = low * 3, close = close * 3",
    "daily_returns": "simple_return = 0.5 - simple_return, log_return = 0.4 - log_return",
    "option_prices": "close = close * 3, implied_volatility = implied_volatility * 2",
    "treasury_yields": "yield = 0.29 - yield",
    "corporate_actions": "cash_amount = cash_amount * 100, split_to = split_to * 7",
    "position_values": "price = price * 2, market_value = market_value * 2, exposure = exposure * 2, daily_pnl = 1",
    "position_greeks": "delta = delta * 2, delta_adjusted_exposure = delta_adjusted_exposure * 2",
    # their net asset values stay: the identity is checked up to the newest snapshot
    "portfolio_snapshots": "daily_return = 0.3, leverage = 9, vega = 1",
    "symbol_factor_betas": "beta = array(SELECT one * 2 FROM unnest(beta) WITH ORDINALITY AS u (one, place) "
    "ORDER BY place)",
}
"""What is done to the rows after DAY; position_marks too, by their own statement."""


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home) as opened:
        import_demo(opened)
        run_history(opened, FIRST, LAST)
        yield opened


def falsify(opened: Installation) -> None:
    with opened.database.connect() as connection:
        for name, change in FALSIFIED.items():
            day = "ex_date" if name == "corporate_actions" else "session_date"
            changed = connection.execute(f"UPDATE sigmasight.{name} SET {change} WHERE {day} > %s", (DAY,))
            assert changed.rowcount > 0, f"{name} has nothing after {DAY} to falsify"
        connection.execute("UPDATE sigmasight.position_marks SET price = price * 5 WHERE session_date > %s", (DAY,))


def test_the_week_ends_on_the_day() -> None:
    assert DAY.isoweekday() == 5


def test_every_table_has_rows_the_day_could_spoil(opened: Installation) -> None:
    for table in RESULT_TABLES:
        count = opened.database.query(f"SELECT count(*) AS rows FROM {table.fullname} WHERE session_date = %s", (DAY,))[
            "rows"
        ][0]
        assert count > 0, table.name


def test_falsifying_the_future_moves_nothing_of_the_past(opened: Installation) -> None:
    before = everything(opened)
    falsify(opened)
    outcome = expect(run_sessions(opened, AGAIN, DAY))
    written = opened.database.query(
        "SELECT DISTINCT run_id FROM sigmasight.position_values WHERE session_date BETWEEN %s AND %s", (AGAIN, DAY)
    )
    assert written["run_id"].to_list() == [outcome.run_id], "the rows compared are those of the second run"
    assert_same(opened, before, CALENDAR.between(opened.settings.first_session, DAY))
    future = pl.col("session_date") > DAY
    stored, true = (frame.filter(future) for frame in (rows(opened, tables.daily_prices), before["daily_prices"]))
    assert (stored["close"] == true["close"] * 3).all(), "the future was false all the time"
