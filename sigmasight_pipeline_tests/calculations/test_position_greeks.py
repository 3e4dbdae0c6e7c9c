"""Greeks of positions through splits, exits, expiry and missing data: the engine from rows of market data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from sigmasight_pipeline.calculations.black_scholes import Greeks, greeks, price
from sigmasight_pipeline.calculations.contract_days import contract_days
from sigmasight_pipeline.calculations.option_volatility import MODEL
from sigmasight_pipeline.calculations.position_greeks import FALLBACK_GREEKS, position_greeks
from sigmasight_pipeline.calculations.priced_book import VolatilityRules, book_greeks, book_values
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.calculations.valuation import position_values
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline.storage.tables.results import GREEKS_STATUSES
from sigmasight_pipeline_tests.calculations.table_rows import (
    closes,
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    split,
    stock,
)
from sigmasight_pipeline_tests.properties.books import MAX_MARK_AGE, MAX_STALE_SESSIONS, Book, books

MON, TUE, WED, THU, FRI = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
DAYS = [MON, TUE, WED, THU, FRI]
NEXT = date(2024, 3, 11)
CALL, PUT = "AAA240307C00100000", "AAA240315P00090000"
PER_SHARE = [f"{name}_per_share" for name in Greeks._fields]
KEYS = ["session_date", "position_id"]

MARKET = {"AAA": {MON: 100, TUE: 101, WED: 102, THU: 103}, "BBB": {MON: 20, WED: 22}}

POSITIONS = [
    stock(1, "AAA", 10, 90, MON, exit_date=WED, exit_price=1),
    option(2, CALL, 1, 9, MON),
    option(3, CALL, -5, 9, TUE, portfolio_id=2),
    option(4, PUT, 1, 9, WED, exit_date=THU, exit_price=2),
    private(5, "FUND", 1, 1, MON),
    stock(6, "BBB", "-2.5", 21, MON),
]

EUROPEAN = {"symbol": "AAA", "kind": "stock", "active": True, "exercise_style": "european"}
"""So that expected figures are in closed form."""

Frames = dict[str, pl.DataFrame]


def book(
    positions: list[dict[str, Any]],
    actions: list[dict[str, Any]] | None = None,
    market: dict[str, dict[date, Any]] | None = None,
    figures: dict[tuple[str, date], dict[str, Any] | None] | None = None,
    instruments: Sequence[dict[str, Any]] = (EUROPEAN,),
) -> Frames:
    """What the engine takes for a book over DAYS. Every contract is modelled at volatility 0.3 and rate 0.05 on every
    session its underlying has a price; `figures` changes what is modelled by contract and session, None: no row."""
    reference = {
        "calendar": sessions_frame([*DAYS, NEXT], closed=[FRI]),
        "portfolios": frame(tables.portfolios, [portfolio(1, MON), portfolio(2, MON)]),
        "positions": frame(tables.positions, positions),
        "actions": frame(tables.corporate_actions, actions or []),
        "instruments": frame(tables.instruments, instruments),
    }
    prices = [row for symbol, by_day in (market or MARKET).items() for row in closes(symbol, by_day)]
    quotes = {
        "prices": frame(tables.daily_prices, prices),
        "option_prices": frame(tables.option_prices, []),
    }
    days = contract_days(sessions=DAYS, **quotes, **reference)
    model = pl.DataFrame(
        [
            {"contract": day["contract"], "session_date": day["session_date"]} | modelled
            for day in days.iter_rows(named=True)
            if (modelled := (figures or {}).get((day["contract"], day["session_date"]), _modelled(day))) is not None
        ],
        schema=MODEL,
    )
    values = position_values(
        sessions=DAYS,
        option_model=model,
        marks=frame(tables.position_marks, []),
        max_stale_sessions=5,
        max_mark_age=100,
        **quotes,
        **reference,
    )
    return {**reference, "position_values": values, "option_model": model, "contract_days": days}


FALLS_BACK = {"vol_source": "fallback", "risk_free_rate": 0.05, "rate_source": "observed", "time_to_expiry": 0.25}


def _modelled(day: dict[str, Any]) -> dict[str, Any]:
    if day["underlying_price"] is None:
        return FALLS_BACK
    time = (day["expiration_date"] - day["session_date"]).days / 365
    terms = (day["option_kind"] == "C", day["underlying_price"], day["strike_price"], time, 0.05, 0.3)
    source = {"volatility": 0.3, "vol_source": "historical"}
    return FALLS_BACK | {"time_to_expiry": time, "model_price": float(price(*terms))} | source


def run(frames: Mapping[str, Any], sessions: list[date] | None = None, **parameters: Any) -> pl.DataFrame:
    return position_greeks(sessions=sessions or DAYS, **frames, **parameters)


def row_of(rows: pl.DataFrame, position_id: int, day: date) -> dict[str, Any]:
    return rows.row(by_predicate=(pl.col("position_id") == position_id) & (pl.col("session_date") == day), named=True)


def test_the_symbol_a_position_follows_is_the_one_that_trades_at_the_session() -> None:
    """An option's underlying, a renamed symbol's successor from the session after its last one."""
    renamed = {"symbol": "AAA", "kind": "stock", "last_session": TUE, "replaced_by": "NEW"}
    successor = {"symbol": "NEW", "kind": "stock", "active": True}
    market = {"AAA": {MON: 100, TUE: 101}, "NEW": {WED: 102, THU: 103}, "BBB": {MON: 20, WED: 22}}
    rows = run(book(POSITIONS, market=market, instruments=[EUROPEAN | renamed, successor]))
    found = {(day, key): symbol for day, key, symbol in rows.select(*KEYS, "risk_symbol").iter_rows()}
    assert {symbol for (_, key), symbol in found.items() if key == 6} == {"BBB"}
    for (day, key), symbol in found.items():
        assert key == 6 or symbol == ("AAA" if day <= TUE else "NEW"), (day, key)
    assert {key for day, key in found if day > TUE} >= {1, 2, 3, 4}


def test_one_row_per_value_that_is_not_private() -> None:
    rows = run(book(POSITIONS))
    expected = {name: dtype for name, dtype in polars_schema(tables.position_greeks).items() if name not in PROVENANCE}
    assert dict(rows.schema) == expected
    assert rows.select(*KEYS, "status").rows() == [
        (MON, 1, "ok"), (MON, 2, "ok"), (MON, 6, "ok"),
        (TUE, 1, "ok"), (TUE, 2, "ok"), (TUE, 3, "ok"), (TUE, 6, "ok"),
        (WED, 1, "exit"), (WED, 2, "ok"), (WED, 3, "ok"), (WED, 4, "ok"), (WED, 6, "ok"),
        (THU, 2, "expired"), (THU, 3, "expired"), (THU, 4, "exit"), (THU, 6, "ok"),
    ]  # fmt: skip
    assert set(rows["status"]) <= set(GREEKS_STATUSES)
    for name in Greeks._fields + tuple(PER_SHARE):
        assert rows[name].is_finite().all(), name
        # no negative zeros: they would print as -0
        assert not np.signbit(rows.filter(pl.col(name) == 0)[name].to_numpy()).any(), name


def test_stocks() -> None:
    rows = run(book(POSITIONS))
    held = row_of(rows, 6, TUE)  # carried at Monday's 20
    assert [held[name] for name in Greeks._fields] == [-2.5, 0, 0, 0, 0]
    assert [held[name] for name in PER_SHARE] == [1, 0, 0, 0, 0]
    assert (held["underlying_price"], held["delta_adjusted_exposure"]) == (20, Decimal("-50.00"))
    for name in ("volatility", "vol_source", "vol_status", "risk_free_rate", "rate_source", "time_to_expiry"):
        assert held[name] is None, name


def test_options_by_the_formula() -> None:
    rows = run(book(POSITIONS))
    for position_id, day, spot, strike, days, quantity in (
        (2, TUE, 101, 100, 2, 1),
        (3, WED, 102, 100, 1, -5),
        (4, WED, 102, 90, 9, 1),
    ):
        row = row_of(rows, position_id, day)
        expected = [float(value) for value in greeks(position_id != 4, spot, strike, days / 365, 0.05, 0.3)]
        assert [row[name] for name in PER_SHARE] == pytest.approx(expected, rel=1e-15), row
        assert [row[name] for name in Greeks._fields] == pytest.approx(
            [value * quantity * 100 for value in expected], rel=1e-15
        ), row
        assert row["delta_adjusted_exposure"] == round(Decimal(expected[0]) * quantity * 100 * spot, 2), row
        assert (row["underlying_price"], row["vol_source"], row["volatility"]) == (spot, "historical", 0.3)


def test_a_dividend_yield_reaches_the_formula() -> None:
    row = row_of(run(book(POSITIONS, instruments=[EUROPEAN | {"dividend_yield": 0.04}])), 2, MON)
    assert (row["dividend_yield"], row["exercise_style"]) == (0.04, "european")
    assert row["delta_per_share"] == pytest.approx(greeks(True, 100, 100, 3 / 365, 0.05, 0.3, 0.04).delta, rel=1e-15)


@pytest.mark.parametrize(
    ("position", "day", "status"),
    [
        (stock(1, "AAA", 10, 90, MON, exit_date=WED, exit_price=100), WED, "exit"),
        (stock(1, "AAA", 10, 90, WED, exit_date=WED, exit_price=100), WED, "exit"),
        (option(1, PUT, -1, 9, MON, exit_date=WED, exit_price=2), WED, "exit"),
        (option(1, CALL, -1, 9, MON), THU, "expired"),
        # traded on the expiration date
        (option(1, CALL, 1, 9, MON, exit_date=THU, exit_price=2), THU, "expired"),
        # settled on a closed day's, or a weekend's, last session before it, which is before the expiration date
        (option(1, "AAA240308C00100000", 1, 9, MON), THU, "expired"),
        # sold on that session
        (option(1, "AAA240308C00100000", 1, 9, MON, exit_date=THU, exit_price=3), THU, "exit"),
        # settled without a price of its underlying
        (option(1, "VOID240307C00100000", 1, 9, MON), THU, "expired"),
    ],
    ids=lambda value: f"{value['symbol']} exit {value.get('exit_date')}" if isinstance(value, dict) else None,
)
def test_the_exit_session_is_zeros(position: dict[str, Any], day: date, status: str) -> None:
    rows = run(book([position])).filter(pl.col("session_date") >= day)
    assert rows["session_date"].to_list() == [day]
    row = rows.row(0, named=True)
    assert row["status"] == status
    assert [row[name] for name in (*Greeks._fields, *PER_SHARE)] == [0.0] * 10
    assert row["delta_adjusted_exposure"] == Decimal(0)
    for name in ("volatility", "vol_source", "underlying_price", "risk_free_rate", "time_to_expiry", "model_price"):
        assert row[name] is None, name


PUT_CONTRACT = "AAA 2024-03-15 P 90"
SIDES = {"LC": ("C", 3), "SC": ("C", -3), "LP": ("P", 3), "SP": ("P", -3)}

FALLBACK_TABLE = [
    # calculations.md section 5: delta, gamma, theta, vega
    ("LC", 0.6, 0.02, -0.5, 0.3),
    ("SC", -0.4, -0.02, 0.5, -0.3),
    ("LP", -0.4, 0.02, -0.5, 0.3),
    ("SP", 0.3, -0.02, 0.5, -0.3),
]


@pytest.mark.parametrize("missing", ["volatility", "underlying price", "model row", "finite Greeks"])
@pytest.mark.parametrize(("kind", "delta", "gamma", "theta", "vega"), FALLBACK_TABLE)
def test_fallback(missing: str, kind: str, delta: float, gamma: float, theta: float, vega: float) -> None:
    letter, quantity = SIDES[kind]
    root = "VOID" if missing == "underlying price" else "AAA"
    contract = (f"{root} 2024-03-15 {letter} 100", MON)
    figures: dict[str, dict[tuple[str, date], dict[str, Any] | None]] = {
        "volatility": {contract: FALLS_BACK},
        "model row": {contract: None},
        "underlying price": {},
        # so little volatility at the money that gamma is beyond every number
        "finite Greeks": {contract: FALLS_BACK | {"volatility": 1e-320, "vol_source": "vendor", "risk_free_rate": 0.0}},
    }
    rows = run(book([option(1, f"{root}240315{letter}00100000", quantity, 9, MON)], figures=figures[missing]))
    row = row_of(rows, 1, MON)
    assert (row["status"], row["vol_source"]) == ("fallback", "fallback")
    assert [row[name] for name in PER_SHARE] == [delta, gamma, theta, vega, None]
    assert [row[name] for name in Greeks._fields] == [value * 300 for value in (delta, gamma, theta, vega)] + [None]
    for name in ("volatility", "model_price", "delta_adjusted_exposure"):
        assert row[name] is None, name
    assert row["underlying_price"] == (None if missing in ("underlying price", "model row") else 100)
    assert set(rows.filter(pl.col("session_date") > MON)["status"]) == {
        "fallback" if missing == "underlying price" else "ok"
    }


def test_another_fallback_table_is_a_parameter() -> None:
    frames = book([option(1, "VOID240315C00100000", 2, 9, MON)])
    row = row_of(run(frames, fallback={**FALLBACK_GREEKS, "LC": FALLBACK_GREEKS["LC"]._replace(delta=0.5)}), 1, MON)
    assert (row["delta"], row["delta_per_share"], row["gamma"]) == (100.0, 0.5, 4.0)


def test_a_split_changes_the_unit_but_not_the_position() -> None:
    positions = [stock(1, "AAA", 10, 90, MON), option(2, PUT, -2, 9, MON)]
    halved = {"AAA": {MON: 100, TUE: 101, WED: 51, THU: "51.5"}}
    plain, through = run(book(positions)), run(book(positions, [split("AAA", WED, 2)], halved))
    for day in (MON, TUE, WED, THU):
        for position_id in (1, 2):
            before, after = row_of(plain, position_id, day), row_of(through, position_id, day)
            ratio = 2 if day >= WED else 1
            # 2:1 gives twice the shares at half the price: delta doubles, gamma is per half the price
            for name, factor in (("delta", ratio), ("gamma", ratio**2), ("theta", 1), ("vega", 1), ("rho", 1)):
                assert after[name] == pytest.approx(before[name] * factor, rel=1e-12), (name, position_id, day)
            assert after["delta_per_share"] == pytest.approx(before["delta_per_share"], rel=1e-12)
            assert after["delta_adjusted_exposure"] == before["delta_adjusted_exposure"]


def test_every_holder_of_a_contract_gets_its_greeks_through_an_uneven_strike() -> None:
    """500 / 3 fits no OCC symbol: the formula takes the strike unrounded; one bought after the split has 166.667."""
    old, new = "AAA240315C00500000", "AAA240315C00166667"
    market = {"AAA": {MON: 480, TUE: 490, WED: 165, THU: 166}}
    positions = [option(1, old, 1, 9, MON), option(2, old, -4, 9, TUE), option(3, new, 1, 9, WED)]
    rows = run(book(positions, [split("AAA", WED, 3)], market))
    shares = {key: row_of(rows, key, WED)["delta_per_share"] for key in (1, 2, 3)}
    assert shares[1] == shares[2] == greeks(True, 165, 500 / 3, 9 / 365, 0.05, 0.3).delta
    assert shares[3] == greeks(True, 165, 166.667, 9 / 365, 0.05, 0.3).delta
    assert [row_of(rows, key, WED)["delta"] for key in (1, 2)] == [shares[1] * 300, shares[1] * -1200]


FIGURES = [*Greeks._fields, "delta_adjusted_exposure"]


def totals(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("session_date").agg(pl.col(FIGURES).cast(pl.Float64).sum()).sort("session_date")


def test_short_mirrors_long() -> None:
    """Fallback rows excepted: their table is not symmetrical."""
    held = [stock(1, "AAA", 10, 90, MON), option(2, CALL, 3, 9, MON), option(3, PUT, 7, 9, TUE)]
    long, short = (
        run(book([row | {"quantity": sign * row["quantity"]} for row in held])).with_columns(
            (pl.col(name) * sign).alias(name) for name in FIGURES
        )
        for sign in (1, -1)
    )
    assert set(long["status"]) == {"ok", "expired"}
    assert_frame_equal(long, short, check_exact=True)


def test_splitting_a_lot_changes_no_total() -> None:
    whole = run(book([option(1, PUT, 10, 9, MON), stock(2, "AAA", 9, 90, MON)]))
    parts = run(book([option(1, PUT, 3, 9, MON), option(2, PUT, 7, 9, MON), stock(3, "AAA", 9, 90, MON)]))
    assert_frame_equal(totals(whole), totals(parts), abs_tol=0.01, rel_tol=1e-12)


def test_long_call_and_short_put_are_the_forward() -> None:
    rows = run(book([option(1, "AAA240315C00090000", 4, 9, MON), option(2, PUT, -4, 9, MON)]))
    summed = totals(rows)
    assert summed["delta"].to_list() == pytest.approx([400.0] * 4, rel=1e-13)  # no dividend yield: e^0 a share
    for name in ("gamma", "vega"):
        assert summed[name].to_list() == [0.0] * 4, name
    strikes = [90 * np.exp(-0.05 * days / 365) for days in (11, 10, 9, 8)]
    assert summed["theta"].to_list() == pytest.approx([-0.05 * strike / 365 * 400 for strike in strikes], rel=1e-11)
    spots = [100, 101, 102, 103]
    assert summed["delta_adjusted_exposure"].to_list() == pytest.approx([400.0 * spot for spot in spots], abs=0.011)


def test_a_session_alone_and_in_any_order_is_identical() -> None:
    frames = book(POSITIONS, [split("AAA", WED, 2)])
    together = run(frames)
    shuffled = {name: table.sample(fraction=1, shuffle=True, seed=3) for name, table in frames.items()}
    assert_frame_equal(run(shuffled), together, check_exact=True)
    for day in DAYS:
        only = together.filter(pl.col("session_date") == day)
        assert_frame_equal(run(frames, [day]), only, check_exact=True)
        known = {"position_values", "option_model", "contract_days"}
        past = {n: t.filter(pl.col("session_date") <= day) if n in known else t for n, t in frames.items()}
        assert_frame_equal(run(past, [day]), only, check_exact=True)


def test_nothing_held_is_no_rows() -> None:
    empty = run(book([private(5, "FUND", 1, 1, MON)]))
    assert empty.is_empty()
    assert dict(empty.schema) == dict(run(book(POSITIONS)).schema)


RULES = VolatilityRules(
    max_carried_volatility_age=2,
    historical_volatility_window=5,
    historical_volatility_min=3,
    max_yield_age=5,
    default_treasury_yield=0.045,
)


@settings(max_examples=20, deadline=None)
@given(books())
def test_laws_of_any_book(made: Book) -> None:
    """Options are modelled from the book's own quotes; a session alone, from what is known then, is the range's."""
    sessions = made.open_sessions

    def known(last: date) -> Mapping[str, Any]:
        frames = made.known(sessions[0], last)
        returns = daily_returns(frames["prices"], frames["actions"], frames["calendar"], sessions)
        names = ("calendar", "portfolios", "positions", "prices", "option_prices", "actions", "instruments")
        yields = frame(tables.treasury_yields, [])
        return {name: frames[name] for name in names} | {"returns": returns, "yields": yields}

    values = book_values(
        sessions=sessions,
        volatility=RULES,
        marks=made.frames["marks"],
        max_stale_sessions=MAX_STALE_SESSIONS,
        max_mark_age=MAX_MARK_AGE,
        **known(sessions[-1]),
    )
    together = book_greeks(sessions=sessions, volatility=RULES, position_values=values, **known(sessions[-1]))
    for day in sessions[1::5]:
        alone = book_greeks(sessions=[day], volatility=RULES, position_values=values, **known(day))
        assert_frame_equal(alone, together.filter(pl.col("session_date") == day), check_exact=True)
    public = made.frames["positions"].filter(pl.col("investment_class") != "PRIVATE")
    expected = values.join(public, on="position_id", how="semi").sort(KEYS)
    assert together.select(KEYS).equals(expected.select(KEYS))
    gone = pl.col("price_source").is_in(["exit", "settlement", "settlement_unpriced"])
    wrong = together.join(values, on=KEYS).filter((pl.col("status").is_in(["exit", "expired"])) != gone)
    assert wrong.is_empty(), wrong
    computed = pl.col("status") != "fallback"
    unknown = together.filter(pl.col("delta_adjusted_exposure").is_null() == computed)
    assert unknown.is_empty(), unknown
    negative = together.filter(computed, (pl.col("gamma_per_share") < 0) | (pl.col("vega_per_share") < 0))
    assert negative.is_empty(), negative
