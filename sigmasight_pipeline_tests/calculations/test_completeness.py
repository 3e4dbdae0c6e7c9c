"""What should be there: counted as the engines hold positions, named where it is nothing, judged by what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations import completeness
from sigmasight_pipeline.calculations.completeness import World, audited, expected_rows
from sigmasight_pipeline.calculations.holdings import holdings
from sigmasight_pipeline.calculations.risk_metrics import WINDOWS
from sigmasight_pipeline.calculations.stress import single_shocks
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline_tests.calculations.risk_rows import weekdays
from sigmasight_pipeline_tests.calculations.table_rows import (
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    stock,
)

DAYS = weekdays(14, date(2024, 1, 2))
CLOSED = DAYS[8]
"""A Friday: its week ends on Thursday."""

MOMENT = datetime(2024, 2, 1, tzinfo=UTC)


def contract(expiration: date) -> str:
    return f"SPY{expiration:%y%m%d}C00400000"


def instrument(symbol: str, kind: str = "stock", **fields: Any) -> dict[str, Any]:
    return {"symbol": symbol, "kind": kind, "active": True, "first_session": DAYS[0], **fields}


FACTORS = frame(
    tables.factor_definitions,
    [
        {"factor": "Market", "kind": "style", "proxy_symbol": "SPY", "active": True},
        {"factor": "Interest_Rate", "kind": "rate", "active": True},
        {"factor": "Size", "kind": "characteristic", "active": True},
        {"factor": "Old", "kind": "style", "proxy_symbol": "OLD", "active": False},
    ],
)

SCENARIOS = frame(
    tables.stress_test_scenarios, [{"scenario_id": name, "active": name != "c", "shocks": "{}"} for name in "abc"]
)


def correlated(*rows: tuple[date, int, int, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows),
        schema={
            "session_date": pl.Date(),
            "portfolio_id": pl.Int64(),
            "positions_included": pl.Int32(),
            "correlation_concentration": pl.Float64(),
        },
        orient="row",
    )


def world(positions: Sequence[dict[str, Any]], **fields: Any) -> World:
    return World(
        **{
            "calendar": sessions_frame(DAYS, closed=[CLOSED]),
            "portfolios": frame(
                tables.portfolios,
                [portfolio(1, DAYS[0]), portfolio(2, DAYS[3]), portfolio(3, DAYS[0], active=False)],
            ),
            "positions": frame(tables.positions, positions),
            "instruments": frame(tables.instruments, [instrument("SPY", "etf"), instrument("XOM")]),
            "factors": FACTORS,
            "scenarios": SCENARIOS,
            "correlated": correlated(),
            "priced": pl.DataFrame(
                {"session_date": DAYS, "returning": [2] * len(DAYS)},
                schema={"session_date": pl.Date(), "returning": pl.Int64()},
            ),
            "first_yield": DAYS[0],
            **fields,
        }
    )


HELD = [
    stock(1, "XOM", 10, 100, DAYS[0], exit_date=DAYS[4], exit_price=101),
    option(2, contract(DAYS[6]), 1, 5, DAYS[1]),
    private(3, "FUND", 1, 5, DAYS[0]),
    stock(4, "SPY", 10, 100, DAYS[0], portfolio_id=2),
    stock(5, "SPY", 10, 100, DAYS[0], portfolio_id=3),
]


def told(found: pl.DataFrame, day: date, owner: int) -> dict[str, tuple[int | None, int, str | None]]:
    """Engine to rows expected, the least, and why none, of one session and portfolio."""
    rows = found.filter(session_date=day, portfolio_id=owner)
    return {
        engine: (expected, least, reason)
        for engine, expected, least, reason in rows.select(
            "engine", "rows_expected", "rows_least", "reason"
        ).iter_rows()
    }


def test_a_closed_book_owes_nothing_after_its_closing_and_keeps_no_symbol_held() -> None:
    books = [portfolio(1, DAYS[0]), portfolio(2, DAYS[0], active=False, closing_date=DAYS[1])]
    positions = [stock(1, "XOM", 10, 100, DAYS[0]), stock(2, "SPY", 10, 100, DAYS[0], portfolio_id=2)]
    found = expected_rows(DAYS, world(positions, portfolios=frame(tables.portfolios, books)))
    assert set(found.filter(portfolio_id=2)["session_date"]) == {DAYS[0], DAYS[1]}
    whole = expected_rows(
        DAYS, world(positions, portfolios=frame(tables.portfolios, [books[0], portfolio(2, DAYS[0])]))
    )
    for day in DAYS[:2]:
        assert told(found, day, 2) == told(whole, day, 2)
    betas = [told(found, day, 0)["symbol_factor_betas"][1] for day in DAYS[1:3]]
    assert betas[0] == 2 * betas[1], "of two symbols held, then of one"


def test_rows_of_every_engine_are_the_product_of_its_sizes() -> None:
    what = world(HELD, correlated=correlated((DAYS[4], 1, 2, 0.5)))
    found = told(expected_rows(DAYS, what), DAYS[4], 1)
    # three positions have a value, one of them on its exit session, one is PRIVATE
    assert found == {
        "position_values": (3, 3, None),
        "position_greeks": (2, 2, None),
        "portfolio_exposures": (1, 1, None),
        "group_exposures": (None, 3, None),
        "portfolio_snapshots": (1, 1, None),
        "portfolio_factor_exposures": (3, 3, None),
        "market_risk_scenarios": (len(single_shocks()), len(single_shocks()), None),
        "stress_test_results": (2, 2, None),
        "pairwise_correlations": (4, 4, None),
        "correlation_calculations": (1, 1, None),
        "correlation_clusters": (None, 1, None),
        "portfolio_risk_metrics": (len(WINDOWS), len(WINDOWS), None),
        "portfolio_simulated_risk": (1, 1, None),
        "scenario_accuracy": (0, 0, "not the last session of its week"),
        "pnl_attribution": (None, 3, None),
    }


def test_engines_that_work_by_symbol_stand_under_no_portfolio() -> None:
    # sixty symbols were priced, one of them stopped before
    stopped = instrument("OLD", last_session=DAYS[1])
    many = [instrument(f"S{number:02}") for number in range(57)]
    listed = frame(tables.instruments, [instrument("SPY", "etf"), instrument("XOM"), stopped, *many])
    found = told(expected_rows(DAYS, world(HELD, instruments=listed)), DAYS[4], completeness.ALL_PORTFOLIOS)
    assert found == {
        "daily_prices": (59, 57, None),  # enough from 95 % on
        "treasury_yields": (None, 1, None),
        "daily_returns": (2, 2, None),
        "factor_correlations": (2 * 2 * 2, 8, None),
        "symbol_factor_betas": (None, 2, None),  # only SPY is held beyond the session, by its option and portfolio 2
    }


def test_where_nothing_is_due_the_reason_is_given() -> None:
    what = world(HELD, first_yield=DAYS[2], unpriced=DAYS[-1:])
    found = expected_rows(DAYS, what)
    assert {reason for _, _, reason in told(found, CLOSED, 1).values()} == {"closed session"}
    assert {reason for _, _, reason in told(found, CLOSED, 0).values()} == {"closed session"}
    assert {reason for _, _, reason in told(found, DAYS[2], 2).values()} == {"before inception"}
    assert {reason for _, _, reason in told(found, DAYS[-1], 1).values()} == {"no prices stored yet"}
    assert told(found, DAYS[1], 0)["treasury_yields"] == (0, 0, "no yield observed so far")
    assert 3 not in found["portfolio_id"].to_list(), "a portfolio that is not computed"
    # after the option expired only the PRIVATE position is left
    late = told(found, DAYS[9], 1)
    assert late["position_values"] == (1, 1, None)
    assert late["position_greeks"] == (0, 0, "no position held but PRIVATE ones")
    assert late["pairwise_correlations"] == (0, 0, "no symbol passes the filter of correlations")
    assert late["correlation_clusters"] == (0, 0, "no two symbols correlated enough")
    nothing = told(expected_rows(DAYS, world([])), DAYS[4], 1)
    assert {name for name, (_, _, reason) in nothing.items() if reason == "no position held"} == {
        "position_values",
        "group_exposures",
        "pnl_attribution",
    }


def test_a_week_ends_on_its_last_open_session() -> None:
    found = expected_rows(DAYS, world(HELD)).filter(engine="scenario_accuracy", portfolio_id=1)
    ends = found.filter(pl.col("reason").is_null())["session_date"].to_list()
    assert ends == [DAYS[3], DAYS[7], DAYS[13]], "Thursday, where Friday was closed"


def test_weeks_of_one_number_in_two_years_are_two() -> None:
    days = [date(2024, 1, 3), date(2025, 1, 2)]
    what = world(HELD, calendar=sessions_frame(days))
    found = expected_rows(days, what).filter(engine="scenario_accuracy", portfolio_id=1)
    assert found["rows_expected"].to_list() == [1, 1]


def test_what_is_not_known_yet_is_one_row_at_least() -> None:
    found = told(expected_rows(DAYS, world(HELD)), DAYS[4], 1)  # without correlation_calculations
    assert found["pairwise_correlations"] == (None, 1, None)
    assert found["correlation_clusters"] == (None, 1, None)
    # symbols that pass the filter without being close need no cluster
    apart = told(expected_rows(DAYS, world(HELD, correlated=correlated((DAYS[4], 1, 2, 0.0)))), DAYS[4], 1)
    assert apart["correlation_clusters"] == (0, 0, "no two symbols correlated enough")
    none = told(expected_rows(DAYS, world(HELD, correlated=correlated((DAYS[4], 1, 0, None)))), DAYS[4], 1)
    assert none["pairwise_correlations"] == (0, 0, "no symbol passes the filter of correlations")


def test_without_a_portfolio_only_engines_by_symbol_are_due() -> None:
    found = expected_rows(DAYS, world([], portfolios=frame(tables.portfolios, [])))
    assert set(found["portfolio_id"]) == {completeness.ALL_PORTFOLIOS}
    assert found["engine"].n_unique() == len(completeness.SYMBOL_ENGINES)


DATES = st.dates(DAYS[0] - timedelta(days=9), DAYS[-1] + timedelta(days=9))


@st.composite
def books(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        kind = draw(st.sampled_from(["stock", "option", "private"]))
        entry = draw(DATES)
        owner = {"portfolio_id": draw(st.integers(1, 3))}
        if draw(st.booleans()):
            owner |= {"exit_date": draw(DATES.filter(lambda day, since=entry: day >= since)), "exit_price": 4}
        if kind == "option":
            expiration = draw(DATES.filter(lambda day, since=entry: day >= since))
            found.append(option(number, contract(expiration), 1, 5, entry, **owner))
        elif kind == "private":
            found.append(private(number, f"FUND{number}", 1, 5, entry, **owner))
        else:
            found.append(stock(number, draw(st.sampled_from(["XOM", "SPY"])), 1, 5, entry, **owner))
    return found


@given(books())
@settings(max_examples=40)
def test_positions_are_counted_as_the_engine_holds_them(book: list[dict[str, Any]]) -> None:
    what = world(book)
    rows = holdings(
        sessions=DAYS,
        calendar=what.calendar,
        portfolios=what.portfolios,
        positions=what.positions,
        actions=frame(tables.corporate_actions, []),
        instruments=what.instruments,
    ).join(what.positions.select("position_id", "investment_class"), on="position_id")
    found = expected_rows(DAYS, what)
    public = rows.filter(pl.col("investment_class") != "PRIVATE")
    for engine, of_engine in {
        "position_values": rows,
        "position_greeks": public,
    }.items():
        counted = of_engine.group_by("session_date", "portfolio_id").len("there")
        due = found.filter(engine=engine).join(counted, on=["session_date", "portfolio_id"], how="left")
        assert due["rows_expected"].to_list() == due["there"].fill_null(0).to_list(), engine
    symbols = (
        public.filter(~pl.col("is_exit"))
        .join(what.positions.select("position_id", own=pl.coalesce("underlying_symbol", "symbol")), on="position_id")
        .group_by("session_date")
        .agg(pl.col("own").n_unique())
    )
    least = found.filter(engine="symbol_factor_betas").filter(pl.col("reason").is_null())
    least = least.join(symbols, on="session_date", how="left")
    assert least["rows_least"].to_list() == [2 * max(own or 1, 1) for own in least["own"]]


def counted(*rows: tuple[date, int, str, int]) -> pl.DataFrame:
    schema = {
        name: polars_schema(tables.calculation_audit)[name] for name in ("session_date", "portfolio_id", "engine")
    }
    return pl.DataFrame(
        [(*row, MOMENT) for row in rows],
        schema={**schema, "rows_present": pl.Int32(), "oldest_computed_at": pl.Datetime("us", "UTC")},
        orient="row",
    )


def judged(what: World, *rows: tuple[date, int, str, int]) -> pl.DataFrame:
    found = audited(expected_rows(DAYS, what), counted(*rows), what)
    assert dict(found.schema) == {
        name: dtype for name, dtype in polars_schema(tables.calculation_audit).items() if name not in tables.PROVENANCE
    }
    return found


PRICED = [(day, 0, "daily_prices", 2) for day in DAYS]

JUDGEMENTS = [
    # engine, rows there, status, coverage, reason
    ("position_values", 3, "complete", 1.0, None),
    ("position_values", 1, "partial", 1 / 3, "1 of 3 row(s)"),
    ("position_values", 4, "complete", 1.0, None),
    ("position_values", 0, "missing", 0.0, "not computed"),
    ("pnl_attribution", 9, "complete", None, None),
    ("pnl_attribution", 2, "partial", None, "2 of at least 3 row(s)"),
    ("pairwise_correlations", 1, "complete", None, None),
    ("pairwise_correlations", 0, "missing", None, "not computed"),
    ("scenario_accuracy", 0, "not_expected", None, "not the last session of its week"),
    ("scenario_accuracy", 1, "not_expected", None, "not the last session of its week"),
    ("portfolio_snapshots", 0, "missing", 0.0, "previous snapshot missing"),
]


@pytest.mark.parametrize(("engine", "present", "status", "coverage", "reason"), JUDGEMENTS)
def test_what_is_there_is_judged_by_what_is_due(
    engine: str, present: int, status: str, coverage: float | None, reason: str | None
) -> None:
    rows = [*PRICED, *([(DAYS[4], 1, engine, present)] if present else [])]
    found = judged(world(HELD), *rows).filter(session_date=DAYS[4], portfolio_id=1, engine=engine)
    row = found.row(0, named=True)
    assert (row["status"], row["coverage"], row["reason"], row["rows_present"]) == (status, coverage, reason, present)
    assert row["oldest_computed_at"] == (MOMENT if present else None)


def test_a_missing_snapshot_is_told_from_one_whose_predecessor_is_missing_too() -> None:
    snapshots = [(day, 2, "portfolio_snapshots", 1) for day in DAYS[4:6]]
    found = judged(world(HELD), *PRICED, *snapshots).filter(engine="portfolio_snapshots", status="missing")
    of_two = dict(found.filter(portfolio_id=2).select("session_date", "reason").iter_rows())
    assert of_two[DAYS[3]] == "not computed", "the first has no predecessor"
    assert of_two[DAYS[6]] == "not computed"
    assert of_two[DAYS[7]] == "previous snapshot missing"
    assert of_two[DAYS[9]] == "previous snapshot missing", "the session before the closure is its predecessor"


def test_without_prices_that_is_the_reason() -> None:
    unpriced = [row for row in PRICED if row[0] != DAYS[4]]
    found = judged(world(HELD), *unpriced).filter(session_date=DAYS[4], status="missing")
    assert set(found["reason"]) == {"no prices stored"}
    assert {"daily_prices", "position_values", "portfolio_snapshots"} <= set(found["engine"])


def test_prices_are_complete_from_the_share_that_is_warned_about() -> None:
    many = frame(tables.instruments, [instrument(f"S{number:02}") for number in range(20)])
    for present, status in ((20, "complete"), (19, "complete"), (18, "partial")):
        found = judged(replace(world(HELD), instruments=many), (DAYS[4], 0, "daily_prices", present))
        row = found.filter(session_date=DAYS[4], engine="daily_prices").row(0, named=True)
        assert (row["status"], row["coverage"]) == (status, present / 20)
