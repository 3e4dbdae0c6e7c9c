"""Quotients of columns: the same last bit in every frame."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from sigmasight_pipeline.calculations.division import ratio


def test_a_ratio_has_the_same_bits_in_every_frame() -> None:
    """A constant column is divided by like any other: 1,750 times the reciprocal of 1,870 has another last bit."""
    assert 1750 / 1870 != 1750 * (1 / 1870)
    for height in (1, 2, 5):
        rows = pl.DataFrame({"key": [1] * height, "part": [1750.0] * height})
        joined = rows.join(pl.DataFrame({"key": [1], "whole": [1870.0]}), on="key", maintain_order="left")
        assert ratio(joined["part"], joined["whole"]).to_list() == [1750 / 1870] * height, height
        constant = rows.select("part", whole=pl.lit(1870.0))
        assert ratio(constant["part"], constant["whole"]).to_list() == [1750 / 1870] * height, height
    none = ratio(pl.Series([1.0, 1.0, None, 1.0]), pl.Series([0.0, -2.0, 2.0, None]))
    assert none.to_list() == [None] * 4
    cents = pl.Series([Decimal("0.79")], dtype=pl.Decimal(20, 2)), pl.Series([Decimal("1.00")], dtype=pl.Decimal(38, 2))
    assert ratio(*cents).to_list() == [0.79]
