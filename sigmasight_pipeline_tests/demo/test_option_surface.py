"""Option quotes: listed when they should be, priced by Black-Scholes on a believable surface, with gaps."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import mibian
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from sigmasight_pipeline.demo.option_surface import black_scholes
from sigmasight_pipeline.demo.rebase import PREMIUM_TARGETS
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.market_data.source import OPTION_BARS
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.symbols import SymbolError, parse_option

INCEPTION, LAST = date(2024, 1, 2), date(2025, 6, 30)
BEFORE, AFTER = "NVDA251017C00800000", "NVDA251017C00080000"
SPLIT = date(2024, 6, 10)


def value(spot: float, strike: float, years: float, rate: float, volatility: float, kind: str) -> float:
    arrays = (np.array([spot]), strike, np.array([years]), np.array([rate]), np.array([volatility]), kind)
    return float(black_scholes(*arrays)[0])


@pytest.mark.parametrize("kind", ["C", "P"])
@pytest.mark.parametrize(
    ("spot", "strike", "days", "rate", "volatility"),
    [(100, 100, 365, 0.05, 0.2), (530, 460, 618, 0.045, 0.18), (14, 25, 547, 0.05, 0.8), (225, 200, 3, 0.04, 0.3)],
)
def test_black_scholes_agrees_with_mibian(
    spot: float, strike: float, days: int, rate: float, volatility: float, kind: str
) -> None:
    oracle = mibian.BS([spot, strike, rate * 100, days], volatility=volatility * 100)
    expected = oracle.callPrice if kind == "C" else oracle.putPrice
    assert value(spot, strike, days / 365, rate, volatility, kind) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    spot=st.floats(1, 1000),
    moneyness=st.floats(0.3, 3),
    years=st.floats(0, 3),
    rate=st.floats(0, 0.1),
    volatility=st.floats(0.05, 1.5),
)
def test_put_call_parity(spot: float, moneyness: float, years: float, rate: float, volatility: float) -> None:
    strike = spot * moneyness
    call, put = (value(spot, strike, years, rate, volatility, kind) for kind in "CP")
    assert call - put == pytest.approx(spot - strike * np.exp(-rate * years), abs=1e-9 * (spot + strike))


def test_quotes_have_the_form_of_the_protocol(market: SimulatedMarket, calendar: SessionCalendar) -> None:
    quotes = market.option_bars([*PREMIUM_TARGETS, AFTER], INCEPTION, LAST)
    assert dict(quotes.schema) == OPTION_BARS
    keys = quotes.select("symbol", "session_date")
    assert keys.equals(keys.unique().sort(pl.all()))
    assert set(quotes["session_date"]) == set(calendar.between(INCEPTION, LAST))
    wrong = quotes.filter(
        (pl.col("close") < Decimal("0.01"))
        | (pl.col("bid") > pl.col("close"))
        | (pl.col("ask") < pl.col("close"))
        | (pl.col("bid") >= pl.col("ask"))
        | (pl.col("bid") < 0)
        | ~pl.col("implied_volatility").is_between(0.05, 2.5)
        | (pl.col("open_interest") < 0)
    )
    assert wrong.is_empty(), wrong
    shares = quotes.select(pl.col("bid", "implied_volatility", "open_interest").is_not_null().mean()).row(0)
    assert all(0.4 < share < 0.95 for share in shares), shares


def test_some_contract_days_have_no_close(market: SimulatedMarket, calendar: SessionCalendar) -> None:
    symbols = [symbol for symbol in PREMIUM_TARGETS if symbol != BEFORE]
    quotes = market.option_bars(symbols, INCEPTION, LAST)
    expected = len(symbols) * len(calendar.between(INCEPTION, LAST))
    without_close = quotes["close"].null_count()
    without_row = expected - quotes.height
    assert 0.03 < (without_close + without_row) / expected < 0.05
    assert min(without_close, without_row) / expected > 0.01
    assert quotes.filter(pl.col("close").is_null()).select(pl.col("bid", "ask").null_count()).row(0) == (0, 0)


@pytest.mark.parametrize("symbol", [symbol for symbol in PREMIUM_TARGETS if symbol != BEFORE])
def test_demo_options_live_through_the_demo_and_end_at_intrinsic_value(
    market: SimulatedMarket, calendar: SessionCalendar, symbol: str
) -> None:
    contract = parse_option(symbol)
    assert contract.expiration_date > LAST
    quotes = market.option_bars([symbol], INCEPTION, date(2025, 12, 31)).drop_nulls("close")
    expiry = calendar.on_or_before(contract.expiration_date)
    assert quotes["session_date"].max() is not None
    assert calendar.offset(expiry, -4) <= quotes["session_date"].max() <= expiry  # type: ignore[operator]  # a date
    for session, close in quotes.filter(pl.col("session_date") == expiry).select("session_date", "close").iter_rows():
        spot = market.daily_bars([contract.underlying], session, session)["close"].item()
        gain = spot - contract.strike if contract.kind == "C" else contract.strike - spot
        assert close == max(gain, Decimal("0.01"))


def implied(market: SimulatedMarket, symbol: str, session: date, close: float) -> float:
    contract = parse_option(symbol)
    spot = float(market.daily_bars([contract.underlying], session, session)["close"].item())
    years = (contract.expiration_date - session).days / 365
    return float(
        brentq(
            lambda vol: value(spot, float(contract.strike), years, np.log1p(0.04), vol, contract.kind) - close, 0.01, 4
        )
    )


def test_the_contract_is_renamed_at_the_split_and_keeps_its_value(
    market: SimulatedMarket, calendar: SessionCalendar
) -> None:
    every = calendar.between(INCEPTION, LAST)
    old, new = (market.option_bars([symbol], INCEPTION, LAST).drop_nulls("close") for symbol in (BEFORE, AFTER))
    assert set(old["session_date"]) < {day for day in every if day < SPLIT}
    assert set(new["session_date"]) < {day for day in every if day >= SPLIT}
    last, first = old.tail(1).row(0, named=True), new.head(1).row(0, named=True)
    before = implied(market, BEFORE, last["session_date"], float(last["close"]))
    after = implied(market, AFTER, first["session_date"], float(first["close"]))
    assert abs(before - after) < 0.02


def test_a_fall_raises_volatility_and_low_strikes_cost_more(market: SimulatedMarket) -> None:
    session = date(2024, 3, 5)
    strikes = {f"SPY241220P00{strike}000": strike for strike in (400, 480, 560)}
    quotes = market.option_bars(strikes, session, session)
    pairs = quotes.select("symbol", "close").rows()
    volatilities = [implied(market, symbol, session, float(close)) for symbol, close in pairs]
    assert volatilities == sorted(volatilities, reverse=True)


def test_contracts_are_listed_for_a_limited_time(market: SimulatedMarket) -> None:
    quotes = market.option_bars(["AAPL250117C00200000"], date(2014, 1, 2), date(2026, 1, 2))
    assert quotes["session_date"].min() == date(2022, 8, 1)  # 900 days before expiry
    assert quotes["session_date"].max() <= date(2025, 1, 17)  # type: ignore[operator]  # a date


@pytest.mark.parametrize("symbol", ["AAPL", "AAPL1250117C00200000", "AAPL250231C00200000"])
def test_what_is_no_option_is_refused(market: SimulatedMarket, symbol: str) -> None:
    with pytest.raises(SymbolError):
        market.option_bars([symbol], INCEPTION, LAST)


def test_options_on_unknown_symbols_have_quotes(market: SimulatedMarket) -> None:
    assert market.option_bars(["ABCD250117C00050000"], INCEPTION, LAST).height > 200


def test_options_on_a_delisted_symbol_end_with_it(market: SimulatedMarket) -> None:
    quotes = market.option_bars(["SPLK250117C00150000"], INCEPTION, LAST)
    assert quotes["session_date"].max() <= date(2024, 3, 15)  # type: ignore[operator]  # a date


def test_no_option_on_a_stock_is_quoted_below_its_exercise_value(
    market: SimulatedMarket, calendar: SessionCalendar
) -> None:
    """A put so deep in the money that the European value, the discounted strike less the price, is less."""
    symbol = "AAPL250815P00250000"
    quotes = market.option_bars([symbol], date(2023, 3, 1), date(2023, 4, 3)).drop_nulls("close")
    spots = market.daily_bars(["AAPL"], date(2023, 3, 1), date(2023, 4, 3)).select("session_date", spot="close")
    gains = quotes.join(spots, on="session_date").with_columns(gain=250 - pl.col("spot"))
    assert gains.filter(pl.col("close") < pl.col("gain")).is_empty()
    assert not gains.filter(pl.col("close") == pl.col("gain")).is_empty()
