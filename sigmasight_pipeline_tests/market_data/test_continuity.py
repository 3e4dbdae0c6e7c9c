"""Continuity of value through splits, of shares and of options on them."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.calculations import american_options
from sigmasight_pipeline.market_data.continuity import option_changes, share_changes, split_breaks
from sigmasight_pipeline_tests.market_data.screening_store import DAYS, actions

CALL, AFTER = "NVDA240920C01200000", "NVDA240920C00120000"
TEN = actions(("NVDA", 2, "split", 10))


def frame(*rows):
    """Rows (symbol, day number, close)."""
    return pl.DataFrame(
        [(DAYS[n], symbol, None if close is None else Decimal(str(close))) for symbol, n, close in rows],
        schema={"session_date": pl.Date, "symbol": pl.String, "close": pl.Decimal(20, 6)},
        orient="row",
    )


def stock(before, after):
    return frame(("NVDA", 1, before), ("NVDA", 2, after))


SHARES = [
    ("ten for one", stock(1200, 121), TEN, 0.01 / 1.2, True),
    ("4.9 % up", stock(1000, "104.9"), TEN, 0.049, True),
    ("5.1 % down", stock(1000, "94.9"), TEN, -0.051, False),
    ("price not split", stock(1200, 1200), TEN, 9.0, False),
    ("split recorded the wrong way", stock(1200, 120), actions(("NVDA", 2, "split", "0.1")), -0.99, False),
    ("reverse split", stock(1, 8), actions(("NVDA", 2, "split", "0.125")), 0.0, True),
    ("over a gap", frame(("NVDA", 0, 1200), ("NVDA", 5, 120)), TEN, 0.0, True),
    (
        "a special dividend is value",
        stock(1200, 100),
        actions(("NVDA", 2, "split", 10), ("NVDA", 2, "dividend", 200)),
        0.0,
        True,
    ),
]


@pytest.mark.parametrize(("prices", "events", "change", "fits"), [c[1:] for c in SHARES], ids=[c[0] for c in SHARES])
def test_shares(prices, events, change, fits):
    (row,) = share_changes(prices, events).rows(named=True)
    assert row["change"] == pytest.approx(change, abs=1e-12)
    assert (row["symbol"], row["ex_date"], row["allowed"]) == ("NVDA", DAYS[2], 0.05)
    assert split_breaks(prices=prices, option_prices=frame(), actions=events).is_empty() is fits


@pytest.mark.parametrize("prices", [frame(("NVDA", 1, 1200)), frame(("NVDA", 2, 120)), frame(("A", 1, 1), ("A", 2, 1))])
def test_a_split_without_closes_on_both_sides_cannot_be_judged(prices):
    assert share_changes(prices, TEN).is_empty()


def worth(spot, strike, days, kind="C", volatility=0.5):
    """What an option is worth some days before it expires."""
    return round(float(american_options.price(kind == "C", spot, strike, days / 365, 0.0, volatility)), 2)


LAST = date(2024, 9, 20)
BEFORE, ON = ((LAST - DAYS[n]).days for n in (1, 2))
QUOTED = worth(1200, 1200, BEFORE)

# before, after, whether it is continuous, whether it looks forgotten
OPTIONS = [
    ("unchanged", stock(1200, 120), QUOTED, worth(120, 120, ON), True, False),
    ("moves with its underlying", stock(1200, 122), QUOTED, worth(122, 120, ON), True, False),
    ("close not divided", stock(1200, 120), QUOTED, QUOTED, False, True),
    ("divided twice", stock(1200, 120), QUOTED, QUOTED / 100, False, True),
    ("volatility falls by a third", stock(1200, 120), QUOTED, worth(120, 120, ON, volatility=0.33), False, False),
    ("cents round", stock(800, 80), "0.05", "0.01", True, False),
    ("at its exercise value nothing is implied", stock(1300, 130), "100", "10", True, False),
]


@pytest.mark.parametrize(
    ("prices", "before", "after", "fits", "forgotten"), [c[1:] for c in OPTIONS], ids=[c[0] for c in OPTIONS]
)
def test_options(prices, before, after, fits, forgotten):
    quotes = frame((CALL, 1, round(float(before), 2)), (AFTER, 2, round(float(after), 2)))
    (row,) = option_changes(quotes, prices, TEN).rows(named=True)
    assert row["symbol"] == CALL
    assert row["forgotten"] == forgotten
    assert split_breaks(prices=prices, option_prices=quotes, actions=TEN).is_empty() is fits


def test_a_week_before_expiry_a_weekend_is_no_break():
    """A flat stock, split 4:1 over a weekend; its at-the-money call went from 1.70 to 0.33 new dollars: time passed."""
    friday, monday = date(2024, 6, 7), date(2024, 6, 10)
    days = {0: friday, 1: monday}
    quotes, prices = (
        pl.DataFrame(
            [(days[n], symbol, Decimal(close)) for symbol, n, close in rows],
            schema={"session_date": pl.Date, "symbol": pl.String, "close": pl.Decimal(20, 6)},
            orient="row",
        )
        for rows in (
            [("XYZ240614C00100000", 0, "1.70"), ("XYZ240614C00025000", 1, "0.33")],
            [("XYZ", 0, "100"), ("XYZ", 1, "25")],
        )
    )
    splits = pl.DataFrame(
        [("XYZ", monday, "split", Decimal(1), Decimal(4), None)],
        schema=TEN.select("symbol", "ex_date", "kind", "split_from", "split_to", "cash_amount").schema,
        orient="row",
    )
    (row,) = option_changes(quotes, prices, splits).rows(named=True)
    assert abs(row["change"]) < 0.05
    assert split_breaks(prices=prices, option_prices=quotes, actions=splits).is_empty()


NOT_JUDGED = [
    ("not quoted before", [(AFTER, 2, 5)], TEN),
    ("not quoted after", [(CALL, 1, 50)], TEN),
    ("quoted on another session", [(CALL, 0, 50), (AFTER, 2, 5)], TEN),
    ("quoted without a close", [(CALL, 1, None), (AFTER, 2, 5)], TEN),
    ("no whole ratio", [(CALL, 1, 50), (AFTER, 2, 5)], actions(("NVDA", 2, "split", "1.5"))),
    ("strike has no symbol", [("NVDA240920C00000001", 1, 50), (AFTER, 2, 5)], TEN),
    ("another underlying", [("AAPL240920C01200000", 1, 50)], TEN),
]


@pytest.mark.parametrize(("quotes", "events"), [c[1:] for c in NOT_JUDGED], ids=[c[0] for c in NOT_JUDGED])
def test_options_that_cannot_be_judged(quotes, events):
    assert option_changes(frame(*quotes), stock(1200, 120), events).is_empty()


def test_breaks_name_symbol_size_and_day():
    told = split_breaks(prices=stock(1200, 1200), option_prices=frame(), actions=TEN)
    assert told.select("session_date", "detail").rows() == [
        (DAYS[2], "NVDA: value changed by 900.0 % through the split of 2024-01-04, allowed are 5.0 %")
    ]
    quotes = frame((CALL, 1, QUOTED), (AFTER, 2, QUOTED))
    told = split_breaks(prices=stock(1200, 120), option_prices=quotes, actions=TEN)
    assert told["symbol"].to_list() == [CALL]
