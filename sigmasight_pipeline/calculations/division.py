"""Division of columns whose last bit does not depend on what else is in the frame.

What belongs here: quotients of Polars columns. What does not: exact amounts (``money``), and divisions of NumPy arrays,
which are right as they are.
"""

from __future__ import annotations

import numpy as np
import polars as pl


def ratio(part: pl.Series, whole: pl.Series) -> pl.Series:
    """part / whole in double precision, row by row; NULL where `whole` is not positive or one of them is NULL.

    Both are whole numbers, doubles or Decimals of one scale. By NumPy, because Polars multiplies by the reciprocal
    where it knows that a column is constant: a frame of one row would get other bits than a longer one.
    """
    # cents over cents: a ratio needs no decimal point, which would round once more
    top, bottom = (values.to_physical().cast(pl.Float64).fill_null(np.nan).to_numpy() for values in (part, whole))
    result = np.full(len(top), np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return pl.Series(part.name, result).fill_nan(None)
