"""The order of volatilities and the rate of each option against a plain loop, one row at a time."""

from __future__ import annotations

import math
import statistics
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sigmasight_pipeline.calculations.implied_volatility import implied_volatility
from sigmasight_pipeline.calculations.option_inputs import OptionInputError, OptionInputReason
from sigmasight_pipeline.calculations.option_volatility import (
    MODEL,
    historical_lookback,
    model_options,
    yield_lookback,
)
from sigmasight_pipeline_tests.calculations.option_volatility_oracle import (
    CONTRACT_DAY,
    DAY,
    SESSIONS,
    contract_days,
    log_returns,
    loop,
    world,
    yields,
)

PARAMETERS = {
    "max_carried_volatility_age": 5,
    "historical_volatility_window": 30,
    "historical_volatility_min": 20,
    "max_yield_age": 5,
    "default_treasury_yield": 0.045,
}


def model_one(row=None, returns=(), curve=(), before=(), **parameters):
    """The result for one contract on DAY, as a dict; `before` are earlier rows of the same contract."""
    frame = contract_days(*before, row or {})
    result = model_options(frame, log_returns(list(returns)), yields(*curve), SESSIONS, **(PARAMETERS | parameters))
    return result.row(-1, named=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_plain_loop_gives_the_same(seed):
    inputs = world(seed)
    result = model_options(*inputs, SESSIONS, **PARAMETERS)
    expected = pl.DataFrame(list(loop(*inputs)), schema=MODEL)
    # American volatilities are searched for, to 1e-12, which the price magnifies
    assert_frame_equal(result, expected, rel_tol=1e-9, abs_tol=1e-12)
    if seed == 0:  # the comparison means something only where every branch is taken
        assert set(result["vol_source"]) == {"implied", "carried", "vendor", "historical", "fallback", None}
        assert set(result["rate_source"]) == {"observed", "carried", "default"}
        assert {"ok", "below_intrinsic", "above_upper_bound", "expired"} < set(result["vol_status"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9), today=st.integers(0, len(SESSIONS) - 1))
def test_one_session_alone_with_its_look_back_is_identical_to_the_range(seed, today):
    days, returns, curve = world(seed)
    whole = model_options(days, returns, curve, SESSIONS, **PARAMETERS)
    window = SESSIONS[max(today - historical_lookback(30) + 1, 0) : today + 1]
    alone = model_options(
        days.filter(pl.col("session_date").is_in(window[-6:])),
        returns.filter(pl.col("session_date").is_in(window)),
        curve.filter(pl.col("session_date").is_in(window[-yield_lookback(5, 5) :])),
        window,
        **PARAMETERS,
    )
    of_day = pl.col("session_date") == SESSIONS[today]
    assert_frame_equal(alone.filter(of_day), whole.filter(of_day), check_exact=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9), today=st.integers(0, len(SESSIONS) - 1), factor=st.floats(0.1, 3))
def test_nothing_after_a_session_moves_it(seed, today, factor):
    days, returns, curve = world(seed)
    before = model_options(days, returns, curve, SESSIONS, **PARAMETERS)
    later = pl.col("session_date") > SESSIONS[today]
    changed = [
        pl.when(later).then(pl.col(name) * factor).otherwise(pl.col(name)) for name in ("close", "underlying_price")
    ]
    after = model_options(
        days.with_columns(changed),
        returns.with_columns(log_return=pl.when(later).then(pl.lit(factor)).otherwise("log_return")),
        curve.filter(~later),
        SESSIONS,
        **PARAMETERS,
    )
    assert_frame_equal(after.filter(~later), before.filter(~later), check_exact=True)


# --- the edges of each rule --------------------------------------------------------------------------------------


def returns_on(numbers, spanned=1, symbol="AAA"):
    return [(SESSIONS[i], symbol, 0.01 * (-1) ** i, spanned) for i in numbers]


@pytest.mark.parametrize(
    ("case", "returns", "expected"),
    [
        ("19 returns", returns_on(range(72, 91)), None),
        ("20 returns", returns_on(range(71, 91)), 20),
        ("30 of more returns", returns_on(range(40, 91)), 30),
        ("20 in exactly 60 sessions", returns_on([31, *range(40, 59)]), 20),
        ("one of 20 is older than 60 sessions", returns_on([30, *range(40, 59)]), None),
        ("returns over a gap do not count", returns_on(range(40, 91), spanned=2), None),
        ("returns of another symbol do not count", returns_on(range(40, 91), symbol="BBB"), None),
        ("later returns do not count", returns_on(range(72, 100)), None),
        ("no return at all", [], None),
        ("a price that never moved", [(SESSIONS[i], "AAA", 0.0, 1) for i in range(60, 91)], None),
        ("a constant return", [(SESSIONS[i], "AAA", 0.1, 1) for i in range(60, 91)], None),
    ],
)
def test_historical_volatility(case, returns, expected):
    row = model_one(returns=returns)
    if expected is None:
        assert (row["vol_source"], row["volatility"], row["model_price"]) == ("fallback", None, None), case
    else:
        # The returns alternate between -0.01 and 0.01; with an even number of them the mean is 0.
        values = [value for _, _, value, _ in returns][-expected:]
        assert row["vol_source"] == "historical"
        assert row["volatility"] == pytest.approx(statistics.stdev(values) * math.sqrt(252), rel=1e-13)


@pytest.mark.parametrize(("age", "source"), [(0, "implied"), (1, "carried"), (5, "carried"), (6, "vendor")])
def test_an_implied_volatility_is_carried_for_five_sessions(age, source):
    day = SESSIONS[90 - age]
    quoted = {"session_date": day, "close": 8.0}
    now = {"vendor_volatility": 0.4}
    row = model_one(now | quoted) if age == 0 else model_one(now, before=[quoted])
    assert row["vol_source"] == source
    spot, strike = CONTRACT_DAY["underlying_price"], CONTRACT_DAY["strike_price"]
    years = (CONTRACT_DAY["expiration_date"] - day).days / 365
    expected = (
        0.4 if source == "vendor" else implied_volatility(True, 8.0, spot, strike, years, math.log(1.045)).volatility
    )
    assert row["volatility"] == pytest.approx(float(expected), rel=1e-14)
    assert (row["implied_volatility"] is not None) == (age == 0)


@pytest.mark.parametrize(
    ("changes", "status", "source"),
    [
        ({"close": 8.0}, "ok", "implied"),
        ({}, None, "vendor"),
        ({"close": 0.5}, "below_intrinsic", "vendor"),
        ({"close": 0.0}, "below_intrinsic", "vendor"),
        ({"close": 0.0, "strike_price": 200.0}, "no_time_value", "vendor"),
        ({"close": 102.0}, "above_upper_bound", "vendor"),
        ({"close": math.nan}, "bad_input", "vendor"),
        ({"close": 8.0, "underlying_price": None}, "bad_input", "fallback"),
        ({"close": 8.0, "underlying_price": 0.0}, "bad_input", "fallback"),
        ({"underlying_price": None}, None, "fallback"),
        ({"vendor_volatility": 0.0}, None, "fallback"),
        ({"vendor_volatility": -0.2}, None, "fallback"),
        ({"vendor_volatility": math.nan}, None, "fallback"),
        ({"vendor_volatility": math.inf}, None, "fallback"),
    ],
)
def test_statuses_and_what_follows(changes, status, source):
    row = model_one({"vendor_volatility": 0.4} | changes)
    assert (row["vol_status"], row["vol_source"]) == (status, source)
    assert (row["implied_volatility"] is None) == (status != "ok")
    assert (row["volatility"] is None) == (row["model_price"] is None) == (source == "fallback")
    if status == "ok":
        assert row["model_price"] == pytest.approx(8.0, rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 2.0),
        ({"close": 7.0, "vendor_volatility": 0.4}, 2.0),
        ({"option_kind": "P"}, 0.0),
        ({"option_kind": "P", "strike_price": 110.0}, 8.0),
        ({"underlying_price": None}, None),
    ],
)
def test_on_the_expiration_date_the_intrinsic_value_counts(changes, expected):
    before = [{"session_date": SESSIONS[89], "close": 8.0}]
    row = model_one({"expiration_date": DAY} | changes, before=[{"expiration_date": DAY} | changes | before[0]])
    assert row["time_to_expiry"] == 0.0
    assert (row["vol_status"], row["vol_source"], row["volatility"]) == ("expired", None, None)
    assert row["model_price"] == expected


def on(session, tenor, value, observed=None):
    return (SESSIONS[session], tenor, value, observed or SESSIONS[session])


@pytest.mark.parametrize(
    ("case", "days_left", "curve", "expected", "source"),
    [
        ("the nearest tenor", 91, [on(90, "1M", 0.01), on(90, "3M", 0.02), on(90, "1Y", 0.03)], 0.02, "observed"),
        ("the nearer of two", 61, [on(90, "1M", 0.01), on(90, "3M", 0.02)], 0.02, "observed"),
        ("a tie: the shorter", 106, [on(90, "6M", 0.02), on(90, "1M", 0.01)], 0.01, "observed"),
        ("beyond the longest", 20_000, [on(90, "10Y", 0.01), on(90, "30Y", 0.02)], 0.02, "observed"),
        ("5 sessions old", 91, [on(85, "3M", 0.02)], 0.02, "carried"),
        ("6 sessions old", 91, [on(84, "3M", 0.02)], 0.045, "default"),
        ("the session's own, carried by the loader", 91, [on(90, "3M", 0.02, SESSIONS[89])], 0.02, "carried"),
        ("age counts from the observation", 91, [on(88, "3M", 0.02, SESSIONS[84])], 0.045, "default"),
        ("the newest of several", 91, [on(88, "3M", 0.01), on(90, "3M", 0.02), on(89, "3M", 0.03)], 0.02, "observed"),
        ("too old near one, recent far one", 91, [on(80, "3M", 0.01), on(90, "10Y", 0.02)], 0.02, "observed"),
        ("a later one", 91, [on(91, "3M", 0.02)], 0.045, "default"),
        ("negative", 91, [on(90, "3M", -0.004)], -0.004, "observed"),
        ("none", 91, [], 0.045, "default"),
    ],
)
def test_risk_free_rate(case, days_left, curve, expected, source):
    row = model_one({"expiration_date": DAY + timedelta(days=days_left)}, curve=curve)
    assert row["time_to_expiry"] == days_left / 365, case
    assert row["risk_free_rate"] == pytest.approx(math.log(1 + expected), rel=1e-14), case
    assert row["rate_source"] == source, case


def test_a_dividend_yield_enters_volatility_and_price():
    row = model_one({"close": 8.0, "dividend_yield": 0.03})
    rate, years = math.log(1.045), 91 / 365
    expected = implied_volatility(True, 8.0, 102.0, 100.0, years, rate, 0.03).volatility
    assert row["volatility"] == pytest.approx(float(expected), rel=1e-14)
    assert row["volatility"] > model_one({"close": 8.0})["volatility"] + 0.01
    assert row["model_price"] == pytest.approx(8.0, rel=1e-14)


def test_no_contracts_give_an_empty_frame():
    result = model_options(contract_days(), log_returns([]), yields(), [], **PARAMETERS)
    assert result.schema == MODEL
    assert result.is_empty()


@pytest.mark.parametrize(
    ("rows", "curve", "reason", "message"),
    [
        ([{"session_date": date(2024, 1, 6)}], [], "unknown_session", "2024-01-06 is on no open session"),
        ([{}, {}], [], "duplicate_contract_day", "appears more than once"),
        ([{"option_kind": "X"}], [], "unknown_option_kind", "other than C and P"),
        ([{"option_kind": None}], [], "unknown_option_kind", "other than C and P"),
        ([{"strike_price": 0.0}], [], "bad_strike", "no positive strike"),
        ([{"strike_price": None}], [], "bad_strike", "no positive strike"),
        ([{"strike_price": math.nan}], [], "bad_strike", "no positive strike"),
        ([{"expiration_date": SESSIONS[89]}], [], "bad_expiration", "no expiration date on or after"),
        ([{"expiration_date": None}], [], "bad_expiration", "no expiration date on or after"),
        ([{}], [on(90, "4M", 0.02)], "unknown_tenor", "4M"),
        ([{}], [on(90, "3M", math.nan)], "bad_yield", "no decimal above -1"),
        ([{}], [on(90, "3M", -1.0)], "bad_yield", "no decimal above -1"),
        ([{}], [on(90, "3M", 0.02, SESSIONS[91])], "yield_from_later", "on or before its session"),
    ],
)
def test_input_that_cannot_be_right_is_refused(rows, curve, reason, message):
    with pytest.raises(OptionInputError, match=message) as caught:
        model_options(contract_days(*rows), log_returns([]), yields(*curve), SESSIONS, **PARAMETERS)
    assert caught.value.reason == reason


@pytest.mark.parametrize("sessions", [SESSIONS[::-1], [*SESSIONS, SESSIONS[-1]]])
def test_sessions_must_ascend(sessions):
    with pytest.raises(OptionInputError, match="sort them first") as caught:
        model_options(contract_days({}), log_returns([]), yields(), sessions, **PARAMETERS)
    assert caught.value.reason == OptionInputReason.SESSIONS_NOT_ASCENDING
