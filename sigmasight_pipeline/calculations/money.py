"""Exact decimal arithmetic on columns: a product of quantities, prices and ratios, rounded once, half-even.

What belongs here: Decimal columns as whole numbers of their smallest unit, and the one product every market
value, proceeds, cost and dividend is made with. What does not: which factors a figure has (``valuation``).

A Decimal(20, 6) column is an Int64 array of millionths, a Decimal(20, 2) column one of cents. Sums and
differences of such arrays are exact; products go through 128-bit integers, and through Python's integers
where those are too narrow, so that nothing ever wraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt
import polars as pl

IntArray = npt.NDArray[np.int64]

MONEY = pl.Decimal(20, 2)
PRICE = pl.Decimal(20, 6)
CENTS = 10**2
MILLIONTHS = 10**6

LARGEST_UNITS = 10**18
"""Largest figure, in its smallest unit (10^16 US dollars): nine of them still add up within 64 bits."""

_SAFE_INT128 = 2.0**125
"""Products estimated below this fit 128 bits, doubled and with the estimate's own error."""


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


def rounded_product(
    factors: Sequence[IntArray],
    *,
    divisor: int,
    what: str,
    ratio_codes: IntArray | None = None,
    ratios: Sequence[Fraction] = (),
) -> IntArray:
    """`factor_1 x factor_2 x ... x ratio / divisor` of each row, rounded once, half-even, to a whole number.

    `factors` are arrays of one length (n,); `ratios[ratio_codes]` is each row's exact ratio (1 without
    codes); `divisor` takes the factors' units to the result's. `what` names the figure in
    AmountOverflowError, raised where a result has more than 10^18 units.
    """
    if ratio_codes is None:
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
    """Rows sharing one ratio: 128-bit where the estimated product fits, Python integers elsewhere."""
    estimate = np.full(len(factors[0]), float(numerator))
    for factor in factors:
        estimate *= np.abs(factor.astype(np.float64))
    largest = float(estimate.max(initial=0.0)) / divisor
    if largest > 2 * LARGEST_UNITS:
        raise AmountOverflowError(what, largest)
    if max(divisor, numerator, estimate.max(initial=0.0)) < _SAFE_INT128:
        result = _in_int128(factors, divisor, numerator)
    else:
        columns = (factor.tolist() for factor in factors)
        # Fraction rounds half-even: the definition itself, for the few rows 128 bits cannot hold.
        result = pl.Series(
            [round(Fraction(prod(row) * numerator, divisor)) for row in zip(*columns, strict=True)],
            dtype=pl.Int128,
        )
    _require_small(result, what, 1)
    return result.cast(pl.Int64).to_numpy()


def _in_int128(factors: Sequence[IntArray], divisor: int, numerator: int) -> pl.Series:
    wide = [pl.Series(factor).cast(pl.Int128) for factor in factors]
    product = prod(wide[1:], start=wide[0]) * pl.Series([numerator], dtype=pl.Int128)
    by = pl.lit(divisor, dtype=pl.Int128)
    quotient = pl.col("product") // by  # towards minus infinity: the remainder is never negative
    twice_left = (pl.col("product") - pl.col("quotient") * by) * 2
    up = (twice_left > by) | ((twice_left == by) & (pl.col("quotient") % 2 == 1))
    frame = product.rename("product").to_frame().with_columns(quotient=quotient)
    return frame.select((pl.col("quotient") + up.cast(pl.Int128)).alias("result")).to_series()


def _require_small(units: pl.Series, what: str, per_one: int) -> None:
    largest = units.cast(pl.Float64).abs().max()
    if isinstance(largest, float) and largest > LARGEST_UNITS:
        raise AmountOverflowError(what, largest / per_one)
