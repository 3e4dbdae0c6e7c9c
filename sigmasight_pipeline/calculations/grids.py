"""Rows of a session table as a grid of numbers: sessions down, symbols or portfolios across.

What belongs here: laying rows out. What does not: what is computed on the grid.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray


def grid(rows: pl.DataFrame, line: pl.Series, by: str, keys: pl.Series, figure: str) -> FloatArray:
    """`figure` of `rows` by (date of `line`, value of the column `by` among `keys`); NaN where there is none.

    `rows` has session_date and one row per session and key; rows of other sessions and keys are left out.
    """
    known = (
        rows.select("session_date", by, pl.col(figure).cast(pl.Float64))
        .drop_nulls()
        .join(pl.DataFrame([line.alias("session_date"), pl.Series("row", np.arange(len(line)))]), on="session_date")
        .join(pl.DataFrame([keys.alias(by), pl.Series("column", np.arange(len(keys)))]), on=by)
    )
    result = np.full((len(line), len(keys)), np.nan)
    result[known.get_column("row").to_numpy(), known.get_column("column").to_numpy()] = known.get_column(
        figure
    ).to_numpy()
    return result
