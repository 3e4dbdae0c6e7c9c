"""Predicted against actual P&L: which sessions have a row, which pairs count, and the figures made of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.scenario_accuracy import scenario_accuracy, week_ends
from sigmasight_pipeline.calculations.timeline import Timeline
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import return_rows, stored_schema, style_factors, weekdays
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame

DAYS = weekdays(150)
LAST = DAYS[-1]  # a Friday
RANDOM = np.random.default_rng(3)
MARKET = 0.01 * RANDOM.normal(size=(150, 1))
BETA = RANDOM.uniform(0.5, 1.5, (150, 2))
VALUE = 1_000_000 + 1_000 * np.arange(150)[:, None] * np.ones((1, 2))
PNL = np.round(1e6 * MARKET * [1.0, -0.3] + 3_000 * RANDOM.normal(size=(150, 2)), 2)


def inputs(**fields: Any) -> dict[str, Any]:
    pnl, beta = fields.pop("pnl", PNL), fields.pop("beta", BETA)
    keys = [(row, number) for row in range(150) for number in range(2)]
    return {
        "calendar": sessions_frame(DAYS),
        "portfolios": frame(tables.portfolios, [portfolio(1, DAYS[0]), portfolio(2, DAYS[0])]),
        "factors": style_factors(),
        "portfolio_snapshots": frame(
            tables.portfolio_snapshots,
            [
                {
                    "session_date": DAYS[row],
                    "portfolio_id": number + 1,
                    "net_asset_value": round(VALUE[row, number], 2),
                    "daily_pnl": pnl[row, number],
                }
                for row, number in keys
            ],
        ),
        "portfolio_factor_exposures": frame(
            tables.portfolio_factor_exposures,
            [
                {
                    "session_date": DAYS[row],
                    "portfolio_id": number + 1,
                    "factor": factor,
                    "beta": None if np.isnan(beta[row, number]) else times * float(beta[row, number]),
                }
                for row, number in keys
                for factor, times in (("Market", 1), ("Value", 3))
            ],
        ),
        "returns": return_rows(DAYS, ["SPY"], MARKET),
        **fields,
    }


def row_of(portfolio_id: int = 1, day: date = LAST, **fields: Any) -> dict[str, Any]:
    found = scenario_accuracy(sessions=[day], **inputs(**fields))
    assert dict(found.schema) == stored_schema(tables.scenario_accuracy)
    return found.filter(portfolio_id=portfolio_id).row(0, named=True)


@pytest.mark.parametrize("portfolio_id", [1, 2])
def test_figures(portfolio_id: int) -> None:
    """Beta and value of the session before, return and P&L of the session, over the last ninety."""
    own = portfolio_id - 1
    predicted = BETA[59:-1, own] * VALUE[59:-1, own] * MARKET[60:, 0]
    actual = PNL[60:, own]
    error = predicted - actual
    row = row_of(portfolio_id)
    assert row["rmse"] == pytest.approx(Decimal(float(np.sqrt((error**2).mean()))), abs=Decimal("0.006"))
    assert row["bias"] == pytest.approx(Decimal(float(error.mean())), abs=Decimal("0.006"))
    assert row["correlation"] == pytest.approx(np.corrcoef(predicted, actual)[0, 1], rel=1e-12)
    assert row["hit_rate"] == (np.sign(predicted) == np.sign(actual)).mean()
    assert (row["n_obs"], row["status"]) == (90, "ok")


def test_the_bias_is_positive_where_too_much_was_predicted() -> None:
    row = row_of(pnl=np.full((150, 2), -100_000.0))
    assert row["bias"] > 0
    assert (row["correlation"], row["status"]) == (None, "no_variance")
    assert row["rmse"] is not None


@pytest.mark.parametrize(("pairs", "status"), [(19, "insufficient_history"), (20, "ok")])
def test_pairs_need_beta_return_and_pnl(pairs: int, status: str) -> None:
    """A beta of the session before, a one-session return of the market; NULL is no 0."""
    beta = BETA.copy()
    beta[: 149 - pairs, 0] = np.nan
    row = row_of(beta=beta)
    assert (row["n_obs"], row["status"]) == (pairs, status)
    figures = [row[name] for name in ("rmse", "correlation", "hit_rate", "bias")]
    assert all((figure is None) == (status != "ok") for figure in figures)
    market = MARKET.copy()
    market[100:104] = np.nan
    row = row_of(returns=return_rows(DAYS, ["SPY"], market, spanned={(104, 0): 5}))
    assert (row["n_obs"], row["status"]) == (85, "ok")


@pytest.mark.parametrize(
    "fields",
    [
        {"factors": style_factors(Market=None)},
        {"factors": style_factors(Market="GONE")},
        {"returns": return_rows(DAYS, ["QQQ"], MARKET)},
    ],
    ids=["no proxy", "proxy without prices", "no returns"],
)
def test_without_a_market_there_is_nothing_to_compare(fields: dict[str, Any]) -> None:
    assert (row_of(**fields)["n_obs"], row_of(**fields)["status"]) == (0, "insufficient_history")


def test_a_session_without_exposure_predicts_nothing() -> None:
    """An all-cash book had a hit rate of 1: nothing predicted, nothing earned, the same sign."""
    cash = row_of(beta=np.zeros_like(BETA), pnl=np.zeros_like(PNL))
    assert (cash["hit_rate"], cash["rmse"], cash["status"]) == (None, None, "insufficient_history")
    assert (cash["n_obs"], cash["pairs_without_exposure"]) == (0, 90)


def test_sessions_in_cash_are_left_out_and_counted() -> None:
    """The last forty pairs: the first one's exposure is that of the session before it."""
    beta, pnl = BETA.copy(), PNL.copy()
    beta[109:] = 0.0
    row = row_of(beta=beta, pnl=pnl)
    assert (row["n_obs"], row["pairs_without_exposure"], row["status"]) == (50, 40, "ok")
    predicted, actual = beta[59:109, 0] * VALUE[59:109, 0] * MARKET[60:110, 0], pnl[60:110, 0]
    assert row["hit_rate"] == pytest.approx(np.mean(np.sign(predicted) == np.sign(actual)))


def test_another_proxy_of_the_market() -> None:
    assert row_of(factors=style_factors(Market="ITOT"), returns=return_rows(DAYS, ["ITOT"], MARKET)) == row_of()


WEEKS: list[tuple[str, list[date], list[date], list[date]]] = [
    (
        "Fridays",
        [date(2024, 3, d) for d in (4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 18)],
        [],
        [date(2024, 3, 8), date(2024, 3, 15), date(2024, 3, 18)],
    ),
    (
        "Good Friday",
        [date(2024, 3, d) for d in (27, 28)] + [date(2024, 4, 1)],
        [],
        [date(2024, 3, 28), date(2024, 4, 1)],
    ),
    (
        "closed Friday",
        [date(2024, 3, d) for d in (7, 8, 11)],
        [date(2024, 3, 8)],
        [date(2024, 3, 7), date(2024, 3, 11)],
    ),
    (
        "the turn of the year",
        [date(2024, 12, 30), date(2024, 12, 31), date(2025, 1, 2), date(2025, 1, 3), date(2025, 1, 6)],
        [],
        [date(2025, 1, 3), date(2025, 1, 6)],
    ),
    ("one session", [date(2024, 3, 6)], [], [date(2024, 3, 6)]),
    ("none", [], [], []),
]


@pytest.mark.parametrize(("days", "closed", "expected"), [week[1:] for week in WEEKS], ids=[w[0] for w in WEEKS])
def test_last_session_of_a_week(days: list[date], closed: list[date], expected: list[date]) -> None:
    timeline = Timeline(sessions_frame(days, closed))
    assert timeline.dates.filter(pl.Series(week_ends(timeline), dtype=pl.Boolean)).to_list() == expected


@settings(max_examples=40)
@given(st.sets(st.integers(-20_000, 40_000), min_size=1, max_size=40))
def test_weeks_are_iso_weeks(numbers: set[int]) -> None:
    days = [date(1970, 1, 1) + timedelta(days=number) for number in sorted(numbers)]
    weeks = [day.isocalendar()[:2] for day in days]
    expected = [number + 1 == len(days) or weeks[number + 1] != weeks[number] for number in range(len(days))]
    assert week_ends(Timeline(sessions_frame(days))).tolist() == expected


def sessions_of(**fields: Any) -> Sequence[tuple[date, int]]:
    book = inputs(**fields)
    return scenario_accuracy(sessions=DAYS[100:110], **book).select("session_date", "portfolio_id").rows()


def test_rows_of_active_portfolios_since_inception() -> None:
    fridays = [day for day in DAYS[100:110] if day.weekday() == 4]
    assert sessions_of() == [(day, number) for day in fridays for number in (1, 2)]
    owners = [portfolio(1, fridays[1]), portfolio(2, DAYS[0], active=False)]
    assert sessions_of(portfolios=frame(tables.portfolios, owners)) == [(fridays[1], 1)]
    assert scenario_accuracy(sessions=DAYS[:4], **inputs()).is_empty()


@settings(max_examples=8)
@given(st.integers(0, 2**16), st.sampled_from([day for day in DAYS if day.weekday() == 4]))
def test_range_equals_single_order_and_future_change_nothing(seed: int, day: date) -> None:
    book = inputs()
    whole = scenario_accuracy(sessions=DAYS, **book)
    dated = ("portfolio_snapshots", "portfolio_factor_exposures", "returns")
    known = {
        name: rows.filter(pl.col("session_date") <= day).sample(fraction=1, shuffle=True, seed=seed)
        if name in dated
        else rows
        for name, rows in book.items()
    }
    alone = scenario_accuracy(sessions=[day], **known)
    assert alone.equals(whole.filter(pl.col("session_date") == day))
    one = {**known, "portfolios": known["portfolios"].filter(pl.col("portfolio_id") == 2)}
    assert scenario_accuracy(sessions=[day], **one).equals(alone.filter(pl.col("portfolio_id") == 2))
