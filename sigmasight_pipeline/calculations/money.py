"""Exact decimal arithmetic on columns: a product of quantities, prices and ratios, rounded once, half-even.

What belongs here: Decimal columns as whole numbers of their smallest unit, and the one product every market
value, proceeds, cost and dividend is made with. What does not: which factors a figure has (``valuation``).

A Decimal(20, 6) column is an Int64 array of millionths, a Decimal(20, 2) column one of cents. Sums and
differences of such arrays are exact. Products are exact too: what cannot be held is an error, nothing wraps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, prod

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray

MONEY = pl.Decimal(20, 2)
PRICE = pl.Decimal(20, 6)
CENTS = 10**2
MILLIONTHS = 10**6

LARGEST_UNITS = 10**18
"""Largest figure, in its smallest unit (10^16 US dollars): nine of them still add up within 64 bits."""

_LARGEST_ESTIMATE = 2.0**48
"""Below this (2.8 trillion dollars in cents) a product of doubles tells the result to within one unit."""

_LARGEST_DIVISOR = 2**61
"""Up to this, twice a remainder fits 64 bits."""


class AmountOverflowError(ArithmeticError):
    """A quantity, price or amount is larger than the pipeline can hold exactly."""

    def __init__(self, what: str, largest: float) -> None:
        super().__init__(
            f"{what} reaches {largest:.6g}, more than can be held exactly; "
            "correct the quantity, price or multiplier it is made of"
        )
        self.what = what


def to_units(values: pl.Series, dtype: pl.Decimal) -> IntArray:
    """A Decimal column as whole numbers of its smallest unit; NULL becomes 0.

    Raises AmountOverflowError where a value needs more than 10^18 units.
    """
    units = values.cast(dtype).to_physical()
    _require_small(units, values.name, 10**dtype.scale)
    return units.cast(pl.Int64).fill_null(0).to_numpy()


def from_units(units: IntArray, dtype: pl.Decimal, name: str = "") -> pl.Series:
    """The Decimal column whose smallest units these are."""
    return pl.Series(name, units).cast(pl.Int128).reinterpret(dtype=dtype)


def decimal_columns(names: Sequence[str], dtype: pl.Decimal) -> pl.Expr:
    """Int64 columns of smallest units as Decimal columns of the same names."""
    return pl.col(names).cast(pl.Int128).reinterpret(dtype=dtype)


def nearest_units(values: pl.Series, dtype: pl.Decimal) -> IntArray:
    """A Float64 column without NULLs as the nearest whole numbers of the Decimal's smallest unit, half-even."""
    units = np.rint(values.to_numpy() * 10.0**dtype.scale)
    largest = float(np.abs(units).max(initial=0.0))
    if not largest <= LARGEST_UNITS:
        raise AmountOverflowError(values.name, largest / 10**dtype.scale)
    return units.astype(np.int64)


def rounded(value: Fraction, what: str) -> int:
    """`value` rounded half-even to a whole number; `what` names the figure in AmountOverflowError."""
    units = round(value)
    if abs(units) > LARGEST_UNITS:
        raise AmountOverflowError(what, float(units))
    return units


def allocated(parts: Sequence[float], total: int | None = None) -> list[int]:
    """Whole cents of `parts` (US dollars) that add up to `total` cents, by default their sum rounded half-even.

    Each is rounded to the nearest cent; the cents then missing or left over, one each, go to the parts whose rounding
    cut or gave most (largest remainders), the first of equals first. A `total` should be within a cent or so of the
    sum: what is left beyond a cent per part goes round again. Empty for no parts.
    """
    exact = [part * CENTS for part in parts]
    if not exact:
        return []
    whole = [round(cents) for cents in exact]
    left = (round(math.fsum(exact)) if total is None else total) - sum(whole)
    step = 1 if left > 0 else -1
    order = sorted(range(len(exact)), key=lambda place: (whole[place] - exact[place]) * step)
    for turn in range(abs(left)):
        whole[order[turn % len(order)]] += step
    return whole


def rounded_product(
    factors: Sequence[IntArray],
    *,
    divisor: int,
    what: str,
    ratio_codes: IntArray | None = None,
    ratios: Sequence[Fraction] = (),
) -> IntArray:
    """`factor_1 x factor_2 x ... x ratio / divisor` of each row, rounded once, half-even, to a whole number.

    `factors` are up to three arrays of one length (n,); `ratios[ratio_codes]` is each row's exact ratio (1 without
    codes); `divisor` takes the factors' units to the result's. `what` names the figure in
    AmountOverflowError, raised where a result has more than 10^18 units.
    """
    if ratio_codes is None:
        return _constant_divisor(factors, divisor, what)
    if not ratio_codes.any() and ratios[0] == 1:
        return _constant_divisor(factors, divisor, what)
    result = np.empty(len(ratio_codes), dtype=np.int64)
    plain = np.array([ratio == 1 for ratio in ratios], dtype=bool)[ratio_codes]
    result[plain] = _constant_divisor([factor[plain] for factor in factors], divisor, what)
    uneven = np.flatnonzero(~plain)
    codes = ratio_codes[uneven]
    order = uneven[np.argsort(codes, kind="stable")]
    for code, rows in zip(np.unique(codes), _runs(order, ratio_codes), strict=True):
        ratio = ratios[code]
        result[rows] = _constant_divisor(
            [factor[rows] for factor in factors], divisor * ratio.denominator, what, ratio.numerator
        )
    return result


def _runs(order: IntArray, codes: IntArray) -> list[IntArray]:
    """`order` cut where the code changes."""
    if not len(order):
        return []
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _constant_divisor(factors: Sequence[IntArray], divisor: int, what: str, numerator: int = 1) -> IntArray:
    """Rows sharing one ratio: 64-bit arithmetic where the estimated result is small, Python's integers elsewhere."""
    estimate = np.full(len(factors[0]), numerator / divisor)
    for factor in factors:
        estimate *= factor
    size = np.abs(estimate)
    if (size > 2.0 * LARGEST_UNITS).any():
        raise AmountOverflowError(what, float(size.max()))
    if divisor > _LARGEST_DIVISOR:
        factors, divisor = _reduced(factors, divisor)
    if divisor > _LARGEST_DIVISOR or numerator > _LARGEST_DIVISOR:
        return _by_fractions(factors, divisor, what, numerator)
    result = _by_remainder(factors, divisor, numerator, estimate)
    large = np.flatnonzero(size >= _LARGEST_ESTIMATE)
    result[large] = _by_fractions([factor[large] for factor in factors], divisor, what, numerator)
    return result


def _reduced(factors: Sequence[IntArray], divisor: int) -> tuple[list[IntArray], int]:
    """The same product with common divisors cancelled (a multiplier of 1,000,000 millionths)."""
    result = []
    for factor in factors:
        common = gcd(int(np.gcd.reduce(factor)) or 1, divisor)
        result.append(factor // common)
        divisor //= common
    return result, divisor


def _by_remainder(factors: Sequence[IntArray], divisor: int, numerator: int, estimate: FloatArray) -> IntArray:
    """Round the estimates, then correct them by the exact remainder.

    With up to three factors an estimate below 2^48 has gone through seven roundings of 2^-53 and is off by less than
    1/4, so the rounded one is off by less than 3/4 from the quotient, and the remainder `product - rounded x divisor`
    is smaller than the divisor. Both terms may wrap around 2^64; their difference, being small, is right all the same.
    """
    quotient = np.rint(np.where(np.abs(estimate) < _LARGEST_ESTIMATE, estimate, 0.0)).astype(np.int64)
    product = factors[0] * np.int64(numerator)
    for factor in factors[1:]:
        product = product * factor
    twice_left = 2 * (product - quotient * np.int64(divisor))
    odd = quotient & 1
    quotient += (twice_left > divisor) | ((twice_left == divisor) & (odd == 1))
    quotient -= (twice_left < -divisor) | ((twice_left == -divisor) & (odd == 1))
    return quotient


def _by_fractions(factors: Sequence[IntArray], divisor: int, what: str, numerator: int) -> IntArray:
    columns = (factor.tolist() for factor in factors)
    values = (Fraction(prod(row) * numerator, divisor) for row in zip(*columns, strict=True))
    return np.array([rounded(value, what) for value in values], dtype=np.int64)


def _require_small(units: pl.Series, what: str, per_one: int) -> None:
    largest = units.cast(pl.Float64).abs().max()
    if isinstance(largest, float) and largest > LARGEST_UNITS:
        raise AmountOverflowError(what, largest / per_one)
