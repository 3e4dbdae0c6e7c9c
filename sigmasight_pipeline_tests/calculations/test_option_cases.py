"""The cases of options met on real books, each with the figure that is right, at the engines."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations.dividend_yields import dividend_yields
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatilityStatus
from sigmasight_pipeline.calculations.option_pricing import (
    OptionMarket,
    OptionTerms,
    implied_by_price,
    option_greeks,
    repriced,
)
from sigmasight_pipeline.calculations.option_volatility import sensible
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import closes, dividend, frame, sessions_frame, split


def terms(is_call: bool, strike: float, *, american: bool = True, dividend_yield: float = 0.0) -> OptionTerms:
    return OptionTerms(*(np.array([value]) for value in (is_call, strike, american, dividend_yield)))


RATE = float(np.log(1.045))
TLT = (92.06, 252 / 365, RATE)


def test_a_call_quoted_below_the_bound_without_dividends() -> None:
    held = terms(True, 82.0, dividend_yield=0.0415)
    implied, status = implied_by_price(held, 11.73, *TLT)
    assert status == ImpliedVolatilityStatus.OK
    assert option_greeks(held, *TLT, implied).delta[0] == pytest.approx(0.78, abs=0.005)
    without = implied_by_price(terms(True, 82.0), 11.73, *TLT)
    assert without.status == ImpliedVolatilityStatus.BELOW_INTRINSIC


@pytest.mark.parametrize("volatility", [0.13, 0.4])
def test_a_long_option_never_loses_more_than_it_is_worth(volatility: float) -> None:
    """At the historical volatility the model says 13: it lost 111 % of the 11.73 quoted."""
    now = OptionMarket(*TLT, volatility)
    worth = repriced(11.73, terms(True, 82.0), now, now._replace(spot=92.06 * 0.5))
    assert 0.0 <= worth[0] < 0.8
    assert repriced(11.73, terms(True, 82.0), now, now)[0] == 11.73


def test_an_american_put_at_its_exercise_value_has_no_volatility() -> None:
    found = implied_by_price(terms(False, 100.0), [40.0, 39.9, 40.5], 60.0, 1.0, RATE)
    assert found.status.tolist() == [ImpliedVolatilityStatus.NO_TIME_VALUE] * 2 + [ImpliedVolatilityStatus.OK]
    european = implied_by_price(terms(False, 100.0, american=False), 40.0, 60.0, 1.0, RATE)
    assert european.volatility[0] > 0.34, "what it was read as"


def test_deep_in_the_money_a_cent_is_any_volatility() -> None:
    held, market = terms(True, 40.0), (np.array([112.1]), np.array([42 / 365]), np.array([float(np.log(1.0242))]))
    inverted = implied_by_price(held, 72.22, *market)
    assert inverted.volatility[0] == pytest.approx(1.02, abs=0.03)
    found = sensible(held, inverted, *market)
    assert np.isnan(found.volatility[0])
    assert found.status[0] == ImpliedVolatilityStatus.INSENSITIVE


# --- dividend yields ---------------------------------------------------------------------------------------------

DAYS = [date(2023, 1, 3), date(2023, 7, 3), date(2024, 1, 3), date(2024, 1, 4)]
PAID = [dividend("AAA", day, amount) for day, amount in ((DAYS[0], 9), (date(2023, 7, 3), 1), (DAYS[3], 2))]


def yields_of(
    price: float = 50.0, symbol: str = "AAA", actions: list[dict[str, object]] | None = None, **fields: object
):
    known = {"symbol": symbol, "kind": "stock", "active": True, "first_session": DAYS[0], **fields}
    days = pl.DataFrame({"symbol": [symbol] * 4, "session_date": DAYS, "price": [price] * 4})
    found = dividend_yields(
        days,
        calendar=sessions_frame(sorted([*DAYS, date(2023, 1, 4)])),
        prices=frame(tables.daily_prices, closes("SPY", dict.fromkeys(DAYS, 100))),
        actions=frame(tables.corporate_actions, PAID if actions is None else actions),
        instruments=frame(
            tables.instruments, [known, {**known, "symbol": "SPY", "kind": "etf", "dividend_yield": None}]
        ),
    )
    return found["dividend_yield"].to_list()


def test_a_year_of_dividends_at_the_price() -> None:
    """0 without a year on record; a dividend of a year ago to the day is out, one of the session is in."""
    assert yields_of() == pytest.approx([0, 0, np.log(1 + 1 / 50), np.log(1 + 3 / 50)])
    assert yields_of(first_session=date(2023, 1, 4)) == pytest.approx([0, 0, 0, np.log(1.06)])
    assert yields_of(first_session=DAYS[1]) == [0, 0, 0, 0]
    assert yields_of(first_session=None) == [0, 0, 0, 0]
    assert yields_of(price=1.0)[3] == 0.20


def test_dividends_before_a_split_are_of_the_old_share() -> None:
    halved = [*PAID, split("AAA", date(2023, 7, 3), 2)]
    assert yields_of(actions=halved)[2] == pytest.approx(np.log(1 + 0.5 / 50)), "one that goes ex with it too"


def test_a_stated_yield_wins_and_an_index_takes_its_fund() -> None:
    assert yields_of(dividend_yield=0.03) == [0.03] * 4
    assert yields_of(symbol="SPX", kind="index", actions=[dividend("SPY", DAYS[2], 4)])[2:] == pytest.approx(
        [np.log(1.04)] * 2
    )
    assert yields_of(symbol="VIX", kind="index", actions=[dividend("VIX", DAYS[2], 4)]) == [0] * 4
