"""What the option model refuses: rows of contracts and yields that cannot be right, whatever the market did.

What belongs here: the checks, their reasons, and the tenors of yields. What does not: volatilities and rates made of
sound rows (``option_volatility``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum

import polars as pl

TENOR_DAYS = {
    "1M": 30,
    "3M": 91,
    "6M": 182,
    "1Y": 365,
    "2Y": 2 * 365,
    "5Y": 5 * 365,
    "10Y": 10 * 365,
    "30Y": 30 * 365,
}
"""Calendar days of each Treasury tenor, ascending: the first of two equally near ones is the shorter."""


class OptionInputReason(StrEnum):
    """Why `model_options` refuses its input."""

    SESSIONS_NOT_ASCENDING = "sessions_not_ascending"
    UNKNOWN_SESSION = "unknown_session"
    DUPLICATE_CONTRACT_DAY = "duplicate_contract_day"
    UNKNOWN_OPTION_KIND = "unknown_option_kind"
    BAD_STRIKE = "bad_strike"
    BAD_EXPIRATION = "bad_expiration"
    UNKNOWN_TENOR = "unknown_tenor"
    BAD_YIELD = "bad_yield"
    YIELD_FROM_LATER = "yield_from_later"


class OptionInputError(ValueError):
    """Input that cannot be right, whatever the market did; `reason` says what."""

    def __init__(self, reason: OptionInputReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def require_sound(days: pl.DataFrame, sessions: Sequence[date]) -> None:
    """Raises OptionInputError naming the first contract day that cannot be right."""
    faults = (
        (
            OptionInputReason.UNKNOWN_SESSION,
            ~pl.col("session_date").is_in(list(sessions)),
            "is on no open session; pass every open session, refreshing trading_sessions first",
        ),
        (
            OptionInputReason.DUPLICATE_CONTRACT_DAY,
            pl.struct("contract", "session_date").is_duplicated(),
            "appears more than once; keep one row per contract and session",
        ),
        (
            OptionInputReason.UNKNOWN_OPTION_KIND,
            ~pl.col("option_kind").is_in(["C", "P"]),
            "has an option kind other than C and P; correct the position",
        ),
        (
            OptionInputReason.BAD_STRIKE,
            ~(pl.col("strike_price").is_finite() & (pl.col("strike_price") > 0)),
            "has no positive strike; correct the position",
        ),
        (
            OptionInputReason.BAD_EXPIRATION,
            pl.col("expiration_date") < pl.col("session_date"),
            "has no expiration date on or after its session; leave expired contracts out",
        ),
    )
    _refuse(days, faults, "option contract {contract} on {session_date}")


def require_sound_yields(yields: pl.DataFrame) -> None:
    """Raises OptionInputError naming the first yield that cannot be right."""
    faults = (
        (
            OptionInputReason.UNKNOWN_TENOR,
            ~pl.col("tenor").is_in(list(TENOR_DAYS)),
            f"is of none of the tenors {', '.join(TENOR_DAYS)}; correct treasury_yields",
        ),
        (
            OptionInputReason.BAD_YIELD,
            ~(pl.col("yield").is_finite() & (pl.col("yield") > -1.0)),
            "is no decimal above -1; correct treasury_yields",
        ),
        (
            OptionInputReason.YIELD_FROM_LATER,
            ~(pl.col("observed_date") <= pl.col("session_date")),
            "has no observation date on or before its session; correct treasury_yields",
        ),
    )
    _refuse(yields, faults, "Treasury yield {yield} ({tenor}, {session_date})")


def _refuse(frame: pl.DataFrame, faults: Sequence[tuple[OptionInputReason, pl.Expr, str]], subject: str) -> None:
    """Raises OptionInputError for the first row with a fault; `subject` names it from its columns."""
    for reason, wrong, message in faults:
        for row in frame.filter(wrong.fill_null(True)).head(1).iter_rows(named=True):
            raise OptionInputError(reason, f"{subject.format_map(row)} {message}")
