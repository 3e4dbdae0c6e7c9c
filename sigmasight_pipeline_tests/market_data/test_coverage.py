"""Coverage of needed symbols, and closes that do not move."""

from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.market_data.coverage import coverage, repeated_closes

DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(12)]


def pairs(*rows):
    return pl.DataFrame(
        [(DAYS[n], symbol) for n, symbols in rows for symbol in symbols],
        schema={"session_date": pl.Date, "symbol": pl.String},
        orient="row",
    )


def closes(**symbols):
    """Closes by symbol, one per session; None: no row."""
    return pl.DataFrame(
        [
            (DAYS[n], symbol, Decimal(str(close)))
            for symbol, path in symbols.items()
            for n, close in enumerate(path)
            if close is not None
        ],
        schema={"session_date": pl.Date, "symbol": pl.String, "close": pl.Decimal(20, 6)},
        orient="row",
    )


def test_coverage_is_the_share_of_needed_symbols_with_a_price():
    needed = pairs((0, "ABCD"), (1, "AB"), (2, "A"), (3, "AA"))
    shares, missing = coverage(pairs((0, "ABXY"), (1, "AB"), (3, "A")), needed)
    assert shares.rows() == [(DAYS[0], 4, 2, 0.5), (DAYS[1], 2, 2, 1.0), (DAYS[2], 1, 0, 0.0), (DAYS[3], 1, 1, 1.0)]
    assert shares.columns == ["session_date", "needed", "priced", "coverage"]
    assert missing.rows() == [(DAYS[0], "C"), (DAYS[0], "D"), (DAYS[2], "A")]


def test_nothing_needed_nothing_covered_nothing_missing():
    shares, missing = coverage(pairs((0, "A")), pairs())
    assert shares.is_empty()
    assert missing.is_empty()


REPEATED = [
    ("five times", [1, 1, 1, 1, 1], [4]),
    ("six times", [1, 1, 1, 1, 1, 1], [4, 5]),
    ("four times", [2, 1, 1, 1, 1], []),
    ("moved in between", [1, 1, 2, 1, 1, 1], []),
    ("a missing session ends it", [1, 1, 1, None, 1, 1], []),
    ("and it starts again", [None, 1, None, 1, 1, 1, 1, 1], [7]),
]


@pytest.mark.parametrize(("path", "found"), [c[1:] for c in REPEATED], ids=[c[0] for c in REPEATED])
def test_repeated_closes(path, found):
    rows = repeated_closes(closes(A=path, OTHER=range(1, 10)))
    assert [DAYS.index(day) for day in rows["session_date"]] == found
    assert set(rows["symbol"]) <= {"A"}


@given(path=st.lists(st.sampled_from([None, 1, 2]), max_size=12), wanted=st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_repeated_closes_agree_with_plain_slices(path, wanted):
    rows = repeated_closes(closes(A=path, OTHER=range(1, 13)), sessions=wanted)
    expected = [
        n
        for n in range(wanted - 1, len(path))
        if path[n] is not None and set(path[n - wanted + 1 : n + 1]) == {path[n]}
    ]
    assert [DAYS.index(day) for day in rows["session_date"]] == expected
