"""Gross returns of simulated symbols, worked out from bars and actions with loops rather than the pipeline's engine."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sigmasight_pipeline.demo.simulated import SimulatedMarket

Floats = NDArray[np.float64]


def gross_returns(market: SimulatedMarket, symbol: str, first: date, last: date) -> tuple[list[date], Floats]:
    """Sessions after the first with a close, and (close x split ratio + dividend) / previous close - 1 of each."""
    bars = market.daily_bars([symbol], first, last)
    ratios: dict[date, float] = {}
    dividends: dict[date, float] = {}
    for action in market.corporate_actions([symbol], first, last).iter_rows(named=True):
        if action["kind"] == "split":
            ratios[action["ex_date"]] = float(action["split_to"] / action["split_from"])
        else:
            dividends[action["ex_date"]] = float(action["cash_amount"])
    days = bars["session_date"].to_list()
    closes = bars["close"].cast(pl.Float64).to_list()
    found = [
        (now * ratios.get(day, 1.0) + dividends.get(day, 0.0)) / before - 1.0
        for day, before, now in zip(days[1:], closes, closes[1:], strict=False)
    ]
    return days[1:], np.array(found)


def slope(y: Floats, x: Floats) -> tuple[float, float]:
    """Slope of the regression of y on x with intercept, and its standard error."""
    design = np.column_stack([np.ones_like(x), x])
    coefficients, residuals, _, _ = np.linalg.lstsq(design, y, rcond=None)
    variance = float(residuals[0]) / (len(y) - 2) if residuals.size else 0.0
    return float(coefficients[1]), float((variance / ((x - x.mean()) ** 2).sum()) ** 0.5)
