"""Joint betas of symbols on the style factors, session by session: the betas that may be added up.

What belongs here: the windows of returns that ``joint_betas`` is given for every session, and the style factors'
returns. What does not: the regression (``joint_betas``) and what is made of it (``factor_var``, ``attribution``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.factor_returns import factor_returns, return_panel
from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.calculations.timeline import Timeline

STYLE = "style"
"""Kind of the factors in ``factor_definitions``."""


@dataclass(frozen=True, eq=False)
class StyleBetas:
    """Joint betas of symbols on the active style factors, `names` and `symbols` in ascending order.

    `beta` (sessions, symbols, factors) and `residual_std` (sessions, symbols; decimal per session) by the sessions
    asked for, NaN where there is no estimate; `returns` (sessions of the timeline, factors) of the factors, NaN where
    there is no one-session return and outside the windows and the session after each.
    """

    names: tuple[str, ...]
    symbols: tuple[str, ...]
    beta: FloatArray
    residual_std: FloatArray
    returns: FloatArray


def style_betas(
    *,
    timeline: Timeline,
    calendar: pl.DataFrame,
    ends: IntArray,
    symbols: Sequence[str],
    factors: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    instruments: pl.DataFrame,
    regression_window: int = 252,
    min_observations: int = 60,
) -> StyleBetas:
    """Ridge betas of `symbols` over the `regression_window` sessions ending with each of the sessions numbered `ends`.

    `returns` are rows of ``daily_returns`` of these windows, continued under the name held where `instruments` says a
    symbol was replaced; a return over a gap is missing. Symbols with fewer than `min_observations` complete cases have
    NaN (``joint_betas``). Raises factor_returns.FactorInputError.
    """
    first = max(int(ends.min()) - regression_window + 1, 0) if len(ends) else 0
    axis = timeline.dates[first : int(ends.max()) + 2].to_list() if len(ends) else []
    styles = factor_returns(
        axis, calendar=calendar, factors=factors.filter(pl.col("kind") == STYLE), returns=returns, yields=yields
    )
    own = return_panel(axis, symbols, continued(returns, instruments, "session_date"))
    beta = np.full((len(ends), len(own.names), len(styles.names)), np.nan)
    residual_std = np.full(beta.shape[:2], np.nan)
    for row, end in enumerate(ends if styles.names else ends[:0]):
        window = slice(max(int(end) - regression_window + 1, 0) - first, int(end) + 1 - first)
        (found,) = joint_betas(
            styles.values[window],
            own.values[window],
            [range(len(styles.names))],
            min_observations=min_observations,
        )
        beta[row], residual_std[row] = found.beta, found.residual_std
    moves = np.full((len(timeline), len(styles.names)), np.nan)
    moves[first : first + len(axis)] = styles.values
    return StyleBetas(names=styles.names, symbols=own.names, beta=beta, residual_std=residual_std, returns=moves)
