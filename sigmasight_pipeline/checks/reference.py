"""Rules of the reference assets: what an import must have left behind, and how far the calendar reaches.

What belongs here: rules on portfolios, positions and sessions as stored. What does not: rules on session results
(the sibling modules).
"""

from __future__ import annotations

from datetime import date

import polars as pl

from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing
from sigmasight_pipeline.sessions import MINIMUM_HORIZON_DAYS


def _today(judged: Judged, frame: pl.DataFrame, detail: pl.Expr) -> pl.DataFrame:
    return findings(frame.with_columns(session_date=pl.lit(judged.sessions[0])), detail)


def _horizon(judged: Judged) -> pl.DataFrame:
    last = judged.frame["session_date"].max()
    ahead = (last - judged.sessions[0]).days if isinstance(last, date) else -1
    if ahead >= MINIMUM_HORIZON_DAYS:
        return nothing()
    detail = f"the calendar ends {ahead} days ahead: restart the code location to load it anew"
    return findings(pl.DataFrame({"session_date": [judged.sessions[0]]}), pl.lit(detail))


HORIZON = Rule(
    "calendar_horizon",
    "WARN",
    f"The calendar reaches at least {MINIMUM_HORIZON_DAYS} days ahead.",
    _horizon,
)

EQUITY_POSITIVE = Rule(
    "equity_positive",
    "ERROR",
    "Every portfolio has a positive equity at inception.",
    lambda judged: _today(
        judged,
        judged.frame.filter(pl.col("initial_equity") <= 0),
        pl.format("{} has initial equity {}", "code", pl.col("initial_equity").cast(pl.String)),
    ),
)

_LONG = ("LONG", "LC", "LP")

_SIGN = Rule(
    "sign_fits_type",
    "ERROR",
    "Long types have a positive quantity, short types a negative one.",
    lambda judged: _today(
        judged,
        judged.frame.filter(
            pl.when(pl.col("position_type").is_in(_LONG))
            .then(pl.col("quantity") <= 0)
            .otherwise(pl.col("quantity") >= 0)
        ),
        pl.format("position {} ({}) is {}", "position_id", "symbol", "position_type"),
    ),
)

_OPTION_FIELDS = ("underlying_symbol", "option_kind", "strike_price", "expiration_date")

_COMPLETE = Rule(
    "option_fields_complete",
    "ERROR",
    "An option has underlying, kind, strike and expiration; anything else has none of them.",
    lambda judged: _today(
        judged,
        judged.frame.filter(
            pl.when(pl.col("investment_class") == "OPTIONS")
            .then(pl.any_horizontal(pl.col(name).is_null() for name in _OPTION_FIELDS))
            .otherwise(pl.any_horizontal(pl.col(name).is_not_null() for name in _OPTION_FIELDS))
        ),
        pl.format("position {} ({})", "position_id", "symbol"),
    ),
)


def _entry_on_session(judged: Judged) -> pl.DataFrame:
    # sessions before the installation's first one are not stored; entries there were moved when imported
    known = judged.database.query("SELECT session_date FROM sigmasight.trading_sessions")
    if known.is_empty():
        return nothing()
    first = known["session_date"].min()
    off = judged.frame.filter(
        (pl.col("entry_date") >= first) & ~pl.col("entry_date").is_in(known["session_date"].implode())
    )
    return _today(
        judged,
        off,
        pl.format("position {} ({}) entered on {}", "position_id", "symbol", pl.col("entry_date").cast(pl.String)),
    )


_ON_SESSION = Rule("entry_on_session", "WARN", "Every entry is on a session.", _entry_on_session)

POSITION_RULES = (_SIGN, _COMPLETE, _ON_SESSION)
