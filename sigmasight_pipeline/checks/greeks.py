"""Domain rules of ``position_greeks``: rows that must be there, signs and bounds, and a sample re-priced by mibian.

What belongs here: rules on Greeks as written. What does not: rules on values and totals (``checks.valuation``), and
schema rules, which stop a frame before it is written (``checks.schema``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from math import exp
from typing import Any

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.black_scholes import DAYS_PER_YEAR
from sigmasight_pipeline.calculations.dividend_yields import LARGEST_YIELD
from sigmasight_pipeline.calculations.exercise_styles import ExerciseStyle
from sigmasight_pipeline.calculations.holdings import holdings
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatilityStatus
from sigmasight_pipeline.checks.rules import FINDINGS, Judged, Rule, findings, nothing
from sigmasight_pipeline.checks.valuation import held_positions, missing_rows

SAMPLE_SIZE = 3
"""Options of each session that are re-priced."""

RELATIVE_TOLERANCE = 1e-6
SMALLEST_VALUE = 1e-4
"""A figure may differ by the relative tolerance of its size, or of this where it is smaller."""

PRICE_ROUNDING = 0.5e-6
"""model_price is stored with six decimals."""

AT_EXERCISE = ImpliedVolatilityStatus.NO_TIME_VALUE.code

PEER_FIGURES = {
    "model_price": ("callPrice", "putPrice"),
    "delta_per_share": ("callDelta", "putDelta"),
    "gamma_per_share": ("gamma", "gamma"),
    "theta_per_share": ("callTheta", "putTheta"),
    "vega_per_share": ("vega", "vega"),
    "rho_per_share": ("callRho", "putRho"),
}
"""What each column is called by mibian, for a call and for a put."""

GREEKS_ROWS = Rule(
    "one_row_per_held_position",
    "ERROR",
    "Every held position that is not PRIVATE has a row for every session, that of its exit included.",
    lambda judged: missing_rows(held_positions(judged, private=False), judged.frame),
)

DELTA_RANGE = Rule(
    "delta_within_one",
    "ERROR",
    "The delta of one underlying unit is between -1 and 1.",
    lambda judged: findings(
        judged.frame.filter(pl.col("delta_per_share").abs() > 1.0),
        pl.format("position {}: delta per share {}", "position_id", "delta_per_share"),
    ),
)

CONVEXITY = Rule(
    "gamma_and_vega_sign",
    "ERROR",
    "Gamma and vega of one underlying unit are not negative; flat fallback Greeks, signed by type, are left out.",
    lambda judged: findings(
        judged.frame.filter(
            pl.col("status") != "fallback", (pl.col("gamma_per_share") < 0) | (pl.col("vega_per_share") < 0)
        ),
        pl.format(
            "position {}: gamma per share {}, vega per share {}", "position_id", "gamma_per_share", "vega_per_share"
        ),
    ),
)

AT_EXERCISE_VALUE = Rule(
    "one_for_one_at_exercise_value",
    "ERROR",
    "An American option quoted at its exercise value or below has delta 1 or -1 and no other Greek.",
    lambda judged: findings(
        judged.frame.filter(
            pl.col("status") == "ok",
            pl.col("exercise_style") == ExerciseStyle.AMERICAN.value,
            pl.col("vol_status") == AT_EXERCISE,
            (pl.col("delta_per_share").abs() != 1.0)
            | pl.any_horizontal(pl.col(f"{name}_per_share") != 0.0 for name in ("gamma", "theta", "vega", "rho")),
        ),
        pl.format("position {}: delta per share {} at its exercise value", "position_id", "delta_per_share"),
    ),
)

UNUSUAL_DIVIDEND_YIELD = Rule(
    "dividend_yield_within_bounds",
    "WARN",
    f"No underlying pays {LARGEST_YIELD:.0%} or more of its price in a year, where the yield is cut off.",
    lambda judged: findings(
        judged.frame.filter(pl.col("dividend_yield") >= LARGEST_YIELD),
        pl.format("position {}: dividend yield {}", "position_id", "dividend_yield"),
    ),
)

FALLBACK_VOLATILITY = Rule(
    "fallback_volatility",
    "WARN",
    "Every option has a volatility to be modelled with.",
    lambda judged: findings(
        judged.frame.filter(pl.col("vol_source") == "fallback"),
        pl.format("position {} has no usable volatility or underlying price", "position_id"),
    ),
)

DEFAULT_RATE = Rule(
    "default_rate",
    "WARN",
    "Every option is modelled with an observed Treasury yield.",
    lambda judged: findings(
        judged.frame.filter(pl.col("rate_source") == "default"),
        pl.format("position {} uses the default yield", "position_id"),
    ),
)


def sampled(frame: pl.DataFrame) -> pl.DataFrame:
    """The options of each session that are re-priced: at most `SAMPLE_SIZE` of status ok.

    One at its exercise value is left out: it moves with the underlying, by no formula.

    Chosen by a hash of session and position, so that it differs from session to session, and is the same in every run
    whatever else the run computes.
    """
    at_exercise = (pl.col("exercise_style") == ExerciseStyle.AMERICAN.value) & (pl.col("vol_status") == AT_EXERCISE)
    options = frame.filter(
        pl.col("status") == "ok", pl.col("vol_source").is_not_null(), ~at_exercise.fill_null(value=False)
    )
    position = options.get_column("position_id").to_numpy().astype(np.uint64)
    session = options.get_column("session_date").to_physical().to_numpy().astype(np.uint64)
    draw = _scattered(_scattered(session) + position)
    return (
        options.with_columns(pl.Series("draw", draw))
        .sort("session_date", "draw")
        .group_by("session_date", maintain_order=True)
        .head(SAMPLE_SIZE)
    )


def _scattered(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """SplitMix64 (Steele, Lea and Flood 2014): neighbouring numbers to unrelated ones, modulo 2^64."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _against_mibian(judged: Judged) -> pl.DataFrame:
    """What mibian disagrees with in the sample, with strikes and kinds from the positions and their splits."""
    sample = sampled(judged.frame)
    if sample.is_empty():
        return nothing()
    inputs = judged.inputs
    positions = inputs["positions"].filter(pl.col("position_id").is_in(sample["position_id"].implode()))
    held = holdings(
        sessions=judged.sessions,
        calendar=inputs["calendar"],
        portfolios=inputs["portfolios"],
        positions=positions,
        actions=inputs["actions"],
        instruments=inputs["instruments"],
    ).select("session_date", "position_id", "strike_price")
    terms = held.join(positions.select("position_id", "option_kind"), on="position_id")
    rows = sample.join(terms, on=["session_date", "position_id"], how="left", maintain_order="left")
    found: list[tuple[date, int, str]] = [
        (row["session_date"], row["portfolio_id"], f"position {row['position_id']}: {difference}")
        for row in rows.iter_rows(named=True)
        for difference in _differences(row)
    ]
    return pl.DataFrame(found, schema=FINDINGS, orient="row")


def _differences(row: Mapping[str, Any]) -> Iterator[str]:
    """What mibian objects to in one row.

    mibian takes rate and volatility in percent and days, its vega and rho are per point and its theta per day, like
    ours. It knows no dividend yield: given S' = S exp(-qT), it gives the price, and derivatives by S', which are
    chained. It knows no early exercise either: where that may be worth something, the price is at least its.
    """
    import mibian  # noqa: PLC0415 - an extra (it is under the GPL), and loads SciPy's statistics

    needed = ("underlying_price", "strike_price", "risk_free_rate", "time_to_expiry", "volatility", "dividend_yield")
    absent = [name for name in (*needed, "option_kind", "exercise_style", *PEER_FIGURES) if row[name] is None]
    if absent:
        yield f"status ok without {', '.join(absent)}"
        return
    spot, strike, rate, time, volatility, dividend_yield = (float(row[name]) for name in needed)
    carry = exp(-dividend_yield * time)
    try:
        peer = mibian.BS([spot * carry, strike, rate * 100, time * DAYS_PER_YEAR], volatility=volatility * 100)
    except ArithmeticError as error:  # zero days, a volatility beyond what a float can square
        yield f"mibian cannot price it ({error})"
        return
    is_call = row["option_kind"] == "C"
    given = {column: getattr(peer, names[0] if is_call else names[1]) for column, names in PEER_FIGURES.items()}
    chained = {"delta_per_share": carry, "gamma_per_share": carry * carry}
    early = row["exercise_style"] == ExerciseStyle.AMERICAN and not (is_call and dividend_yield <= 0.0 <= rate)
    for column, figure in given.items():
        if figure is None:  # zero volatility
            yield f"mibian gives no {column}"
            continue
        theirs = figure * chained.get(column, 1.0)
        if column == "theta_per_share" and given["delta_per_share"] is not None:
            theirs += dividend_yield * spot * carry * given["delta_per_share"] / DAYS_PER_YEAR
        ours = float(row[column])
        allowed = RELATIVE_TOLERANCE * max(abs(theirs), SMALLEST_VALUE)
        allowed += PRICE_ROUNDING if column == "model_price" else 0.0
        if early and column == "model_price" and ours < theirs - allowed:
            yield f"{column} is {ours:.10g}, below the European value by mibian, {theirs:.10g}"
        if not early and not abs(ours - theirs) <= allowed:
            yield f"{column} is {ours:.10g}, by mibian {theirs:.10g}"


MIBIAN_SAMPLE = Rule(
    "mibian_agrees",
    "ERROR",
    f"mibian gives the same price and Greeks for {SAMPLE_SIZE} options of every session, and no higher price where "
    "early exercise may be worth something.",
    _against_mibian,
    peer="mibian",
)

POSITION_GREEKS: Sequence[Rule] = (
    GREEKS_ROWS,
    DELTA_RANGE,
    CONVEXITY,
    AT_EXERCISE_VALUE,
    MIBIAN_SAMPLE,
    UNUSUAL_DIVIDEND_YIELD,
    FALLBACK_VOLATILITY,
    DEFAULT_RATE,
)
