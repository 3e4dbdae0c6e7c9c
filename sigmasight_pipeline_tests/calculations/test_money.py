"""Exact products against Fractions: ties, signs, non-terminating ratios, values beyond 64 and 128 bits."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from math import prod

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.money import (
    LARGEST_UNITS,
    MONEY,
    PRICE,
    AmountOverflowError,
    from_units,
    nearest_units,
    rounded,
    rounded_product,
    to_units,
)

RATIOS = [
    Fraction(1),
    Fraction(2, 3),
    Fraction(3, 2),
    Fraction(1, 7),
    Fraction(10),
    Fraction(1, 1000),
    Fraction(103, 100) ** 12,  # a stock dividend every year: neither number fits 64 bits
    Fraction(10**30 + 1, 10**30),
]

units = st.one_of(st.integers(-(10**4), 10**4), st.integers(-LARGEST_UNITS, LARGEST_UNITS))


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(units, units, units, st.integers(0, len(RATIOS) - 1)), min_size=1, max_size=8),
    divisor=st.sampled_from([1, 2, 10, 10**10, 10**16, 7 * 10**6]),
)
def test_product_equals_the_fraction_or_overflows(rows: list[tuple[int, int, int, int]], divisor: int) -> None:
    """Python rounds Fractions half-even: the definition. Overflow is an error exactly when a result is too large."""
    exact = [round(Fraction(prod(row[:3]), divisor) * RATIOS[row[3]]) for row in rows]
    factors = [np.array(column, dtype=np.int64) for column in list(zip(*rows, strict=True))[:3]]
    codes = np.array([row[3] for row in rows], dtype=np.int64)
    if max(map(abs, exact)) > LARGEST_UNITS:
        with pytest.raises(AmountOverflowError, match="a value reaches"):
            rounded_product(factors, divisor=divisor, what="a value", ratio_codes=codes, ratios=RATIOS)
    else:
        result = rounded_product(factors, divisor=divisor, what="a value", ratio_codes=codes, ratios=RATIOS)
        assert result.tolist() == exact


@settings(max_examples=200, deadline=None)
@given(halves=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=20), numerator=st.sampled_from([1, 3, 5]))
def test_ties_go_to_the_even_cent_on_both_sides_of_zero(halves: list[int], numerator: int) -> None:
    odd = np.array([2 * half + 1 for half in halves], dtype=np.int64)
    codes = np.zeros(len(odd), dtype=np.int64)
    result = rounded_product([odd], divisor=2, what="a tie", ratio_codes=codes, ratios=[Fraction(numerator)])
    exact = [(Decimal(value) * numerator / 2).to_integral_value(ROUND_HALF_EVEN) for value in odd.tolist()]
    assert result.tolist() == exact
    mirrored = rounded_product([-odd], divisor=2, what="a tie", ratio_codes=codes, ratios=[Fraction(numerator)])
    assert mirrored.tolist() == (-result).tolist()


@settings(max_examples=300, deadline=None)
@given(
    results=st.lists(st.integers(-(2**47), 2**47), min_size=1, max_size=8),
    divisor=st.integers(2, 2**13),
    beside=st.integers(-3, 3),
    scale=st.integers(1, 10**8),
)
def test_results_next_to_a_tie_are_rounded_by_the_exact_remainder(
    results: list[int], divisor: int, beside: int, scale: int
) -> None:
    """Products of doubles cannot tell on which side of a half such a quotient lies."""
    values = [result * divisor + divisor // 2 + beside for result in results]
    factors = [np.array(values, dtype=np.int64), np.full(len(values), scale, dtype=np.int64)]
    result = rounded_product(factors, divisor=divisor * scale, what="x")
    assert result.tolist() == [round(Fraction(value, divisor)) for value in values]


@pytest.mark.parametrize(
    ("quantity", "price", "multiplier", "ratio", "cents"),
    [
        (100_000_000, 10_500_000, 1_000_000, Fraction(1), 105_000),
        (1_000_000, 125_000, 1_000_000, Fraction(1), 12),  # 0.125 is a tie: to the even cent below
        (1_000_000, 135_000, 1_000_000, Fraction(1), 14),  # 0.135: to the even cent above
        (-1_000_000, 125_000, 1_000_000, Fraction(1), -12),
        (-2_000_000, 550_000, 100_000_000, Fraction(1), -11_000),
        (1_000_000, 1_000_000, 1_000_000, Fraction(2, 3), 67),  # 3:2 undone: never terminates
        (10**17, 10**10, 1_000_000, Fraction(1), 10**17),  # 10^11 shares at 10,000: beyond 64 bits on the way
        (10**18, 10**18, 1, Fraction(1, 10**4), 10**16),  # beyond 128 bits on the way
        (0, 10**18, 10**18, Fraction(103, 100) ** 40, 0),
    ],
)
def test_market_values(quantity: int, price: int, multiplier: int, ratio: Fraction, cents: int) -> None:
    factors = [np.array([value], dtype=np.int64) for value in (quantity, price, multiplier)]
    result = rounded_product(factors, divisor=10**16, what="x", ratio_codes=np.zeros(1, np.int64), ratios=[ratio])
    assert result.tolist() == [cents]


def test_overflow_names_the_figure_and_its_size() -> None:
    huge = np.array([10**18], dtype=np.int64)
    with pytest.raises(AmountOverflowError, match=r"a market value reaches 1e\+20, more than can be held exactly"):
        rounded_product([huge, huge], divisor=10**16, what="a market value")
    with pytest.raises(AmountOverflowError, match="a quantity reaches"):
        rounded(Fraction(10**19), "a quantity")
    with pytest.raises(AmountOverflowError, match="price reaches"):
        to_units(pl.Series("price", [Decimal("99999999999999.000001")], dtype=PRICE), PRICE)
    for value in (1e13, float("inf"), float("nan")):
        with pytest.raises(AmountOverflowError):
            nearest_units(pl.Series("model_price", [value]), PRICE)


@given(st.lists(st.one_of(st.none(), st.integers(-LARGEST_UNITS, LARGEST_UNITS)), max_size=20))
def test_units_round_trip(values: list[int | None]) -> None:
    decimals = pl.Series([None if value is None else Decimal(value).scaleb(-6) for value in values], dtype=PRICE)
    found = to_units(decimals, PRICE)
    assert found.tolist() == [value or 0 for value in values]
    assert from_units(found, PRICE, "x").to_list() == [Decimal(value or 0).scaleb(-6) for value in values]


def test_units_take_the_scale_of_the_type_asked_for() -> None:
    assert to_units(pl.Series([Decimal("1.25")], dtype=MONEY), PRICE).tolist() == [1_250_000]


@pytest.mark.parametrize(
    ("value", "expected"), [(1.25, 1_250_000), (0.0000005, 0), (2.0000015, 2_000_002), (0.1, 100_000)]
)
def test_nearest_units_of_doubles(value: float, expected: int) -> None:
    assert nearest_units(pl.Series([value]), PRICE).tolist() == [expected]


def test_no_rows() -> None:
    empty = np.array([], dtype=np.int64)
    assert rounded_product([empty, empty], divisor=10, what="x").tolist() == []
    assert rounded_product([empty], divisor=10, what="x", ratio_codes=empty, ratios=RATIOS).tolist() == []
