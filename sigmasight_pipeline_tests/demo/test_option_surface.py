"""Option quotes: listed when they should be, priced as what they are on a believable surface, with gaps."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations.exercise_styles import EUROPEAN_ROOTS
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, implied_by_price, option_price
from sigmasight_pipeline.demo.factors_path import TENOR_YEARS
from sigmasight_pipeline.demo.rebase import PREMIUM_TARGETS
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.market_data.source import OPTION_BARS
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.symbols import SymbolError, parse_option

INCEPTION, LAST = date(2024, 1, 2), date(2025, 6, 30)
BEFORE, AFTER = "NVDA251017C00800000", "NVDA251017C00080000"
SPLIT = date(2024, 6, 10)


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


def terms_at(market: SimulatedMarket, symbol: str, session: date) -> tuple[OptionTerms, float, float, float]:
    """Terms, spot, years and rate: the dividend yield is the one the underlying was made with."""
    contract = parse_option(symbol)
    spot = float(market.daily_bars([contract.underlying], session, session)["close"].item())
    years = (contract.expiration_date - session).days / 365
    curve = market.treasury_yields(session, session)
    tenor = min(TENOR_YEARS, key=lambda name: (abs(TENOR_YEARS[name] - years), TENOR_YEARS[name]))
    paid = np.log1p(market._paths.parameters(contract.underlying).dividend_yield)
    values = contract.kind == "C", float(contract.strike), contract.root not in EUROPEAN_ROOTS, paid
    terms = OptionTerms(*(np.array([value]) for value in values))
    return terms, spot, years, float(np.log1p(curve.filter(tenor=tenor)["yield"].item()))


def implied(market: SimulatedMarket, symbol: str, session: date, close: float) -> float:
    terms, *at = terms_at(market, symbol, session)
    return float(implied_by_price(terms, close, *at).volatility[0])


@pytest.mark.parametrize("symbol", ["SPY250919P00500000", "AAPL250815P00200000", "VIX250716C00025000", AFTER])
def test_the_value_of_a_quote_has_the_volatility_of_the_surface(market: SimulatedMarket, symbol: str) -> None:
    """Inverted as what it is; the vendor's own volatility is the surface's with an error of 1 % or so."""
    quotes = market.option_bars([symbol], date(2024, 7, 1), date(2024, 12, 31)).drop_nulls(
        ["close", "implied_volatility"]
    )
    some = quotes.gather_every(quotes.height // 12)
    found = [implied(market, symbol, day, float(close)) for day, close in some.select("session_date", "close").rows()]
    # a cent of the volatility index's calls is half a point
    np.testing.assert_allclose(found, some["implied_volatility"].to_numpy(), rtol=0.05)
    assert abs(np.mean(found / some["implied_volatility"].to_numpy()) - 1) < 0.015


def test_the_right_to_exercise_early_is_paid_for(market: SimulatedMarket) -> None:
    """A put as traded costs more than one that may be exercised on its last day only."""
    symbol, session = "AAPL250815P00250000", date(2024, 6, 3)
    close = float(market.option_bars([symbol], session, session)["close"].item())
    terms, *at = terms_at(market, symbol, session)
    european = option_price(replace(terms, is_american=np.array([False])), *at, implied(market, symbol, session, close))
    assert close > european[0] * 1.03


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
