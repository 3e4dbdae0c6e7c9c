"""Components of the day's P&L: by hand, against re-priced options, and adding up to the cent whatever is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations import black_scholes
from sigmasight_pipeline.calculations.attribution import pnl_attribution
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import (
    STYLES,
    no_yields,
    return_rows,
    stored_schema,
    style_factors,
    style_returns,
    weekdays,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock

DAYS = weekdays(80)
BEFORE, DAY = DAYS[-2], DAYS[-1]
STYLE = style_returns(80, 5)
OWN = 1.3 * STYLE[:, [2]] + 0.005 * np.random.default_rng(6).normal(size=(80, 2))
SYMBOLS = [*STYLES.values(), "AAA", "BBB"]
RETURNS = return_rows(DAYS, SYMBOLS, np.hstack([STYLE, OWN]))
CALL = "AAA240119C00100000"
NONE = frame(tables.instruments, [])

Rows = Sequence[dict[str, Any]]


def value_row(day: date, position_id: int, **fields: Any) -> dict[str, Any]:
    """A row of ``position_values``; ten units worth 1,000.00, nothing earned."""
    return {
        "session_date": day,
        "position_id": position_id,
        "portfolio_id": 1,
        "symbol": "-",
        "quantity": 10,
        "price_source": "market",
        "market_value": 1000,
        "exposure": 1000,
        "daily_pnl": 0,
        "dividend_pnl": 0,
        **fields,
    }


def greeks_row(day: date, position_id: int, **fields: Any) -> dict[str, Any]:
    return {"session_date": day, "position_id": position_id, "portfolio_id": 1, "status": "ok", **fields}


def betas(symbol: str, beta: float | None, day: date = BEFORE) -> list[dict[str, Any]]:
    """Rows of ``symbol_factor_betas``: the market beta, and another that must not be taken for it."""
    return [
        {"session_date": day, "symbol": symbol, "factor": factor, "beta": value, "quality": "ok", "n_obs": 60}
        for factor, value in (("Market", beta), ("Value", 9.0))
    ]


def inputs(positions: Rows, values: Rows, greeks: Rows = (), market_betas: Rows = (), **fields: Any) -> dict[str, Any]:
    return {
        "calendar": sessions_frame(DAYS),
        "portfolios": frame(tables.portfolios, [portfolio(1, DAYS[0])]),
        "positions": frame(tables.positions, positions),
        "position_values": frame(tables.position_values, values),
        "position_greeks": frame(tables.position_greeks, greeks),
        "instruments": NONE,
        "returns": RETURNS,
        "yields": no_yields(),
        "factors": style_factors(),
        "symbol_factor_betas": frame(tables.symbol_factor_betas, market_betas),
        **fields,
    }


def attributed(book: Mapping[str, Any], day: date = DAY) -> dict[str, Decimal]:
    found = pnl_attribution(sessions=[day], **book)
    assert dict(found.schema) == stored_schema(tables.pnl_attribution)
    assert found["portfolio_id"].unique().to_list() == [1]
    return dict(found.select("component", "pnl").iter_rows())


def cents(dollars: float) -> Decimal:
    return Decimal(dollars).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def joint_return() -> float:
    """Sum of AAA's ridge betas over the sessions through the one before, times the factors' returns of the session."""
    x, y = STYLE[:79] - STYLE[:79].mean(axis=0), OWN[:79, 0] - OWN[:79, 0].mean()
    gram = x.T @ x
    return float(np.linalg.solve(gram + 0.1 * np.diag(np.diag(gram)), x.T @ y) @ STYLE[79])


STOCK = [stock(1, "AAA", 10, 90, DAYS[0])]


@pytest.mark.parametrize("side", [1, -1])
def test_a_stock_by_market_other_factors_dividend_and_the_rest(side: int) -> None:
    """V of the session before, beta of the session before; a short has every sign turned."""
    values = [
        value_row(BEFORE, 1, market_value=side * 250_000),
        value_row(DAY, 1, market_value=side * 777, daily_pnl=side * 4321, dividend_pnl=side * Decimal("12.34")),
    ]
    market_betas = betas("AAA", 1.25) + betas("AAA", 7.0, DAY) + betas("BBB", 5.0)
    found = attributed(inputs(STOCK, values, market_betas=market_betas))
    market = cents(side * 1.25 * STYLE[79, 2] * 250_000)
    factors = cents(side * joint_return() * 250_000)
    dividend = side * Decimal("12.34")
    assert found == {
        "market": market,
        "other_factors": factors - market,
        "dividend": dividend,
        "specific": side * 4321 - factors - dividend,
    }
    assert abs(found["market"] + found["other_factors"]) > 100


def two_days(**today: Any) -> Rows:
    return [value_row(BEFORE, 1), value_row(DAY, 1, daily_pnl=Decimal("7.77"), **today)]


MARKET_GAP = return_rows(DAYS, SYMBOLS, np.hstack([STYLE, OWN]), spanned={(79, 2): 2})
YOUNG = RETURNS.filter((pl.col("symbol") != "AAA") | (pl.col("session_date") > DAYS[30]))
WITHOUT_MARKET = style_factors().filter(pl.col("factor") != "Market")
MISSING: list[tuple[str, Rows, Rows, dict[str, Any], set[str]]] = [
    ("nothing", two_days(), betas("AAA", 1.0), {}, {"market", "other_factors"}),
    ("no beta row", two_days(), [], {}, set()),
    ("beta NULL", two_days(), betas("AAA", None), {}, set()),
    ("no joint beta", two_days(), betas("AAA", 1.0), {"returns": YOUNG}, {"market"}),
    ("no return of the market", two_days(), betas("AAA", 1.0), {"returns": MARKET_GAP}, set()),
    ("no Market factor", two_days(), betas("AAA", 1.0), {"factors": WITHOUT_MARKET}, set()),
    ("a style without data", two_days(), betas("AAA", 1.0), {"factors": style_factors(Size=None)}, {"market"}),
    ("no style factors", two_days(), betas("AAA", 1.0), {"factors": style_factors().clear()}, set()),
    ("no row before", two_days()[1:], betas("AAA", 1.0), {}, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "market_betas", "fields", "known"), [c[1:] for c in MISSING], ids=[c[0] for c in MISSING]
)
def test_what_is_unknown_has_no_row(values: Rows, market_betas: Rows, fields: dict[str, Any], known: set[str]) -> None:
    found = attributed(inputs(STOCK, values, market_betas=market_betas, **fields))
    assert set(found) == known | {"dividend", "specific"}
    assert sum(found.values()) == Decimal("7.77")


OPTION = [option(1, CALL, 2, 5, DAYS[0])]
GREEKS = {"delta": 120.0, "gamma": 4.0, "theta": -11.0, "vega": 35.0, "rho": 8.0}
QUOTED = {"underlying_price": 100, "volatility": 0.30, "risk_free_rate": 0.045}
MOVED = {"underlying_price": "101.5", "volatility": 0.32, "risk_free_rate": 0.044}


def option_book(
    before: Mapping[str, Any] = {}, today: Mapping[str, Any] = {}, quantity: tuple[Any, Any] = (2, 2), **fields: Any
) -> dict[str, Any]:
    """A call over the last two sessions, a Thursday and a Friday; 1,000.00 earned."""
    values = [value_row(BEFORE, 1, quantity=quantity[0]), value_row(DAY, 1, quantity=quantity[1], daily_pnl=1000)]
    greeks = [
        greeks_row(BEFORE, 1, **{**GREEKS, **QUOTED, **before}),
        greeks_row(DAY, 1, **{**GREEKS, **MOVED, **today}),
    ]
    return inputs(OPTION, values, greeks, **fields)


def test_an_option_by_greek() -> None:
    assert attributed(option_book()) == {
        "delta": Decimal("180.00"),
        "gamma": Decimal("4.50"),
        "theta": Decimal("-11.00"),
        "vega": Decimal("70.00"),
        "rho": Decimal("-0.80"),
        "unexplained": Decimal("757.30"),
    }


def test_a_split_of_the_underlying_is_undone() -> None:
    """Two for one: 50.75 for half a share is the same move as 101.50."""
    split = option_book(today={"underlying_price": "50.75"}, quantity=(2, 4))
    assert attributed(split) == attributed(option_book())


def test_theta_counts_calendar_days() -> None:
    friday, monday = DAYS[-6], DAYS[-5]
    assert (monday - friday).days == 3
    values = [value_row(friday, 1), value_row(monday, 1)]
    greeks = [greeks_row(friday, 1, **GREEKS, **QUOTED), greeks_row(monday, 1, **GREEKS, **QUOTED)]
    assert attributed(inputs(OPTION, values, greeks), monday)["theta"] == Decimal("-33.00")


OPTION_GAPS: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
    ("fallback before", {"status": "fallback"}, {}, set()),
    ("Greeks NULL before", dict.fromkeys(GREEKS), {}, set()),
    ("no underlying price now", {}, {"underlying_price": None}, {"theta", "vega", "rho"}),
    ("no volatility now", {}, {"volatility": None, "status": "fallback"}, {"delta", "gamma", "theta", "rho"}),
    ("no rate now", {}, {"risk_free_rate": None}, {"delta", "gamma", "theta", "vega"}),
    ("no volatility before", {"volatility": None}, {}, {"delta", "gamma", "theta", "rho"}),
]


@pytest.mark.parametrize(
    ("before", "today", "known"), [gap[1:] for gap in OPTION_GAPS], ids=[g[0] for g in OPTION_GAPS]
)
def test_greeks_without_their_inputs_have_no_row(
    before: dict[str, Any], today: dict[str, Any], known: set[str]
) -> None:
    found = attributed(option_book(before, today))
    assert set(found) == known | {"unexplained"}
    assert sum(found.values()) == 1000


@pytest.mark.parametrize("contracts", [3, -3])
@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("move", [0.0, 0.5, -2.0])
def test_greeks_explain_a_re_priced_option(contracts: int, is_call: bool, move: float) -> None:
    """P&L by the closed form; what the Greeks leave is third order: cents of a thousand dollars."""
    terms = {"spot": 100.0, "strike": 105.0, "time": 0.5, "rate": 0.04, "volatility": 0.25}
    later = {**terms, "spot": 100.0 + move, "time": 0.5 - 1 / 365, "rate": 0.0402, "volatility": 0.255}
    size = contracts * 100
    gained = size * float(black_scholes.price(is_call, **later) - black_scholes.price(is_call, **terms))
    greeks = {name: size * float(value) for name, value in black_scholes.greeks(is_call, **terms)._asdict().items()}
    pnl = cents(gained)
    values = [value_row(BEFORE, 1, quantity=contracts), value_row(DAY, 1, quantity=contracts, daily_pnl=pnl)]
    rows = [
        greeks_row(
            day, 1, **greeks, underlying_price=at["spot"], volatility=at["volatility"], risk_free_rate=at["rate"]
        )
        for day, at in ((BEFORE, terms), (DAY, later))
    ]
    found = attributed(inputs([option(1, CALL, contracts, 5, DAYS[0])], values, rows))
    assert sum(found.values()) == pnl
    assert abs(found["unexplained"]) < Decimal("3.00"), found
    assert abs(found["vega"]) > 30


LATE = [stock(1, "AAA", 10, 90, DAY)]
SATURDAY, MONDAY = date(2023, 4, 15), date(2023, 4, 17)
FUND = [private(1, "FUND", 1, 90, DAYS[0])]
TRADES: list[tuple[str, Rows, Rows, date, dict[str, int]]] = [
    ("entered", LATE, [value_row(DAY, 1, daily_pnl=5)], DAYS[0], {"trade": 5, "dividend": 0}),
    ("entered at inception", LATE, [value_row(DAY, 1, daily_pnl=5)], DAY, {"trade": 5, "dividend": 0}),
    (
        "entered on a weekend",
        [stock(1, "AAA", 10, 90, SATURDAY)],
        [value_row(MONDAY, 1, daily_pnl=5)],
        DAYS[0],
        {"trade": 5, "dividend": 0},
    ),
    ("brought in at inception", STOCK, [value_row(DAY, 1)], DAY, {"specific": 0, "dividend": 0}),
    (
        "brought in from before the record",
        [stock(1, "AAA", 10, 90, date(2022, 6, 1))],
        [value_row(DAYS[0], 1)],
        DAYS[0],
        {"specific": 0, "dividend": 0},
    ),
    ("exit", STOCK, two_days(price_source="exit", dividend_pnl=2), DAYS[0], {"trade": 5, "dividend": 2}),
    ("settlement", OPTION, two_days(price_source="settlement"), DAYS[0], {"trade": 7}),
    ("option entered", [option(1, CALL, 2, 5, DAY)], [value_row(DAY, 1, daily_pnl=5)], DAYS[0], {"trade": 5}),
    ("private entered", [private(1, "FUND", 1, 90, DAY)], [value_row(DAY, 1, daily_pnl=5)], DAYS[0], {"trade": 5}),
    ("private", FUND, two_days(), DAYS[0], {"mark": 7}),
]


@pytest.mark.parametrize(
    ("positions", "values", "inception", "expected"), [c[1:] for c in TRADES], ids=[c[0] for c in TRADES]
)
def test_trades_and_marks(positions: Rows, values: Rows, inception: date, expected: dict[str, int]) -> None:
    owner = frame(tables.portfolios, [portfolio(1, inception)])
    book = inputs(positions, values, market_betas=betas("AAA", 1.0), portfolios=owner)
    found = attributed(book, values[-1]["session_date"])
    assert {name: int(value) for name, value in found.items()} == expected
    assert sum(found.values()) == Decimal(str(values[-1]["daily_pnl"]))


def test_a_renamed_symbol_takes_the_betas_of_its_successor() -> None:
    renamed = frame(
        tables.instruments, [{"symbol": "OLD", "kind": "stock", "last_session": DAYS[40], "replaced_by": "AAA"}]
    )
    earlier = RETURNS.filter(pl.col("symbol") == "AAA", pl.col("session_date") <= DAYS[40])
    book = inputs(
        [stock(1, "OLD", 10, 90, DAYS[0])], two_days(), market_betas=betas("AAA", 1.0), instruments=renamed,
        returns=pl.concat([RETURNS, earlier.with_columns(symbol=pl.lit("OLD"))]),
    )  # fmt: skip
    assert attributed(book) == attributed(inputs(STOCK, two_days(), market_betas=betas("AAA", 1.0)))


def generated(seed: int) -> dict[str, Any]:
    """Ten positions of every kind over twenty sessions, each input missing now and then."""
    random = np.random.default_rng(seed)
    kinds = [
        lambda key: stock(key, random.choice(["AAA", "BBB"]), random.choice([-5, 5]), 90, DAYS[60]),
        lambda key: option(key, CALL, random.choice([-2, 2]), 5, DAYS[60]),
        lambda key: private(key, "FUND", 1, 90, DAYS[60]),
    ]
    positions = [kinds[key % 3](key) | {"portfolio_id": 1 + key % 2} for key in range(1, 11)]
    values, greeks = [], []
    for row in positions:
        for number in range(60, 80):
            key = {"session_date": DAYS[number], "position_id": row["position_id"], "portfolio_id": row["portfolio_id"]}
            source = "exit" if number == 79 and row["position_id"] == 3 else "market"
            dividend = (
                round(random.normal(0, 9), 2) if row["investment_class"] == "PUBLIC" and random.random() < 0.2 else 0
            )
            values.append(
                value_row(DAYS[number], 1, market_value=round(random.normal(0, 1e5), 2), price_source=source)
                | {"daily_pnl": round(random.normal(0, 1e3), 2), "dividend_pnl": dividend}
                | key
            )
            known = {name: float(random.normal(0, 50)) for name in GREEKS} if random.random() < 0.8 else {}
            moves = {"underlying_price": round(random.uniform(90, 110), 2), "volatility": random.uniform(0.1, 0.5)}
            if row["investment_class"] != "PRIVATE":
                greeks.append(greeks_row(DAYS[number], 1, **known, **(moves if random.random() < 0.8 else {})) | key)
    market_betas = [
        item
        for day in DAYS[59:]
        for symbol in ("AAA", "BBB")
        for item in betas(symbol, float(random.normal(1, 0.3)) if random.random() < 0.9 else None, day)
    ]
    book = inputs(positions, values, greeks, market_betas)
    return book | {"portfolios": frame(tables.portfolios, [portfolio(1, DAYS[60]), portfolio(2, DAYS[60])])}


@settings(max_examples=8)
@given(st.integers(0, 2**16), st.sampled_from(DAYS[60:]))
def test_it_adds_up_and_depends_on_nothing_else(seed: int, day: date) -> None:
    """To the cent, for every row; a session alone, shuffled, without the future, equals its part of a range."""
    book = generated(seed)
    whole = pnl_attribution(sessions=DAYS[60:], **book)
    keys = ["session_date", "position_id"]
    sums = whole.group_by(keys).agg(pl.col("pnl").sum()).sort(keys)
    expected = book["position_values"].select(*keys, pl.col("daily_pnl").alias("pnl")).sort(keys)
    assert sums.cast({"pnl": pl.Decimal(20, 2)}).equals(expected)
    dated = ("position_values", "position_greeks", "returns", "symbol_factor_betas")
    known = {
        name: rows.filter(pl.col("session_date") <= day).sample(fraction=1, shuffle=True, seed=seed)
        if name in dated
        else rows
        for name, rows in book.items()
    }
    alone = pnl_attribution(sessions=[day], **known)
    assert alone.equals(whole.filter(pl.col("session_date") == day))
    one = {**known, "portfolios": known["portfolios"].filter(pl.col("portfolio_id") == 2)}
    assert pnl_attribution(sessions=[day], **one).equals(alone.filter(pl.col("portfolio_id") == 2))
    assert set(whole["component"]) <= set(tables.pnl_attribution.columns["component"].info["isin"])
