"""Risk of today's book: against the returns themselves, who contributes, gamma, and why there is no figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.black_scholes import greeks as black_scholes_greeks
from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline.calculations.option_pricing import OptionMarket, OptionTerms, price_change
from sigmasight_pipeline.calculations.simulated_risk import SHARES, expected_shortfall, portfolio_simulated_risk
from sigmasight_pipeline.calculations.simulation import SimulationRules
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import (
    STYLES,
    held_rows,
    return_rows,
    stored_schema,
    style_factors,
    style_returns,
    weekdays,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock

DAYS = weekdays(320)
LAST = DAYS[-1]
STYLE = style_returns(320, 11)
SPY = STYLE[:, list(STYLES).index("Market")]
NOISE = np.random.default_rng(12).normal(0, 0.02, (320, 2))
BETA = np.array([1.2, -0.7])
YOUNG = np.where(np.arange(320) < 220, np.nan, 1.5 * SPY + 0.5 * NOISE[:, 0])[:, None]
TINY = np.where(np.arange(320) < 300, np.nan, SPY)[:, None]
CASH = np.zeros((320, 1))
SYMBOLS = [*STYLES.values(), "AAA", "BBB", "YOUNG", "TINY", "CASH"]
RETURNS = return_rows(DAYS, SYMBOLS, np.hstack([STYLE, BETA * SPY[:, None] + NOISE, YOUNG, TINY, CASH]))
WINDOW = slice(-252, None)
EQUITY = 100_000


def inputs(
    positions: Sequence[Mapping[str, Any]],
    exposures: Mapping[int, Any],
    *,
    days: Sequence[date] = (LAST,),
    **fields: Any,
) -> dict[str, Any]:
    """Frames of portfolios 1 and 2 holding `positions` with these exposures on `days`."""
    values, greeks = held_rows(days, exposures, positions)
    equity = fields.pop("equity", EQUITY)
    return {
        "rules": SimulationRules(),
        "calendar": sessions_frame(DAYS),
        "portfolios": frame(tables.portfolios, [portfolio(1, DAYS[0]), portfolio(2, DAYS[0])]),
        "portfolio_snapshots": frame(
            tables.portfolio_snapshots,
            [
                {"session_date": day, "portfolio_id": number, "net_asset_value": equity}
                for day in days
                for number in (1, 2)
            ],
        ),
        "positions": frame(tables.positions, positions),
        "position_values": values,
        "position_greeks": greeks,
        "instruments": frame(tables.instruments, []),
        "returns": RETURNS,
        "factors": style_factors(),
        **fields,
    }


def simulated(book: Mapping[str, Any], days: Sequence[date] = (LAST,)) -> tuple[pl.DataFrame, pl.DataFrame]:
    risk, parts = portfolio_simulated_risk(sessions=list(days), **book)
    assert dict(risk.schema) == stored_schema(tables.portfolio_simulated_risk)
    assert dict(parts.schema) == stored_schema(tables.position_risk_contributions)
    return risk, parts


def row_of(
    positions: Sequence[Mapping[str, Any]], exposures: Mapping[int, Any], **fields: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    risk, parts = simulated(inputs(positions, exposures, **fields))
    return risk.filter(portfolio_id=1).row(0, named=True), parts.filter(portfolio_id=1).to_dicts()


def held(*symbols: str) -> list[dict[str, Any]]:
    return [stock(number, symbol, 1, 1, DAYS[0]) for number, symbol in enumerate(symbols, start=1)]


@pytest.mark.parametrize("exposure", [EQUITY, EQUITY // 2, -EQUITY])
def test_spy_alone_has_the_losses_of_spy_s_returns(exposure: int) -> None:
    row, parts = row_of(held("SPY"), {1: exposure})
    own = pd.Series(SPY[WINDOW] * exposure / EQUITY)
    expected = {
        "var_95": -np.percentile(own, 5),
        "var_99": -np.percentile(own, 1),
        "expected_shortfall_95": -empyrical.conditional_value_at_risk(own),
        "expected_shortfall_975": -empyrical.conditional_value_at_risk(own, cutoff=0.025),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=0, abs=1e-12), name
    assert row["worst_session"] == DAYS[68 + int(own.argmin())]
    assert row["worst_pnl"] == round(Decimal(own.min() * EQUITY), 2)
    assert (row["n_obs"], row["coverage"], row["modelled_share"], row["status"]) == (252, 1.0, 0.0, "ok")
    assert row["linear_expected_shortfall_975_dollars"] == row["expected_shortfall_975_dollars"]
    (only,) = parts
    assert only["component_es_975"] == row["expected_shortfall_975_dollars"]
    assert (only["share_of_es_975"], only["status"]) == (1.0, "ok")
    assert only["marginal_es_975"] == pytest.approx(float(only["component_es_975"]) / exposure, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5_000_000, 5_000_000), min_size=1, max_size=12), st.integers(0, 2**16))
def test_components_add_up_to_the_cent(cents: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    symbols = [str(random.choice(["SPY", "AAA", "BBB", "VTV", "CASH", "YOUNG"])) for _ in cents]
    exposures = {number: Decimal(value).scaleb(-2) for number, value in enumerate(cents, start=1)}
    row, parts = row_of(held(*symbols), exposures)
    assert sum((part["component_es_975"] for part in parts), Decimal(0)) == row["expected_shortfall_975_dollars"]
    column = {"SPY": SPY, "VTV": STYLE[:, list(STYLES).index("Value")], "CASH": CASH[:, 0]}
    column |= {"AAA": BETA[0] * SPY + NOISE[:, 0], "BBB": BETA[1] * SPY + NOISE[:, 1]}
    if "YOUNG" not in symbols:
        total = sum(float(exposures[place + 1]) * column[name][WINDOW] for place, name in enumerate(symbols))
        tail = [DAYS.index(date.fromisoformat(day)) for day in json.loads(row["tail_sessions"])]
        assert float(row["expected_shortfall_975_dollars"]) == pytest.approx(
            expected_shortfall(np.asarray(total), 0.025), abs=0.006
        )
        for part, name in zip(parts, symbols, strict=True):
            mean = -float(exposures[part["position_id"]]) * column[name][tail].mean()
            assert float(part["component_es_975"]) == pytest.approx(mean, abs=0.0101)


def test_a_hedge_takes_risk_away() -> None:
    row, (stock_part, hedge) = row_of(held("AAA", "SPY"), {1: 100_000, 2: -60_000})
    alone, _ = row_of(held("AAA"), {1: 100_000})
    assert hedge["component_es_975"] < 0 < stock_part["component_es_975"]
    assert row["expected_shortfall_975"] < alone["expected_shortfall_975"]


SPOT, STRIKE, YEARS, RATE, VOLATILITY = 500.0, 500.0, 30 / 365, 0.045, 0.16


def straddle(*, american: bool = False, **fields: Any) -> dict[str, Any]:
    """Ten short at-the-money straddles on SPY, and stock that makes them delta-neutral."""
    expiry = DAYS[-1].strftime("%y%m%d")
    contracts = [f"SPY{expiry}{kind}00500000" for kind in "CP"]
    terms = OptionTerms(np.array([True, False]), np.full(2, STRIKE), np.full(2, american), np.full(2, 0.013))
    price = price_of(terms)
    delta = black_scholes_greeks(terms.is_call, SPOT, STRIKE, YEARS, RATE, VOLATILITY, 0.013).delta
    positions = [option(number, symbol, -10, 1, DAYS[0]) for number, symbol in enumerate(contracts, start=1)]
    positions.append(stock(3, "SPY", 1, 1, DAYS[0]))
    exposures = {place + 1: round(Decimal(-1000 * delta[place] * SPOT), 2) for place in range(2)}
    exposures[3] = -(exposures[1] + exposures[2])
    book = inputs(positions, exposures, **fields)
    is_option = pl.col("position_id") < 3
    book["position_values"] = book["position_values"].with_columns(
        price=pl.col("position_id").replace_strict({1: price[0], 2: price[1]}, default=SPOT).cast(pl.Decimal(20, 6)),
        market_value=pl.when(is_option)
        .then(pl.col("position_id").replace_strict({1: -1000 * price[0], 2: -1000 * price[1]}, default=0.0))
        .otherwise(pl.col("exposure").cast(pl.Float64))
        .cast(pl.Decimal(20, 2)),
    )
    modelled = {
        "time_to_expiry": YEARS,
        "risk_free_rate": RATE,
        "volatility": VOLATILITY,
        "dividend_yield": 0.013,
        "exercise_style": "american" if american else "european",
    }
    book["position_greeks"] = book["position_greeks"].with_columns(
        pl.lit(SPOT).cast(pl.Decimal(20, 6)).alias("underlying_price"),
        *(pl.when(is_option).then(pl.lit(value)).alias(name) for name, value in modelled.items()),
    )
    return book


def price_of(terms: OptionTerms) -> np.ndarray[Any, Any]:
    now = OptionMarket(SPOT, YEARS, RATE, VOLATILITY)
    # from an underlying worth nothing: what the option is worth is what it gains
    return price_change(np.zeros(2), terms, now._replace(volatility=1e-6, spot=STRIKE), now)


@pytest.mark.parametrize("american", [False, True])
def test_a_delta_neutral_short_straddle_has_gamma(*, american: bool) -> None:
    """Its linear shortfall is next to nothing; what it loses when the market moves is not."""
    risk, parts = simulated(straddle(american=american))
    row = risk.filter(portfolio_id=1).row(0, named=True)
    assert row["expected_shortfall_975_dollars"] > 10 * max(row["linear_expected_shortfall_975_dollars"], Decimal(1))
    assert parts["component_es_975"].sum() == row["expected_shortfall_975_dollars"]
    shorts = parts.filter(pl.col("position_id") < 3)["component_es_975"].sum()
    assert shorts > 0


def test_options_are_repriced_as_in_a_scenario() -> None:
    book = straddle()
    row = simulated(book)[0].filter(portfolio_id=1).row(0, named=True)
    terms = OptionTerms(np.array([True, False]), np.full(2, STRIKE), np.full(2, False), np.full(2, 0.013))
    now = OptionMarket(SPOT, YEARS, RATE, VOLATILITY)
    then = now._replace(spot=SPOT * (1.0 + SPY[WINDOW][:, None]))
    close = book["position_values"].sort("position_id")["price"].cast(pl.Float64).to_numpy()[:2]
    stock_exposure = float(book["position_values"].filter(position_id=3)["exposure"][0])
    total = -1000 * price_change(close, terms, now, then).sum(axis=1) + stock_exposure * SPY[WINDOW]
    assert float(row["expected_shortfall_975_dollars"]) == pytest.approx(expected_shortfall(total, 0.025), abs=0.006)
    assert row["var_95"] == pytest.approx(-np.percentile(total, 5) / EQUITY, rel=1e-9)
    assert row["worst_session"] == DAYS[68 + int(total.argmin())]


def test_a_long_option_loses_no_more_than_it_is_worth() -> None:
    book = straddle()
    book["positions"] = book["positions"].filter(pl.col("position_id") < 3).with_columns(-pl.col("quantity"))
    for name in ("position_values", "position_greeks"):
        flipped = [
            c for c in ("quantity", "exposure", "market_value", "delta_adjusted_exposure") if c in book[name].columns
        ]
        book[name] = book[name].filter(pl.col("position_id") < 3).with_columns(-pl.col(column) for column in flipped)
    row = simulated(book)[0].filter(portfolio_id=1).row(0, named=True)
    assert -row["worst_pnl"] <= book["position_values"]["market_value"].sum()


def test_a_symbol_without_a_return_takes_its_ridge_value() -> None:
    """100 real returns and 152 modelled ones, on the joint betas of its own 100 sessions."""
    row, _ = row_of(held("YOUNG"), {1: EQUITY})
    (ridge,) = joint_betas(STYLE[WINDOW], YOUNG[WINDOW], [range(7)])
    filled = np.where(np.isnan(YOUNG[WINDOW, 0]), STYLE[WINDOW] @ ridge.beta[0], YOUNG[WINDOW, 0])
    assert row["var_95"] == pytest.approx(-np.percentile(filled, 5), rel=1e-9)
    assert (row["modelled_share"], row["n_obs"]) == (pytest.approx(152 / 252), 252)
    half, _ = row_of(held("YOUNG", "SPY"), {1: EQUITY, 2: -EQUITY})
    assert half["modelled_share"] == pytest.approx(76 / 252)


def test_a_return_over_a_gap_is_modelled() -> None:
    spans = return_rows(DAYS, ["GAPPY"], SPY[:, None], spanned={(300, 0): 2})
    row, _ = row_of(held("GAPPY"), {1: EQUITY}, returns=pl.concat([RETURNS, spans]))
    assert row["modelled_share"] == pytest.approx(1 / 252)


def test_cash_funds_are_covered_and_lose_nothing() -> None:
    row, parts = row_of(held("CASH", "SPY"), {1: 90_000, 2: 10_000})
    alone, _ = row_of(held("SPY"), {1: 10_000})
    assert row["expected_shortfall_975"] == alone["expected_shortfall_975"]
    assert (row["coverage"], parts[0]["component_es_975"]) == (1.0, Decimal(0))


def test_a_book_that_cannot_lose_has_a_risk_of_zero_and_not_of_minus_zero() -> None:
    """Cash funds, and a long and a short lot of one stock."""
    offsetting = [stock(1, "SPY", 1, 1, DAYS[0]), stock(2, "SPY", -1, 1, DAYS[0])]
    for positions, exposures in ((held("CASH"), {1: 90_000}), (offsetting, {1: 50_000, 2: -50_000})):
        row, _ = row_of(positions, exposures)
        for name in ("var_95", "var_99", "expected_shortfall_95", "expected_shortfall_975"):
            assert str(row[name]) == "0.0", name


def test_a_renamed_symbol_keeps_its_history() -> None:
    renamed = frame(
        tables.instruments, [{"symbol": "OLD", "kind": "stock", "last_session": DAYS[200], "replaced_by": "NEW"}]
    )
    names = pl.when(pl.col("symbol") != "AAA").then("symbol").when(pl.col("session_date") <= DAYS[200])
    returns = RETURNS.with_columns(symbol=names.then(pl.lit("OLD")).otherwise(pl.lit("NEW")))
    expected, _ = row_of(held("AAA"), {1: 10_000})
    assert row_of(held("OLD"), {1: 10_000}, returns=returns, instruments=renamed)[0] == expected


NO_FIGURES = [None] * 4
REASONS: list[tuple[str, list[dict[str, Any]], dict[int, Any], dict[str, Any], str, list[str]]] = [
    ("young, 20 returns", held("TINY"), {1: 10_000}, {}, "insufficient_history", ["insufficient_history"]),
    ("never priced", held("GONE"), {1: 10_000}, {}, "low_coverage", ["low_coverage"]),
    ("79 % covered", held("SPY", "GONE"), {1: 79_000, 2: -21_000}, {}, "low_coverage", ["low_coverage"] * 2),
    ("80 % covered", held("SPY", "GONE"), {1: 80_000, 2: -20_000}, {}, "ok", ["ok", "not_simulated"]),
    ("a fallback row", held("SPY", "AAA"), {1: 80_000, 2: None}, {}, "ok", ["ok", "not_simulated"]),
    ("no equity", held("SPY"), {1: 10_000}, {"equity": 0}, "no_net_asset_value", ["ok"]),
    ("negative equity", held("SPY"), {1: 10_000}, {"equity": -5}, "no_net_asset_value", ["ok"]),
    ("all cash", [], {}, {}, "no_positions", []),
    ("PRIVATE only", [private(1, "FUND", 1, 1, DAYS[0])], {1: 50_000}, {}, "no_positions", []),
    ("worthless", held("SPY"), {1: 0}, {}, "ok", ["ok"]),
    ("short history", held("SPY"), {1: 10_000}, {"rules": SimulationRules(40, 252, 60)}, "insufficient_history",
     ["insufficient_history"]),
    ("no style factors", held("YOUNG"), {1: 9}, {"factors": style_factors().clear()}, "ok", ["ok"]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "positions", "exposures", "fields", "status", "parts"), REASONS)
def test_reasons(
    case: str,
    positions: list[dict[str, Any]],
    exposures: dict[int, Any],
    fields: dict[str, Any],
    status: str,
    parts: list[str],
) -> None:
    row, contributions = row_of(positions, exposures, **fields)
    assert row["status"] == status, case
    assert [part["status"] for part in contributions] == parts, case
    given_ = [row[name] is not None for name in SHARES]
    assert given_ == [status in ("ok", "no_positions")] * 4, case
    known = status not in ("low_coverage", "insufficient_history")
    assert (row["expected_shortfall_975_dollars"] is not None) == known, case
    for part in contributions:
        assert (part["component_es_975"] is not None) == (part["status"] == "ok"), case
    if status == "no_positions":
        assert [row[name] for name in SHARES] == [0.0] * 4, case
        assert (row["worst_session"], row["worst_pnl"]) == (None, 0), case


def test_an_empty_run_and_a_closed_session() -> None:
    book = inputs([], {}, calendar=sessions_frame(DAYS, closed=[LAST]))
    risk, parts = simulated(book)
    assert risk.is_empty()
    assert parts.is_empty()


def both_books() -> tuple[list[dict[str, Any]], dict[int, Any]]:
    """Positions of two portfolios that share symbols, one of them young, with an unknown one."""
    names = ["SPY", "AAA", "YOUNG", "SPY", "BBB", "GONE"]
    positions = [
        stock(number, symbol, 1, 1, DAYS[0], portfolio_id=1 + (number > 3)) for number, symbol in enumerate(names, 1)
    ]
    return positions, {1: 50_000, 2: -20_000, 3: 30_000, 4: 60_000, 5: -60_000, 6: 10_000}


def test_a_range_is_its_sessions_and_its_portfolios() -> None:
    """Bit for bit, also where a single run is given no more than the rows it asks for."""
    days = DAYS[-6:]
    book = inputs(*both_books(), days=days)
    risk, parts = simulated(book, days)
    for place, day in enumerate(days):
        first = DAYS[len(DAYS) - 6 + place - 251]
        own = {"returns": RETURNS.filter(pl.col("session_date").is_between(first, day))}
        alone, alone_parts = simulated(inputs(*both_books(), days=[day], **own), [day])
        assert alone.equals(risk.filter(session_date=day))
        assert alone_parts.equals(parts.filter(session_date=day))
    positions, exposures = both_books()
    second = inputs([row for row in positions if row["portfolio_id"] == 2], exposures, days=days)
    second["portfolios"] = second["portfolios"].filter(portfolio_id=2)
    risk_2, parts_2 = simulated(second, days)
    assert risk_2.equals(risk.filter(portfolio_id=2))
    assert parts_2.equals(parts.filter(portfolio_id=2))


def test_rows_in_any_order_and_nothing_after_a_session_moves_it() -> None:
    day = DAYS[-4]
    book = inputs(*both_books(), days=DAYS[-6:])
    expected = simulated(book, [day])
    later = pl.col("session_date") > day
    changed = {
        "returns": RETURNS.with_columns(simple_return=pl.when(later).then(0.5).otherwise("simple_return")).sample(
            fraction=1.0, shuffle=True, seed=1
        ),
        **{
            name: book[name].sample(fraction=1.0, shuffle=True, seed=2)
            for name in ("position_values", "position_greeks", "positions", "portfolio_snapshots")
        },
    }
    found = simulated({**book, **changed}, [day])
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
