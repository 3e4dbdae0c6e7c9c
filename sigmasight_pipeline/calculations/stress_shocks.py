"""What is told of scenarios whatever anybody holds: what was stated, what is applied, and what it rests on.

What belongs here: the rows of ``stress_scenario_diagnostics`` and ``stress_scenario_shocks``. What does not: solving
scenarios (``stress_outcomes``) and what they cost (``stress_totals``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from math import isfinite, nan

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.stress_factors import Scenario
from sigmasight_pipeline.calculations.stress_outcomes import Solved
from sigmasight_pipeline.calculations.stress_replays import Window, WindowStatus
from sigmasight_pipeline.calculations.stress_returns import NO_DIAGNOSTICS, Diagnostics

DIAGNOSTICS: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "scenario_id": pl.String(),
    "kind": pl.String(),
    "status": pl.String(),
    "lam": pl.Float64(),
    "condition_number": pl.Float64(),
    "mahalanobis": pl.Float64(),
    "max_z": pl.Float64(),
    "implausible": pl.Boolean(),
    "effective_shocks": pl.String(),
    "moments_n_obs": pl.Int32(),
    "window_sessions": pl.Int32(),
    "window_from": pl.Date(),
    "window_to": pl.Date(),
    "volatility_shift": pl.Float64(),
    "volatility_source": pl.String(),
}

SHOCKS: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "scenario_id": pl.String(),
    "factor": pl.String(),
    "stated": pl.Float64(),
    "relative": pl.Float64(),
    "effective": pl.Float64(),
    "honoured_share": pl.Float64(),
}

BySession = Sequence[tuple[date, Sequence[Solved]]]
"""Every session with its scenarios, solved."""


def diagnostics_frame(
    scenarios: Sequence[Scenario],
    solved: BySession,
    window_sessions: Sequence[int],
    effective_shocks: Sequence[Sequence[str | None]],
) -> pl.DataFrame:
    """Rows of ``stress_scenario_diagnostics`` without provenance: one per session and scenario, in their order.

    `window_sessions` (sessions,) is how many the window of betas has, `effective_shocks` (sessions, scenarios) the
    documents of ``stress_details.Details``. moments_n_obs is NULL where there are no returns,
    of a single shock the returns of its factor.
    """
    flat = [one for _, of_session in solved for one in of_session]
    told = [NO_DIAGNOSTICS if one.propagation is None else one.propagation.diagnostics for one in flat]
    figures = np.array(told, dtype=np.float64).reshape(-1, len(Diagnostics._fields))
    figures[~np.isfinite(figures)] = np.nan
    windows = [one.window or _NO_WINDOW for one in flat]
    columns: dict[str, object] = {
        "session_date": [session for session, of_session in solved for _ in of_session],
        "scenario_id": [scenario.scenario_id for scenario in scenarios] * len(solved),
        "kind": [str(scenario.kind) for scenario in scenarios] * len(solved),
        "status": [one.status for one in flat],
        **dict(zip(Diagnostics._fields, figures.T, strict=True)),
        "implausible": [one.implausible for one in told],
        "effective_shocks": [text for of_session in effective_shocks for text in of_session],
        "moments_n_obs": [None if one.propagation is None else one.propagation.n_obs for one in flat],
        "window_sessions": np.repeat(np.array(window_sessions, dtype=np.int32), len(scenarios)),
        "window_from": [window.first for window in windows],
        "window_to": [window.last for window in windows],
        "volatility_shift": [one.volatility_shift for one in flat],
        "volatility_source": [str(one.volatility_source) for one in flat],
    }
    frame = pl.DataFrame(columns, schema=DIAGNOSTICS)
    return frame.with_columns(pl.col(Diagnostics._fields).fill_nan(None))


_NO_WINDOW = Window(WindowStatus.NOT_STORED)


def shocks_frame(scenarios: Sequence[Scenario], names: Sequence[str], solved: BySession) -> pl.DataFrame:
    """Rows of ``stress_scenario_shocks`` without provenance, by session, scenario and factor; `names` are those of
    factors.

    stated is the total shock, of a replay what really happened; relative what a vector says beyond the market's
    implication, NULL where it states a total. honoured_share is effective / stated, of a relative shock (effective -
    what the market's implies) / relative; NULL where that is 0 / 0. A scenario without returns has what it states.
    """
    return pl.DataFrame(
        [
            (session, scenario.scenario_id, *row)
            for session, of_session in solved
            for scenario, one in zip(scenarios, of_session, strict=True)
            for row in _shocks(scenario, names, one)
        ],
        schema=SHOCKS,
        orient="row",
    )


def _shocks(scenario: Scenario, names: Sequence[str], one: Solved) -> Iterator[tuple[object, ...]]:
    if one.propagation is None:
        for name, shock in sorted(scenario.shocks.items()):
            is_relative = name in scenario.relative
            yield name, None if is_relative else shock, shock if is_relative else None, None, None
        return
    shocks = one.propagation.shocks
    for factor, value, is_relative, stated in zip(
        shocks.factors.tolist(),
        shocks.values.tolist(),
        shocks.relative.tolist(),
        one.propagation.stated.tolist(),
        strict=True,
    ):
        effective = float(one.effective[factor])
        applied = effective - (stated - value) if is_relative else effective
        share = applied / value if value else nan
        yield names[factor], stated, value if is_relative else None, _number(effective), _number(share)


def _number(figure: float) -> float | None:
    return figure if isfinite(figure) else None
