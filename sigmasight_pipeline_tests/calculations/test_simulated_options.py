"""Options on the returns of many sessions: against pricing each return by itself, and what must never happen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.option_pricing import OptionMarket, option_price, price_change
from sigmasight_pipeline.calculations.simulated_options import LARGEST_RETURN, HeldOptions, OptionBook

Floats = NDArray[np.float64]


def grid() -> HeldOptions:
    """Calls and puts of both styles over strikes, times and volatilities, long and short, valued at the model."""
    call, american, strike, years, volatility = (
        axis.ravel()
        for axis in np.meshgrid(
            [True, False], [True, False], np.linspace(60, 150, 10), [3 / 365, 0.1, 0.5, 2.0], [0.12, 0.3, 0.9]
        )
    )
    count = len(strike)
    options = HeldOptions(
        call.astype(bool), strike, american.astype(bool), np.resize([0.0, 0.015, 0.06], count), np.full(count, 100.0),
        years, np.resize([0.045, 0.01], count), volatility, np.zeros(count), np.resize([100.0, -300.0], count),
    )  # fmt: skip
    close = option_price(options.terms, options.spot, years, options.rate, volatility)
    return options._replace(close=close)


OPTIONS = grid()
RETURNS = np.concatenate(
    [np.random.default_rng(3).normal(0, 0.02, 200), [0.0, -0.35, 0.6, LARGEST_RETURN, -LARGEST_RETURN, -1.0]]
)[:, None] * np.ones(len(OPTIONS.spot))


def one_by_one(options: HeldOptions, returns: Floats) -> Floats:
    now = OptionMarket(options.spot, options.years, options.rate, options.volatility)
    then = now._replace(spot=options.spot * (1.0 + returns))
    return options.units * price_change(options.close, options.terms, now, then)


def test_within_a_ten_thousandth_of_the_strike_of_pricing_each_return() -> None:
    found, expected = OptionBook.of(OPTIONS).pnl(RETURNS), one_by_one(OPTIONS, RETURNS)
    off = np.abs(found - expected) / np.abs(OPTIONS.units) / OPTIONS.strike
    assert off.max() < 1e-4
    assert np.quantile(off, 0.99) < 1e-5
    european = ~OPTIONS.is_american
    np.testing.assert_allclose(found[:, european], expected[:, european], rtol=0, atol=1e-10)


def test_no_move_is_exactly_nothing_and_nobody_loses_more_than_everything() -> None:
    found = OptionBook.of(OPTIONS).pnl(RETURNS)
    assert (found[RETURNS[:, 0] == 0.0] == 0.0).all()
    worth = OPTIONS.close * OPTIONS.units
    long = OPTIONS.units > 0
    assert (found[:, long] >= -worth[long] - 1e-9).all()
    assert (found[:, ~long] <= -worth[~long] + 1e-9).all()


def test_a_call_follows_its_underlying_up_and_a_put_down() -> None:
    move = np.linspace(-0.5, 0.5, 101)[:, None] * np.ones(len(OPTIONS.spot))
    per_unit = OptionBook.of(OPTIONS).pnl(move) / OPTIONS.units
    step = np.diff(np.where(OPTIONS.is_call, per_unit, -per_unit), axis=0)
    assert (step > -1e-3).all()


def test_an_option_is_priced_alike_whatever_others_there_are() -> None:
    whole = OptionBook.of(OPTIONS)
    rows = np.arange(0, len(OPTIONS.spot), 7)
    alone = OptionBook.of(OPTIONS.at(rows))
    assert (alone.premium == whole.premium[:, rows]).all()
    twice = OptionBook.of(OPTIONS.at(np.concatenate([rows, rows[::-1]])))
    assert (twice.premium == np.hstack([alone.premium, alone.premium[:, ::-1]])).all(), "held by two portfolios"
    assert (alone.pnl(RETURNS[:, rows]) == whole.at(rows).pnl(RETURNS[:, rows])).all()
    assert (whole.pnl(RETURNS[5:9]) == whole.pnl(RETURNS)[5:9]).all()


@pytest.mark.parametrize("field", ["spot", "years", "volatility", "rate", "close", "dividend_yield"])
def test_what_is_unknown_stays_unknown(field: str) -> None:
    unknown: dict[str, Any] = {field: np.where(np.arange(len(OPTIONS.spot)) == 4, np.nan, getattr(OPTIONS, field))}
    found = OptionBook.of(OPTIONS._replace(**unknown)).pnl(RETURNS)
    assert np.isnan(found[RETURNS[:, 0] != 0.0][:, 4]).all()
    others = np.arange(len(OPTIONS.spot)) != 4
    assert np.isfinite(found[:, others]).all()


def test_without_options_or_sessions() -> None:
    none = OptionBook.of(OPTIONS.at(slice(0)))
    assert none.pnl(RETURNS[:, :0]).shape == (len(RETURNS), 0)
    assert OptionBook.of(OPTIONS).pnl(RETURNS[:0]).shape == (0, len(OPTIONS.spot))
