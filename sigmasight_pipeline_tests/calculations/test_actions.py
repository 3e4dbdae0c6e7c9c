"""Split ratios: worked examples, the boundaries of a stretch, lookups against joins."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import prod

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.actions import SplitRatioError, SplitRatios

SCHEMA = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "split_from": pl.Decimal(20, 6),
    "split_to": pl.Decimal(20, 6),
    "cash_amount": pl.Decimal(20, 6),
}
Split = tuple[str, date, str, str]


def splits(*rows: Split) -> pl.DataFrame:
    filled = [(name, day, "split", Decimal(old), Decimal(new), None) for name, day, old, new in rows]
    return pl.DataFrame(filled, schema=SCHEMA, orient="row")


FRIDAY, MONDAY, TUESDAY = date(2024, 6, 7), date(2024, 6, 10), date(2024, 6, 11)
NVDA = ("NVDA", MONDAY, "1", "10")
REVERSE = ("PENNY", MONDAY, "8", "1")
STOCK_DIVIDEND = ("BANK", MONDAY, "1", "1.05")
TWICE = (("TWICE", FRIDAY, "2", "3"), ("TWICE", TUESDAY, "1", "4"))

CASES = [
    ("ten for one", [NVDA], "NVDA", FRIDAY, MONDAY, Fraction(10)),
    ("the ex-date itself already trades split", [NVDA], "NVDA", MONDAY, TUESDAY, Fraction(1)),
    ("before the ex-date", [NVDA], "NVDA", date(2024, 6, 6), FRIDAY, Fraction(1)),
    ("same day", [NVDA], "NVDA", MONDAY, MONDAY, Fraction(1)),
    ("reverse", [REVERSE], "PENNY", FRIDAY, MONDAY, Fraction(1, 8)),
    ("stock dividend", [STOCK_DIVIDEND], "BANK", FRIDAY, MONDAY, Fraction(21, 20)),
    ("another symbol", [NVDA], "AAPL", FRIDAY, MONDAY, Fraction(1)),
    ("two splits", [*TWICE], "TWICE", date(2024, 6, 6), TUESDAY, Fraction(6)),
    ("the second only", [*TWICE], "TWICE", FRIDAY, TUESDAY, Fraction(4)),
    ("an ex-date on a weekend", [("W", date(2024, 6, 8), "1", "2")], "W", FRIDAY, MONDAY, Fraction(2)),
]


@pytest.mark.parametrize(
    ("rows", "symbol", "after", "through", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_ratio_by_lookup_and_by_join(rows, symbol, after, through, expected):
    ratios = SplitRatios(splits(*rows))
    assert ratios.ratio(symbol, after, through) == expected

    frame = pl.DataFrame({"symbol": [symbol], "p": [after], "d": [through]})
    joined = ratios.between(frame, after="p", through="d").row(0, named=True)
    assert Fraction(joined["numerator"], joined["denominator"]) == expected


def test_cumulative_counts_every_split_up_to_and_including_the_ex_date():
    frame = SplitRatios(splits(*reversed(TWICE), NVDA)).cumulative()
    assert frame.rows() == [
        ("NVDA", MONDAY, 10, 1),
        ("TWICE", FRIDAY, 3, 2),
        ("TWICE", TUESDAY, 6, 1),
    ]


def test_dividends_are_no_splits():
    dividend = pl.DataFrame([("A", MONDAY, "dividend", None, None, Decimal(1))], schema=SCHEMA, orient="row")
    assert SplitRatios(dividend).ratio("A", FRIDAY, MONDAY) == 1


def test_between_keeps_rows_order_and_columns_and_leaves_null_dates_null():
    rows = pl.DataFrame(
        {
            "underlying": ["Z", "NVDA", None, "NVDA", "NVDA", "A"],
            "p": [FRIDAY, FRIDAY, FRIDAY, None, FRIDAY, FRIDAY],
            "d": [MONDAY, MONDAY, MONDAY, MONDAY, FRIDAY, MONDAY],
            "tag": list("abcdef"),
        }
    )
    out = SplitRatios(splits(NVDA)).between(rows, symbol="underlying", after="p", through="d")
    assert out.drop("numerator", "denominator").equals(rows)
    assert out["numerator"].to_list() == [1, 10, None, None, 1, 1]
    assert out["denominator"].to_list() == [1, 1, None, None, 1, 1]


def test_no_splits_at_all():
    ratios = SplitRatios(splits())
    rows = pl.DataFrame({"symbol": ["A"], "p": [FRIDAY], "d": [MONDAY]})
    assert ratios.between(rows, after="p", through="d").row(0) == ("A", FRIDAY, MONDAY, 1, 1)
    assert ratios.cumulative().is_empty()


def test_forty_stock_dividends_stay_within_double_precision():
    days = [date(2010, 1, 4) + timedelta(days=90 * n) for n in range(40)]
    ratios = SplitRatios(splits(*(("REIT", day, "1", "1.023117") for day in days)))
    exact = ratios.ratio("REIT", date(2009, 1, 1), date(2025, 1, 1))
    assert exact == Fraction("1.023117") ** 40
    numerator, denominator = ratios.cumulative().row(-1)[2:]
    assert float(abs(Fraction(numerator, denominator) - exact)) < 1e-17


@pytest.mark.parametrize(("old", "new"), [("0", "2"), ("1", "0"), ("-1", "2"), ("1", "-2")])
def test_a_ratio_that_is_none_is_refused_by_name(old, new):
    with pytest.raises(SplitRatioError, match=r"NVDA: the split of 2024-06-10 .* must be positive"):
        SplitRatios(splits(("NVDA", MONDAY, old, new)))


def test_missing_side_of_a_split_is_refused():
    rows = pl.DataFrame([("NVDA", MONDAY, "split", None, Decimal(2), None)], schema=SCHEMA, orient="row")
    with pytest.raises(SplitRatioError, match="NVDA"):
        SplitRatios(rows)


def test_a_product_no_share_count_survives_is_refused():
    rows = [("X", MONDAY + timedelta(days=n), "1", "1000000") for n in range(4)]
    with pytest.raises(SplitRatioError, match=r"X: its splits .* multiply to 1e\+24"):
        SplitRatios(splits(*rows)).cumulative()


days = st.integers(0, 30).map(lambda n: MONDAY + timedelta(days=n))
some_splits = st.lists(
    st.tuples(st.sampled_from("AB"), days, st.integers(1, 20).map(str), st.integers(1, 20).map(str)),
    max_size=6,
    unique_by=lambda row: row[:2],
)


@given(rows=some_splits, stretches=st.lists(st.tuples(st.sampled_from("ABC"), days, days), max_size=8))
@settings(max_examples=60, deadline=None)
def test_join_equals_lookup_equals_plain_product(rows, stretches):
    ratios = SplitRatios(splits(*rows))
    frame = pl.DataFrame(stretches, schema={"symbol": pl.String, "p": pl.Date, "d": pl.Date}, orient="row")
    joined = ratios.between(frame, after="p", through="d")
    for symbol, after, through, numerator, denominator in joined.iter_rows():
        expected = prod(
            (Fraction(int(new), int(old)) for name, day, old, new in rows if name == symbol and after < day <= through),
            start=Fraction(1),
        )
        assert ratios.ratio(symbol, after, through) == expected
        assert Fraction(numerator, denominator) == expected


@given(rows=some_splits, first=days, second=days, third=days)
@settings(max_examples=60, deadline=None)
def test_stretches_chain(rows, first, second, third):
    first, second, third = sorted((first, second, third))
    ratios = SplitRatios(splits(*rows))
    assert ratios.ratio("A", first, third) == ratios.ratio("A", first, second) * ratios.ratio("A", second, third)
